// Exponentially weighted means with a finite horizon, in exact integers: events lie in panes of an
// eighth of the half-life, aligned to the epoch, and a pane's weight depends on how many panes ago
// it was. No order of arrival and no cut leaves a trace, and sums of panes can be merged.
//
// Panes j = 0 (that of as_of) to 127 count; the weight of pane j is
// kEighths[j % 8] * 2^(15 - j / 8): halved every 8 panes, exactly.
#pragma once

#include <array>
#include <cstdint>

#include "features/finish.hpp"
#include "features/view.hpp"

namespace edgecore::features {

inline constexpr std::int64_t kPanesPerHalfLife = 8;
inline constexpr std::int64_t kHalfLives = 16;
inline constexpr std::int64_t kPanes = kPanesPerHalfLife * kHalfLives;
// The integers nearest to 2^(16 - r / 8).
inline constexpr std::array<std::uint32_t, kPanesPerHalfLife> kEighths = {
    65536, 60097, 55109, 50535, 46341, 42495, 38968, 35734};

// Sums over the panes as of a time: w the weights, v stored values.
struct Weighted {
  Int128 values = 0;          // of w v
  std::uint64_t weights = 0;  // of w; below 2^54
  std::uint32_t count = 0;    // events
  std::uint32_t begin = 0;    // index of the first of them
};

// The sums of one series and half-life as they go. Panes of one remainder modulo 8 share a sum, in
// which each has the power of two of its weight: when as_of enters a new pane, one of the sums
// loses its oldest pane and is halved.
class Decay {
 public:
  void clear() { valid_ = false; }
  // Every index goes down by `shift`.
  void shift(std::uint32_t shift) {
    begin_ -= shift;
    end_ -= shift;
  }
  // A late event took index `at`; the view holds it.
  void insert(const EventView& events, std::int64_t pane_ns, std::uint32_t at);
  // Events before `upto` are about to go.
  void forget(std::uint32_t upto) {
    if (begin_ < upto) clear();
  }
  // As of a time that no event of the view is after. Amortised, an event costs the same whatever
  // the horizon holds; only going back in time begins anew.
  Weighted sums(const EventView& events, std::int64_t pane_ns, std::int64_t as_of);

 private:
  void weigh();
  void go_to(std::int64_t pane, std::int64_t pane_ns);
  void begin_at(const EventView& events, std::int64_t pane_ns, std::int64_t pane);
  void enter(const EventView& events, std::int64_t pane_ns, std::int64_t pane);
  void add(std::int64_t pane, std::int64_t stored);

  bool valid_ = false;
  std::int64_t pane_ = 0;              // of the last as_of
  std::int64_t start_ = 0, stop_ = 0;  // of that pane
  std::uint32_t begin_ = 0, end_ = 0;  // events that are in the sums
  std::array<Int128, kPanesPerHalfLife> values_{};
  std::array<std::uint64_t, kPanesPerHalfLife> counts_{};
  bool weighed_ = false;  // the two sums over all panes are these
  Int128 all_values_ = 0;
  std::uint64_t all_weights_ = 0;
};

}  // namespace edgecore::features
