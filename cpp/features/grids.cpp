// Grids and bounds by dtype; see grids.hpp.
#include "features/grids.hpp"

#include <algorithm>
#include <bit>
#include <limits>

#include "base/exact.hpp"
#include "features/answer.hpp"
#include "features/category.hpp"
#include "features/finish.hpp"

namespace edgecore::features {
namespace {

constexpr std::int64_t kI64Max = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kI64Min = std::numeric_limits<std::int64_t>::min();

// The dtype's own bounds, in stored form.
void dtype_bounds(const Field& field, SeriesPlan& series) {
  series.low = kI64Min;
  series.high = kI64Max;
  if (field.dtype == DType::kBool) {
    series.low = 0;
    series.high = 1;
  } else if (field.dtype >= DType::kI8 && field.dtype < DType::kI64) {
    const int bits = 8 << (static_cast<int>(field.dtype) - static_cast<int>(DType::kI8));
    series.high = kI64Max >> (64 - bits);
    series.low = -series.high - 1;
  } else if (field.dtype >= DType::kU8 && field.dtype < DType::kU64) {
    const int bits = 8 << (static_cast<int>(field.dtype) - static_cast<int>(DType::kU8));
    series.low = 0;
    series.high = (std::int64_t{1} << bits) - 1;
  }
}

Status unsigned_bounds(const Field& field, SeriesPlan& series) {
  const std::uint64_t low = field.range_min.value_or(0);
  const std::uint64_t high = field.range_max.value_or(std::numeric_limits<std::uint64_t>::max());
  if (high > static_cast<std::uint64_t>(kI64Max)) {
    series.grid = Grid::kUnsigned;
    series.low = flip_sign_bit(low);
    series.high = flip_sign_bit(high);
  } else {
    series.low = static_cast<std::int64_t>(low);
    series.high = static_cast<std::int64_t>(high);
  }
  return Status::ok();
}

Status float_bounds(const Field& field, SeriesPlan& series) {
  if (field.resolution == 0) {
    series.grid = Grid::kFloat;
    static constexpr double kMax = std::numeric_limits<double>::max();
    const bool both = field.ratio && field.range_min && field.range_max;
    const auto bound = [](double value) { return float_key(std::clamp(value, -kMax, kMax)); };
    series.low = bound(both ? std::bit_cast<double>(*field.range_min) : -kMax);
    series.high = bound(both ? std::bit_cast<double>(*field.range_max) : kMax);
    return Status::ok();
  }
  if (!field.range_min || !field.range_max)
    return Status::incompatible("field '" + field.name +
                                "': resolution= needs range=, so that exact sums are bounded");
  series.resolution = field.resolution;
  const auto low = steps_of(std::bit_cast<double>(*field.range_min), field.resolution);
  const auto high = steps_of(std::bit_cast<double>(*field.range_max), field.resolution);
  if (!low || !high)
    return Status::incompatible("field '" + field.name +
                                "': its range holds more than 2^51 steps of its resolution");
  series.low = *low;
  series.high = *high;
  // 0.001 is 1/1000: dividing by a whole number gives the decimal that was meant.
  const double inverse = 1.0 / field.resolution;
  constexpr double kWholeMax = 9007199254740992.0;
  const bool whole = inverse >= 1 && inverse <= kWholeMax &&
                     static_cast<double>(static_cast<std::uint64_t>(inverse)) == inverse;
  if (whole)
    series.denominator = static_cast<std::uint64_t>(inverse);
  else
    series.unit = field.resolution;
  return Status::ok();
}

}  // namespace

Status set_grid(const Field& field, SeriesPlan& series) {
  if (is_variable(field.dtype)) return Status::ok();  // counted only
  series.grid = Grid::kInteger;
  if (is_float(field.dtype)) {
    EDGECORE_TRY(float_bounds(field, series));
  } else if (field.dtype == DType::kU64) {
    EDGECORE_TRY(unsigned_bounds(field, series));
  } else {
    for (int i = 0; i < field.scale; ++i) series.denominator *= 10;
    dtype_bounds(field, series);
    if (field.range_min)
      series.low = std::max(series.low, static_cast<std::int64_t>(*field.range_min));
    if (field.range_max)
      series.high = std::min(series.high, static_cast<std::int64_t>(*field.range_max));
  }
  series.declared = field.range_min && field.range_max;
  const std::int64_t zero = series.grid == Grid::kUnsigned ? kI64Min : 0;
  series.ratio = field.ratio && series.low >= zero;
  finish_grid(series);
  return Status::ok();
}

void finish_grid(SeriesPlan& series) {
  const auto span =
      static_cast<std::uint64_t>(series.high) - static_cast<std::uint64_t>(series.low);
  series.narrow = series.grid != Grid::kFloat && span <= std::numeric_limits<std::uint32_t>::max();
  series.small = series.grid == Grid::kInteger && series.unit == 1 && series.low >= -kWhole &&
                 series.high <= kWhole &&
                 series.denominator <= static_cast<std::uint64_t>(kWhole) / kEventsMax;
}

void set_categories(SeriesPlan& series) {
  series.grid = Grid::kCategory;
  series.low = 0;
  series.high = kCategoryCodes - 1;
  series.small = true;
}

std::optional<Decimal> decimal_of(double value) {
  constexpr int kScaleMax = 18;  // 10^18 is the last power that fits
  std::int64_t power = 1;
  for (int scale = 0; scale <= kScaleMax; ++scale) {
    const auto found = grid_from_double(value, scale);
    if (!found) break;
    if (!found->off_grid) return Decimal{found->value, power};
    if (scale < kScaleMax) power *= 10;
  }
  return std::nullopt;
}

std::optional<std::int64_t> stored_edge(const SeriesPlan& series, double edge) {
  if (edge - edge != 0) return std::nullopt;  // infinite or NaN
  if (series.grid == Grid::kFloat) return float_key(edge);
  if (series.grid == Grid::kUnsigned) {
    constexpr double kEnd = 18446744073709551616.0;  // 2^64
    if (edge < 0) return kI64Min;
    if (edge >= kEnd || edge != static_cast<double>(static_cast<std::uint64_t>(edge)))
      return std::nullopt;
    return flip_sign_bit(static_cast<std::uint64_t>(edge));
  }
  if (series.resolution > 0) {
    const auto steps = steps_of(edge, series.resolution);
    return steps && one_value(series, *steps) == edge ? steps : std::nullopt;
  }
  const auto decimal = decimal_of(edge);
  if (!decimal) return std::nullopt;
  const Int128 steps = Int128{decimal->value} * static_cast<Int128>(series.denominator);
  const Int128 stored = steps / decimal->power;
  if (steps % decimal->power != 0 || stored > kI64Max || stored < kI64Min) return std::nullopt;
  return static_cast<std::int64_t>(stored);
}

}  // namespace edgecore::features
