// Order, buckets and counts of a window's values; see values.hpp.
#include "features/values.hpp"

#include <algorithm>
#include <array>

#include "features/buckets.hpp"
#include "features/sliding.hpp"

namespace edgecore::features {
namespace {

constexpr std::uint32_t kLess = 0xffffffffu;  // adding it takes 1 away

// The place of the first that is not below `value`, without a branch that depends on it.
template <typename T>
std::size_t place_of(const std::vector<T>& ordered, T value) {
  const T* base = ordered.data();
  std::size_t left = ordered.size();
  while (left > 1) {
    const std::size_t half = left / 2;
    base = base[half - 1] < value ? base + half : base;
    left -= half;
  }
  const auto at = static_cast<std::size_t>(base - ordered.data());
  return left == 1 && *base < value ? at + 1 : at;
}

template <typename T>
bool holds(const std::vector<T>& ordered, std::size_t at, T value) {
  return at < ordered.size() && ordered[at] == value;
}

// Values in order, and how many of them differ.
template <typename T>
void put(std::vector<T>& ordered, T value, std::uint32_t& different) {
  const std::size_t at = place_of(ordered, value);
  different += holds(ordered, at, value) ? 0 : 1;
  if (ordered.size() == ordered.capacity())
    ordered.reserve(roomy(static_cast<std::uint32_t>(ordered.size())));
  ordered.insert(ordered.begin() + static_cast<std::ptrdiff_t>(at), value);
}

template <typename T>
void take(std::vector<T>& ordered, T value, std::uint32_t& different) {
  const std::size_t at = place_of(ordered, value);
  different -= holds(ordered, at + 1, value) ? 0 : 1;
  ordered.erase(ordered.begin() + static_cast<std::ptrdiff_t>(at));
}

// Both at once: only what lies between the two moves.
template <typename T>
void exchange(std::vector<T>& ordered, T old, T fresh, std::uint32_t& different) {
  if (old == fresh) return;
  const std::size_t from = place_of(ordered, old);
  const std::size_t to = place_of(ordered, fresh);
  different -= holds(ordered, from + 1, old) ? 0 : 1;
  different += holds(ordered, to, fresh) ? 0 : 1;
  T* data = ordered.data();
  if (from < to) {
    std::move(data + from + 1, data + to, data + from);
    data[to - 1] = fresh;
  } else {
    std::move_backward(data + to, data + from, data + from + 1);
    data[to] = fresh;
  }
}

// Empties it, and gives its memory back.
template <typename T>
void release(std::vector<T>& data) {
  std::vector<T>().swap(data);
}

// Different values are to be counted.
bool counts(const ValuePlan& needs) {
  return needs.distinct || needs.estimated;
}

bool keeps_order(const ValuePlan& needs) {
  return !needs.permilles.empty() || (counts(needs) && !needs.modes);
}

}  // namespace

// Counted while there are many; where the most frequent is asked for, always.
bool Values::keeps_tally(const ValuePlan& needs) const {
  return !uncounted_ && (needs.modes || (counts(needs) && many_));
}

void Values::clear() {
  begin_ = end_ = 0;
  sketch_.reset();
  uncounted_ = false;
  if (!table_.empty()) return;
  many_ = false;
  different_ = 0;
  narrow_.clear();
  wide_.clear();
  buckets_.clear();
  cursors_.clear();
  bins_.clear();
  tally_.clear();
}

bool Values::use_table(const SeriesPlan& plan, const ValuePlan& needs) {
  if (!plan.narrow || needs.modes) return false;
  const auto last = static_cast<std::uint64_t>(plan.high - plan.low);
  if (last >= kTableMax) return false;
  table_.assign(static_cast<std::size_t>(last) + 1, 0);
  if (needs.permilles.empty()) return true;
  buckets_.assign(needs.buckets, 0);
  cursors_.assign(needs.permilles.size(), {});
  return true;
}

// Here and below `by` is 1, or kLess.
void Values::count_bucket(const SeriesPlan& plan, const ValuePlan& needs, std::int64_t stored,
                          std::uint32_t by) {
  if (needs.permilles.empty()) return;
  const std::uint32_t bucket = bucket_of(plan, needs, stored);
  buckets_[bucket] += by;
  for (Cursor& cursor : cursors_)
    if (bucket < cursor.bucket) cursor.below += by;
}

void Values::count_in_table(const SeriesPlan& plan, const ValuePlan& needs, std::int64_t stored,
                            std::uint32_t by) {
  std::uint32_t& count = table_[above_low(plan, stored)];
  if (by == kLess)
    different_ -= --count == 0 ? 1 : 0;
  else
    different_ += count++ == 0 ? 1 : 0;
  count_bucket(plan, needs, stored, by);
}

void Values::count_bin(const ValuePlan& needs, std::int64_t stored, std::uint32_t by) {
  if (bins_.empty()) bins_.assign(needs.edges.size() + 1, 0);
  const auto next = std::upper_bound(needs.edges.begin(), needs.edges.end(), stored);
  bins_[static_cast<std::size_t>(next - needs.edges.begin())] += by;
}

void Values::add(const SeriesPlan& plan, const ValuePlan& needs, std::int64_t stored) {
  if (!needs.edges.empty()) count_bin(needs, stored, 1);
  if (!table_.empty()) {
    count_in_table(plan, needs, stored, 1);
    if (needs.estimated) sketch(plan, needs, stored);
    return;
  }
  if (!many_ && narrow_.size() + wide_.size() == kFewMax) to_many(plan, needs);
  if (keeps_tally(needs)) tally_.add(stored, needs.modes);
  if (needs.estimated) sketch(plan, needs, stored);
  if (!keeps_order(needs)) return;
  if (many_) {
    count_bucket(plan, needs, stored, 1);
    return;
  }
  if (plan.narrow)
    put(narrow_, above_low(plan, stored), different_);
  else
    put(wide_, stored, different_);
}

void Values::remove(const SeriesPlan& plan, const ValuePlan& needs, std::int64_t stored) {
  if (!needs.edges.empty()) count_bin(needs, stored, kLess);
  if (sketch_) sketch_->remove(stored);
  if (!table_.empty()) return count_in_table(plan, needs, stored, kLess);
  if (keeps_tally(needs)) tally_.remove(stored, needs.modes);
  if (!keeps_order(needs)) return;
  if (many_)
    count_bucket(plan, needs, stored, kLess);
  else if (plan.narrow)
    take(narrow_, above_low(plan, stored), different_);
  else
    take(wide_, stored, different_);
}

// One leaves for one that enters, as they do when time goes on.
void Values::replace(const SeriesPlan& plan, const ValuePlan& needs, std::int64_t old,
                     std::int64_t fresh) {
  const bool ordered = table_.empty() && !many_ && keeps_order(needs);
  if (!ordered || keeps_tally(needs) || !needs.edges.empty()) {
    remove(plan, needs, old);
    add(plan, needs, fresh);
  } else if (plan.narrow) {
    exchange(narrow_, above_low(plan, old), above_low(plan, fresh), different_);
  } else {
    exchange(wide_, old, fresh, different_);
  }
}

void Values::to_many(const SeriesPlan& plan, const ValuePlan& needs) {
  many_ = true;
  if (!needs.permilles.empty()) {
    buckets_.assign(needs.buckets, 0);
    cursors_.assign(needs.permilles.size(), {});
  }
  const auto each = [&](std::int64_t stored) {
    count_bucket(plan, needs, stored, 1);
    if (counts(needs) && !needs.modes) tally_.add(stored, false);
  };
  for (const std::uint32_t one : narrow_) each(plan.low + static_cast<std::int64_t>(one));
  for (const std::int64_t one : wide_) each(one);
  release(narrow_);
  release(wide_);
}

void Values::to_few(const SeriesPlan& plan, const ValuePlan& needs, const EventView& events) {
  many_ = false;
  release(buckets_);
  release(cursors_);
  if (!needs.modes) tally_ = Tally();
  sketch_.reset();
  uncounted_ = false;
  const auto order = [this](auto& ordered) {
    std::sort(ordered.begin(), ordered.end());
    different_ = 0;
    for (std::size_t i = 0; i < ordered.size(); ++i)
      different_ += i == 0 || ordered[i] != ordered[i - 1] ? 1 : 0;
  };
  for (std::uint32_t at = begin_; at < end_; ++at) {
    if (plan.narrow)
      narrow_.push_back(above_low(plan, events.stored(at)));
    else
      wide_.push_back(events.stored(at));
  }
  if (plan.narrow)
    order(narrow_);
  else
    order(wide_);
}

void Values::insert(const SeriesPlan& plan, const ValuePlan& needs, const EventView& events,
                    std::uint32_t at) {
  if (at >= end_) return;  // comes in with the next read
  ++end_;
  if (at < begin_)
    ++begin_;
  else
    add(plan, needs, events.stored(at));
}

void Values::forget(const SeriesPlan& plan, const ValuePlan& needs, const EventView& events,
                    std::uint32_t upto) {
  if (upto >= end_) {
    clear();
    begin_ = end_ = upto;
  }
  for (; begin_ < upto; ++begin_) remove(plan, needs, events.stored(begin_));
}

void Values::move(const SeriesPlan& plan, const ValuePlan& needs, const EventView& events,
                  std::uint32_t begin) {
  if (begin >= end_ || events.end <= begin_) {  // nothing of what it holds stays
    for (; begin_ < end_ && !table_.empty(); ++begin_) remove(plan, needs, events.stored(begin_));
    clear();
    begin_ = end_ = begin;
  }
  for (; begin_ < begin && end_ < events.end; ++begin_, ++end_)
    replace(plan, needs, events.stored(begin_), events.stored(end_));
  for (; begin_ < begin; ++begin_) remove(plan, needs, events.stored(begin_));
  for (; end_ > events.end; --end_) remove(plan, needs, events.stored(end_ - 1));
  for (; begin_ > begin; --begin_) add(plan, needs, events.stored(begin_ - 1));
  for (; end_ < events.end; ++end_) add(plan, needs, events.stored(end_));
  if (many_ && count() <= kFewMax / 2 && keeps_order(needs)) to_few(plan, needs, events);
  if (sketch_) settle_sketch(needs, events);
}

std::uint32_t Values::distinct(const ValuePlan& needs) const {
  return keeps_tally(needs) ? tally_.distinct() : different_;
}

// One more event is in the tally or the table, if there is one.
void Values::sketch(const SeriesPlan& plan, const ValuePlan& needs, std::int64_t stored) {
  if (sketch_) {
    sketch_->add(stored, 1);
  } else if (distinct(needs) > kDistinctMax) {
    sketch_ = std::make_unique<Sketch>();
    tally_.each([this](std::int64_t value, std::uint32_t count) { sketch_->add(value, count); });
    for (std::size_t at = 0; at < table_.size(); ++at)
      if (table_[at] != 0) sketch_->add(plan.low + static_cast<std::int64_t>(at), table_[at]);
  }
  if (!sketch_ || uncounted_ || !table_.empty() || needs.modes || needs.distinct) return;
  // Each cell has a value of its own, so that kDistinctMax cells prove more values than that; some
  // more, so that a tally that comes back stays for long.
  if (sketch_->cells() <= kDistinctMax + kDistinctMax / 4) return;
  uncounted_ = true;
  tally_ = Tally();
}

// When a window has moved: the cells prove that more than kDistinctMax values differ, or they are
// counted again. Both come once in some hundred values that have gone for good.
void Values::settle_sketch(const ValuePlan& needs, const EventView& events) {
  if (uncounted_ && sketch_->cells() <= kDistinctMax) {
    uncounted_ = false;
    for (std::uint32_t at = begin_; at < end_; ++at) tally_.add(events.stored(at), false);
  }
  if (!uncounted_ && table_.empty() && distinct(needs) <= kDistinctMax / 2) sketch_.reset();
}

std::uint32_t Values::about_distinct(const ValuePlan& needs) {
  if (!is_estimate(needs)) return distinct(needs);
  return std::clamp(sketch_->estimate(), kDistinctMax + 1, count());
}

// The value of that rank among those of one bucket; the window is small.
std::int64_t Values::among(const SeriesPlan& plan, const ValuePlan& needs, const EventView& events,
                           std::uint32_t bucket, std::uint32_t rank) const {
  std::array<std::int64_t, kFewMax> held;
  std::size_t count = 0;
  for (std::uint32_t at = begin_; at < end_; ++at) {
    const std::int64_t stored = events.stored(at);
    if (bucket_of(plan, needs, stored) == bucket) held[count++] = stored;
  }
  std::nth_element(held.begin(), held.begin() + rank, held.begin() + count);
  return held[rank];
}

std::int64_t Values::quantile(const SeriesPlan& plan, const ValuePlan& needs,
                              const EventView& events, std::size_t which) {
  const std::uint64_t permille = needs.permilles[which];
  const auto rank = static_cast<std::uint32_t>((permille * count() + 999) / 1000 - 1);
  if (!many_ && table_.empty()) {
    return plan.narrow ? plan.low + static_cast<std::int64_t>(narrow_[rank]) : wide_[rank];
  }
  Cursor& cursor = cursors_[which];
  while (rank < cursor.below) cursor.below -= buckets_[--cursor.bucket];
  while (rank >= cursor.below + buckets_[cursor.bucket]) cursor.below += buckets_[cursor.bucket++];
  if (needs.bucket_steps > 1 && count() > kFewMax) return middle_of(plan, needs, cursor.bucket);
  const std::int64_t first = first_of(plan, needs, cursor.bucket);
  if (needs.bucket_steps == 1) return first;
  if (table_.empty()) return among(plan, needs, events, cursor.bucket, rank - cursor.below);
  std::uint32_t before = cursor.below;
  std::uint32_t at = above_low(plan, first);
  while (rank >= before + table_[at]) before += table_[at++];
  return plan.low + static_cast<std::int64_t>(at);
}

std::uint32_t Values::in_bins(std::size_t from, std::size_t to) const {
  std::uint32_t out = 0;
  for (std::size_t at = from; at < to && at < bins_.size(); ++at) out += bins_[at];
  return out;
}

std::size_t Values::memory_bytes() const {
  return (narrow_.capacity() + table_.capacity()) * sizeof(std::uint32_t) +
         wide_.capacity() * sizeof(std::int64_t) + buckets_.capacity() * sizeof(std::uint32_t) +
         cursors_.capacity() * sizeof(Cursor) + bins_.capacity() * sizeof(std::uint32_t) +
         tally_.memory_bytes() + (sketch_ ? sketch_->memory_bytes() : 0);
}

}  // namespace edgecore::features
