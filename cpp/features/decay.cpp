// Panes and their weights; see decay.hpp.
#include "features/decay.hpp"

#include <limits>

namespace edgecore::features {
namespace {

std::int64_t pane_of(std::int64_t time, std::int64_t pane_ns) {
  const std::int64_t whole = time / pane_ns;
  return time % pane_ns < 0 ? whole - 1 : whole;
}

// The first time of a pane; at the end of time, the end itself.
std::int64_t start_of(std::int64_t pane, std::int64_t pane_ns) {
  std::int64_t out = 0;
  if (!__builtin_mul_overflow(pane, pane_ns, &out)) return out;
  return pane < 0 ? std::numeric_limits<std::int64_t>::min()
                  : std::numeric_limits<std::int64_t>::max();
}

std::size_t remainder_of(std::int64_t pane) {
  return static_cast<std::size_t>(pane & (kPanesPerHalfLife - 1));
}

}  // namespace

void Decay::add(std::int64_t pane, std::int64_t stored) {
  const auto shift = static_cast<int>(kHalfLives - 1 - (pane_ - pane) / kPanesPerHalfLife);
  const std::size_t at = remainder_of(pane);
  const Int128 value = static_cast<Int128>(stored) * (std::int64_t{1} << shift);
  values_[at] += value;
  counts_[at] += std::uint64_t{1} << shift;
  if (!weighed_) return;
  const std::uint32_t weight = kEighths[remainder_of(pane_ - pane)];
  all_values_ += value * weight;
  all_weights_ += static_cast<std::uint64_t>(weight) << shift;
}

// All panes as of the last one.
void Decay::weigh() {
  weighed_ = true;
  all_values_ = 0;
  all_weights_ = 0;
  for (std::int64_t r = 0; r < kPanesPerHalfLife; ++r) {
    const std::size_t at = remainder_of(pane_ - r);
    const std::uint32_t weight = kEighths[static_cast<std::size_t>(r)];
    all_values_ += values_[at] * weight;
    all_weights_ += counts_[at] * weight;
  }
}

void Decay::go_to(std::int64_t pane, std::int64_t pane_ns) {
  pane_ = pane;
  start_ = start_of(pane, pane_ns);
  stop_ = start_of(pane + 1, pane_ns);
}

void Decay::begin_at(const EventView& events, std::int64_t pane_ns, std::int64_t pane) {
  valid_ = true;
  weighed_ = false;
  go_to(pane, pane_ns);
  values_.fill(0);
  counts_.fill(0);
  const std::int64_t oldest = start_of(pane - kPanes + 1, pane_ns);
  const auto* found =
      std::lower_bound(events.times + events.begin, events.times + events.end, oldest);
  begin_ = end_ = static_cast<std::uint32_t>(found - events.times);
}

// The next pane: the one that is as old as the horizon goes, and its fellows count half.
void Decay::enter(const EventView& events, std::int64_t pane_ns, std::int64_t pane) {
  weighed_ = false;
  const std::size_t at = remainder_of(pane);
  const std::int64_t oldest = start_of(pane - kPanes + 1, pane_ns);
  for (; begin_ < end_ && events.times[begin_] < oldest; ++begin_) {
    values_[at] -= events.stored(begin_);
    counts_[at] -= 1;
  }
  values_[at] >>= 1;  // even, for every pane but the one that went has a factor of two
  counts_[at] >>= 1;
  go_to(pane, pane_ns);
}

void Decay::insert(const EventView& events, std::int64_t pane_ns, std::uint32_t at) {
  if (!valid_ || at >= end_) return;  // comes in with the next read
  ++end_;
  const std::int64_t pane = pane_of(events.times[at], pane_ns);
  if (at < begin_ || pane <= pane_ - kPanes)
    ++begin_;
  else
    add(pane, events.stored(at));
}

Weighted Decay::sums(const EventView& events, std::int64_t pane_ns, std::int64_t as_of) {
  const std::int64_t now =
      valid_ && as_of >= start_ && as_of < stop_ ? pane_ : pane_of(as_of, pane_ns);
  if (!valid_ || now < pane_ || now - pane_ >= kPanes) begin_at(events, pane_ns, now);
  while (pane_ < now) enter(events, pane_ns, pane_ + 1);
  const std::int64_t start = start_;
  for (; end_ < events.end; ++end_) {
    const std::int64_t time = events.times[end_];
    const std::int64_t pane = time >= start ? now : pane_of(time, pane_ns);
    if (pane > now - kPanes)
      add(pane, events.stored(end_));
    else
      begin_ = end_ + 1;  // older than all that are in, of which there are none
  }
  Weighted out;
  out.count = end_ - begin_;
  out.begin = begin_;
  if (!weighed_) weigh();
  out.values = all_values_;
  out.weights = all_weights_;
  return out;
}

}  // namespace edgecore::features
