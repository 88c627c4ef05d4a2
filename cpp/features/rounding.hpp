// Rounding of exact quotients, ties to even.
#pragma once

#include "base/exact.hpp"

namespace edgecore::features {

// numerator / denominator to the nearest integer. |numerator| < 2^126, 0 < denominator < 2^126.
inline Int128 round_half_even(Int128 numerator, Int128 denominator) {
  const Int128 whole = numerator / denominator;
  const Int128 rest = numerator % denominator;
  const Int128 twice = 2 * (rest < 0 ? -rest : rest);
  if (twice < denominator || (twice == denominator && whole % 2 == 0)) return whole;
  return numerator < 0 ? whole - 1 : whole + 1;
}

inline bool is_finite(double value) {
  return value - value == 0;
}

}  // namespace edgecore::features
