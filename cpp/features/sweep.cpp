// Gathering, windows and columns of the batch kernel; see sweep.hpp.
#include "features/sweep.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "features/answer.hpp"
#include "features/cells.hpp"
#include "features/ratios.hpp"

namespace edgecore::features {
namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();

// Two doubles at once: +, -, *, / round each as if it were alone.
typedef double Pair __attribute__((vector_size(16)));

inline Pair load(const double* from) {
  Pair out;
  std::memcpy(&out, from, sizeof out);
  return out;
}
inline void store(double* to, Pair value) {
  std::memcpy(to, &value, sizeof value);
}
inline Pair both(double value) {
  return Pair{value, value};
}
inline Pair root(Pair value) {
#if defined(__SSE2__)
  return _mm_sqrt_pd(value);
#elif defined(__aarch64__)
  return vsqrtq_f64(value);
#else
  return Pair{std::sqrt(value[0]), std::sqrt(value[1])};
#endif
}

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
      columns_(plan.width() * kStride),
      decays_(plan.groups().size()),
      listed_(plan.groups().size()),
      counted_(plan.groups().size()),
      kept_(plan.groups().size()),
      ranges_(plan.series().size()) {
  for (const Constant& one : plan.constants())
    std::fill_n(columns_.begin() + static_cast<std::ptrdiff_t>(one.feature * kStride), kStride,
                one.value);
  for (const SeriesPlan& series : plan.series())
    possible_ = possible_ && (series.small || series.grid == Grid::kNone);
  for (const Group& group : plan.groups())
    possible_ = possible_ && (group.window == Group::kSpan || !has_range(plan, group)) &&
                (group.window != Group::kDecay || group.span.recompute_ns == 0);
}

bool Sweep::run(std::span<const std::uint32_t> places) {
  if (!possible_ || places.size() >= kEventsMax) return false;
  places_ = places;
  times_.resize(places.size());
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
    window.low = kInfinite;
    window.high = -kInfinite;
    window.base = 0;
  }
  for (std::size_t first = 0; first < places.size(); first += kTile) {
    const std::size_t count = std::min(kTile, places.size() - first);
    for (std::size_t g = 0; g < groups.size(); ++g) {
      if (groups[g].window == Group::kSpan) continue;
      if (groups[g].window == Group::kNewest)
        sweep_newest(g, first, count);
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
  return true;
}

// Running sums from the middle of the values' range, so that they stay small; false where they
// could leave 64 bits.
bool Sweep::accumulate(const SeriesPlan& series, Events& events) {
  const std::size_t count = events.stored.size();
  if (series.grid == Grid::kNone) return true;
  events.values.resize(count);
  if (!series.needs_sum) {
    for (std::size_t i = 0; i < count; ++i) events.values[i] = one_value(series, events.stored[i]);
    return true;
  }
  events.sums.resize(count + 1);  // the first one stays 0
  events.squares.resize(count + 1);
  events.centre = 0;
  events.reach = events.largest = 0;
  if (count == 0) return true;
  const auto [lowest, highest] = std::minmax_element(events.stored.begin(), events.stored.end());
  events.centre = *lowest + (*highest - *lowest) / 2;
  events.reach = static_cast<std::uint64_t>(*highest - *lowest) / 2 + 1;
  events.largest = static_cast<std::uint64_t>(std::max(std::abs(*lowest), std::abs(*highest)));
  const UInt128 reaches = static_cast<UInt128>(events.reach) * count;
  if (reaches >> 63 != 0) return false;
  if (series.needs_squares && reaches * events.reach >> 63 != 0) return false;
  std::uint64_t sum = 0;
  std::uint64_t square = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const auto from_centre = static_cast<std::uint64_t>(events.stored[i] - events.centre);
    events.values[i] = one_value(series, events.stored[i]);
    sum += from_centre;
    square += from_centre * from_centre;
    events.sums[i + 1] = sum;
    events.squares[i + 1] = square;
  }
  return true;
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

// ---------------------------------------------------------------- windows to columns

// Keeps the extremes of [at, end) for each `at` from `begin` on.
void Sweep::turn(const double* values, Window& window, std::uint32_t begin, std::uint32_t end) {
  window.lows.resize(std::max<std::size_t>(window.lows.size(), end - begin + 1));
  window.highs.resize(window.lows.size());
  double low = kInfinite;
  double high = -kInfinite;
  for (std::uint32_t at = end; at > begin; --at) {
    low = std::min(low, values[at - 1]);
    high = std::max(high, values[at - 1]);
    window.lows[at - 1 - begin] = low;
    window.highs[at - 1 - begin] = high;
  }
  window.base = begin;
  window.middle = end;
}

// Begins and ends of the windows of a tile's rows; returns the largest count.
std::uint32_t Sweep::move(const Group& group, Window& window, Tile& tile, std::size_t first,
                          std::size_t count) const {
  const auto series = static_cast<std::size_t>(group.series);
  const Events& events = events_[series];
  const std::int64_t width = plan_.series()[series].windows[static_cast<std::size_t>(group.window)];
  const std::int64_t* times = this->times(events);
  std::uint32_t most = 0;
  std::uint32_t begin = window.begin;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t end = upto(events, first + i);
    const std::int64_t bound = times_[first + i] - width;
    while (begin < end && times[begin] <= bound) ++begin;
    tile.begin[i] = begin;
    tile.end[i] = end;
    most = std::max(most, end - begin);
  }
  window.begin = begin;
  return most;
}

void Sweep::find_extremes(const Events& events, Window& window, Tile& tile, std::size_t count) {
  const double* values = events.values.data();
  double low = window.low;
  double high = window.high;
  std::uint32_t seen = window.end;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t begin = tile.begin[i];
    const std::uint32_t end = tile.end[i];
    for (; seen < end; ++seen) {
      low = std::min(low, values[seen]);
      high = std::max(high, values[seen]);
    }
    if (begin >= window.middle) {
      turn(values, window, begin, end);
      low = kInfinite;
      high = -kInfinite;
    }
    tile.low[i] = std::min(window.lows[begin - window.base], low);
    tile.high[i] = std::max(window.highs[begin - window.base], high);
  }
  window.end = seen;
  window.low = low;
  window.high = high;
}

