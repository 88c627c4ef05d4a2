// What any range of a series' events comes to: exact totals, where its last session begins, how
// long a truth held. A series has one of these where its plan has windows that are not sliding
// ones.
#pragma once

#include <cstdint>
#include <vector>

#include "features/blocks.hpp"
#include "features/finish.hpp"
#include "features/plan.hpp"
#include "features/squares.hpp"
#include "features/view.hpp"

namespace edgecore::features {

struct Totals;

// Of the time between events: how long their value was known, each for at most `hold`, and how
// much of that it was 1. In nanoseconds.
struct Held {
  std::uint64_t known = 0, on = 0;
  void add(std::int64_t stored, std::uint64_t ns) {
    known += ns;
    if (stored != 0) on += ns;
  }
  void merge(const Held& other) {
    known += other.known;
    on += other.on;
  }
};

class Ranges {
 public:
  void reset(const SeriesPlan& plan);
  // As in Blocks.
  void shift(std::uint32_t shift);
  void change(std::uint32_t at);
  void forget(std::uint32_t upto);

  // Sums and extremes of the events [begin, end), which are some.
  void totals(const SeriesPlan& plan, const EventView& events, std::uint32_t begin,
              std::uint32_t end, Totals& out);
  // The first event of those before `end` whose neighbours are at most `gap` apart, not before
  // `begin`; begin < end.
  std::uint32_t session_begin(const EventView& events, std::uint32_t begin, std::uint32_t end,
                              std::int64_t gap);
  // From event `begin` to event end - 1; begin < end. `hold`: of the plan's.
  Held held(const SeriesPlan& plan, const EventView& events, std::uint32_t begin, std::uint32_t end,
            std::int64_t hold);

  std::size_t memory_bytes() const;

 private:
  struct Extremes {
    std::int64_t low = INT64_MAX, high = INT64_MIN;
    void add(std::int64_t stored) {
      low = std::min(low, stored);
      high = std::max(high, stored);
    }
    void merge(const Extremes& other) {
      low = std::min(low, other.low);
      high = std::max(high, other.high);
    }
  };
  struct Integers {
    Wide sum, squares;  // modulo 2^128
    Extremes extremes;
    void merge(const Integers& other);
  };
  struct Floats {
    ExactSum sum;
    Extremes extremes;
    void merge(const Floats& other);
  };
  struct Squares {
    SquareSum sum;
    void merge(const Squares& other) { sum.merge(other.sum); }
  };
  struct Longest {
    std::uint64_t step = 0;  // from an event's predecessor to it
    void merge(const Longest& other) { step = std::max(step, other.step); }
  };

  Blocks<Integers> integers_;
  Blocks<Floats> floats_;
  Blocks<Squares> squares_;  // of floats
  Blocks<Longest> steps_;
  std::vector<Blocks<Held>> held_;  // per hold of the plan
};

}  // namespace edgecore::features
