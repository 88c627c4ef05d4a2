// Insertion, windows and pruning of one series; see series.hpp for the invariants.
#include "features/series.hpp"

#include "features/answer.hpp"

namespace edgecore::features {
namespace {

// Sums are kept modulo 2^128, in two's complement, and proven to fit where they are read.
inline UInt128 wide(std::int64_t x) {
  return static_cast<UInt128>(Int128{x});
}
inline UInt128 square(std::int64_t x) {
  return static_cast<UInt128>(Int128{x} * x);
}

constexpr std::uint32_t kAnewMax = 512;  // events that are summed one by one

}  // namespace

std::uint32_t Sources::intern_slow(std::string_view name) {
  const auto found = ids_.find(name);
  if (found != ids_.end()) return last_ = found->second;
  if (names_.size() >= kSourcesMax) return kFull;
  last_ = static_cast<std::uint32_t>(names_.size());
  names_.push_back(&ids_.emplace(name, last_).first->first);
  return last_;
}

// ---------------------------------------------------------------- storage

template <bool kNarrow>
inline std::int64_t Series::value(const SeriesPlan& plan, std::uint32_t at) const {
  if constexpr (kNarrow) return plan.low + static_cast<std::int64_t>(narrow_[at]);
  return wide_[at];
}

std::int64_t Series::stored(const SeriesPlan& plan, std::uint32_t at) const {
  if (plan.grid == Grid::kNone) return 0;
  return plan.narrow ? value<true>(plan, at) : value<false>(plan, at);
}

void Series::set_value(const SeriesPlan& plan, std::uint32_t at, std::int64_t stored) {
  if (plan.grid == Grid::kNone) return;
  if (plan.narrow)
    narrow_[at] = static_cast<std::uint32_t>(static_cast<std::uint64_t>(stored) -
                                             static_cast<std::uint64_t>(plan.low));
  else
    wide_[at] = stored;
}

void Series::reset(const SeriesPlan& plan) {
  begin_ = end_ = 0;
  minima_.clear();
  maxima_.clear();
  order_.clear();
  settled_ = {};
  if (!plan.decays.empty() && !decays_) decays_ = std::make_unique<Decay[]>(plan.decays.size());
  for (std::size_t i = 0; i < plan.decays.size(); ++i) decays_[i].clear();
  if (plan.span_ns > 0 && !ranges_) ranges_ = std::make_unique<Ranges>();
  if (ranges_) ranges_->reset(plan);
  if (!plan.values.empty() && !values_) values_ = std::make_unique<Values[]>(plan.values.size());
  for (std::size_t i = 0; i < plan.values.size(); ++i) values_[i].clear();
  const std::size_t count = plan.windows.size();
  if (count == 0) return;
  if (!windows_) windows_ = std::make_unique<Window[]>(count);
  std::fill_n(windows_.get(), count, Window{});
  if (plan.grid != Grid::kFloat || !plan.needs_sum) return;
  if (!float_sums_) float_sums_ = std::make_unique<FloatSum[]>(count);
  for (std::size_t i = 0; i < count; ++i) float_sums_[i] = FloatSum();
  if (!plan.needs_squares) return;
  if (!float_squares_) float_squares_ = std::make_unique<SquareSum[]>(count);
  std::fill_n(float_squares_.get(), count, SquareSum{});
}

bool Series::reserve(const SeriesPlan& plan, std::int64_t newest) {
  // Sums are proven for so many, whatever room there is.
  const bool full = end_ - begin_ >= kEventsMax;
  if (end_ < capacity_ && !full) return true;
  prune(plan, begin_after(saturating_sub(newest, plan.retention_ns)));
  const std::uint32_t live = end_ - begin_;
  if (live >= kEventsMax) return false;
  if (end_ < capacity_) return true;
  if (worth_moving(begin_, capacity_))
    slide(plan);
  else
    grow(plan, roomy(live));
  return true;
}

// Moves the live part to the front of the buffers; every index follows.
void Series::slide(const SeriesPlan& plan) {
  const std::uint32_t shift = begin_;
  const std::size_t live = end_ - begin_;
  std::memmove(times_.get(), times_.get() + shift, live * sizeof(std::int64_t));
  if (narrow_) std::memmove(narrow_.get(), narrow_.get() + shift, live * sizeof(std::uint32_t));
  if (wide_) std::memmove(wide_.get(), wide_.get() + shift, live * sizeof(std::int64_t));
  for (std::size_t w = 0; w < plan.windows.size(); ++w) {
    windows_[w].begin -= shift;
    windows_[w].end -= shift;
  }
  for (std::size_t i = 0; i < plan.decays.size(); ++i) decays_[i].shift(shift);
  if (ranges_) ranges_->shift(shift);
  for (std::size_t i = 0; i < plan.values.size(); ++i) values_[i].shift(shift);
  minima_.shift(shift);
  maxima_.shift(shift);
  begin_ = 0;
  end_ -= shift;
}

void Series::grow(const SeriesPlan& plan, std::uint32_t capacity) {
  if (begin_ > 0) slide(plan);
  const auto moved = [&](auto& data) {
    using T = std::remove_reference_t<decltype(data[0])>;
    auto grown = std::make_unique_for_overwrite<T[]>(capacity);
    if (end_ > 0) std::memcpy(grown.get(), data.get(), end_ * sizeof(T));
    data = std::move(grown);
  };
  moved(times_);
  if (plan.grid != Grid::kNone) {
    if (plan.narrow)
      moved(narrow_);
    else
      moved(wide_);
  }
  capacity_ = capacity;
}

// ---------------------------------------------------------------- windows

void Series::add(const SeriesPlan& plan, std::size_t window, std::uint32_t at) {
  if (!plan.needs_sum) return;
  const std::int64_t one = stored(plan, at);
  if (plan.grid == Grid::kFloat) {
    float_sums_[window].add(float_of_key(one));
    if (plan.needs_squares) float_squares_[window].add(float_of_key(one));
    return;
  }
  Window& w = windows_[window];
  w.sum = w.sum.value() + wide(one);
  w.squares = w.squares.value() + square(one);
}

void Series::subtract(const SeriesPlan& plan, std::size_t window, std::uint32_t at) {
  if (!plan.needs_sum) return;
  const std::int64_t one = stored(plan, at);
  if (plan.grid == Grid::kFloat) {
    float_sums_[window].subtract(float_of_key(one));
    if (plan.needs_squares) float_squares_[window].subtract(float_of_key(one));
    return;
  }
  Window& w = windows_[window];
  w.sum = w.sum.value() - wide(one);
  w.squares = w.squares.value() - square(one);
}

// Makes the window [first event after bound, newest event]; integers, or nothing to sum.
template <bool kNarrow>
inline void Series::advance(const SeriesPlan& plan, Window& window, std::int64_t bound,
                            Totals& out) const {
  const std::int64_t* times = times_.get();
  std::uint32_t begin = window.begin;
  std::uint32_t end = window.end;
  if (!plan.needs_sum) {
    while (begin < end_ && times[begin] <= bound) ++begin;
    while (begin > begin_ && times[begin - 1] > bound) --begin;
    window.begin = begin;
    window.end = end_;
    return;
  }
  UInt128 sum = window.sum.value();
  UInt128 squares = window.squares.value();
  for (; end < end_; ++end) {
    const std::int64_t one = value<kNarrow>(plan, end);
    sum += wide(one);
    squares += square(one);
  }
  for (; begin < end && times[begin] <= bound; ++begin) {
    const std::int64_t one = value<kNarrow>(plan, begin);
    sum -= wide(one);
    squares -= square(one);
  }
  // An earlier as_of than the last one: events come back.
  for (; begin > begin_ && times[begin - 1] > bound; --begin) {
    const std::int64_t one = value<kNarrow>(plan, begin - 1);
    sum += wide(one);
    squares += square(one);
  }
  window.begin = begin;
  window.end = end;
  window.sum = sum;
  window.squares = squares;
  out.sum = sum;
  out.squares = squares;
}

void Series::advance_floats(const SeriesPlan& plan, std::size_t window, std::int64_t bound) {
  Window& w = windows_[window];
  for (; w.end < end_; ++w.end) add(plan, window, w.end);
  for (; w.begin < w.end && times_[w.begin] <= bound; ++w.begin) subtract(plan, window, w.begin);
  for (; w.begin > begin_ && times_[w.begin - 1] > bound; --w.begin) add(plan, window, w.begin - 1);
}

namespace {

// The first entry of the deque at or after event `begin`, searched from where it was last.
inline std::uint32_t seek(const Indices& deque, std::uint32_t from, std::uint32_t begin) {
  std::uint32_t at = std::clamp(from, deque.begin(), deque.end());
  while (at > deque.begin() && deque[at - 1] >= begin) --at;
  while (at < deque.end() && deque[at] < begin) ++at;
  return at;
}

}  // namespace

bool Series::known_before(const Totals& totals, std::int64_t window, std::int64_t as_of) const {
  const bool in_ring = totals.begin > begin_;
  const std::int64_t before = in_ring ? times_[totals.begin - 1] : settled_.time;
  return (in_ring || settled_.any) && before > saturating_sub(as_of, 2 * window);
}

std::int64_t Series::known_from(const Totals& totals, std::int64_t window,
                                std::int64_t as_of) const {
  return known_before(totals, window, as_of) ? saturating_sub(as_of, window) : times_[totals.begin];
}

double Series::known_share(const Totals& totals, std::int64_t window, std::int64_t as_of) const {
  if (totals.count == 0) return 0;
  if (known_before(totals, window, as_of)) return 1;
  return static_cast<double>(as_of - times_[totals.begin]) / static_cast<double>(window);
}

template <bool kNarrow>
inline void Series::totals_now(const SeriesPlan& plan, std::size_t window, std::int64_t bound,
                               Totals& out) {
  Window& w = windows_[window];
  if (!kNarrow && plan.grid == Grid::kFloat)
    advance_floats(plan, window, bound);
  else
    advance<kNarrow>(plan, w, bound, out);
  out.count = w.end - w.begin;
  out.begin = w.begin;
  if (out.count == 0) return;
  if (plan.grid == Grid::kFloat && plan.needs_sum) {
    out.float_sum = float_sums_[window].rounded();
    if (plan.needs_squares && out.count > 1)
      out.deviation = deviation_of(out.count, float_squares_[window], float_sums_[window].exact());
  }
  if (plan.needs_min) {
    w.min_at = seek(minima_, w.min_at, w.begin);
    out.low = value<kNarrow>(plan, minima_[w.min_at]);
    out.lowest = one_value(plan, out.low);
  }
  if (plan.needs_max) {
    w.max_at = seek(maxima_, w.max_at, w.begin);
    out.high = value<kNarrow>(plan, maxima_[w.max_at]);
    out.highest = one_value(plan, out.high);
  }
}

// The rare read within lateness of the newest event: events after as_of are left out by summing
// the range anew, or from blocks where it is long. The same integers, so the same bits.
void Series::totals_back(const SeriesPlan& plan, std::int64_t bound, std::int64_t as_of,
                         Totals& out) {
  const std::uint32_t begin = begin_after(bound);
  const std::uint32_t end = begin_after(as_of);
  out.count = end - begin;
  out.begin = begin;
  if (out.count == 0) return;
  if (plan.grid == Grid::kNone) return;
  if (out.count > kAnewMax) {
    if (!ranges_) {
      ranges_ = std::make_unique<Ranges>();
      ranges_->reset(plan);
    }
    ranges_->totals(plan, view(plan), begin, end, out);
    return;
  }
  ExactSum floats;
  SquareSum float_squares;
  UInt128 sum = 0;
  UInt128 squares = 0;
  std::int64_t lowest = stored(plan, begin);
  std::int64_t highest = lowest;
  for (std::uint32_t at = begin; at < end; ++at) {
    const std::int64_t one = stored(plan, at);
    lowest = std::min(lowest, one);
    highest = std::max(highest, one);
    if (plan.grid == Grid::kFloat) {
      if (plan.needs_sum) floats.add(float_of_key(one));
      if (plan.needs_squares) float_squares.add(float_of_key(one));
      continue;
    }
    sum += wide(one);
    squares += square(one);
  }
  out.sum = sum;
  out.squares = squares;
  out.float_sum = floats.rounded();
  if (plan.grid == Grid::kFloat && plan.needs_squares && out.count > 1)
    out.deviation = deviation_of(out.count, float_squares, floats);
  out.low = lowest;
  out.high = highest;
  out.lowest = one_value(plan, lowest);
  out.highest = one_value(plan, highest);
}

void Series::totals(const SeriesPlan& plan, std::size_t window, std::int64_t as_of, Totals& out) {
  const std::int64_t bound = saturating_sub(as_of, plan.windows[window]);
  if (end_ > begin_ && times_[end_ - 1] > as_of) {
    out = {};
    totals_back(plan, bound, as_of, out);
  } else if (plan.narrow) {
    totals_now<true>(plan, window, bound, out);
  } else {
    totals_now<false>(plan, window, bound, out);
  }
}

EventView Series::view(const SeriesPlan& plan) const {
  return {times_.get(), narrow_.get(), wide_.get(), plan.low, begin_, end_};
}

Weighted Series::weighted(const SeriesPlan& plan, std::size_t decay, std::int64_t as_of) {
  EventView events = view(plan);
  if (end_ == begin_ || times_[end_ - 1] <= as_of)
    return decays_[decay].sums(events, plan.decays[decay], as_of);
  events.end = begin_after(as_of);  // as in totals_back
  Decay anew;
  return anew.sums(events, plan.decays[decay], as_of);
}

ValueWindow Series::values(const SeriesPlan& plan, std::size_t at, std::uint32_t begin,
                           std::uint32_t end) {
  ValueWindow out{&values_[at], &plan.values[at], view(plan)};
  out.events.end = end;
  out.values->move(plan, *out.needs, out.events, begin);
  return out;
}

Ends Series::ends(const SeriesPlan& plan, const Totals& totals) const {
  const std::uint32_t last = totals.begin + totals.count - 1;
  return {times_[totals.begin], times_[last], stored(plan, totals.begin), stored(plan, last)};
}

// ---------------------------------------------------------------- insertion

// Whether event `at` comes before `event`, which is not in the series yet; of equals, it does.
bool Series::is_before(const SeriesPlan& plan, std::uint32_t at, const Event& event, bool keyed,
                       const Sources& sources) const {
  if (times_[at] != event.time) return times_[at] < event.time;
  if (!keyed) return true;
  const OrderKey held = key(at);
  if (held.source != event.key.source)
    return sources.name(held.source) < sources.name(event.key.source);
  if (held.sequence != event.key.sequence) return held.sequence < event.key.sequence;
  return stored(plan, at) <= event.stored;
}

template <bool kNarrow>
inline void Series::push_deques(const SeriesPlan& plan, std::uint32_t at) {
  const std::int64_t one = value<kNarrow>(plan, at);
  if (plan.needs_min) {
    while (!minima_.empty() && value<kNarrow>(plan, minima_.back()) >= one) minima_.pop_back();
    minima_.push_back(at);
  }
  if (plan.needs_max) {
    while (!maxima_.empty() && value<kNarrow>(plan, maxima_.back()) <= one) maxima_.pop_back();
    maxima_.push_back(at);
  }
}

void Series::push_from(const SeriesPlan& plan, std::uint32_t at) {
  if (!plan.needs_min && !plan.needs_max) return;
  for (; at < end_; ++at) {
    if (plan.narrow)
      push_deques<true>(plan, at);
    else
      push_deques<false>(plan, at);
  }
}

void Series::open_gap(const SeriesPlan& plan, std::uint32_t at) {
  const std::size_t after = end_ - at;
  std::memmove(&times_[at + 1], &times_[at], after * sizeof(std::int64_t));
  if (plan.grid == Grid::kNone) return;
  if (plan.narrow)
    std::memmove(&narrow_[at + 1], &narrow_[at], after * sizeof(std::uint32_t));
  else
    std::memmove(&wide_[at + 1], &wide_[at], after * sizeof(std::int64_t));
}

// A late event took index `at`; later ones moved up by one.
void Series::move_windows_over_gap(const SeriesPlan& plan, std::uint32_t at, std::int64_t stored) {
  for (std::size_t i = 0; i < plan.windows.size(); ++i) {
    Window& w = windows_[i];
    if (w.end <= at) continue;  // comes in with the next read
    ++w.end;
    if (at < w.begin) {
      ++w.begin;
      continue;
    }
    set_value(plan, at, stored);
    add(plan, i, at);
  }
}

void Series::insert(const SeriesPlan& plan, const Event& event, std::int64_t open,
                    const Sources& sources) {
  if (plan.needs_order)
    while (!order_.empty() && times_[end_ - order_.size()] < open) order_.pop_front();
  // A restored event that nothing can tie with any more comes without a key.
  const bool keyed = plan.needs_order && event.time >= open;
  std::uint32_t at = end_;
  while (at > begin_ && !is_before(plan, at - 1, event, keyed, sources)) --at;
  if (keyed) order_.insert(order_.end() - (end_ - at), event.key);
  if (at < end_) {
    while (!minima_.empty() && minima_.back() >= at) minima_.pop_back();
    while (!maxima_.empty() && maxima_.back() >= at) maxima_.pop_back();
    open_gap(plan, at);
    move_windows_over_gap(plan, at, event.stored);
  }
  times_[at] = event.time;
  set_value(plan, at, event.stored);
  ++end_;
  for (std::size_t i = 0; i < plan.decays.size(); ++i)
    decays_[i].insert(view(plan), plan.decays[i], at);
  if (ranges_) ranges_->change(at);
  for (std::size_t i = 0; i < plan.values.size(); ++i)
    values_[i].insert(plan, plan.values[i], view(plan), at);
  push_from(plan, at);
}

// Forgets events before index `upto`.
void Series::prune(const SeriesPlan& plan, std::uint32_t upto) {
  if (upto == begin_) return;
  settled_ = {true, times_[upto - 1], stored(plan, upto - 1)};
  for (std::size_t i = 0; i < plan.windows.size(); ++i) {
    Window& w = windows_[i];
    for (; w.begin < std::min(upto, w.end); ++w.begin) subtract(plan, i, w.begin);
    w.begin = std::max(w.begin, upto);
    w.end = std::max(w.end, upto);
  }
  for (std::size_t i = 0; i < plan.decays.size(); ++i) decays_[i].forget(upto);
  if (ranges_) ranges_->forget(upto);
  for (std::size_t i = 0; i < plan.values.size(); ++i)
    values_[i].forget(plan, plan.values[i], view(plan), upto);
  while (!minima_.empty() && minima_.front() < upto) minima_.pop_front();
  while (!maxima_.empty() && maxima_.front() < upto) maxima_.pop_front();
  begin_ = upto;
  while (order_.size() > end_ - begin_) order_.pop_front();
}

// ---------------------------------------------------------------- reading back

std::uint32_t Series::begin_after(std::int64_t bound) const {
  const std::int64_t* times = times_.get();
  return static_cast<std::uint32_t>(std::upper_bound(times + begin_, times + end_, bound) - times);
}

Newest Series::newest(const SeriesPlan& plan, std::int64_t as_of) const {
  std::uint32_t at = end_;
  while (at > begin_ && times_[at - 1] > as_of) --at;
  if (at > begin_) return {true, times_[at - 1], stored(plan, at - 1)};
  if (settled_.any && settled_.time <= as_of) return settled_;
  return {};
}

Newest Series::settled(const SeriesPlan& plan, std::int64_t pruned) const {
  const std::uint32_t at = begin_after(pruned);
  if (at > begin_) return {true, times_[at - 1], stored(plan, at - 1)};
  return settled_;
}

std::size_t event_bytes(const SeriesPlan& plan) {
  if (plan.grid == Grid::kNone) return sizeof(std::int64_t);
  return sizeof(std::int64_t) + (plan.narrow ? sizeof(std::uint32_t) : sizeof(std::int64_t));
}

std::size_t Series::memory_bytes(const SeriesPlan& plan) const {
  std::size_t sums_bytes = 0;
  for (std::size_t i = 0; float_sums_ && i < plan.windows.size(); ++i)
    sums_bytes += sizeof(FloatSum) + float_sums_[i].memory_bytes();
  std::size_t values_bytes = plan.values.size() * sizeof(Values);
  for (std::size_t i = 0; i < plan.values.size(); ++i) values_bytes += values_[i].memory_bytes();
  return capacity_ * event_bytes(plan) + minima_.memory_bytes() + maxima_.memory_bytes() +
         order_.memory_bytes() + plan.windows.size() * sizeof(Window) +
         plan.decays.size() * sizeof(Decay) + (ranges_ ? ranges_->memory_bytes() : 0) +
         values_bytes + sums_bytes + (float_squares_ ? plan.windows.size() * sizeof(SquareSum) : 0);
}

}  // namespace edgecore::features