void Sweep::sweep_window(std::size_t g, std::size_t first, std::size_t count) {
  const Group& group = plan_.groups()[g];
  const SeriesPlan& series = plan_.series()[static_cast<std::size_t>(group.series)];
  const Events& events = events_[static_cast<std::size_t>(group.series)];
  Tile& tile = tiles_[g];
  const std::uint64_t most = move(group, windows_[g], tile, first, count);
  if (series.needs_min || series.needs_max) find_extremes(events, windows_[g], tile, count);
  // Sums that are whole doubles, and n * squares below 2^62.
  const bool exact =
      !series.needs_sum || static_cast<UInt128>(most) * events.largest <= UInt128{kWhole};
  const bool narrow = !series.needs_squares || static_cast<UInt128>(most) * events.reach >> 31 == 0;
  tile.in_columns = group.plain && exact && narrow;
  if (!tile.in_columns) return;
  for (std::size_t i = 0; i < count; ++i)
    tile.count[i] = static_cast<double>(tile.end[i] - tile.begin[i]);
  if (series.needs_sum) {
    const std::uint64_t* sums = events.sums.data();
    const std::uint64_t* squares = events.squares.data();
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint64_t n = tile.end[i] - tile.begin[i];
      const std::uint64_t sum = sums[tile.end[i]] - sums[tile.begin[i]];
      const std::uint64_t square = squares[tile.end[i]] - squares[tile.begin[i]];
      const std::uint64_t whole = sum + n * static_cast<std::uint64_t>(events.centre);
      tile.sum[i] = static_cast<double>(static_cast<std::int64_t>(whole));
      // The same integer from any centre.
      tile.spread[i] = static_cast<double>(static_cast<std::int64_t>(n * square - sum * sum));
    }
  }
  to_columns(group, tile, count);
}

