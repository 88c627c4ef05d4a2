// See quantile.hpp.
#include "pipeline/quantile.hpp"

namespace edgecore::pipeline {

RunningQuantile::RunningQuantile(std::uint32_t window, std::uint32_t permille)
    : window_(window), permille_(permille) {
  ring_.reserve(window);
  at_.reserve(window);
  // Each may hold one more while a score is on its way to the other.
  lower_.reserve(lower_size(window) + 1);
  upper_.reserve(window - lower_size(window) + 1);
}

template <RunningQuantile::Side kSide>
void RunningQuantile::place(std::size_t at, std::uint32_t slot) {
  heap<kSide>()[at] = slot;
  at_[slot] = static_cast<std::uint32_t>(at) | static_cast<std::uint32_t>(kSide);
}

// Puts a slot at `at` or, as far as it is nearer to the cut than its parents, above.
template <RunningQuantile::Side kSide>
void RunningQuantile::rise(std::size_t at, std::uint32_t slot) {
  const Heap& slots = heap<kSide>();
  const std::int64_t score = ring_[slot];
  while (at > 0) {
    const std::size_t parent = (at - 1) / 2;
    if (!nearer<kSide>(score, ring_[slots[parent]])) break;
    place<kSide>(at, slots[parent]);
    at = parent;
  }
  place<kSide>(at, slot);
}

// Puts a slot first, and each one between it and `at` one lower.
template <RunningQuantile::Side kSide>
void RunningQuantile::lift(std::size_t at, std::uint32_t slot) {
  const Heap& slots = heap<kSide>();
  for (; at > 0; at = (at - 1) / 2) place<kSide>(at, slots[(at - 1) / 2]);
  place<kSide>(0, slot);
}

// Puts a slot at `at` or, as far as its children are nearer to the cut, below.
template <RunningQuantile::Side kSide>
void RunningQuantile::sink(std::size_t at, std::uint32_t slot) {
  const Heap& slots = heap<kSide>();
  const std::int64_t score = ring_[slot];
  for (;;) {
    std::size_t child = 2 * at + 1;
    if (child >= slots.size()) break;
    if (child + 1 < slots.size())
      child += nearer<kSide>(ring_[slots[child + 1]], ring_[slots[child]]) ? 1u : 0u;
    if (!nearer<kSide>(ring_[slots[child]], score)) break;
    place<kSide>(at, slots[child]);
    at = child;
  }
  place<kSide>(at, slot);
}

template <RunningQuantile::Side kSide>
std::uint32_t RunningQuantile::take_first() {
  Heap& slots = heap<kSide>();
  const std::uint32_t first = slots.front(), last = slots.back();
  slots.pop_back();
  if (!slots.empty()) sink<kSide>(0, last);
  return first;
}

// The score of the slot at `at` is no longer `old`.
template <RunningQuantile::Side kSide>
void RunningQuantile::replace(std::size_t at, std::uint32_t slot, std::int64_t old) {
  constexpr Side kOther = kSide == Side::kLower ? Side::kUpper : Side::kLower;
  const std::int64_t score = ring_[slot];
  const Heap& others = heap<kOther>();
  if (!others.empty() && nearer<kOther>(ring_[others.front()], score)) {
    // It belongs beyond the cut; the first there, nearest to the cut on this side too, comes over.
    const std::uint32_t first = others.front();
    lift<kSide>(at, first);
    sink<kOther>(0, slot);
  } else if (nearer<kSide>(score, old)) {
    rise<kSide>(at, slot);
  } else {
    sink<kSide>(at, slot);
  }
}

void RunningQuantile::grow(std::int64_t score) {
  const auto slot = static_cast<std::uint32_t>(ring_.size());
  ring_.push_back(score);
  at_.push_back(0);
  if (lower_.empty() || score <= ring_[lower_.front()]) {
    lower_.push_back(slot);
    rise<Side::kLower>(lower_.size() - 1, slot);
  } else {
    upper_.push_back(slot);
    rise<Side::kUpper>(upper_.size() - 1, slot);
  }
  const std::size_t wanted = lower_size(ring_.size());
  if (lower_.size() > wanted) {
    const std::uint32_t moved = take_first<Side::kLower>();
    upper_.push_back(moved);
    rise<Side::kUpper>(upper_.size() - 1, moved);
  } else if (lower_.size() < wanted) {
    const std::uint32_t moved = take_first<Side::kUpper>();
    lower_.push_back(moved);
    rise<Side::kLower>(lower_.size() - 1, moved);
  }
}

void RunningQuantile::push(std::int64_t score) {
  if (ring_.size() < window_) return grow(score);
  const std::uint32_t slot = next_;
  const std::int64_t old = ring_[slot];
  ring_[slot] = score;
  next_ = next_ + 1 == window_ ? 0 : next_ + 1;
  const std::size_t at = at_[slot] & kIndex;
  if ((at_[slot] & ~kIndex) == static_cast<std::uint32_t>(Side::kLower))
    replace<Side::kLower>(at, slot, old);
  else
    replace<Side::kUpper>(at, slot, old);
}

}  // namespace edgecore::pipeline
