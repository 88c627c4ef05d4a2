// The values of one table column while they are gathered, in the buffers that Arrow has for them.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "base/arrow.hpp"
#include "columns/column.hpp"

namespace edgecore {

// Bytes that grow without being cleared, aligned as Arrow wants them. What finish() has given
// nobody changes any more.
class ArrowBuffer {
 public:
  std::byte* data() const { return bytes_.get(); }
  void reserve(std::size_t size, std::size_t kept);  // keeps the first `kept` bytes
  std::shared_ptr<const void> finish();

 private:
  std::shared_ptr<std::byte> bytes_;
  std::size_t capacity_ = 0;
};

// Adds text as Arrow must have it: what is not UTF-8 becomes U+FFFD, as when rows are read.
void add_text(std::string_view text, Bytes& out);

// Values are written at a row that the caller counts; what was written behind it, for rows that
// then could not be read, is written over.
class ColumnValues {
 public:
  virtual ~ColumnValues() = default;
  // For `rows` in all, of which `used` stay.
  void make_room(std::size_t rows, std::size_t used);
  // The cells of a column, from row `at` on; no presence: all have a value. `scale` is that of the
  // cells, of decimals.
  void put(std::size_t at, const Column& column, unsigned scale);
  // Where cells may be decoded right into; empty when values have another form than cells. Then
  // put_presence() alone.
  virtual std::span<std::uint64_t> place(std::size_t at, std::size_t rows);
  void put_presence(std::size_t at, std::size_t rows, std::span<const std::uint8_t> presence);
  virtual std::size_t text_bytes() const { return 0; }
  // The first `rows` rows; begins again, with no room.
  ArrowData finish(std::size_t rows);

 private:
  virtual void grow(std::size_t rows, std::size_t used) = 0;
  virtual void put_values(std::size_t at, const Column& column, unsigned scale) = 0;
  virtual void finish_values(std::size_t rows, ArrowData& out) = 0;

  ArrowBuffer valid_;  // a bitmap, from the first null on
  bool has_nulls_ = false;
  std::size_t room_ = 0;
};

// `scale`: of the decimals in the column. Keys of a dictionary hold over batches while it is small.
std::unique_ptr<ColumnValues> make_values(DType dtype, unsigned scale);

}  // namespace edgecore
