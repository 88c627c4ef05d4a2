// One column of a block: values of all rows of one field or key, as streams. Floats that are
// decimals become grid integers (and the few units in the last place that arithmetic left on them),
// texts a dictionary; rows may be grouped by a category field, so that each of interleaved series
// is predicted from itself. docs/formats/column-block.md
//
// Method of the decimals: A. Afroozeh, L. Kuffo, P. Boncz, "ALP: Adaptive Lossless floating-Point
// Compression", 2023; here by correctly rounded division, so that every decimal of 15 digits fits.
#pragma once

#include <vector>

#include "base/schema.hpp"
#include "columns/stream.hpp"

namespace edgecore {

// Cells are those of rows.hpp; a variable one points into `blob`. One entry per row, null is 0.
struct Column {
  std::vector<std::uint8_t> presence;
  std::vector<std::uint64_t> cells;
  Bytes blob;

  ByteSpan text(std::size_t row) const {
    return ByteSpan(blob).subspan(cells[row] & 0xffffffffu, cells[row] >> 32);
  }
  void add_text(ByteSpan bytes) {
    cells.push_back(blob.size() | (static_cast<std::uint64_t>(bytes.size()) << 32));
    blob.insert(blob.end(), bytes.begin(), bytes.end());
  }
};

// Which group each row is in: its entry in the dictionary of a category field, nulls last.
struct Grouping {
  std::uint32_t field = 0;
  std::uint32_t groups = 0;
  std::vector<std::uint32_t> of_row;
};

inline constexpr std::uint32_t kGroupsMax = 64;
inline constexpr std::uint8_t kColumnHasNulls = 1;
inline constexpr std::uint8_t kColumnGrouped = 2;

struct WrittenColumn {
  std::uint8_t flags = 0;
  Bytes bytes;
};

// The smaller of grouped and not; `grouping` may be null.
WrittenColumn write_column(Coding coding, DType dtype, const Column& column,
                           const Grouping* grouping);

// The groups of a category column as its dictionary will have them; no groups when they are too
// many to pay.
Grouping grouping_of(std::uint32_t field, const Column& column);

// The field that a grouped column is grouped by, for which the caller finds the grouping.
[[nodiscard]] bool read_group_field(Coding coding, ByteSpan bytes, std::uint32_t& out);

// Decodes `rows` values. `blob_max` bounds the texts. With `made`, a dictionary's groups are given
// (of_row stays empty when the column has no dictionary). False: malformed.
struct ColumnRequest {
  DType dtype = DType::kI64;
  std::uint8_t flags = 0;
  std::size_t rows = 0;
  std::size_t blob_max = 0;
  const Grouping* grouping = nullptr;
  Grouping* made = nullptr;
};
// Where cells go: `cells` has one per row, `presence` stays empty when no value is null, texts are
// added to `blob`.
struct CellsOut {
  std::span<std::uint64_t> cells;
  std::vector<std::uint8_t>& presence;
  Bytes& blob;
};
[[nodiscard]] bool read_cells(Coding coding, ByteSpan bytes, const ColumnRequest& request,
                              CellsOut out);
[[nodiscard]] bool read_column(Coding coding, ByteSpan bytes, const ColumnRequest& request,
                               Column& out);

}  // namespace edgecore