// The operations of answer_plain, a pair of rows at a time. Rows below two events get numbers that
// answer_rest replaces.
void Sweep::to_columns(const Group& group, const Tile& tile, std::size_t count) {
  const SeriesPlan& series = plan_.series()[static_cast<std::size_t>(group.series)];
  const Pair one = both(static_cast<double>(static_cast<std::int64_t>(series.denominator)));
  for (const std::uint16_t index : group.features) {
    double* out = columns_.data() + index * kStride;
    const auto fill = [out, count](auto&& answer) {
      for (std::size_t i = 0; i < count; i += 2) store(out + i, answer(i));
    };
    switch (plan_.features()[index].op) {
      case Op::kCount:
        fill([&](std::size_t i) { return load(&tile.count[i]); });
        break;
      case Op::kSum:
        fill([&](std::size_t i) { return load(&tile.sum[i]) / one; });
        break;
      case Op::kMean:
        fill([&](std::size_t i) { return load(&tile.sum[i]) / (load(&tile.count[i]) * one); });
        break;
      case Op::kStd:
        fill([&](std::size_t i) {
          const Pair n = load(&tile.count[i]);
          return root(load(&tile.spread[i]) / (n * (n - 1))) / one;
        });
        break;
      case Op::kMin:
        fill([&](std::size_t i) { return load(&tile.low[i]); });
        break;
      default:
        fill([&](std::size_t i) { return load(&tile.high[i]); });
        break;
    }
  }
}

// With an event in every row the newest one is the row's own, of age 0.
void Sweep::sweep_newest(std::size_t g, std::size_t first, std::size_t count) {
  const Group& group = plan_.groups()[g];
  const SeriesPlan& series = plan_.series()[static_cast<std::size_t>(group.series)];
  const Events& events = events_[static_cast<std::size_t>(group.series)];
  tiles_[g].in_columns = group.plain && events.dense && !(ties_ && series.needs_order);
  if (!tiles_[g].in_columns) return;
  for (const std::uint16_t index : group.features) {
    double* out = columns_.data() + index * kStride;
    if (plan_.features()[index].op == Op::kLast)
      std::copy_n(events.values.begin() + static_cast<std::ptrdiff_t>(first), count, out);
    else
      std::fill_n(out, count, 0.0);
  }
}

// ---------------------------------------------------------------- columns to rows

Answers Sweep::answers_of(std::size_t row) const {
  const std::size_t width = plan_.width();
  const std::size_t at = places_[row] * width;
  return {values_.subspan(at, width), states_.subspan(at, width), {}, {}, {}};
}

// Rows of answers from columns, two by two. FRESH until answer_rest says otherwise.
void Sweep::write_tile(std::size_t first, std::size_t count) {
  const std::size_t width = plan_.width();
  static_assert(static_cast<int>(State::kFresh) == 0);
  if (places_[first + count - 1] - places_[first] == count - 1) {
    std::memset(states_.data() + places_[first] * width, 0, count * width);
  } else {
    for (std::size_t i = first; i < first + count; ++i)
      std::memset(states_.data() + places_[i] * width, 0, width);
  }
  for (std::size_t i = 0; i < count; i += 2) {
    double* one = values_.data() + places_[first + i] * width;
    double* two = i + 1 < count ? values_.data() + places_[first + i + 1] * width : one;
    const double* from = columns_.data() + i;
    std::size_t f = 0;
    for (; f + 2 <= width; f += 2) {
      const Pair left = load(from + f * kStride);
      const Pair right = load(from + (f + 1) * kStride);
      store(two + f, Pair{left[1], right[1]});
      store(one + f, Pair{left[0], right[0]});  // last, for where there is no second row
    }
    if (f == width) continue;
    two[f] = from[f * kStride + 1];
    one[f] = from[f * kStride];
  }
}

}  // namespace edgecore::features
