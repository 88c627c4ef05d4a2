// The rare and the wide cases of finish.hpp.
#include "features/finish.hpp"

#include <algorithm>

namespace edgecore::features {
namespace {

// (mantissa * 2^exponent), correctly rounded; `sticky`: something non-zero lies below bit 0.
// mantissa has at least 55 significant bits when sticky is set; the result is a normal number.
double round_mantissa(std::uint64_t mantissa, bool sticky, int exponent) {
  if (mantissa == 0) return 0;
  const int width = 64 - std::countl_zero(mantissa);
  if (width > 53) {
    const int drop = width - 53;
    const std::uint64_t rest = mantissa & ((std::uint64_t{1} << drop) - 1);
    const std::uint64_t half = std::uint64_t{1} << (drop - 1);
    mantissa >>= drop;
    exponent += drop;
    if (rest > half || (rest == half && (sticky || (mantissa & 1) != 0))) ++mantissa;
  }
  // 2^exponent by its bits, in two steps where one would leave the normal range.
  const auto power = [](int e) {
    return std::bit_cast<double>(static_cast<std::uint64_t>(e + 1023) << 52);
  };
  const double value = static_cast<double>(mantissa);
  if (exponent > 900) return value * power(900) * power(exponent - 900);
  if (exponent < -900) return value * power(-900) * power(exponent + 900);
  return value * power(exponent);
}

}  // namespace

namespace {
int width(UInt128 value) {
  const auto high = static_cast<std::uint64_t>(value >> 64);
  return high != 0 ? 128 - std::countl_zero(high)
                   : 64 - std::countl_zero(static_cast<std::uint64_t>(value));
}
}  // namespace

double ratio_slow(Int128 numerator, UInt128 denominator) {
  const bool negative = numerator < 0;
  const UInt128 magnitude = static_cast<UInt128>(negative ? -numerator : numerator);
  if (magnitude == 0) return 0;
  // As many bits of quotient at once as 128 bits have room for; one would do, by one.
  const int shift = std::clamp(56 - width(magnitude) + width(denominator), 0,
                               128 - std::max(width(magnitude), 1));
  UInt128 quotient = (magnitude << shift) / denominator;
  UInt128 rest = (magnitude << shift) - quotient * denominator;  // a division less than by %
  int exponent = -shift;
  while (quotient >> 55 == 0) {  // one more bit of quotient at a time
    rest <<= 1;
    const bool one = rest >= denominator;
    if (one) rest -= denominator;
    quotient = quotient << 1 | (one ? 1 : 0);
    --exponent;
  }
  bool sticky = rest != 0;
  while (quotient >> 64 != 0) {
    sticky = sticky || (quotient & 1) != 0;
    quotient >>= 1;
    ++exponent;
  }
  const double value = round_mantissa(static_cast<std::uint64_t>(quotient), sticky, exponent);
  return negative ? -value : value;
}

double spread_wide(std::uint32_t n, UInt128 squares, Int128 sum) {
  constexpr int kHalf = 64;
  if (squares >> 104 == 0) {  // n * squares < 2^126, and |sum| < 2^63
    const auto small = static_cast<std::uint64_t>(sum < 0 ? -sum : sum);
    return static_cast<double>(n * squares - static_cast<UInt128>(small) * small);
  }
  const auto low_of = [](UInt128 x) { return static_cast<std::uint64_t>(x); };
  // Three limbs of n * squares.
  const UInt128 first = static_cast<UInt128>(n) * low_of(squares);
  const UInt128 second = static_cast<UInt128>(n) * low_of(squares >> kHalf) + (first >> kHalf);
  // Three limbs of sum^2, sum = high * 2^64 + low.
  const auto magnitude = static_cast<UInt128>(sum < 0 ? -sum : sum);
  const std::uint64_t high = low_of(magnitude >> kHalf);
  const std::uint64_t low = low_of(magnitude);
  const UInt128 square_first = static_cast<UInt128>(low) * low;
  const UInt128 cross = static_cast<UInt128>(high) * low;  // < 2^75: doubling fits
  const UInt128 square_second = (cross << 1) + (square_first >> kHalf);
  const UInt128 square_third = static_cast<UInt128>(high) * high + (square_second >> kHalf);
  // The difference, limb by limb with borrow.
  std::array<std::uint64_t, 3> limbs{};
  const std::array<std::uint64_t, 3> a = {low_of(first), low_of(second), low_of(second >> kHalf)};
  const std::array<std::uint64_t, 3> b = {low_of(square_first), low_of(square_second),
                                          low_of(square_third)};
  std::uint64_t borrow = 0;
  for (std::size_t i = 0; i < 3; ++i) {
    const UInt128 difference = static_cast<UInt128>(a[i]) - b[i] - borrow;
    limbs[i] = low_of(difference);
    borrow = low_of(difference >> kHalf) != 0 ? 1 : 0;
  }
  if (limbs[2] == 0) return static_cast<double>(static_cast<UInt128>(limbs[1]) << kHalf | limbs[0]);
  // The top 64 bits and what lies below them.
  const int lead = std::countl_zero(limbs[2]);
  const std::uint64_t top = lead == 0 ? limbs[2] : limbs[2] << lead | limbs[1] >> (kHalf - lead);
  const std::uint64_t below = lead == 0 ? limbs[1] : limbs[1] << lead;
  return round_mantissa(top, below != 0 || limbs[0] != 0, 2 * kHalf - lead);
}

Limbs::Limbs(double value) {
  const auto [mantissa, place] = magnitude_of(value);
  at = place / 64;
  const unsigned shift = place % 64;
  low = mantissa << shift;
  high = shift == 0 ? 0 : mantissa >> (64 - shift);
  negative = std::signbit(value);
}

namespace {

// Two's complement; `limbs` from the one on that holds `one.low`.
void add_to(std::span<std::uint64_t> limbs, const Limbs& one, bool negate) {
  unsigned long long carry = 0;
  std::size_t at = 2;
  if (one.negative != negate) {
    carry = __builtin_sub_overflow(limbs[0], one.low, limbs.data()) ? 1 : 0;
    // high + carry can't wrap: high < 2^53.
    carry = __builtin_sub_overflow(limbs[1], one.high + carry, &limbs[1]) ? 1 : 0;
    for (; carry != 0 && at < limbs.size(); ++at) carry = limbs[at]-- == 0 ? 1 : 0;
  } else {
    carry = __builtin_add_overflow(limbs[0], one.low, limbs.data()) ? 1 : 0;
    carry = __builtin_add_overflow(limbs[1], one.high + carry, &limbs[1]) ? 1 : 0;
    for (; carry != 0 && at < limbs.size(); ++at) carry = ++limbs[at] == 0 ? 1 : 0;
  }
}

// Takes a sign away; whether there was one.
bool take_sign(std::span<std::uint64_t> limbs) {
  if (limbs.back() >> 63 == 0) return false;
  bool carry = true;
  for (auto& limb : limbs) {
    limb = ~limb + (carry ? 1 : 0);
    carry = carry && limb == 0;
  }
  return true;
}

// The double nearest to limbs * 2^(64 * base - 1074); writes over them.
double round_limbs(std::span<std::uint64_t> limbs, std::size_t base) {
  const bool negative = take_sign(limbs);
  std::size_t top = limbs.size();
  while (top > 0 && limbs[top - 1] == 0) --top;
  if (top == 0) return 0;
  --top;
  const int lead = std::countl_zero(limbs[top]);
  const int highest = static_cast<int>(base + top) * 64 + 63 - lead;  // bit of the leading one
  std::uint64_t mantissa = limbs[top] << lead;
  bool sticky = false;
  if (top > 0) {
    if (lead != 0) mantissa |= limbs[top - 1] >> (64 - lead);
    sticky = (lead == 0 ? limbs[top - 1] : limbs[top - 1] << lead) != 0;
    for (std::size_t i = 0; i + 1 < top; ++i) sticky = sticky || limbs[i] != 0;
  }
  // Bit `highest - 63` of the sum is bit 0 of the mantissa. Numbers of at most 53 bits are exact,
  // subnormal ones among them, so rounding never meets the subnormal range.
  const double value = highest < 64 ? round_mantissa(mantissa >> (63 - highest), false, -1074)
                                    : round_mantissa(mantissa, sticky, highest - 63 - 1074);
  return negative ? -value : value;
}

}  // namespace

void ExactSum::accumulate(const Limbs& one, bool negate) {
  if (!one.is_zero()) add_to(std::span(limbs_).subspan(one.at), one, negate);
}

void add_limbs(std::span<std::uint64_t> to, std::span<const std::uint64_t> other) {
  std::uint64_t carry = 0;
  for (std::size_t i = 0; i < to.size(); ++i) {
    const UInt128 sum = static_cast<UInt128>(to[i]) + other[i] + carry;
    to[i] = static_cast<std::uint64_t>(sum);
    carry = static_cast<std::uint64_t>(sum >> 64);
  }
}

void ExactSum::merge(const ExactSum& other) {
  add_limbs(limbs_, other.limbs_);
}

double ExactSum::rounded() const {
  auto limbs = limbs_;
  return round_limbs(limbs, 0);
}

std::array<std::uint64_t, ExactSum::kLimbs> ExactSum::magnitude() const {
  auto limbs = limbs_;
  take_sign(limbs);
  return limbs;
}

void FloatSum::accumulate(double value, bool negate) {
  const Limbs one(value);
  if (one.is_zero()) return;
  if (!any_) base_ = one.at > 0 ? one.at - 1 : 0;
  any_ = true;
  // The last limb takes carries and the sign: a sum of 2^22 values stays below it.
  if (!wide_ && (one.at < base_ || one.at + 3 > base_ + kLimbs))
    wide_ = std::make_unique<ExactSum>(exact());
  if (wide_)
    wide_->accumulate(one, negate);
  else
    add_to(std::span(limbs_).subspan(one.at - base_), one, negate);
}

ExactSum FloatSum::exact() const {
  if (wide_) return *wide_;
  ExactSum out;
  const bool negative = limbs_.back() >> 63 != 0;
  for (std::size_t i = base_; i < ExactSum::kLimbs; ++i) {
    const bool held = i - base_ < kLimbs;
    out.limbs_[i] = held ? limbs_[i - base_] : negative ? ~std::uint64_t{0} : 0;
  }
  return out;
}

double FloatSum::rounded() const {
  if (wide_) return wide_->rounded();
  auto limbs = limbs_;
  return round_limbs(limbs, base_);
}

}  // namespace edgecore::features
