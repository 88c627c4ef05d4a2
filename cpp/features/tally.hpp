// How often each value occurs in a window: a table of counts that values enter and leave, the
// number of distinct values, and the most frequent one.
#pragma once

#include <cstdint>
#include <vector>

namespace edgecore::features {

// Amortised, a change costs the same whatever the table holds (for the most frequent value, its
// logarithm). Neither the order of changes nor the table's layout shows in an answer.
class Tally {
 public:
  // `modes`: mode() will be asked for.
  void add(std::int64_t value, bool modes);
  void remove(std::int64_t value, bool modes);
  void clear();

  std::uint32_t distinct() const { return live_; }
  // work(value, count) of each, in any order.
  template <typename Work>
  void each(const Work& work) const {
    for (const Slot& slot : slots_)
      if (slot.count != 0) work(slot.value, slot.count);
  }
  // The most frequent value, of equally frequent ones the least; distinct() > 0.
  std::int64_t mode();

  std::size_t memory_bytes() const {
    return slots_.capacity() * sizeof(Slot) + heap_.capacity() * sizeof(Counted);
  }

 private:
  struct Slot {
    std::int64_t value = 0;
    std::uint32_t count = 0;  // 0: free
  };
  // What a value's count was once; true as long as it still is.
  struct Counted {
    std::int64_t value = 0;
    std::uint32_t count = 0;
    // A heap has the greatest at its top.
    bool operator<(const Counted& other) const {
      return count != other.count ? count < other.count : value > other.value;
    }
  };

  std::size_t home(std::int64_t value) const;
  std::size_t find(std::int64_t value) const;
  void resize(std::size_t slots);
  void free(std::size_t at);
  void note(const Slot& slot);

  // Open addressing, a power of two of slots: a value is in the first one from its home on that was
  // free; when it leaves, those behind it that were pushed on close the gap.
  std::vector<Slot> slots_;
  std::uint32_t live_ = 0;     // that are not free
  std::vector<Counted> heap_;  // holds the true count of every live value, and older ones
};

}  // namespace edgecore::features
