// A bounds-checked reader of FlatBuffers: every offset, vtable, vector and string is checked
// against the buffer before it is followed. Recurses on nothing, allocates nothing. A table is
// only a position, so a cycle in a hostile file costs no more than what the caller visits.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/bytes.hpp"
#include "base/status.hpp"

namespace edgecore::flatbuffer {

// A vector of `count` elements, all inside the buffer. Borrowed.
struct Vector {
  ByteSpan bytes;  // the elements
  std::size_t count = 0;
  std::size_t start = 0;  // of the elements, in the buffer
  template <typename T>
  T at(std::size_t i) const {
    EDGECORE_ASSERT((i + 1) * sizeof(T) <= bytes.size());
    return load_le<T>(bytes.data() + i * sizeof(T));
  }
};

class Table {
 public:
  // The root table of a buffer whose file identifier is `identifier` (4 characters).
  static Result<Table> root(ByteSpan buffer, std::string_view identifier);

  // A field absent from the table gives the default, or an empty vector, or nullopt.
  template <typename T>
  Result<T> scalar(std::uint16_t field, T fallback) const {
    EDGECORE_ASSIGN(const std::size_t at, locate(field, sizeof(T)));
    return at == 0 ? fallback : load_le<T>(buffer_.data() + at);
  }
  Result<Vector> vector(std::uint16_t field, std::size_t element_bytes) const;
  Result<std::optional<Table>> table(std::uint16_t field) const;
  // Element `i` of a vector of tables taken with vector(field, 4).
  Result<Table> element(const Vector& tables, std::size_t i) const;

 private:
  Table(ByteSpan buffer, std::size_t at, std::size_t vtable, std::uint16_t vtable_bytes,
        std::uint16_t table_bytes)
      : buffer_(buffer),
        at_(at),
        vtable_(vtable),
        vtable_bytes_(vtable_bytes),
        table_bytes_(table_bytes) {}
  static Result<Table> open(ByteSpan buffer, std::size_t at);
  Result<std::size_t> locate(std::uint16_t field, std::size_t bytes) const;  // 0: absent
  Result<std::size_t> follow(std::uint16_t field) const;                     // 0: absent

  ByteSpan buffer_;
  std::size_t at_;
  std::size_t vtable_;
  std::uint16_t vtable_bytes_;
  std::uint16_t table_bytes_;
};

}  // namespace edgecore::flatbuffer
