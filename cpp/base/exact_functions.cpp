// exp, exp2 and tanh in +, -, *, / and one table, in a fixed order: the same bits on every machine.
// Method: P. T. P. Tang, "Table-driven implementation of the exponential function in IEEE
// floating-point arithmetic", ACM TOMS 15(2), 1989, with 32 steps per octave.
#include <bit>
#include <limits>

#include "base/exact.hpp"

namespace edgecore {
namespace {

struct Step {
  double high;  // 2^(j/32), rounded
  double low;   // 2^(j/32) - high, rounded
};
constexpr Step kSteps[32] = {
    {0x1.0000000000000p+0, 0.0},
    {0x1.059b0d3158574p+0, 0x1.d73e2a475b465p-55},
    {0x1.0b5586cf9890fp+0, 0x1.8a62e4adc610bp-54},
    {0x1.11301d0125b51p+0, -0x1.6c51039449b3ap-54},
    {0x1.172b83c7d517bp+0, -0x1.19041b9d78a76p-55},
    {0x1.1d4873168b9aap+0, 0x1.e016e00a2643cp-54},
    {0x1.2387a6e756238p+0, 0x1.9b07eb6c70573p-54},
    {0x1.29e9df51fdee1p+0, 0x1.612e8afad1255p-55},
    {0x1.306fe0a31b715p+0, 0x1.6f46ad23182e4p-55},
    {0x1.371a7373aa9cbp+0, -0x1.63aeabf42eae2p-54},
    {0x1.3dea64c123422p+0, 0x1.ada0911f09ebcp-55},
    {0x1.44e086061892dp+0, 0x1.89b7a04ef80d0p-59},
    {0x1.4bfdad5362a27p+0, 0x1.d4397afec42e2p-56},
    {0x1.5342b569d4f82p+0, -0x1.07abe1db13cadp-55},
    {0x1.5ab07dd485429p+0, 0x1.6324c054647adp-54},
    {0x1.6247eb03a5585p+0, -0x1.383c17e40b497p-54},
    {0x1.6a09e667f3bcdp+0, -0x1.bdd3413b26456p-54},
    {0x1.71f75e8ec5f74p+0, -0x1.16e4786887a99p-55},
    {0x1.7a11473eb0187p+0, -0x1.41577ee04992fp-55},
    {0x1.82589994cce13p+0, -0x1.d4c1dd41532d8p-54},
    {0x1.8ace5422aa0dbp+0, 0x1.6e9f156864b27p-54},
    {0x1.93737b0cdc5e5p+0, -0x1.75fc781b57ebcp-57},
    {0x1.9c49182a3f090p+0, 0x1.c7c46b071f2bep-56},
    {0x1.a5503b23e255dp+0, -0x1.d2f6edb8d41e1p-54},
    {0x1.ae89f995ad3adp+0, 0x1.7a1cd345dcc81p-54},
    {0x1.b7f76f2fb5e47p+0, -0x1.5584f7e54ac3bp-56},
    {0x1.c199bdd85529cp+0, 0x1.11065895048ddp-55},
    {0x1.cb720dcef9069p+0, 0x1.503cbd1e949dbp-56},
    {0x1.d5818dcfba487p+0, 0x1.2ed02d75b3707p-55},
    {0x1.dfc97337b9b5fp+0, -0x1.1a5cd4f184b5cp-54},
    {0x1.ea4afa2a490dap+0, -0x1.e9c23179c2893p-54},
    {0x1.f50765b6e4540p+0, 0x1.9d3e12dd8a18bp-54},
};
constexpr double kStepsPerNat = 0x1.71547652b82fep+5;  // 32 / ln 2
// ln 2 / 32 in two parts; the high one has 37 bits, so that its product with any step is exact.
constexpr double kNatHigh = 0x1.62e42fefa0000p-6;
constexpr double kNatLow = 0x1.cf79abc9e3b3ap-45;
constexpr double kLn2 = 0x1.62e42fefa39efp-1;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// exp(r) - 1 for |r| <= ln 2 / 64; the first term left out is below 5e-21.
double small_expm1(double r) {
  const double tail =
      1.0 / 2 + r * (1.0 / 6 + r * (1.0 / 24 + r * (1.0 / 120 + r * (1.0 / 720 + r / 5040))));
  return r + r * r * tail;
}

std::int64_t nearest(double x) {
  return static_cast<std::int64_t>(x + (x < 0 ? -0.5 : 0.5));
}

double power_of_two(std::int64_t n) {  // n in [-1022, 1023]
  return std::bit_cast<double>(static_cast<std::uint64_t>(n + 1023) << 52);
}

// 2^(step/32) * (1 + rest), where rest = small_expm1.
double assemble(std::int64_t step, double rest) {
  const Step& at = kSteps[step & 31];
  const std::int64_t octave = step >> 5;
  const double mantissa = at.high + (at.low + at.high * rest);
  if (octave >= -1022 && octave <= 1023) return mantissa * power_of_two(octave);
  if (octave > 1023) return mantissa * 2 * power_of_two(octave - 1);
  return mantissa * power_of_two(octave + 100) * power_of_two(-100);  // subnormal results
}

}  // namespace

double exact_exp(double x) {
  if (x != x) return kNan;
  x = x < -745 ? -745 : x > 709 ? 709 : x;
  const std::int64_t step = nearest(x * kStepsPerNat);
  const auto k = static_cast<double>(step);
  return assemble(step, small_expm1((x - k * kNatHigh) - k * kNatLow));
}

double exact_exp2(double x) {
  if (x != x) return kNan;
  x = x < -1074 ? -1074 : x > 1023 ? 1023 : x;
  const std::int64_t step = nearest(x * 32);
  return assemble(step, small_expm1((x - static_cast<double>(step) / 32) * kLn2));
}

// tanh x = e / (e + 2) with e = exp(2x) - 1. The rounding errors of e and of e + 2 are known
// exactly (two-sum) and put back to first order.
double exact_tanh(double x) {
  if (x != x) return kNan;
  const bool negative = std::bit_cast<std::uint64_t>(x) >> 63 != 0;
  const double y = negative ? -2 * x : 2 * x;
  if (y >= 44) return negative ? -1.0 : 1.0;
  const std::int64_t step = nearest(y * kStepsPerNat);
  const auto k = static_cast<double>(step);
  const double rest = small_expm1((y - k * kNatHigh) - k * kNatLow);
  const double scale = power_of_two(step >> 5);
  const double high = kSteps[step & 31].high * scale;
  const double low = kSteps[step & 31].low * scale + high * rest;
  const double minus_one = high - 1;
  const double minus_one_error = (high - minus_one) - 1;  // exact: high >= 1
  const double tail = low + minus_one_error;
  const double e = minus_one + tail;
  const double e_error = step == 0 ? 0 : (minus_one - e) + tail;
  const double sum = e + 2;
  const double sum_error = e > 2 ? (e - sum) + 2 : (2 - sum) + e;
  const double quotient = e / sum;
  const double out = quotient + (e_error - quotient * sum_error) / sum;
  return negative ? -out : out;
}

}  // namespace edgecore
