// Counting; see tally.hpp.
#include "features/tally.hpp"

#include <algorithm>
#include <bit>

namespace edgecore::features {

Tally::Slot& Tally::slot_of(std::int64_t value) {
  std::uint64_t hash = static_cast<std::uint64_t>(value) * 0x9e3779b97f4a7c15u;
  hash ^= hash >> 32;
  const std::size_t mask = slots_.size() - 1;
  std::size_t at = static_cast<std::size_t>(hash) & mask;
  while (slots_[at].count != kFree && slots_[at].value != value) at = (at + 1) & mask;
  return slots_[at];
}

// At most three quarters full, and at most half right after.
void Tally::make_room() {
  if ((used_ + 1) * 4 <= slots_.size() * 3) return;
  std::vector<Slot> old(std::max<std::size_t>(16, std::bit_ceil((live_ + std::size_t{1}) * 2)));
  old.swap(slots_);
  used_ = live_;
  for (const Slot& slot : old)
    if (slot.count != kFree && slot.count != 0) slot_of(slot.value) = slot;
}

void Tally::note(const Slot& slot) {
  heap_.push_back({slot.value, slot.count});
  if (heap_.size() <= 64 + 4 * std::size_t{live_}) {
    std::push_heap(heap_.begin(), heap_.end());
    return;
  }
  heap_.clear();
  for (const Slot& one : slots_)
    if (one.count != kFree && one.count != 0) heap_.push_back({one.value, one.count});
  std::make_heap(heap_.begin(), heap_.end());
}

void Tally::add(std::int64_t value, bool modes) {
  make_room();
  Slot& slot = slot_of(value);
  if (slot.count == kFree) {
    slot = {value, 0};
    ++used_;
  }
  if (slot.count++ == 0) ++live_;
  if (modes) note(slot);
}

void Tally::remove(std::int64_t value, bool modes) {
  Slot& slot = slot_of(value);
  if (--slot.count == 0)
    --live_;
  else if (modes)
    note(slot);
}

void Tally::clear() {
  slots_.clear();
  heap_.clear();
  used_ = live_ = 0;
}

std::int64_t Tally::mode() {
  while (slot_of(heap_.front().value).count != heap_.front().count) {
    std::pop_heap(heap_.begin(), heap_.end());
    heap_.pop_back();
  }
  return heap_.front().value;
}

}  // namespace edgecore::features
