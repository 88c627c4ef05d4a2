// Exact totals into doubles, at read: +, -, *, / and sqrt on correctly rounded operands, in one
// fixed order. Nothing else in this room computes in floating point.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <optional>

#include "base/exact.hpp"

namespace edgecore::features {

constexpr std::int64_t flip_sign_bit(std::uint64_t bits) {
  return static_cast<std::int64_t>(bits ^ (std::uint64_t{1} << 63));
}

// a - b, at the ends of i64 the end itself.
constexpr std::int64_t saturating_sub(std::int64_t a, std::int64_t b) {
  std::int64_t out = 0;
  if (!__builtin_sub_overflow(a, b, &out)) return out;
  return b > 0 ? INT64_MIN : INT64_MAX;
}

// Doubles as integers of the same order; -0 is 0. Finite values only.
inline std::int64_t float_key(double value) {
  const auto bits = std::bit_cast<std::int64_t>(value + 0.0);
  return bits ^ static_cast<std::int64_t>(static_cast<std::uint64_t>(bits >> 63) >> 1);
}
inline double float_of_key(std::int64_t key) {
  return std::bit_cast<double>(
      key ^ static_cast<std::int64_t>(static_cast<std::uint64_t>(key >> 63) >> 1));
}

// value / resolution to the nearest integer, ties to even; nullopt beyond 2^51 or not a number.
inline std::optional<std::int64_t> steps_of(double value, double resolution) {
  constexpr double kMax = 2251799813685248.0;      // 2^51
  constexpr double kRounder = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to an integer
  const double steps = value / resolution;
  if (!(steps > -kMax && steps < kMax)) return std::nullopt;
  volatile double rounded = steps + kRounder;  // volatile: the pair of additions is no identity
  return static_cast<std::int64_t>(rounded - kRounder);
}

// numerator / denominator, correctly rounded, ties to even. |numerator| < 2^126,
// 0 < denominator < 2^100.
double ratio_slow(Int128 numerator, UInt128 denominator);
inline double ratio(Int128 numerator, UInt128 denominator) {
  constexpr Int128 kExact = Int128{1} << 53;
  if (numerator <= kExact && numerator >= -kExact && denominator <= static_cast<UInt128>(kExact))
    return static_cast<double>(static_cast<std::int64_t>(numerator)) /
           static_cast<double>(static_cast<std::int64_t>(denominator));
  return ratio_slow(numerator, denominator);
}

// n * squares - sum^2, correctly rounded to a double: n (n - 1) times the sample variance, in grid
// steps squared. Exact, so never negative, and 0 exactly when all values are equal.
// n <= 2^22, squares < 2^126, |sum| < 2^75.
double spread_slow(std::uint32_t n, UInt128 squares, Int128 sum);
inline double spread(std::uint32_t n, UInt128 squares, Int128 sum) {
  if (squares >> 104 != 0) return spread_slow(n, squares, sum);
  const auto magnitude = static_cast<std::uint64_t>(sum < 0 ? -sum : sum);  // < 2^63, see above
  return static_cast<double>(n * squares - static_cast<UInt128>(magnitude) * magnitude);
}

// The sample standard deviation (ddof = 1) in grid steps; n >= 2. One division, one square root.
inline double sample_std(std::uint32_t n, UInt128 squares, Int128 sum) {
  const double pairs = static_cast<double>(static_cast<std::uint64_t>(n) * (n - 1));
  return std::sqrt(spread(n, squares, sum) / pairs);
}

// The exact sum of any 2^22 finite doubles: a fixed-point number of 2176 bits in two's complement,
// whose bit 0 is 2^-1074. Adding and taking away are exact inverses.
class ExactSum {
 public:
  void add(double value) { accumulate(value, false); }
  void subtract(double value) { accumulate(value, true); }
  double rounded() const;  // to nearest, ties to even; infinite beyond the doubles

 private:
  static constexpr std::size_t kLimbs = 34;
  void accumulate(double value, bool negate);
  std::array<std::uint64_t, kLimbs> limbs_{};
};

}  // namespace edgecore::features
