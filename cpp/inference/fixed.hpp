// Fixed-point arithmetic of the reference kernels, int32 with a number of integer bits: products
// and shifts round as theirs do, so that what is computed with them agrees to the bit.
// The functions are gemmlowp's (Jacob and Warden, fixedpoint); constants are their reals rounded.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>

namespace edgecore::inference::fixed {

using Raw = std::int32_t;
inline constexpr Raw kMost = std::numeric_limits<Raw>::max();  // stands for 1 with no integer bits

constexpr Raw saturated(std::int64_t value) {
  return static_cast<Raw>(std::clamp<std::int64_t>(value, std::numeric_limits<Raw>::min(), kMost));
}

// a * b / 2^31, halves up. Integer bits add up.
constexpr Raw times(Raw a, Raw b) {
  return saturated((std::int64_t{a} * b + (std::int64_t{1} << 30)) >> 31);
}

// a / 2^by, halves away from zero; `by` within 31.
constexpr Raw halved(Raw a, int by) {
  if (by == 0) return a;
  const std::int64_t half = std::int64_t{1} << (by - 1);
  return static_cast<Raw>((a + half - (a < 0 ? 1 : 0)) >> by);
}

// a * 2^by; `by` within 31.
constexpr Raw raised(Raw a, int by) {
  return saturated(std::int64_t{a} << by);
}

// e^a of a in [-1/4, 0) without integer bits: Taylor's series around -1/8.
constexpr Raw exp_of_quarter(Raw a) {
  constexpr Raw kExpOfEighth = 1895147668;  // e^(-1/8)
  constexpr Raw kThird = 715827883;
  const Raw x = a + (1 << 28);
  const Raw x2 = times(x, x);
  const Raw x3 = times(x2, x);
  const Raw x4 = times(x2, x2);
  const Raw rest = halved(times(halved(x4, 2) + x3, kThird) + x2, 1);
  return saturated(std::int64_t{kExpOfEighth} + times(kExpOfEighth, x + rest));
}

// e^a of a <= 0 with `bits` integer bits (at most 5); without integer bits.
constexpr Raw exp_of_negative(Raw a, int bits) {
  constexpr Raw kPowers[] = {1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242};
  const int fraction = 31 - bits;
  const Raw quarter = Raw{1} << (fraction - 2);
  const Raw within = (a & (quarter - 1)) - quarter;  // in [-1/4, 0)
  const Raw whole = within - a;                      // quarters
  Raw result = exp_of_quarter(raised(within, bits));
  for (int i = 0; i < bits + 2; ++i)  // e^-(2^(i - 2))
    if ((whole & (Raw{1} << (fraction + i - 2))) != 0) result = times(result, kPowers[i]);
  return a == 0 ? kMost : result;
}

// 1 / (1 + a) of a in [0, 1) without integer bits: Newton's method, begun on a line.
constexpr Raw reciprocal_of_one_plus(Raw a) {
  constexpr Raw kOne = 1 << 29;  // with 2 integer bits, as the two below
  constexpr Raw k48Over17 = 1515870810;
  constexpr Raw k32Over17 = 1010580540;
  const auto half = static_cast<Raw>((std::int64_t{a} + kMost + 1) / 2);
  Raw x = k48Over17 + times(half, -k32Over17);
  for (int i = 0; i < 3; ++i) x += raised(times(x, kOne - times(half, x)), 2);
  return raised(x, 1);
}

// 2^31 / x, x > 0 with 12 integer bits: a number without integer bits, to be divided by 2^shift.
struct Reciprocal {
  Raw value = 0;
  int shift = 0;
};
constexpr Reciprocal reciprocal_of(Raw x, int bits) {
  const auto raw = static_cast<std::uint32_t>(x);
  const int headroom = std::countl_zero(raw);
  const auto above_one = static_cast<Raw>((raw << headroom) - (std::uint32_t{1} << 31));
  return {reciprocal_of_one_plus(above_one), bits - headroom};
}

}  // namespace edgecore::inference::fixed
