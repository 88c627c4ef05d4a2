// How an int32 accumulator becomes an output code: the fixed-point multiplier of the field's
// reference kernels (Jacob et al., 2018, section 2.2), in both roundings. Integers only.
#pragma once

#include <bit>
#include <cstdint>

#include "inference/executor.hpp"

namespace edgecore::inference {

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

// The loader has proven that the result, and the accumulator shifted left, fit in 32 bits.
inline std::int32_t requantise(Profile profile, std::int32_t accumulator, Multiplier by) {
  const std::int64_t product = std::int64_t{accumulator} * by.value;
  if (profile == Profile::kLitertSingle) {
    const int down = 31 - by.shift;
    return static_cast<std::int32_t>((product + (std::int64_t{1} << (down - 1))) >> down);
  }
  const int left = by.shift > 0 ? by.shift : 0;
  const int right = by.shift > 0 ? 0 : -by.shift;
  // The doubling high multiply rounds halves up, the divide that follows away from zero.
  const std::int64_t high = ((product << left) + (std::int64_t{1} << 30)) >> 31;
  if (right == 0) return static_cast<std::int32_t>(high);
  const std::int64_t half = std::int64_t{1} << (right - 1);
  return static_cast<std::int32_t>((high + half - (high < 0 ? 1 : 0)) >> right);
}

}  // namespace edgecore::inference
