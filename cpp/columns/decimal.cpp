#include "columns/decimal.hpp"

#include <array>

#include "base/exact.hpp"
#include "columns/stream.hpp"

namespace edgecore {
namespace {

constexpr std::array<double, kDecimalScaleMax + 1> kPowers = {
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8, 1e9,
    1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18};
// Adding and taking away 1.5 · 2^52 rounds a double below 2^51 to an integer, ties to even.
constexpr double kRounder = 6755399441055744.0;
constexpr double kIntegersBelow = 2251799813685248.0;
constexpr std::int64_t kUlpsMax = 32;
constexpr std::size_t kWindow = 64;
constexpr unsigned kMisfitBits = 90;

std::uint64_t bits_of_quotient(DType dtype, double quotient) {
  if (dtype != DType::kF32) return std::bit_cast<std::uint64_t>(quotient);
  return std::bit_cast<std::uint32_t>(static_cast<float>(quotient));
}

std::uint64_t sample_cost(DType dtype, std::span<const std::uint64_t> cells, unsigned scale) {
  std::uint64_t cost = 0;
  std::int64_t previous = 0;
  for (const std::uint64_t cell : cells) {
    DecimalParts parts;
    if (!to_decimal(dtype, cell, scale, parts)) {
      cost += kMisfitBits;
      continue;
    }
    const std::uint64_t left = zigzag(wrap_sub(parts.integer, previous));
    cost += static_cast<unsigned>(std::bit_width(left)) + (parts.ulps != 0 ? 8 : 0);
    previous = parts.integer;
  }
  return cost;
}

// Integers in place to the doubles of integer / 10^scale; false, and nothing done, when one is not
// strictly between -2^51 and 2^51. The double of an integer comes of adding it to the bits of
// kRounder, which any machine does for several at once.
bool to_quotients(unsigned scale, std::span<std::uint64_t> cells) {
  constexpr std::uint64_t kBelow = std::uint64_t{1} << 51;
  constexpr std::uint64_t kRounderBits = std::bit_cast<std::uint64_t>(kRounder);
  std::uint64_t range = 0;
  for (const std::uint64_t cell : cells) range |= (cell + kBelow - 1) | (cell + kBelow);
  if (range >= 2 * kBelow) return false;
  const double power = kPowers[scale];
  for (std::uint64_t& cell : cells)
    cell = std::bit_cast<std::uint64_t>((std::bit_cast<double>(cell + kRounderBits) - kRounder) /
                                        power);
  return true;
}

}  // namespace

bool to_decimal(DType dtype, std::uint64_t cell, unsigned scale, DecimalParts& out) {
  const double scaled = std::bit_cast<double>(cell) * kPowers[scale];
  if (!(scaled > -kIntegersBelow && scaled < kIntegersBelow)) return false;
  const double rounded = (scaled + kRounder) - kRounder;
  if (rounded >= kIntegersBelow || rounded <= -kIntegersBelow) return false;
  out.integer = static_cast<std::int64_t>(rounded);
  const std::uint64_t near =
      bits_of_quotient(dtype, static_cast<double>(out.integer) / kPowers[scale]);
  out.ulps = wrap_sub(static_cast<std::int64_t>(bits_of_cell(dtype, cell)),
                      static_cast<std::int64_t>(near));
  return out.ulps >= -kUlpsMax && out.ulps <= kUlpsMax;
}

bool from_decimals(DType dtype, unsigned scale, std::span<const std::int64_t> ulps,
                   std::span<std::uint64_t> cells) {
  if (!to_quotients(scale, cells)) return false;
  if (dtype != DType::kF32) {
    for (std::size_t i = 0; i < cells.size(); ++i) cells[i] += static_cast<std::uint64_t>(ulps[i]);
    return true;
  }
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const std::uint64_t bits = bits_of_quotient(dtype, std::bit_cast<double>(cells[i]));
    cells[i] = cell_of_bits(dtype, bits + static_cast<std::uint64_t>(ulps[i]));
  }
  return true;
}

void grid_to_doubles(unsigned scale, std::span<std::uint64_t> cells) {
  if (to_quotients(scale, cells)) return;
  for (std::uint64_t& cell : cells)
    cell = std::bit_cast<std::uint64_t>(
        grid_to_double(static_cast<std::int64_t>(cell), static_cast<int>(scale)));
}

unsigned likely_scale(DType dtype, std::span<const std::uint64_t> cells) {
  const auto head = cells.first(std::min(kWindow, cells.size()));
  const std::size_t middle = cells.size() / 2;
  const auto inner = cells.subspan(middle, std::min(kWindow, cells.size() - middle));
  unsigned best = 0;
  std::uint64_t least = ~std::uint64_t{0};
  for (unsigned scale = 0; scale <= kDecimalScaleMax; ++scale) {
    const std::uint64_t cost = sample_cost(dtype, head, scale) + sample_cost(dtype, inner, scale);
    if (cost < least) {
      least = cost;
      best = scale;
    }
  }
  return best;
}

}  // namespace edgecore
