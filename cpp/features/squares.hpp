// The exact spread of doubles that no grid holds: the sum of their squares, and what it leaves when
// the square of their sum is taken away. All of it is integers; one rounding at the end.
#pragma once

#include <array>
#include <cstdint>

#include "features/finish.hpp"

namespace edgecore::features {

// The exact sum of the squares of any 2^22 finite doubles: 4224 bits, whose bit 0 is 2^-2148.
class SquareSum {
 public:
  static constexpr std::size_t kLimbs = 66;
  void add(double value);
  // One that was added.
  void subtract(double value);
  void merge(const SquareSum& other);
  const std::array<std::uint64_t, kLimbs>& limbs() const { return limbs_; }

 private:
  std::array<std::uint64_t, kLimbs> limbs_{};
};

// The sample variance and its square root of n >= 2 doubles (ddof = 1): n Σv² − (Σv)² rounded to 53
// bits, over n (n − 1), and a root. Never negative, 0 exactly when all are equal, infinite beyond
// the doubles.
struct Deviation {
  double variance = 0, std = 0;
};
Deviation deviation_of(std::uint32_t n, const SquareSum& squares, const ExactSum& sum);

}  // namespace edgecore::features
