// Floats as decimals: value = integer / 10^scale, some units in the last place off.
#pragma once

#include <bit>
#include <cstdint>
#include <span>

#include "base/schema.hpp"

namespace edgecore {

inline constexpr unsigned kDecimalScaleMax = 18;

struct DecimalParts {
  std::int64_t integer = 0;
  std::int64_t ulps = 0;
};

// IEEE bits in the column's own width, from and to the bits of a double (rows.hpp).
inline std::uint64_t bits_of_cell(DType dtype, std::uint64_t cell) {
  if (dtype != DType::kF32) return cell;
  return std::bit_cast<std::uint32_t>(static_cast<float>(std::bit_cast<double>(cell)));
}
inline std::uint64_t cell_of_bits(DType dtype, std::uint64_t bits) {
  if (dtype != DType::kF32) return bits;
  return std::bit_cast<std::uint64_t>(
      static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(bits))));
}

// False when the value is no such decimal: not finite, too large, or more than 32 units off.
bool to_decimal(DType dtype, std::uint64_t cell, unsigned scale, DecimalParts& out);

// The cells of decimals. In place: `cells` holds the integers before and the cells after. False:
// an integer that to_decimal never gives.
[[nodiscard]] bool from_decimals(DType dtype, unsigned scale, std::span<const std::int64_t> ulps,
                                 std::span<std::uint64_t> cells);

// Grid integers, the cells of a decimal field, in place to the doubles nearest to them.
void grid_to_doubles(unsigned scale, std::span<std::uint64_t> cells);

// The scale that seems to cost least, judged on a sample.
unsigned likely_scale(DType dtype, std::span<const std::uint64_t> cells);

}  // namespace edgecore
