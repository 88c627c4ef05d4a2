// Where spans begin and end, and what is known of them; see spans.hpp.
#include "features/spans.hpp"

#include "features/answer.hpp"
#include "features/decay.hpp"

namespace edgecore::features {
namespace {

// The events [begin, end) of one span as of `at`, which is the last hop.
struct Range {
  std::int64_t at = 0;
  std::int64_t from = 0;  // the window is (from, at]
  std::uint32_t begin = 0, end = 0;
  Newest before;              // the event before `begin`
  bool known_before = false;  // it lies within one window before `from`
};

Newest before(const SpanEvents& events, std::uint32_t at) {
  if (at == events.view.begin) return events.settled;
  return {true, events.view.times[at - 1], events.view.stored(at - 1)};
}

Range range_of(const Span& span, const SpanEvents& events, std::int64_t as_of) {
  const EventView& view = events.view;
  Range out;
  out.at = hop_before(as_of, span.hop_ns);
  if (span.recompute_ns > 0)
    out.at =
        recomputed_at(as_of, before(events, view.after(as_of)), span.width_ns, span.recompute_ns);
  out.from = saturating_sub(out.at, span.width_ns);
  const bool all = view.end > view.begin && view.times[view.end - 1] <= out.at;
  out.end = all ? view.end : view.after(out.at);
  out.begin = view.after(out.from);
  if (span.gap_ns > 0 && out.begin < out.end) {
    const bool over =
        between(view.times[out.end - 1], out.at) > static_cast<std::uint64_t>(span.gap_ns);
    out.begin = over ? out.end : events.ranges.session_begin(view, out.begin, out.end, span.gap_ns);
  }
  out.before = before(events, out.begin);
  out.known_before = out.before.any && out.before.time > saturating_sub(out.at, 2 * span.width_ns);
  return out;
}

// What of (from, at] is known, less the gaps in it, as a share of the window.
double share(const Span& span, std::int64_t known, std::int64_t from, std::int64_t at,
             const Gaps& gaps) {
  const std::int64_t left = std::max<std::int64_t>(known - gaps.within(from, at), 0);
  return static_cast<double>(left) / static_cast<double>(span.width_ns);
}

// Of a window that hops, as of a sliding one. A session whose begin was seen, by an event before
// it, is known as a whole, also when it is over: only what may be missing since that event could
// change it.
double known_share(const Span& span, const Range& range, std::int64_t first, const Gaps& gaps) {
  const bool some = range.begin < range.end;
  if (range.known_before && (some || span.gap_ns > 0)) {
    const std::int64_t from =
        span.gap_ns > 0 ? std::max(range.before.time, range.from) : range.from;
    return share(span, span.width_ns, from, range.at, gaps);
  }
  return some ? share(span, range.at - first, first, range.at, gaps) : 0;
}

// How long values held within the window.
Held held_of(const Span& span, const SpanEvents& events, const Range& range) {
  const EventView& view = events.view;
  const auto hold = static_cast<std::uint64_t>(span.hold_ns);
  Held out;
  if (range.known_before) {
    const std::int64_t until = range.begin < range.end ? view.times[range.begin] : range.at;
    const std::uint64_t held = std::min(between(range.before.time, until), hold);
    const std::uint64_t outside = between(range.before.time, range.from);
    out.add(range.before.stored, held > outside ? held - outside : 0);
  }
  if (range.begin == range.end) return out;
  out.merge(events.ranges.held(events.plan, view, range.begin, range.end, span.hold_ns));
  const std::uint32_t last = range.end - 1;
  out.add(view.stored(last), std::min(between(view.times[last], range.at), hold));
  return out;
}

}  // namespace

Span span_of(const FeatureSpec& spec) {
  Span out{spec.window_ns, spec.hop_ns, spec.gap_ns, 0};
  if (operator_of(spec.op).family == Family::kHeld)
    out.hold_ns = spec.hold_ns > 0 ? spec.hold_ns : kNoHold;
  // The newest event is what it is: of kNewest `recompute` is `use`.
  if (spec.on_stale == OnStale::kRecompute && operator_of(spec.op).family != Family::kNewest)
    out.recompute_ns = spec.ttl_ns;
  return out;
}

std::int64_t width_of(const FeatureSpec& spec) {
  if (operator_of(spec.op).family != Family::kDecay) return spec.window_ns;
  return kPanes * (spec.window_ns / kPanesPerHalfLife);
}

Status check_stale(const FeatureSpec& spec, const std::string& name) {
  if (spec.on_stale > OnStale::kRefuse)
    return Status::incompatible(name + ": on_stale is not in this build");
  if (spec.on_stale < OnStale::kRecompute) return Status::ok();
  if (spec.ttl_ns == 0)
    return Status::invalid(name + ": without a ttl nothing is stale, to be refused or recomputed");
  if (spec.on_stale == OnStale::kRefuse || operator_of(spec.op).family == Family::kNewest)
    return Status::ok();
  if (spec.hop_ns > 0)
    return Status::invalid(name + ": a window that hops is that of the last hop, also when it is " +
                           "stale; it is not recomputed");
  if (spec.ttl_ns >= width_of(spec))
    return Status::invalid(name + ": a ttl that is no shorter than the window leaves nothing to " +
                           "recompute");
  return Status::ok();
}

Status check_span(const FeatureSpec& spec, const std::string& name) {
  const Family family = operator_of(spec.op).family;
  const bool windowed =
      family == Family::kTotals || family == Family::kEnds || family == Family::kValues;
  for (const std::int64_t one : {spec.hop_ns, spec.gap_ns, spec.hold_ns})
    if (one < 0 || one > kDurationMaxNs / 2)
      return Status::invalid(name + ": hop, gap and hold are 0 to 183 days");
  if (spec.hop_ns > 0 && !windowed && family != Family::kHeld)
    return Status::invalid(name + ": the operator has no window that hops");
  if (spec.gap_ns > 0 && (!windowed || spec.hop_ns > 0))
    return Status::invalid(name + ": a session is a window of its own, without hops");
  if (spec.gap_ns > spec.window_ns)
    return Status::invalid(name + ": the gap of a session is at most its window, which caps it");
  if (spec.hold_ns > 0 && family != Family::kHeld)
    return Status::invalid(name + ": only a time_in has values that hold");
  if (family != Family::kRatio && (!spec.numerator.empty() || !spec.denominator.empty()))
    return Status::invalid(name + ": only a ratio divides other features");
  return Status::ok();
}

Status check_truth(const SeriesPlan& series, const std::string& name) {
  if (series.grid == Grid::kInteger && series.denominator == 1 && series.unit == 1 &&
      series.low >= 0 && series.high <= 1)
    return Status::ok();
  return Status::incompatible(name + ": a time in which something is true needs a bool, a " +
                              "comparison, or an integer with range=(0, 1)");
}

void answer_span(const Plan& plan, const Group& group, const SpanEvents& events, std::int64_t as_of,
                 const Gaps& gaps, const Answers& to) {
  const Span& span = group.span;
  EventView view = events.view;
  const Range range = range_of(span, events, as_of);
  view.end = range.end;
  Found found;
  Totals& totals = found.totals;
  totals.count = range.end - range.begin;
  totals.begin = range.begin;
  const bool some = totals.count > 0;
  const std::int64_t first = some ? view.times[range.begin] : range.at;
  double coverage = 0;
  if (span.hold_ns > 0) {
    const Held held = held_of(span, events, range);
    found.any_held = range.known_before || some;
    found.on_ns = held.on;
    coverage = share(span, static_cast<std::int64_t>(held.known),
                     range.known_before ? range.from : first, range.at, gaps);
  } else {
    coverage = known_share(span, range, first, gaps);
  }
  const Newest newest = before(events, range.end);
  if (group.values >= 0) {
    // One that is empty stays where it was: a session that is over may go on by an event that is
    // late.
    Values none;
    const ValuePlan& needs = events.plan.values[static_cast<std::size_t>(group.values)];
    if (some) events.values->move(events.plan, needs, view, range.begin);
    const ValueWindow values{some ? events.values : &none, &needs, view};
    found.values = &values;
    answer_window(plan, group, found, newest, coverage, as_of, to);
    return;
  }
  if (some && span.hold_ns == 0)
    events.ranges.totals(events.plan, events.view, range.begin, range.end, totals);
  if (some && group.ends)
    found.ends = {first, newest.time, view.stored(range.begin), newest.stored};
  answer_window(plan, group, found, newest, coverage, as_of, to);
}

}  // namespace edgecore::features
