// Counting; see tally.hpp.
#include "features/tally.hpp"

#include <algorithm>

namespace edgecore::features {
namespace {

constexpr std::size_t kSlotsMin = 16;

}  // namespace

std::size_t Tally::home(std::int64_t value) const {
  std::uint64_t hash = static_cast<std::uint64_t>(value) * 0x9e3779b97f4a7c15u;
  hash ^= hash >> 32;
  return static_cast<std::size_t>(hash) & (slots_.size() - 1);
}

// Where the value is; if nowhere, the free slot that it would take.
std::size_t Tally::find(std::int64_t value) const {
  std::size_t at = home(value);
  while (slots_[at].count != 0 && slots_[at].value != value) at = (at + 1) & (slots_.size() - 1);
  return at;
}

void Tally::resize(std::size_t slots) {
  std::vector<Slot> old(slots);
  old.swap(slots_);
  for (const Slot& slot : old)
    if (slot.count != 0) slots_[find(slot.value)] = slot;
}

void Tally::free(std::size_t at) {
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t next = (at + 1) & mask; slots_[next].count != 0; next = (next + 1) & mask) {
    // One may go back no further than its home.
    if (((next - home(slots_[next].value)) & mask) < ((next - at) & mask)) continue;
    slots_[at] = slots_[next];
    at = next;
  }
  slots_[at] = Slot();
}

// Where there is no room left, what is no longer true makes some.
void Tally::note(const Slot& slot) {
  if (heap_.size() < heap_.capacity()) {
    heap_.push_back({slot.value, slot.count});
    std::push_heap(heap_.begin(), heap_.end());
    return;
  }
  std::vector<Counted> fresh;
  fresh.reserve(64 + 2 * std::size_t{live_});
  for (const Slot& one : slots_)
    if (one.count != 0) fresh.push_back({one.value, one.count});
  std::make_heap(fresh.begin(), fresh.end());
  heap_.swap(fresh);
}

void Tally::add(std::int64_t value, bool modes) {
  if ((live_ + std::size_t{1}) * 4 > slots_.size() * 3)
    resize(std::max(kSlotsMin, 2 * slots_.size()));
  Slot& slot = slots_[find(value)];
  slot.value = value;
  if (slot.count++ == 0) ++live_;
  if (modes) note(slot);
}

void Tally::remove(std::int64_t value, bool modes) {
  const std::size_t at = find(value);
  if (--slots_[at].count != 0) {
    if (modes) note(slots_[at]);
    return;
  }
  --live_;
  free(at);
  if (slots_.size() > kSlotsMin && live_ * std::size_t{8} < slots_.size())
    resize(slots_.size() / 2);
}

void Tally::clear() {
  slots_.clear();
  heap_.clear();
  live_ = 0;
}

std::int64_t Tally::mode() {
  while (slots_[find(heap_.front().value)].count != heap_.front().count) {
    std::pop_heap(heap_.begin(), heap_.end());
    heap_.pop_back();
  }
  return heap_.front().value;
}

}  // namespace edgecore::features
