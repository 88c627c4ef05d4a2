// Windows that are no sliding ones: those that hop, sessions, and how long values held. Each is a
// range of the series' events, whose sums ranges.hpp has, so that none needs a cursor and a read
// costs the same whichever way time went since the last.
//
// - hop: as of t the window is that as of the last multiple of the hop, counted from the epoch;
// - session: of the window's events those back from the newest whose neighbours are at most `gap`
//   apart. Once the newest is older than `gap` the session is over, and none goes on: the window is
//   empty. The window's width caps it, so that the horizon is finite;
// - held: an event's value holds until the next event, for at most `hold`; the last one before the
//   window holds into it if it lies within one more window;
// - recomputed: once the newest event is older than the ttl the window is that as of this event.
#pragma once

#include <string>

#include "features/engine.hpp"
#include "features/finish.hpp"
#include "features/rules.hpp"
#include "features/series.hpp"

namespace edgecore::features {

// The last multiple of `hop` at or before t; t without a hop.
constexpr std::int64_t hop_before(std::int64_t t, std::int64_t hop) {
  if (hop == 0) return t;
  const std::int64_t past = t % hop;
  return saturating_sub(t, past < 0 ? past + hop : past);
}

Span span_of(const FeatureSpec& spec);

// The width of a feature's window, which of kEwma is that of all its panes.
std::int64_t width_of(const FeatureSpec& spec);

// As of which time a window is answered that is recomputed when it is stale: that of its newest
// event, if it lies in the window, else as_of itself.
inline std::int64_t recomputed_at(std::int64_t as_of, const Newest& newest, std::int64_t width,
                                  std::int64_t ttl) {
  const bool stale = ttl > 0 && newest.any && saturating_sub(as_of, newest.time) > ttl;
  return stale && newest.time > saturating_sub(as_of, width) ? newest.time : as_of;
}

// Invalid: a hop, gap or hold that makes no sense, or not with this operator.
Status check_span(const FeatureSpec& spec, const std::string& name);

// Invalid: a policy for stale values that makes no sense, or not with this window. Incompatible:
// one that this build does not know.
Status check_stale(const FeatureSpec& spec, const std::string& name);

// Incompatible: values other than 0 and 1.
Status check_truth(const SeriesPlan& series, const std::string& name);

// The events of a series, in a stream or in a batch, and what is kept of them.
struct SpanEvents {
  const SeriesPlan& plan;
  EventView view;
  Newest settled;  // the event before the first of the view
  Ranges& ranges;
  Values* values;  // the group's, where it has some
};

// Answers the features of a group whose window is Group::kSpan.
void answer_span(const Plan& plan, const Group& group, const SpanEvents& events, std::int64_t as_of,
                 const Gaps& gaps, const Answers& to);

}  // namespace edgecore::features
