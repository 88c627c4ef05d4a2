// RowBatch: normalised rows of one schema, in memory. It is what stands between normalisation
// (Python objects, CSV, arrays), the log, the feature engine and the pipeline: each of them sees
// rows in this form alone. Values are final here: on their grid, in range, in canonical form.
//
// Cells are 64 bits each, row-major, so that one row is contiguous and a batch is reused without
// allocation:
//   bool and integers  sign- or zero-extended to 64 bits
//   decimal            the grid integer (count of 10^-scale), as i64
//   f32, f64           IEEE bits of the value as f64 (an f32 is widened, which is exact); NaN is
//                      canonical (0x7ff8000000000000), -0 is kept
//   category,utf8,bytes  offset into blob() in the low 32 bits, length in the high 32
// A null has presence 0 and cell 0.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

#include "base/bytes.hpp"
#include "base/schema.hpp"

namespace edgecore {

inline constexpr std::uint32_t kBatchBlobBytesMax = 64u << 20;
inline constexpr std::uint32_t kBatchRowsMax = 1u << 20;

// Not thread-safe. The schema is shared, the storage owned.
class RowBatch {
 public:
  explicit RowBatch(SchemaPtr schema)
      : schema_(std::move(schema)), width_(schema_->fields.size()) {}

  const SchemaPtr& schema() const { return schema_; }
  std::size_t count() const { return times_.size(); }
  std::size_t width() const { return width_; }
  std::size_t blob_bytes() const { return blob_.size(); }

  void clear() {
    times_.clear();
    sources_.clear();
    source_seqs_.clear();
    cells_.clear();
    presence_.clear();
    blob_.clear();
  }

  // Adds a row of nulls with its keys; then set_* its fields. Returns the row's index.
  std::size_t add_row(std::int64_t time_ns, std::string_view source = {},
                      std::uint64_t source_seq = 0) {
    times_.push_back(time_ns);
    sources_.push_back(source.empty() ? 0 : store_blob(as_byte_span(source)));
    source_seqs_.push_back(source_seq);
    cells_.resize(cells_.size() + width_, 0);
    presence_.resize(presence_.size() + width_, 0);
    return times_.size() - 1;
  }
  void set_cell(std::size_t row, std::size_t field, std::uint64_t cell) {
    cells_[row * width_ + field] = cell;
    presence_[row * width_ + field] = 1;
  }
  void set_i64(std::size_t row, std::size_t field, std::int64_t value) {
    set_cell(row, field, static_cast<std::uint64_t>(value));
  }
  void set_f64(std::size_t row, std::size_t field, double value) {
    if (value != value) value = std::numeric_limits<double>::quiet_NaN();
    set_cell(row, field, std::bit_cast<std::uint64_t>(value));
  }
  void set_bytes(std::size_t row, std::size_t field, ByteSpan bytes) {
    set_cell(row, field, store_blob(bytes));
  }
  // The keys of a row that was added before they were known.
  void set_keys(std::size_t row, std::int64_t time_ns, std::string_view source,
                std::uint64_t source_seq) {
    times_[row] = time_ns;
    sources_[row] = source.empty() ? 0 : store_blob(as_byte_span(source));
    source_seqs_[row] = source_seq;
  }
  // Takes the last row back (a row found invalid half-way).
  void drop_last_row() {
    times_.pop_back();
    sources_.pop_back();
    source_seqs_.pop_back();
    cells_.resize(cells_.size() - width_);
    presence_.resize(presence_.size() - width_);
  }

  std::int64_t time_ns(std::size_t row) const { return times_[row]; }
  std::uint64_t source_seq(std::size_t row) const { return source_seqs_[row]; }
  std::string_view source(std::size_t row) const { return as_text(blob_at(sources_[row])); }
  bool present(std::size_t row, std::size_t field) const {
    return presence_[row * width_ + field] != 0;
  }
  std::uint64_t cell(std::size_t row, std::size_t field) const {
    return cells_[row * width_ + field];
  }
  std::int64_t i64(std::size_t row, std::size_t field) const {
    return static_cast<std::int64_t>(cell(row, field));
  }
  double f64(std::size_t row, std::size_t field) const {
    return std::bit_cast<double>(cell(row, field));
  }
  ByteSpan bytes(std::size_t row, std::size_t field) const { return blob_at(cell(row, field)); }
  std::string_view text(std::size_t row, std::size_t field) const {
    return as_text(bytes(row, field));
  }
  std::span<const std::uint64_t> row_cells(std::size_t row) const {
    return {cells_.data() + row * width_, width_};
  }
  std::span<const std::uint8_t> row_presence(std::size_t row) const {
    return {presence_.data() + row * width_, width_};
  }

 private:
  std::uint64_t store_blob(ByteSpan bytes) {
    const std::uint64_t offset = blob_.size();
    blob_.insert(blob_.end(), bytes.begin(), bytes.end());
    return offset | (static_cast<std::uint64_t>(bytes.size()) << 32);
  }
  ByteSpan blob_at(std::uint64_t cell) const {
    return ByteSpan(blob_).subspan(cell & 0xffffffffu, cell >> 32);
  }

  SchemaPtr schema_;
  std::size_t width_;
  std::vector<std::int64_t> times_;
  std::vector<std::uint64_t> sources_;
  std::vector<std::uint64_t> source_seqs_;
  std::vector<std::uint64_t> cells_;
  std::vector<std::uint8_t> presence_;
  Bytes blob_;
};

}  // namespace edgecore
