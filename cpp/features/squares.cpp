// Long integers of squares; see squares.hpp.
#include "features/squares.hpp"

#include <bit>
#include <cmath>

namespace edgecore::features {
namespace {

// A square in units of 2^-2148: three limbs, from limb `at` on.
struct Square {
  std::size_t at = 0;
  std::array<std::uint64_t, 3> limbs{};
};

Square square_of(double value) {
  const auto [mantissa, place] = magnitude_of(value);
  const UInt128 square = static_cast<UInt128>(mantissa) * mantissa;  // 106 bits
  const unsigned shift = 2 * place % 64;
  const UInt128 low = square << shift;
  return {2 * place / 64,
          {static_cast<std::uint64_t>(low), static_cast<std::uint64_t>(low >> 64),
           shift == 0 ? 0 : static_cast<std::uint64_t>(square >> (128 - shift))}};
}

using Wide68 = std::array<std::uint64_t, 68>;

// limbs * n.
Wide68 times(const std::array<std::uint64_t, SquareSum::kLimbs>& limbs, std::uint32_t n) {
  Wide68 out{};
  UInt128 carry = 0;
  for (std::size_t i = 0; i < limbs.size(); ++i) {
    carry += static_cast<UInt128>(limbs[i]) * n;
    out[i] = static_cast<std::uint64_t>(carry);
    carry >>= 64;
  }
  out[limbs.size()] = static_cast<std::uint64_t>(carry);
  return out;
}

// The square of a sum, whose limbs beyond those of its values are 0.
Wide68 square_of(const ExactSum& sum) {
  const auto limbs = sum.magnitude();
  std::size_t first = 0;
  std::size_t end = limbs.size();
  while (end > 0 && limbs[end - 1] == 0) --end;
  while (first < end && limbs[first] == 0) ++first;
  Wide68 out{};
  for (std::size_t i = first; i < end; ++i) {
    UInt128 carry = 0;
    for (std::size_t j = first; j < end; ++j) {
      carry += static_cast<UInt128>(limbs[i]) * limbs[j] + out[i + j];
      out[i + j] = static_cast<std::uint64_t>(carry);
      carry >>= 64;
    }
    out[i + end] = static_cast<std::uint64_t>(carry);
  }
  return out;
}

void subtract_from(Wide68& from, const Wide68& other) {
  std::uint64_t borrow = 0;
  for (std::size_t i = 0; i < from.size(); ++i) {
    const UInt128 difference = static_cast<UInt128>(from[i]) - other[i] - borrow;
    from[i] = static_cast<std::uint64_t>(difference);
    borrow = static_cast<std::uint64_t>(difference >> 64) != 0 ? 1 : 0;
  }
}

// value * 2^exponent; the value is a whole number, and the exponent even.
struct Scaled {
  double value = 0;
  int exponent = 0;
};

// To 53 bits, ties to even; bit 0 is 2^-2148.
Scaled rounded(const Wide68& limbs) {
  std::size_t top = limbs.size();
  while (top > 0 && limbs[top - 1] == 0) --top;
  if (top == 0) return {};
  --top;
  const int lead = std::countl_zero(limbs[top]);
  std::uint64_t mantissa = limbs[top] << lead;
  bool sticky = false;
  if (top > 0) {
    if (lead != 0) mantissa |= limbs[top - 1] >> (64 - lead);
    sticky = limbs[top - 1] << lead != 0;
    for (std::size_t i = 0; i + 1 < top && !sticky; ++i) sticky = limbs[i] != 0;
  }
  constexpr int kDrop = 64 - 53;
  const std::uint64_t rest = mantissa & ((std::uint64_t{1} << kDrop) - 1);
  constexpr std::uint64_t kHalf = std::uint64_t{1} << (kDrop - 1);
  mantissa >>= kDrop;
  if (rest > kHalf || (rest == kHalf && (sticky || (mantissa & 1) != 0))) ++mantissa;
  const int exponent = static_cast<int>(top) * 64 - lead + kDrop - 2148;
  const bool odd = exponent % 2 != 0;
  return {static_cast<double>(odd ? 2 * mantissa : mantissa), odd ? exponent - 1 : exponent};
}

// value * 2^exponent by multiplications of which none but the last rounds; value >= 1.
double scaled(double value, int exponent) {
  constexpr int kStep = 900;
  const auto power = [](int e) {
    return std::bit_cast<double>(static_cast<std::uint64_t>(e + 1023) << 52);
  };
  for (; exponent > kStep; exponent -= kStep) value *= power(kStep);
  for (; exponent < -kStep; exponent += kStep) value *= power(-kStep);
  return value * power(exponent);
}

}  // namespace

void SquareSum::add(double value) {
  const Square square = square_of(value);
  std::uint64_t carry = 0;
  for (std::size_t i = 0; i < kLimbs - square.at && (i < 3 || carry != 0); ++i) {
    const UInt128 sum =
        static_cast<UInt128>(limbs_[square.at + i]) + (i < 3 ? square.limbs[i] : 0) + carry;
    limbs_[square.at + i] = static_cast<std::uint64_t>(sum);
    carry = static_cast<std::uint64_t>(sum >> 64);
  }
}

void SquareSum::subtract(double value) {
  const Square square = square_of(value);
  std::uint64_t borrow = 0;
  for (std::size_t i = 0; i < kLimbs - square.at && (i < 3 || borrow != 0); ++i) {
    const UInt128 rest =
        static_cast<UInt128>(limbs_[square.at + i]) - (i < 3 ? square.limbs[i] : 0) - borrow;
    limbs_[square.at + i] = static_cast<std::uint64_t>(rest);
    borrow = static_cast<std::uint64_t>(rest >> 64) != 0 ? 1 : 0;
  }
}

void SquareSum::merge(const SquareSum& other) {
  add_limbs(limbs_, other.limbs_);
}

Deviation deviation_of(std::uint32_t n, const SquareSum& squares, const ExactSum& sum) {
  Wide68 spread = times(squares.limbs(), n);
  subtract_from(spread, square_of(sum));
  const Scaled found = rounded(spread);
  const auto count = static_cast<std::int64_t>(n);
  const double variance = found.value / static_cast<double>(count * (count - 1));
  if (variance == 0) return {};
  return {scaled(variance, found.exponent), scaled(std::sqrt(variance), found.exponent / 2)};
}

}  // namespace edgecore::features
