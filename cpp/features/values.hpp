// The values of one window as a set: quantiles by rank, distinct values, the most frequent one, and
// how many lie in each bin.
//
// While a window holds few events their values are kept in order, and every rank is exact. Beyond
// kFewMax they are counted in buckets (buckets.hpp), and a rank is the middle of its bucket: off by
// at most half a bucket. Which of the two answers depends on the number of events alone.
// Frequencies and bins are always exact; what bounds them is the number of events that an entity
// may hold, kEventsMax. So are distinct values, unless an estimate will do: then they are exact up
// to kDistinctMax different ones, and what is kept is bounded (sketch.hpp).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "features/plan.hpp"
#include "features/sketch.hpp"
#include "features/tally.hpp"
#include "features/view.hpp"

namespace edgecore::features {

inline constexpr std::uint32_t kFewMax = 1024;
inline constexpr std::uint32_t kDistinctMax = 1024;
inline constexpr std::uint64_t kTableMax = 1u << 20;

class Values {
 public:
  void clear();
  // From now on each value that the field can have has a count: the same answers, faster, for who
  // has memory as large as the field's range and looks at one entity at a time. False where that
  // is above kTableMax, or modes are asked for. It is empty, and must be when it is cleared.
  bool use_table(const SeriesPlan& plan, const ValuePlan& needs);
  bool has_table() const { return !table_.empty(); }
  // Every index goes down by `shift`.
  void shift(std::uint32_t shift) {
    begin_ -= shift;
    end_ -= shift;
  }
  // A late event took index `at`; the view holds it.
  void insert(const SeriesPlan& plan, const ValuePlan& needs, const EventView& events,
              std::uint32_t at);
  // Events before `upto` are about to go; the view still holds them.
  void forget(const SeriesPlan& plan, const ValuePlan& needs, const EventView& events,
              std::uint32_t upto);
  // Makes it the events of the view from index `begin` on, whichever way the window's ends move.
  void move(const SeriesPlan& plan, const ValuePlan& needs, const EventView& events,
            std::uint32_t begin);

  std::uint32_t count() const { return end_ - begin_; }
  // Exact; of who asks for it exactly.
  std::uint32_t distinct(const ValuePlan& needs) const;
  // Exact unless more than kDistinctMax differ, then an estimate. Either way it follows from the
  // values that the window holds.
  std::uint32_t about_distinct(const ValuePlan& needs);
  bool is_estimate(const ValuePlan& needs) const {
    return uncounted_ || distinct(needs) > kDistinctMax;
  }
  // The most frequent value, of equally frequent ones the least; count() > 0.
  std::int64_t mode() { return tally_.mode(); }
  // The least value that at least permille / 1000 of all are not above; count() > 0. Exact unless
  // is_approximate, then the middle of its bucket.
  std::int64_t quantile(const SeriesPlan& plan, const ValuePlan& needs, const EventView& events,
                        std::size_t which);
  bool is_approximate(const ValuePlan& needs) const {
    return count() > kFewMax && needs.bucket_steps > 1;
  }
  // Values in the bins [from, to).
  std::uint32_t in_bins(std::size_t from, std::size_t to) const;

  std::size_t memory_bytes() const;

 private:
  // Where a quantile was last: its bucket, and the values in those before.
  struct Cursor {
    std::uint32_t bucket = 0, below = 0;
  };

  void add(const SeriesPlan& plan, const ValuePlan& needs, std::int64_t stored);
  void remove(const SeriesPlan& plan, const ValuePlan& needs, std::int64_t stored);
  void replace(const SeriesPlan& plan, const ValuePlan& needs, std::int64_t old,
               std::int64_t fresh);
  void count_bucket(const SeriesPlan& plan, const ValuePlan& needs, std::int64_t stored,
                    std::uint32_t by);
  void count_in_table(const SeriesPlan& plan, const ValuePlan& needs, std::int64_t stored,
                      std::uint32_t by);
  void count_bin(const ValuePlan& needs, std::int64_t stored, std::uint32_t by);
  bool keeps_tally(const ValuePlan& needs) const;
  void sketch(const SeriesPlan& plan, const ValuePlan& needs, std::int64_t stored);
  void settle_sketch(const ValuePlan& needs, const EventView& events);
  void to_many(const SeriesPlan& plan, const ValuePlan& needs);
  void to_few(const SeriesPlan& plan, const ValuePlan& needs, const EventView& events);
  std::int64_t among(const SeriesPlan& plan, const ValuePlan& needs, const EventView& events,
                     std::uint32_t bucket, std::uint32_t rank) const;

  bool many_ = false;  // more than kFewMax since it last had kFewMax / 2
  std::uint32_t begin_ = 0, end_ = 0;
  std::uint32_t different_ = 0;         // of the ordered ones, or those of the table
  std::vector<std::uint32_t> narrow_;   // in order, above the series' low; or
  std::vector<std::int64_t> wide_;      // in order
  std::vector<std::uint32_t> table_;    // or counts by value above low
  std::vector<std::uint32_t> buckets_;  // counts, where ranks are asked for, and many_ or a table_
  std::vector<Cursor> cursors_;         // per quantile of the plan
  std::vector<std::uint32_t> bins_;     // counts, one more than the plan has edges; or empty
  Tally tally_;
  // Of all events, from when more than kDistinctMax values differed until few do, where an estimate
  // is asked for. uncounted_: so many that there is no tally beside it.
  std::unique_ptr<Sketch> sketch_;
  bool uncounted_ = false;
};

// The values of one window of a series, at hand for its features.
struct ValueWindow {
  Values* values = nullptr;
  const ValuePlan* needs = nullptr;
  EventView events;
};

}  // namespace edgecore::features
