// One cell of a row in the form that series hold.
#pragma once

#include "base/rows.hpp"
#include "features/category.hpp"
#include "features/finish.hpp"
#include "features/plan.hpp"
#include "features/program.hpp"

namespace edgecore::features {

// Null is absent, and so are infinities and NaN of a float without a grid: no sum holds them.
inline Cell stored_cell(const SeriesPlan& series, const RowBatch& rows, std::size_t row,
                        std::int64_t& out) {
  if (series.program) return series.program->run(rows, row, out);
  if (series.field < 0) return Cell::kValue;
  const auto field = static_cast<std::size_t>(series.field);
  if (!rows.present(row, field)) return Cell::kAbsent;
  if (series.grid == Grid::kNone) return Cell::kValue;
  if (series.grid == Grid::kCategory) {
    out = category_code(rows.text(row, field));
    return Cell::kValue;
  }
  if (series.grid == Grid::kFloat) {
    const double value = rows.f64(row, field);
    if (value - value != 0) return Cell::kAbsent;
    out = float_key(value);
  } else if (series.grid == Grid::kUnsigned) {
    out = flip_sign_bit(rows.cell(row, field));
  } else if (series.resolution > 0) {
    const auto steps = steps_of(rows.f64(row, field), series.resolution);
    if (!steps) return Cell::kOutside;
    out = *steps;
  } else {
    out = rows.i64(row, field);
  }
  return out >= series.low && out <= series.high ? Cell::kValue : Cell::kOutside;
}

}  // namespace edgecore::features
