// Registers that count, and their estimate; see sketch.hpp.
#include "features/sketch.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace edgecore::features {
namespace {

// The finaliser of SplitMix64: fixed, the same everywhere, and no secret.
std::uint64_t hash_of(std::int64_t value) {
  std::uint64_t x = static_cast<std::uint64_t>(value) + 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

struct Cell {
  std::size_t which = 0;  // its register
  std::size_t rank = 0;   // 1 to kRanks
  std::size_t at() const { return (rank - 1) * Sketch::kRegisters + which; }
};

Cell cell_of(std::int64_t value) {
  const std::uint64_t hash = hash_of(value);
  const auto zeros = static_cast<std::size_t>(std::countl_zero(hash << Sketch::kRegisterBits));
  return {static_cast<std::size_t>(hash >> (64 - Sketch::kRegisterBits)),
          std::min(zeros, Sketch::kRanks - 1) + 1};
}

// The two series of the estimator, of +, *, / and roots alone, ended by what a double can hold.
double sigma(double x) {
  if (x == 1) return std::numeric_limits<double>::infinity();
  double weight = 1;
  double sum = x;
  for (double before = -1; sum != before; weight += weight) {
    x = x * x;
    before = sum;
    sum += x * weight;
  }
  return sum;
}

double tau(double x) {
  if (x == 0 || x == 1) return 0;
  double weight = 1;
  double sum = 1 - x;
  for (double before = -1; sum != before;) {
    x = std::sqrt(x);
    before = sum;
    weight *= 0.5;
    const double rest = 1 - x;
    sum -= rest * rest * weight;
  }
  return sum / 3;
}

}  // namespace

void Sketch::add(std::int64_t value, std::uint32_t count) {
  const Cell cell = cell_of(value);
  if (counts_.size() < cell.rank * kRegisters) {
    counts_.reserve(cell.rank * kRegisters);
    counts_.resize(cell.rank * kRegisters);
  }
  std::uint32_t& events = counts_[cell.at()];
  if (events == 0) {
    ++cells_;
    std::uint8_t& highest = highest_[cell.which];
    if (cell.rank > highest) {
      --having_[highest];
      ++having_[cell.rank];
      highest = static_cast<std::uint8_t>(cell.rank);
      estimated_ = false;
    }
  }
  events += count;
}

void Sketch::remove(std::int64_t value) {
  Cell cell = cell_of(value);
  if (--counts_[cell.at()] != 0) return;
  --cells_;
  std::uint8_t& highest = highest_[cell.which];
  if (cell.rank != highest) return;
  --having_[cell.rank];
  while (--cell.rank > 0 && counts_[cell.at()] == 0) continue;
  ++having_[cell.rank];
  highest = static_cast<std::uint8_t>(cell.rank);
  estimated_ = false;
}

std::uint32_t Sketch::estimate() {
  if (estimated_) return estimate_;
  constexpr double kHalfOfLog2E = 0.72134752044448170368;  // 1 / (2 ln 2)
  constexpr auto kAll = static_cast<double>(kRegisters);
  double sum = kAll * tau(1 - static_cast<double>(having_[kRanks]) / kAll);
  for (std::size_t rank = kRanks - 1; rank > 0; --rank)
    sum = 0.5 * (sum + static_cast<double>(having_[rank]));
  sum += kAll * sigma(static_cast<double>(having_[0]) / kAll);
  constexpr double kMost = 4294967040;
  estimate_ = static_cast<std::uint32_t>(std::min(kHalfOfLog2E * kAll * kAll / sum + 0.5, kMost));
  estimated_ = true;
  return estimate_;
}

}  // namespace edgecore::features
