// Normalisation: one value into one cell of a RowBatch, once. CSV text, Python objects and arrays
// meet here, so that the same number gives the same cell whichever way it came.
//
// Every function checks the field's dtype and range and names field and value when it refuses
// (Invalid); nothing is written then. The caller adds which row it was.
#pragma once

#include <string_view>

#include "base/rows.hpp"

namespace edgecore {

inline constexpr std::size_t kTextValueBytesMax = 64 * 1024;

struct NormaliseCounts {
  // Decimals rounded to their grid, ties to even, and numbers that max_error= let be rounded.
  std::uint64_t off_grid = 0;
};

// For cell `field` of row `row`; the batch's schema says what the field is.
// Numbers: any numeric dtype. An integer field takes a double only when it is integral.
Status cell_from_double(RowBatch& batch, std::size_t row, std::size_t field, double value,
                        NormaliseCounts& counts);
Status cell_from_int(RowBatch& batch, std::size_t row, std::size_t field, std::int64_t value,
                     NormaliseCounts& counts);
// For integers above the i64 range only.
Status cell_from_unsigned(RowBatch& batch, std::size_t row, std::size_t field, std::uint64_t value,
                          NormaliseCounts& counts);
Status cell_from_bool(RowBatch& batch, std::size_t row, std::size_t field, bool value);
// category, utf8 and bytes, as they are.
Status cell_from_bytes(RowBatch& batch, std::size_t row, std::size_t field, ByteSpan value);
// The written form of any dtype: a decimal number, true/false/1/0, or the text itself.
// The empty text is a null, which leaves the cell as add_row made it.
Status cell_from_text(RowBatch& batch, std::size_t row, std::size_t field, std::string_view text,
                      NormaliseCounts& counts);

// The name of a dtype for messages, e.g. "decimal(3)".
std::string dtype_text(const Field& field);

}  // namespace edgecore
