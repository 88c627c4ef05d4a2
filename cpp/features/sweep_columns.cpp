// What the batch kernel answers in columns, a tile of rows at a time; see sweep.hpp.
#include <algorithm>
#include <cstring>

#include "features/pairs.hpp"
#include "features/sweep.hpp"

namespace edgecore::features {
namespace {

// A value as what the least of gives both extremes of.
inline Pair extremes_of(double value) {
  return Pair{value, -value};
}

}  // namespace

// ---------------------------------------------------------------- windows to columns

// Keeps the extremes of [at, end) for each `at` from `begin` on.
void Sweep::turn(const double* values, Window& window, std::uint32_t begin, std::uint32_t end) {
  const std::size_t size = end - begin;
  if (window.kept.size() < size) window.kept.resize(size);
  const double* from = values + begin;
  double* to = window.kept.data()->data();
  Pair found = load(kNoExtremes.data());
  std::size_t at = size;
  for (; at >= 2; at -= 2) {  // two at a time: half as many wait for one another
    const Pair one = extremes_of(from[at - 1]);
    const Pair two = least(one, extremes_of(from[at - 2]));
    store(to + 2 * (at - 1), least(found, one));
    found = least(found, two);
    store(to + 2 * (at - 2), found);
  }
  if (at == 1) store(to, least(found, extremes_of(from[0])));
  window.base = begin;
  window.middle = end;
}

// Begins and ends of the windows of a tile's rows.
Sweep::Counts Sweep::move(const Group& group, Window& window, Tile& tile, std::size_t first,
                          std::size_t count) const {
  const auto series = static_cast<std::size_t>(group.series);
  const Events& events = events_[series];
  const std::int64_t width = plan_.series()[series].windows[static_cast<std::size_t>(group.window)];
  const std::int64_t* times = this->times(events);
  Counts out;
  std::uint32_t begin = window.begin;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t end = upto(events, first + i);
    const std::int64_t bound = times_[first + i] - width;
    while (times[begin] <= bound) ++begin;  // the event at `end` has no less than the row's time
    tile.begin[i] = begin;
    tile.end[i] = end;
    out.most = std::max(out.most, end - begin);
    out.least = std::min(out.least, end - begin);
  }
  tile.begin[count] = tile.end[count] = begin;  // of a row that makes a last one a pair
  window.begin = begin;
  return out;
}

void Sweep::find_extremes(const Events& events, Window& window, Tile& tile, std::size_t count) {
  const double* values = events.values.data();
  Pair found = load(window.found.data());
  std::uint32_t seen = window.end;
  const auto from = [&](std::size_t i) {  // with those of [begin, middle)
    return least(load(window.kept[tile.begin[i] - window.base].data()), found);
  };
  for (std::size_t i = 0; i < count; ++i) {
    if (events.dense && i + 1 < count && tile.begin[i + 1] < window.middle) {
      const Pair one = extremes_of(values[seen]);  // two rows, of which only one waits
      const Pair two = least(one, extremes_of(values[seen + 1]));
      const Pair left = least(from(i), one);
      found = least(found, two);
      const Pair right = from(i + 1);
      store(&tile.low[i], firsts(left, right));
      store(&tile.high[i], -seconds(left, right));
      seen += 2;
      ++i;
      continue;
    }
    const std::uint32_t begin = tile.begin[i];
    const std::uint32_t end = tile.end[i];
    if (seen < end) found = least(found, extremes_of(values[seen++]));  // an event, or none
    if (begin >= window.middle) {
      turn(values, window, begin, end);
      found = load(kNoExtremes.data());
    }
    const Pair both = begin < end ? from(i) : found;
    tile.low[i] = both[0];
    tile.high[i] = -both[1];
  }
  window.end = seen;
  store(window.found.data(), found);
}

void Sweep::sweep_window(std::size_t g, std::size_t first, std::size_t count) {
  const Group& group = plan_.groups()[g];
  const SeriesPlan& series = plan_.series()[static_cast<std::size_t>(group.series)];
  const Events& events = events_[static_cast<std::size_t>(group.series)];
  Tile& tile = tiles_[g];
  const Counts counts = move(group, windows_[g], tile, first, count);
  if (series.needs_min || series.needs_max) find_extremes(events, windows_[g], tile, count);
  // Sums that are whole doubles, and n * squares below 2^62.
  const std::uint64_t most = counts.most;
  const bool exact =
      !series.needs_sum || static_cast<UInt128>(most) * events.largest <= UInt128{kWhole};
  const bool narrow = !series.needs_squares || static_cast<UInt128>(most) * events.reach >> 31 == 0;
  tile.in_columns = group.plain && exact && narrow;
  tile.whole = tile.in_columns && counts.least >= 2;
  if (!tile.in_columns) return;
  if (series.needs_squares)
    fill_columns<true>(series, events, tile, count);
  else if (series.needs_sum)
    fill_columns<false>(series, events, tile, count);
  else
    for (std::size_t i = 0; i < count; ++i)
      tile.count[i] = static_cast<double>(tile.end[i] - tile.begin[i]);
}

