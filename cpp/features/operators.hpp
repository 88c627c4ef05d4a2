// The operators of features, one row each: what the planner, the bindings, the answers and the test
// of docs/formats/feature-definition.md read. A new operator is a row here and a case in
// answer.cpp.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace edgecore::features {

// One of a name and a version, which are what is on disk and wire; the numbers are those of this
// build. An operator whose bits change becomes another one of the same name: views that name the
// old version go on with it, beside the new one.
enum class Op : std::uint8_t {
  kCount = 1,
  kSum,
  kMean,
  kStd,
  kMin,
  kMax,
  kLast,
  kRecency,
  kVariance,
  kRange,
  kFirst,
  kDelta,
  kRate,
  kEwma,
  kRateOnce,  // rate@2
  kTimeIn,
  kRatio,
  kQuantile,
  kDistinct,
  kMostFrequent,
  kBin,
  kConstant,
};

// What an operator reads, and so which events it depends on.
enum class Family : std::uint8_t {
  kTotals,   // count, exact sums and extremes of a window; horizon max(2 W, ttl)
  kEnds,     // of a window too: its first and last event besides; horizon max(2 W, ttl)
  kNewest,   // the newest event; horizon W
  kDecay,    // panes of an eighth of the half-life W (decay.hpp); horizon 32 W
  kHeld,     // how long values of a window held (spans.hpp); horizon max(2 W, ttl)
  kRatio,    // two features' answers (ratios.hpp); horizon the longer of theirs
  kValues,   // the values of a window as a set (values.hpp); horizon max(2 W, ttl)
  kNothing,  // no event; horizon 0
};

// What a field must be.
enum class Takes : std::uint8_t {
  kRows,     // any field, or none
  kNothing,  // none
  kNumbers,  // a number
  kGrid,     // a number on a grid: no float without a resolution
  kBounded,  // likewise, within 2^52 steps of zero
  kTruth,    // a bool, or an integer whose range is 0 to 1
  kValues,   // a number, or a text, which counts by its code (category.hpp)
};

struct Operator {
  Op op;
  std::string_view name;
  std::uint16_t version;  // another one where bits of an answer are others
  Family family;
  Takes takes;
  bool ordered;             // events of one time are told apart by (source, sequence, value)
  int ddof;                 // what n is reduced by; -1 where that means nothing
  std::string_view empty;   // the value of a window without an event
  std::string_view single;  // and of one with a single event of value v
};

std::span<const Operator> operators();
// nullptr: not in this build.
const Operator* find_operator(Op op, std::uint16_t version);
const Operator* find_operator(std::string_view name, std::uint16_t version);
// Of an operator that the plan has accepted.
const Operator& operator_of(Op op);

}  // namespace edgecore::features
