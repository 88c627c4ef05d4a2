// How often each value occurs in a window: a table of counts that values enter and leave, the
// number of distinct values, and the most frequent one.
#pragma once

#include <cstdint>
#include <vector>

namespace edgecore::features {

// Values that left stay in the table until it is made anew, so that an entry never moves between;
// amortised, a change costs the same whatever the table holds (for the most frequent value, its
// logarithm). Neither the order of changes nor the table's layout shows in an answer.
class Tally {
 public:
  // `modes`: mode() will be asked for.
  void add(std::int64_t value, bool modes);
  void remove(std::int64_t value, bool modes);
  void clear();

  std::uint32_t distinct() const { return live_; }
  // The most frequent value, of equally frequent ones the least; distinct() > 0.
  std::int64_t mode();

  std::size_t memory_bytes() const {
    return slots_.capacity() * sizeof(Slot) + heap_.capacity() * sizeof(Counted);
  }

 private:
  static constexpr std::uint32_t kFree = 0xffffffffu;
  struct Slot {
    std::int64_t value = 0;
    std::uint32_t count = kFree;
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

  Slot& slot_of(std::int64_t value);
  void make_room();
  void note(const Slot& slot);

  std::vector<Slot> slots_;    // open addressing; a power of two
  std::uint32_t used_ = 0;     // slots that are not free
  std::uint32_t live_ = 0;     // with a count above 0
  std::vector<Counted> heap_;  // holds the true count of every live value, and older ones
};

}  // namespace edgecore::features
