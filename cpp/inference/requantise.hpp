// How an int32 sum becomes an output code: what the reference kernels of the field do with the
// real number scale_in * scale_weight / scale_out. Which of the two, for an operator and a
// profile, is told in docs/numerics.md.
#pragma once

#include <bit>
#include <cstdint>

#include "inference/executor.hpp"

namespace edgecore::inference {

enum class Rounding : std::uint8_t {
  kReal = 0,     // the product in doubles, rounded once, halves away from zero
  kDoubled = 1,  // a 31-bit multiplier (Jacob et al., 2018, section 2.2): a doubling high multiply,
                 // halves up, then a divide by a power of two, halves away from zero
};

// Stands for value * 2^(shift - 31); value is 0 or in [2^30, 2^31), shift in [-31, 30].
struct Multiplier {
  std::int32_t value = 0;
  std::int32_t shift = 0;
};

// The nearest multiplier of a finite real >= 0, ties away from zero; 0 below 2^-32. A real of
// 2^30 or more has none, which the caller refuses by its shift of 31.
inline Multiplier multiplier_of(double real) {
  const auto bits = std::bit_cast<std::uint64_t>(real);
  const auto biased = static_cast<std::int32_t>(bits >> 52 & 0x7ff);
  if (biased == 0) return {};
  // real = fraction * 2^shift with fraction in [0.5, 1), which has 53 bits; 31 are kept.
  std::int32_t shift = biased - 1022;
  const std::uint64_t fraction = (bits & 0xfffffffffffffU) | std::uint64_t{1} << 52;
  std::uint64_t value = (fraction + (std::uint64_t{1} << 21)) >> 22;
  if (value == std::uint64_t{1} << 31) {
    value >>= 1;
    ++shift;
  }
  if (shift < -31) return {};
  return {static_cast<std::int32_t>(value), shift > 30 ? 31 : shift};
}

// The greatest double below a half: added before a truncation it rounds halves away from zero,
// because a sum that would wrongly reach the next integer rounds to the double below it.
inline constexpr double kBelowHalf = 0x1.fffffffffffffp-2;

// The loader has proven that the results, and the accumulator shifted left, fit in 32 bits.
inline std::int32_t requantise(std::int32_t accumulator, double by) {
  const double product = static_cast<double>(accumulator) * by;
  return static_cast<std::int32_t>(product + (product < 0 ? -kBelowHalf : kBelowHalf));
}

inline std::int32_t requantise(std::int32_t accumulator, Multiplier by) {
  const std::int64_t product = std::int64_t{accumulator} * by.value;
  const int left = by.shift > 0 ? by.shift : 0;
  const int right = by.shift > 0 ? 0 : -by.shift;
  const std::int64_t high = ((product << left) + (std::int64_t{1} << 30)) >> 31;
  if (right == 0) return static_cast<std::int32_t>(high);
  const std::int64_t half = std::int64_t{1} << (right - 1);
  return static_cast<std::int32_t>((high + half - (high < 0 ? 1 : 0)) >> right);
}

}  // namespace edgecore::inference
