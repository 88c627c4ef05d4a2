// The running quantile of the last scores, exact: one order statistic of a sliding window. The
// scores at and below it are a heap, those above it another, and a score that comes takes the
// place of the one that leaves: O(log window), mostly a few steps.
#pragma once

#include <cstdint>
#include <vector>

namespace edgecore::pipeline {

// Not thread-safe; memory is 16 bytes x window, allocated by the constructor.
class RunningQuantile {
 public:
  // Of the last `window` (above 0) scores, at most 1000 permille.
  RunningQuantile(std::uint32_t window, std::uint32_t permille);

  void push(std::int64_t score);
  std::size_t size() const { return ring_.size(); }
  // Element floor((size - 1) x permille / 1000) of the window in ascending order; size above 0.
  std::int64_t value() const { return ring_[lower_.front()]; }
  // The scores of the window, 0 is the oldest.
  std::int64_t score(std::size_t i) const { return ring_[(next_ + i) % ring_.size()]; }

 private:
  enum class Side : std::uint32_t { kLower = 0, kUpper = 1u << 31 };
  static constexpr std::uint32_t kIndex = (1u << 31) - 1;
  using Heap = std::vector<std::uint32_t>;  // slots of the ring, the one nearest the cut first

  std::size_t lower_size(std::size_t count) const { return (count - 1) * permille_ / 1000 + 1; }
  template <Side kSide>
  Heap& heap() {
    return kSide == Side::kLower ? lower_ : upper_;
  }
  // Whether a score stands nearer to the cut than another.
  template <Side kSide>
  static bool nearer(std::int64_t a, std::int64_t b) {
    return kSide == Side::kLower ? a > b : a < b;
  }
  template <Side kSide>
  void place(std::size_t at, std::uint32_t slot);
  template <Side kSide>
  void rise(std::size_t at, std::uint32_t slot);
  template <Side kSide>
  void lift(std::size_t at, std::uint32_t slot);
  template <Side kSide>
  void sink(std::size_t at, std::uint32_t slot);
  template <Side kSide>
  std::uint32_t take_first();
  template <Side kSide>
  void replace(std::size_t at, std::uint32_t slot, std::int64_t old);
  void grow(std::int64_t score);

  std::uint32_t window_;
  std::uint32_t permille_;
  std::uint32_t next_ = 0;          // of the ring: the oldest once it is full
  std::vector<std::int64_t> ring_;  // in order of arrival
  std::vector<std::uint32_t> at_;   // of each slot: its side and its index there
  Heap lower_;                      // the lower_size() smallest, the largest first
  Heap upper_;                      // the others, the smallest first
};

}  // namespace edgecore::pipeline
