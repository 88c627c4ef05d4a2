// What the batch kernel answers row by row: windows of few events, values that are judged, and the
// operators that have no columns; see sweep.hpp.
#include "features/sweep.hpp"

namespace edgecore::features {

Answers Sweep::answers_of(std::size_t row) const {
  const std::size_t width = plan_.width();
  const std::size_t at = places_[row] * width;
  return {values_.subspan(at, width), states_.subspan(at, width), {}, {}, {}};
}

void Sweep::answer_rest(std::size_t g, std::size_t first, std::size_t count) {
  const Group& group = plan_.groups()[g];
  const Tile& tile = tiles_[g];
  if (group.window == Group::kNewest) {
    if (!tile.in_columns) answer_newest_rows(group, first, count);
  } else if (group.window == Group::kDecay) {
    for (std::size_t row = first; row < first + count; ++row) answer_decay(g, row);
  } else if (group.window == Group::kSpan) {
    for (std::size_t row = first; row < first + count; ++row) answer_span_row(g, row);
  } else if (group.values >= 0) {
    for (std::size_t i = 0; i < count; ++i) answer_values_row(g, first, i);
  } else if (!tile.whole) {
    for (std::size_t i = 0; i < count; ++i)
      if (!tile.in_columns || tile.end[i] - tile.begin[i] < 2) answer_row(g, first, i);
  }
}

void Sweep::answer_newest_rows(const Group& group, std::size_t first, std::size_t count) {
  const Events& events = events_[static_cast<std::size_t>(group.series)];
  const SeriesPlan& series = plan_.series()[static_cast<std::size_t>(group.series)];
  for (std::size_t row = first; row < first + count; ++row) {
    Newest newest;
    if (const std::uint32_t end = upto(events, row); end > 0) {
      newest = {true, times(events)[end - 1], 0};
      if (series.grid != Grid::kNone)
        newest.stored =
            events.stored[ties_ && series.needs_order ? events.newest[end - 1] : end - 1];
    }
    answer_newest(plan_, group, newest, times_[row], answers_of(row));
  }
}

// Answers a window of `width`, of the row's first `last` events those that `found` says.
void Sweep::judge(const Group& group, const Found& found, std::uint32_t last, std::int64_t width,
                  std::size_t row) {
  const std::int64_t* times = this->times(events_[static_cast<std::size_t>(group.series)]);
  const std::int64_t as_of = times_[row];
  const std::uint32_t begin = found.totals.begin;
  Newest newest;
  if (last > 0) newest = {true, times[last - 1], 0};
  double coverage = 0;
  if (!group.plain && found.totals.count > 0) {
    const bool known = begin > 0 && times[begin - 1] > as_of - 2 * width;
    coverage = known ? 1 : static_cast<double>(as_of - times[begin]) / static_cast<double>(width);
  }
  answer_window(plan_, group, found, newest, coverage, as_of, answers_of(row));
}

EventView Sweep::view(const Events& events, std::uint32_t end) const {
  return {times(events), nullptr, events.stored.data(), 0, 0, end};
}

void Sweep::answer_decay(std::size_t g, std::size_t row) {
  const Group& group = plan_.groups()[g];
  const Events& events = events_[static_cast<std::size_t>(group.series)];
  const SeriesPlan& series = plan_.series()[static_cast<std::size_t>(group.series)];
  const std::int64_t pane = series.decays[static_cast<std::size_t>(group.decay)];
  const std::uint32_t end = upto(events, row);
  const Weighted weighted = decays_[g].sums(view(events, end), pane, times_[row]);
  if (group.plain && weighted.count > 0) {
    const double value = weighted_mean(series, weighted);
    for (const std::uint16_t index : group.features) answers_of(row).values[index] = value;
    return;
  }
  Found found;
  found.weighted = weighted;
  found.totals.count = weighted.count;
  found.totals.begin = weighted.begin;
  judge(group, found, end, kPanes * pane, row);
}

void Sweep::answer_span_row(std::size_t g, std::size_t row) {
  const Group& group = plan_.groups()[g];
  const auto series = static_cast<std::size_t>(group.series);
  const Events& events = events_[series];
  answer_span(
      plan_, group,
      {plan_.series()[series], view(events, upto(events, row)), {}, ranges_[series], kept_[g]},
      times_[row], kNoGaps, answers_of(row));
}

// Of an entity with rows enough, each value that there can be is counted, while tables are few.
void Sweep::keep_values(std::size_t g) {
  const Group& group = plan_.groups()[g];
  const SeriesPlan& series = plan_.series()[static_cast<std::size_t>(group.series)];
  const ValuePlan& needs = series.values[static_cast<std::size_t>(group.values)];
  const auto span = static_cast<std::uint64_t>(series.high - series.low);
  const bool many = span / 16 <= places_.size();
  if (many && !counted_[g].has_table() && span < table_room_ &&
      counted_[g].use_table(series, needs))
    table_room_ -= span;
  kept_[g] = many && counted_[g].has_table() ? &counted_[g] : &listed_[g];
  kept_[g]->clear();
}

// For the next entity.
void Sweep::empty_values(std::size_t g) {
  const Group& group = plan_.groups()[g];
  const Events& events = events_[static_cast<std::size_t>(group.series)];
  const SeriesPlan& series = plan_.series()[static_cast<std::size_t>(group.series)];
  const std::uint32_t end = upto(events, places_.size() - 1);
  kept_[g]->move(series, series.values[static_cast<std::size_t>(group.values)], view(events, end),
                 end);
}

void Sweep::answer_values_row(std::size_t g, std::size_t first, std::size_t i) {
  const Group& group = plan_.groups()[g];
  const SeriesPlan& series = plan_.series()[static_cast<std::size_t>(group.series)];
  const Events& events = events_[static_cast<std::size_t>(group.series)];
  const ValuePlan& needs = series.values[static_cast<std::size_t>(group.values)];
  const std::uint32_t begin = tiles_[g].begin[i];
  const std::uint32_t end = tiles_[g].end[i];
  const ValueWindow values{kept_[g], &needs, view(events, end)};
  kept_[g]->move(series, needs, values.events, begin);
  if (group.plain && end > begin)
    return answer_plain(plan_, group, values, answers_of(first + i).values);
  Found found;
  found.totals.count = end - begin;
  found.totals.begin = begin;
  found.values = &values;
  judge(group, found, end, series.windows[static_cast<std::size_t>(group.window)], first + i);
}

// One row's window, as the streaming kernel answers it.
void Sweep::answer_row(std::size_t g, std::size_t first, std::size_t i) {
  const Group& group = plan_.groups()[g];
  const Tile& tile = tiles_[g];
  const SeriesPlan& series = plan_.series()[static_cast<std::size_t>(group.series)];
  const Events& events = events_[static_cast<std::size_t>(group.series)];
  const std::int64_t width = series.windows[static_cast<std::size_t>(group.window)];
  const std::uint32_t begin = tile.begin[i];
  const std::uint32_t end = tile.end[i];
  Found found;
  Totals& totals = found.totals;
  totals.count = end - begin;
  totals.begin = begin;
  if (series.needs_sum && end > begin) {
    const Int128 n = totals.count;
    const Int128 centre = events.centre;
    const Int128 sum = static_cast<std::int64_t>(events.sums[end].sum - events.sums[begin].sum);
    const UInt128 squares = events.sums[end].squares - events.sums[begin].squares;
    totals.sum = static_cast<UInt128>(sum + n * centre);
    totals.squares = squares + static_cast<UInt128>(2 * centre * sum + n * centre * centre);
  }
  totals.lowest = tile.low[i];
  totals.highest = tile.high[i];
  if (group.ends && end > begin)
    found.ends = {times(events)[begin], times(events)[end - 1], events.stored[begin],
                  events.stored[end - 1]};
  judge(group, found, end, width, first + i);
}

}  // namespace edgecore::features
