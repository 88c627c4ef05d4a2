// Range bounds in cell form: what makes the check of a value one integer or float comparison.
#include "base/schema.hpp"

#include <bit>

#include "base/exact.hpp"

namespace edgecore {
namespace {

// Bounds that lie beyond what the dtype holds bound nothing and are left out.
constexpr double kTwo63 = 9223372036854775808.0;
constexpr double kTwo64 = 18446744073709551616.0;

Result<std::optional<std::uint64_t>> bound_cell(const Field& field, double bound, bool upper) {
  using Cell = std::optional<std::uint64_t>;
  const auto refuse = [&field] {
    return Status::invalid("field '" + field.name + "': a range bound is off the field's grid");
  };
  if (is_float(field.dtype)) return Cell(std::bit_cast<std::uint64_t>(bound));
  if (field.dtype == DType::kDecimal) {
    if (const auto grid = grid_from_double(bound, field.scale)) {
      if (grid->off_grid) return refuse();
      return Cell(static_cast<std::uint64_t>(grid->value));
    }
    if ((bound > 0) == upper) return Cell();
    return Status::invalid("field '" + field.name + "': no value of the dtype is in the range");
  }
  const double lowest = is_unsigned(field.dtype) ? 0 : -kTwo63;
  const double beyond = is_unsigned(field.dtype) ? kTwo64 : kTwo63;
  if (upper ? bound >= beyond : bound < lowest) return Cell();
  if (upper ? bound < lowest : bound >= beyond)
    return Status::invalid("field '" + field.name + "': no value of the dtype is in the range");
  if (is_unsigned(field.dtype)) {
    const auto cell = static_cast<std::uint64_t>(bound);
    if (static_cast<double>(cell) != bound) return refuse();
    return Cell(cell);
  }
  const auto cell = static_cast<std::int64_t>(bound);
  if (static_cast<double>(cell) != bound) return refuse();
  return Cell(static_cast<std::uint64_t>(cell));
}

}  // namespace

Status set_range(Field& field, double low, double high) {
  if (!(low <= high)) return Status::invalid("field '" + field.name + "': the range is empty");
  EDGECORE_ASSIGN(field.range_min, bound_cell(field, low, false));
  EDGECORE_ASSIGN(field.range_max, bound_cell(field, high, true));
  return Status::ok();
}

}  // namespace edgecore