// The operations of answer_plain, a pair of rows at a time. Rows below two events get numbers that
// answer_rest replaces.
template <bool kSquares>
void Sweep::fill_columns(const SeriesPlan& series, const Events& events, Tile& tile,
                         std::size_t count) {
  const Pair one = both(static_cast<double>(static_cast<std::int64_t>(series.denominator)));
  const auto centre = static_cast<std::uint64_t>(events.centre);
  const Sums* sums = events.sums.data();
  for (std::size_t i = 0; i < count; i += 2) {
    expect_row();
    Pair n, sum, spread;
    for (std::size_t k = 0; k < 2; ++k) {
      const std::uint32_t begin = tile.begin[i + k];
      const std::uint32_t end = tile.end[i + k];
      const std::uint64_t events_in = end - begin;
      const std::uint64_t total = sums[end].sum - sums[begin].sum;
      n[k] = static_cast<double>(static_cast<std::int32_t>(events_in));
      sum[k] = static_cast<double>(static_cast<std::int64_t>(total + events_in * centre));
      if constexpr (kSquares) {  // the same integer from any centre
        const std::uint64_t squares = sums[end].squares - sums[begin].squares;
        spread[k] =
            static_cast<double>(static_cast<std::int64_t>(events_in * squares - total * total));
      }
    }
    store(&tile.count[i], n);
    store(&tile.sum[i], sum / one);
    store(&tile.mean[i], sum / (n * one));
    if constexpr (kSquares) store(&tile.std[i], root(spread / (n * (n - 1))) / one);
  }
}

// With an event in every row the newest one is the row's own, of age 0.
void Sweep::sweep_newest(std::size_t g, std::size_t first) {
  const Group& group = plan_.groups()[g];
  const SeriesPlan& series = plan_.series()[static_cast<std::size_t>(group.series)];
  const Events& events = events_[static_cast<std::size_t>(group.series)];
  Tile& tile = tiles_[g];
  tile.in_columns = tile.whole = group.plain && events.dense && !(ties_ && series.needs_order);
  for (const std::uint16_t index : group.features) {
    const bool is_last = tile.in_columns && plan_.features()[index].op == Op::kLast;
    columns_[index] = is_last ? events.values.data() + first : nothing_.data();
  }
}

// ---------------------------------------------------------------- columns to rows

// Where the columns of each feature are, for as long as they are the same for all tiles.
void Sweep::place_columns() {
  columns_.assign(plan_.width(), nothing_.data());
  constants_.resize(plan_.constants().size());
  for (std::size_t i = 0; i < constants_.size(); ++i) {
    constants_[i].fill(plan_.constants()[i].value);
    columns_[plan_.constants()[i].feature] = constants_[i].data();
  }
  for (std::size_t g = 0; g < tiles_.size(); ++g) {
    const Tile& tile = tiles_[g];
    const double* columns[] = {tile.count.data(), tile.sum.data(), tile.mean.data(),
                               tile.std.data(),   tile.low.data(), tile.high.data()};
    for (const std::uint16_t index : plan_.groups()[g].features) {
      const auto op = static_cast<std::size_t>(plan_.features()[index].op) - 1;
      if (op < std::size(columns)) columns_[index] = columns[op];
    }
  }
}

// Asks for the memory of one more row's answers, so that it comes while columns are computed.
void Sweep::expect_row() {
  if (expected_ == expected_end_) return;
  const std::size_t width = plan_.width();
  const std::size_t at = places_[expected_++] * width;
  for (std::size_t f = 0; f < width; f += 8) __builtin_prefetch(values_.data() + at + f, 1);
  __builtin_prefetch(states_.data() + at, 1);
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
  const double* const* columns = columns_.data();
  for (std::size_t i = 0; i < count; i += 2) {
    double* one = values_.data() + places_[first + i] * width;
    double* two = i + 1 < count ? values_.data() + places_[first + i + 1] * width : one;
    std::size_t f = 0;
    for (; f + 2 <= width; f += 2) {
      const Pair left = load(columns[f] + i);
      const Pair right = load(columns[f + 1] + i);
      store(two + f, seconds(left, right));
      store(one + f, firsts(left, right));  // last, for where there is no second row
    }
    if (f == width) continue;
    two[f] = columns[f][i + 1];
    one[f] = columns[f][i];
  }
}

}  // namespace edgecore::features
