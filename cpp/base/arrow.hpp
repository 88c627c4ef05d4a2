// Arrow's C data interface, whose three structs are a stable ABI: how columns pass between
// libraries of one process without being copied
// (https://arrow.apache.org/docs/format/CDataInterface.html).
//
// Given away, an array holds its buffers by shared ownership: it may outlive what made it, its
// children may be taken out and outlive it, and each is let go exactly once. Callbacks never throw.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/status.hpp"

namespace edgecore {

extern "C" {
struct ArrowSchema {
  const char* format;
  const char* name;
  const char* metadata;
  std::int64_t flags;
  std::int64_t n_children;
  ArrowSchema** children;
  ArrowSchema* dictionary;
  void (*release)(ArrowSchema*);
  void* private_data;
};
struct ArrowArray {
  std::int64_t length;
  std::int64_t null_count;
  std::int64_t offset;
  std::int64_t n_buffers;
  std::int64_t n_children;
  const void** buffers;
  ArrowArray** children;
  ArrowArray* dictionary;
  void (*release)(ArrowArray*);
  void* private_data;
};
struct ArrowArrayStream {
  int (*get_schema)(ArrowArrayStream*, ArrowSchema*);
  int (*get_next)(ArrowArrayStream*, ArrowArray*);
  const char* (*get_last_error)(ArrowArrayStream*);
  void (*release)(ArrowArrayStream*);
  void* private_data;
};
}

inline constexpr std::int64_t kArrowNullable = 2;  // of ArrowSchema::flags

// One of the three, released at the end unless it was moved out (its release is null then).
template <typename T>
struct Released {
  T value{};
  Released() = default;
  Released(const Released&) = delete;
  Released& operator=(const Released&) = delete;
  ~Released() { reset(); }
  void reset() {
    if (value.release != nullptr) value.release(&value);
    value = {};
  }
};

using ArrowMetadata = std::vector<std::pair<std::string, std::string>>;

// What an ArrowSchema says. All that is given away may be null.
struct ArrowType {
  std::string format;
  std::string name;
  ArrowMetadata metadata;
  std::vector<ArrowType> children;
  std::shared_ptr<const ArrowType> dictionary;
};

// What an ArrowArray refers to. Copies share the buffers, which nobody changes any more.
struct ArrowData {
  std::int64_t length = 0;
  std::int64_t null_count = 0;
  std::vector<std::shared_ptr<const void>> buffers;
  std::vector<ArrowData> children;
  std::shared_ptr<const ArrowData> dictionary;
};

void export_schema(const ArrowType& type, ArrowSchema& out);
void export_array(const ArrowData& data, ArrowArray& out);

// Arrays of one type, one after the other. Asked by one thread at a time.
class ArrowSource {
 public:
  virtual ~ArrowSource() = default;
  virtual const ArrowType& type() const = 0;
  virtual Result<bool> next(ArrowData& out) = 0;  // false: there are no more
};

// The stream owns the source. An error is an errno, its outcome and message get_last_error.
void export_stream(std::unique_ptr<ArrowSource> source, ArrowArrayStream& out);

}  // namespace edgecore
