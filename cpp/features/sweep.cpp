// One entity's rows, from gathering its events to their answers; see sweep.hpp.
#include "features/sweep.hpp"

#include <algorithm>
#include <limits>

#include "features/answer.hpp"
#include "features/cells.hpp"
#include "features/pairs.hpp"
#include "features/ratios.hpp"

namespace edgecore::features {
namespace {

// Of the operators that read a window's ends, the one that asks for its extremes as stored.
bool has_range(const Plan& plan, const Group& group) {
  return std::any_of(group.features.begin(), group.features.end(), [&plan](std::uint16_t index) {
    return plan.features()[index].op == Op::kRange;
  });
}

}  // namespace

Sweep::Sweep(const Plan& plan, const RowBatch& rows, std::span<const std::uint32_t> order,
             std::span<double> values, std::span<std::uint8_t> states)
    : plan_(plan),
      batch_(rows),
      order_(order),
      values_(values),
      states_(states),
      events_(plan.series().size()),
      windows_(plan.groups().size()),
      tiles_(plan.groups().size()),
      decays_(plan.groups().size()),
      listed_(plan.groups().size()),
      counted_(plan.groups().size()),
      kept_(plan.groups().size()),
      ranges_(plan.series().size()) {
  for (const SeriesPlan& series : plan.series())
    possible_ = possible_ && (series.small || series.grid == Grid::kNone);
  for (const Group& group : plan.groups())
    possible_ = possible_ && (group.window == Group::kSpan || !has_range(plan, group)) &&
                (group.window != Group::kDecay || group.span.recompute_ns == 0);
  place_columns();
}

bool Sweep::run(std::span<const std::uint32_t> places) {
  if (!possible_ || places.size() >= kEventsMax) return false;
  places_ = places;
  times_.resize(places.size() + 1);
  times_.back() = std::numeric_limits<std::int64_t>::max();
  ties_ = false;
  // No time minus a horizon leaves i64.
  std::int64_t last = std::numeric_limits<std::int64_t>::min() + kDurationMaxNs;
  for (std::size_t i = 0; i < places.size(); ++i) {
    times_[i] = batch_.time_ns(order_[places[i]]);
    if (times_[i] < last) return false;
    ties_ = ties_ || times_[i] == last;
    last = times_[i];
  }
  const auto& groups = plan_.groups();
  const auto ordered = [](const Group& group) { return group.ends || group.span.hold_ns > 0; };
  if (ties_ && std::any_of(groups.begin(), groups.end(), ordered))
    return false;  // which one is first or last of a window is for the streaming kernel to say
  for (std::size_t i = 0; i < events_.size(); ++i)
    if (!gather(plan_.series()[i], events_[i])) return false;
  for (std::size_t i = 0; i < ranges_.size(); ++i)
    if (plan_.series()[i].span_ns > 0) ranges_[i].reset(plan_.series()[i]);
  for (std::size_t g = 0; g < groups.size(); ++g) {
    decays_[g].clear();
    if (groups[g].values >= 0) keep_values(g);
    Window& window = windows_[g];
    window.begin = window.middle = window.end = 0;
    window.found = kNoExtremes;
    window.base = 0;
  }
  for (std::size_t first = 0; first < places.size(); first += kTile) {
    const std::size_t count = std::min(kTile, places.size() - first);
    expected_ = first;
    expected_end_ = first + count;
    for (std::size_t g = 0; g < groups.size(); ++g) {
      if (groups[g].window == Group::kSpan) continue;
      if (groups[g].window == Group::kNewest)
        sweep_newest(g, first);
      else if (groups[g].values >= 0 || groups[g].ends)
        move(groups[g], windows_[g], tiles_[g], first, count);
      else if (groups[g].window != Group::kDecay)
        sweep_window(g, first, count);
    }
    write_tile(first, count);
    for (std::size_t g = 0; g < groups.size(); ++g) answer_rest(g, first, count);
    if (plan_.ratios().empty()) continue;
    for (std::size_t i = first; i < first + count; ++i) answer_ratios(plan_, answers_of(i));
  }
  for (std::size_t g = 0; g < groups.size(); ++g)
    if (groups[g].values >= 0) empty_values(g);
  return true;
}

// ---------------------------------------------------------------- rows to events

bool Sweep::gather(const SeriesPlan& series, Events& events) {
  const std::size_t rows = places_.size();
  events.dense = true;
  if (series.field < 0 && !series.program) return true;
  events.stored.resize(rows);
  for (std::size_t i = 0; i < rows && events.dense; ++i)
    events.dense =
        stored_cell(series, batch_, order_[places_[i]], events.stored[i]) == Cell::kValue;
  if (!events.dense && !gather_some(series, events)) return false;
  if (ties_ && series.needs_order) find_newest(events);
  return accumulate(series, events);
}

bool Sweep::gather_some(const SeriesPlan& series, Events& events) {
  events.times.clear();
  events.rows.clear();
  events.upto.clear();
  std::int64_t stored = 0;
  for (std::uint32_t i = 0; i < places_.size(); ++i) {
    const Cell cell = stored_cell(series, batch_, order_[places_[i]], stored);
    if (cell == Cell::kOutside) return false;  // the streaming kernel says what is wrong
    if (cell == Cell::kValue) {
      events.stored[events.times.size()] = stored;
      events.times.push_back(times_[i]);
      events.rows.push_back(i);
    }
    events.upto.push_back(static_cast<std::uint32_t>(events.times.size()));
  }
  events.stored.resize(events.times.size());
  events.times.push_back(std::numeric_limits<std::int64_t>::max());
  return true;
}

// Running sums from the middle of the values' range, so that they stay small; false where they
// could leave 64 bits.
bool Sweep::accumulate(const SeriesPlan& series, Events& events) {
  const std::size_t count = events.stored.size();
  if (series.grid == Grid::kNone) return true;
  fill_values(series, events);
  if (!series.needs_sum) return true;
  events.sums.resize(count + 1);  // the first one stays 0
  events.centre = 0;
  events.reach = events.largest = 0;
  if (count == 0) return true;
  std::int64_t lowest = events.stored[0];
  std::int64_t highest = lowest;
  for (const std::int64_t stored : events.stored) {
    lowest = std::min(lowest, stored);
    highest = std::max(highest, stored);
  }
  events.centre = lowest + (highest - lowest) / 2;
  events.reach = static_cast<std::uint64_t>(highest - lowest) / 2 + 1;
  events.largest = static_cast<std::uint64_t>(std::max(std::abs(lowest), std::abs(highest)));
  const UInt128 reaches = static_cast<UInt128>(events.reach) * count;
  if (reaches >> 63 != 0) return false;
  if (series.needs_squares && reaches * events.reach >> 63 != 0) return false;
  Sums sums;
  for (std::size_t i = 0; i < count; ++i) {
    const auto from_centre = static_cast<std::uint64_t>(events.stored[i] - events.centre);
    sums.sum += from_centre;
    sums.squares += from_centre * from_centre;
    events.sums[i + 1] = sums;
  }
  return true;
}

// What is stored, in the field's unit: one_value of each, a pair at a time.
void Sweep::fill_values(const SeriesPlan& series, Events& events) {
  const std::size_t count = events.stored.size();
  events.values.resize(count + 1);
  const std::int64_t* from = events.stored.data();
  double* to = events.values.data();
  const Pair one = both(static_cast<double>(static_cast<std::int64_t>(series.denominator)));
  std::size_t i = 0;
  for (; i + 2 <= count; i += 2)
    store(to + i, Pair{static_cast<double>(from[i]), static_cast<double>(from[i + 1])} / one);
  if (i < count) to[i] = one_value(series, from[i]);
}

// Of events at one time, the newest is the last by (source, source sequence, value).
void Sweep::find_newest(Events& events) const {
  const auto row_of = [&](std::uint32_t at) {
    return order_[places_[events.dense ? at : events.rows[at]]];
  };
  events.newest.assign(events.stored.size(), 0);
  std::uint32_t newest = 0;
  for (std::uint32_t at = 1; at < events.stored.size(); ++at) {
    const std::size_t held = row_of(newest);
    const std::size_t row = row_of(at);
    bool stays = false;
    if (times(events)[at] == times(events)[newest]) {
      const int sources = batch_.source(held).compare(batch_.source(row));
      if (sources != 0)
        stays = sources > 0;
      else if (batch_.source_seq(held) != batch_.source_seq(row))
        stays = batch_.source_seq(held) > batch_.source_seq(row);
      else
        stays = events.stored[newest] > events.stored[at];
    }
    if (!stays) newest = at;
    events.newest[at] = newest;
  }
}

}  // namespace edgecore::features
