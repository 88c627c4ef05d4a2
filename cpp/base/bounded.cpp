#include "base/bounded.hpp"

#include <array>
#include <limits>

#include "base/exact.hpp"

namespace edgecore {
namespace {

constexpr int kExponentMax = 18;  // of steps, and below: as many digits as a decimal has
constexpr std::array<double, kExponentMax + 1> kPowers = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,
                                                          1e7,  1e8,  1e9,  1e10, 1e11, 1e12, 1e13,
                                                          1e14, 1e15, 1e16, 1e17, 1e18};
// Adding and taking away 1.5 · 2^52 rounds a double below 2^51 to an integer, ties to even.
constexpr double kRounder = 6755399441055744.0;
constexpr double kStepsMax = 1125899906842624.0;  // 2^50: five times as many is a double still

// count · digit · 10^exponent, correctly rounded.
double multiple(double count, std::uint8_t digit, int exponent) {
  if (exponent < 0) return count * digit / kPowers[static_cast<std::size_t>(-exponent)];
  return count * (digit * kPowers[static_cast<std::size_t>(exponent)]);
}

double in_steps(const Field& field, double value) {
  if (field.step_exponent < 0)
    return value * kPowers[static_cast<std::size_t>(-field.step_exponent)] / field.step_digit;
  return value / multiple(1, field.step_digit, field.step_exponent);
}

// Of integers and decimals: the step as a count of the dtype's own.
std::int64_t own_steps(const Field& field) {
  std::int64_t steps = field.step_digit;
  for (int i = -field.scale; i < field.step_exponent; ++i) steps *= 10;
  return steps;
}

template <typename Integer>
Integer nearest_integer(const Field& field, Integer value) {
  const Int128 step = own_steps(field), number = value;
  Int128 steps = number / step;
  Int128 left = number % step;
  if (left < 0) {
    --steps;
    left += step;
  }
  if (left * 2 > step || (left * 2 == step && steps % 2 != 0)) ++steps;
  const Int128 rounded = steps * step;
  const bool fits = rounded >= std::numeric_limits<Integer>::min() &&
                    rounded <= std::numeric_limits<Integer>::max();
  return fits ? static_cast<Integer>(rounded) : value;
}

}  // namespace

Status set_max_error(Field& field, double bound) {
  field.max_error = 0;
  field.step_digit = 0;
  if (bound == 0) return Status::ok();
  const std::string named = "field '" + field.name + "': max_error ";
  if (is_variable(field.dtype) || field.dtype == DType::kBool)
    return Status::invalid(named + "is for numbers");
  if (!(bound > 0 && bound - bound == 0)) return Status::invalid(named + "is a positive number");
  const int lowest = is_float(field.dtype) ? -kExponentMax : -field.scale;
  // Of decimals with many digits: no step beyond 10^18 of their own.
  const int highest = is_float(field.dtype) ? kExponentMax : kExponentMax - field.scale;
  for (int exponent = highest; exponent >= lowest; --exponent)
    for (const auto digit : std::array<std::uint8_t, 3>{5, 2, 1}) {
      if (multiple(1, digit, exponent) > 2 * bound) continue;
      if (!is_float(field.dtype) && exponent == lowest && digit == 1) break;  // its own step
      field.max_error = bound;
      field.step_digit = digit;
      field.step_exponent = static_cast<std::int8_t>(exponent);
      return Status::ok();
    }
  return Status::invalid(named + "is less than what the dtype can leave out: at least " +
                         (is_float(field.dtype) ? "5e-19" : "one step of its own"));
}

double nearest_step(const Field& field, double value) {
  const double steps = in_steps(field, value);
  if (!(steps > -kStepsMax && steps < kStepsMax)) return value;
  double count = (steps + kRounder) - kRounder;
  // The nearest multiple; in the middle between two, where rounding may favour the wrong one, the
  // other. Their difference from a value so near to them is exact.
  for (int attempt = 0; attempt < 2; ++attempt) {
    double rounded = multiple(count, field.step_digit, field.step_exponent);
    if (field.dtype == DType::kF32) rounded = static_cast<double>(static_cast<float>(rounded));
    const double error = value - rounded;
    if (error >= -field.max_error && error <= field.max_error) return rounded;
    count += error > 0 ? 1 : -1;
  }
  return value;
}

std::int64_t nearest_step(const Field& field, std::int64_t value) {
  return nearest_integer(field, value);
}
std::uint64_t nearest_step(const Field& field, std::uint64_t value) {
  return nearest_integer(field, value);
}

}  // namespace edgecore
