// The table of operators; see operators.hpp.
#include "features/operators.hpp"

#include <array>

namespace edgecore::features {
namespace {

constexpr int kNoDdof = -1;
constexpr std::string_view kNone = "MISSING";

// In the order of their numbers.
constexpr std::array kOperators = {
    Operator{Op::kCount, "count", 1, Family::kTotals, Takes::kRows, false, kNoDdof, "0", "1"},
    Operator{Op::kSum, "sum", 1, Family::kTotals, Takes::kNumbers, false, kNoDdof, kNone, "v"},
    Operator{Op::kMean, "mean", 1, Family::kTotals, Takes::kNumbers, false, kNoDdof, kNone, "v"},
    Operator{Op::kStd, "std", 1, Family::kTotals, Takes::kBounded, false, 1, kNone, kNone},
    Operator{Op::kMin, "min", 1, Family::kTotals, Takes::kNumbers, false, kNoDdof, kNone, "v"},
    Operator{Op::kMax, "max", 1, Family::kTotals, Takes::kNumbers, false, kNoDdof, kNone, "v"},
    Operator{Op::kLast, "last", 1, Family::kNewest, Takes::kValues, true, kNoDdof, kNone, "v"},
    Operator{Op::kRecency, "recency", 1, Family::kNewest, Takes::kNothing, false, kNoDdof, kNone,
             "age"},
    Operator{Op::kVariance, "variance", 1, Family::kEnds, Takes::kBounded, false, 1, kNone, kNone},
    Operator{Op::kRange, "range", 1, Family::kEnds, Takes::kGrid, false, kNoDdof, kNone, "0"},
    Operator{Op::kFirst, "first", 1, Family::kEnds, Takes::kValues, true, kNoDdof, kNone, "v"},
    Operator{Op::kDelta, "delta", 1, Family::kEnds, Takes::kGrid, true, kNoDdof, kNone, kNone},
    Operator{Op::kRate, "rate", 1, Family::kEnds, Takes::kGrid, true, kNoDdof, kNone, kNone},
    Operator{Op::kEwma, "ewma", 1, Family::kDecay, Takes::kBounded, false, kNoDdof, kNone, "v"},
    Operator{Op::kRateOnce, "rate", 2, Family::kEnds, Takes::kGrid, true, kNoDdof, kNone, kNone},
    Operator{Op::kTimeIn, "time_in", 1, Family::kHeld, Takes::kTruth, true, kNoDdof, "held",
             "held"},
    Operator{Op::kRatio, "ratio", 1, Family::kRatio, Takes::kNothing, false, kNoDdof, "theirs",
             "theirs"},
    Operator{Op::kQuantile, "quantile", 1, Family::kValues, Takes::kGrid, false, kNoDdof, kNone,
             "v"},
    Operator{Op::kDistinct, "distinct", 1, Family::kValues, Takes::kValues, false, kNoDdof, "0",
             "1"},
    Operator{Op::kMostFrequent, "most_frequent", 1, Family::kValues, Takes::kValues, false, kNoDdof,
             kNone, "v"},
    Operator{Op::kBin, "bin", 1, Family::kValues, Takes::kNumbers, false, kNoDdof, "0", "0 or 1"},
    Operator{Op::kConstant, "constant", 1, Family::kNothing, Takes::kNothing, false, kNoDdof, "c",
             "c"},
};

constexpr bool numbered_in_order() {
  for (std::size_t i = 0; i < kOperators.size(); ++i)
    if (static_cast<std::size_t>(kOperators[i].op) != i + 1) return false;
  return true;
}
static_assert(numbered_in_order());

}  // namespace

std::span<const Operator> operators() {
  return kOperators;
}

const Operator* find_operator(Op op, std::uint16_t version) {
  const auto number = static_cast<std::size_t>(op);
  if (number < 1 || number > kOperators.size()) return nullptr;
  const Operator& found = kOperators[number - 1];
  return found.version == version ? &found : nullptr;
}

const Operator* find_operator(std::string_view name, std::uint16_t version) {
  for (const Operator& one : kOperators)
    if (one.name == name && one.version == version) return &one;
  return nullptr;
}

const Operator& operator_of(Op op) {
  return kOperators[static_cast<std::size_t>(op) - 1];
}

}  // namespace edgecore::features
