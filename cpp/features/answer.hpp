// What a window or a newest event says, as values and states: the one place where totals become
// doubles and where they are judged, so that stream and batch can't differ.
#pragma once

#include "features/engine.hpp"
#include "features/series.hpp"

namespace edgecore::features {

// Every integer up to it is a double.
inline constexpr std::int64_t kWhole = std::int64_t{1} << 53;

// One stored value in the field's unit.
double one_wide_value(const SeriesPlan& series, std::int64_t stored);
inline double one_value(const SeriesPlan& series, std::int64_t stored) {
  if (!series.small) return one_wide_value(series, stored);
  return static_cast<double>(stored) /
         static_cast<double>(static_cast<std::int64_t>(series.denominator));
}

// The common case without a branch per feature, values and states alone: small numbers, two events
// or more in the window, nothing to judge. Each operator is one division; the same operations as
// answer_window. False: not this case, and nothing is written.
bool answer_plain(const Plan& plan, const Group& group, const Totals& totals, const Answers& to);

// Likewise, values alone, of Family::kValues with an event in the window.
void answer_plain(const Plan& plan, const Group& group, const ValueWindow& window,
                  std::span<double> values);
// What kEwma makes of panes that hold an event.
double weighted_mean(const SeriesPlan& series, const Weighted& found);

// What a group's window holds.
struct Found {
  Totals totals;
  Weighted weighted;  // where it is of Family::kDecay
  Ends ends;          // where the group is of Family::kEnds and the window is not empty
  // Family::kHeld: whether any value is known that held in the window, and how long it was 1.
  bool any_held = false;
  std::uint64_t on_ns = 0;
  const ValueWindow* values = nullptr;  // where it is of Family::kValues
};

// The features of a window. `coverage` counts where the group needs it or `to` asks for it.
void answer_window(const Plan& plan, const Group& group, const Found& window, const Newest& newest,
                   double coverage, std::int64_t as_of, const Answers& to);

// Those of a group without a window: kLast and kRecency.
void answer_newest(const Plan& plan, const Group& group, const Newest& newest, std::int64_t as_of,
                   const Answers& to);

// Those that no event changes: FRESH, of age 0.
void answer_constants(const Plan& plan, const Answers& to);

// All MISSING, but for constants: the answer for an entity that is not known.
void answer_never(const Plan& plan, const Answers& to, Reason reason = Reason::kNever);

}  // namespace edgecore::features
