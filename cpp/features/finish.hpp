// Exact totals into doubles, at read: +, -, *, / and sqrt on correctly rounded operands, in one
// fixed order. Nothing else in this room computes in floating point.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

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

// From one time to a later one, whatever they are.
constexpr std::uint64_t between(std::int64_t from, std::int64_t to) {
  return static_cast<std::uint64_t>(to) - static_cast<std::uint64_t>(from);
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

// A 128-bit integer, two's complement, as two words: written and read in halves it never waits for
// itself, as one 16-byte load behind two 8-byte stores does.
class Wide {
 public:
  Wide() = default;
  Wide(UInt128 value)  // NOLINT: implicit by design
      : low_(static_cast<std::uint64_t>(value)), high_(static_cast<std::uint64_t>(value >> 64)) {}
  UInt128 value() const { return static_cast<UInt128>(high_) << 64 | low_; }
  Int128 signed_value() const { return static_cast<Int128>(value()); }
  std::uint64_t low() const { return low_; }
  std::uint64_t high() const { return high_; }
  bool fits_i64() const { return high_ == static_cast<std::uint64_t>(as_i64() >> 63); }
  std::int64_t as_i64() const { return static_cast<std::int64_t>(low_); }

 private:
  std::uint64_t low_ = 0, high_ = 0;
};

// n * squares - sum^2, correctly rounded to a double: n (n - 1) times the sample variance, in grid
// steps squared. Exact, so never negative, and 0 exactly when all values are equal.
// n <= 2^22, squares < 2^126, |sum| < 2^75.
double spread_wide(std::uint32_t n, UInt128 squares, Int128 sum);
inline double spread(std::uint32_t n, const Wide& squares, const Wide& sum) {
  if (squares.high() != 0 || squares.low() >> 41 != 0)
    return spread_wide(n, squares.value(), sum.signed_value());
  // n * squares < 2^63, and sum^2 is not above it.
  const std::int64_t small = sum.as_i64();
  return static_cast<double>(n * static_cast<std::int64_t>(squares.low()) - small * small);
}

// The sample variance (ddof = 1) in grid steps squared; n >= 2. One division.
inline double sample_variance(std::uint32_t n, const Wide& squares, const Wide& sum) {
  const auto count = static_cast<std::int64_t>(n);
  return spread(n, squares, sum) / static_cast<double>(count * (count - 1));
}
// Its square root, the sample standard deviation in grid steps.
inline double sample_std(std::uint32_t n, const Wide& squares, const Wide& sum) {
  return std::sqrt(sample_variance(n, squares, sum));
}

// The magnitude of a finite double: mantissa * 2^(place - 1074).
struct Magnitude {
  std::uint64_t mantissa = 0;  // < 2^53
  unsigned place = 0;
};
inline Magnitude magnitude_of(double value) {
  const auto bits = std::bit_cast<std::uint64_t>(value);
  const auto biased = static_cast<unsigned>(bits >> 52 & 0x7ff);
  const std::uint64_t fraction = bits & ((std::uint64_t{1} << 52) - 1);
  if (biased == 0) return {fraction, 0};
  return {fraction | std::uint64_t{1} << 52, biased - 1};
}

// Adds a number of as many limbs of 64 bits, the lowest first, modulo all of them.
void add_limbs(std::span<std::uint64_t> to, std::span<const std::uint64_t> other);

// A double as an integer over two limbs of 64 bits: the value is (high, low) * 2^(64 * at - 1074),
// negative where it says so.
struct Limbs {
  explicit Limbs(double value);
  std::size_t at = 0;
  std::uint64_t low = 0, high = 0;  // high < 2^53
  bool negative = false;
  bool is_zero() const { return (low | high) == 0; }
};

// The exact sum of any 2^22 finite doubles: a fixed-point number of 2176 bits in two's complement,
// whose bit 0 is 2^-1074. Adding and taking away are exact inverses.
class ExactSum {
 public:
  void add(double value) { accumulate(Limbs(value), false); }
  void subtract(double value) { accumulate(Limbs(value), true); }
  void merge(const ExactSum& other);
  double rounded() const;  // to nearest, ties to even; infinite beyond the doubles
  static constexpr std::size_t kLimbs = 34;
  std::array<std::uint64_t, kLimbs> magnitude() const;  // without its sign

 private:
  friend class FloatSum;
  void accumulate(const Limbs& one, bool negate);
  std::array<std::uint64_t, kLimbs> limbs_{};
};

// The same sum, small: of the limbs those around the first value, for as long as all values are
// within 2^64 of it or a good deal greater; from then on an ExactSum.
class FloatSum {
 public:
  void add(double value) { accumulate(value, false); }
  void subtract(double value) { accumulate(value, true); }
  double rounded() const;
  ExactSum exact() const;
  std::size_t memory_bytes() const { return wide_ ? sizeof(ExactSum) : 0; }  // besides its own

 private:
  static constexpr std::size_t kLimbs = 6;
  void accumulate(double value, bool negate);
  std::unique_ptr<ExactSum> wide_;
  std::size_t base_ = 0;  // the limb that limbs_[0] is
  bool any_ = false;      // there was a value
  std::array<std::uint64_t, kLimbs> limbs_{};
};

}  // namespace edgecore::features
