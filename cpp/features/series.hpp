// The events of one (entity, field) that may still matter, in total order, and what all features
// of the field share: per-window cursors with exact sums, and one monotonic deque each for minima
// and maxima.
//
// Invariants:
// - events are sorted by (time, source, sequence, value); order keys are kept for those that a late
//   event may still tie with;
// - a window's sums are those of its index range [begin, end), always; a read moves the range, in
//   both directions, because integers can be taken away as exactly as they were added;
// - a deque holds the indices that no later event dominates. A window's minimum is the first of
//   them inside the window: windows share an end, so one deque serves all widths;
// - events at or before `newest - retention` may be pruned at any time: no legal read sees them,
//   but for the newest of them, which `settled` remembers.
#pragma once

#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/exact.hpp"
#include "features/decay.hpp"
#include "features/finish.hpp"
#include "features/indices.hpp"
#include "features/plan.hpp"
#include "features/ranges.hpp"
#include "features/sliding.hpp"
#include "features/squares.hpp"
#include "features/values.hpp"

namespace edgecore::features {

// Source names as numbers; ties in time are decided by the names themselves.
class Sources {
 public:
  static constexpr std::uint32_t kFull = 0xffffffffu;
  // kFull when kSourcesMax different ones are known.
  std::uint32_t intern(std::string_view name) {
    if (last_ < names_.size() && *names_[last_] == name) return last_;
    return intern_slow(name);
  }
  std::string_view name(std::uint32_t id) const { return *names_[id]; }

 private:
  std::uint32_t intern_slow(std::string_view name);
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  std::unordered_map<std::string, std::uint32_t, Hash, std::equal_to<>> ids_;
  std::vector<const std::string*> names_;  // keys of ids_, whose nodes do not move
  std::uint32_t last_ = 0;
};

struct OrderKey {
  std::uint64_t sequence = 0;
  std::uint32_t source = 0;
};

struct Event {
  std::int64_t time = 0;
  std::int64_t stored = 0;
  OrderKey key;
};

struct Newest {
  bool any = false;
  std::int64_t time = 0;
  std::int64_t stored = 0;
};

// What a window holds, as of a time.
struct Totals {
  std::uint32_t count = 0;
  Wide sum, squares;
  double float_sum = 0;            // Grid::kFloat
  Deviation deviation;             // likewise, where the plan has float_squares and count > 1
  double lowest = 0, highest = 0;  // in the field's unit
  std::int64_t low = 0, high = 0;  // the same, as stored
  std::uint32_t begin = 0;         // index of the first event inside
};

// The first and the last event of a window.
struct Ends {
  std::int64_t first_time = 0, last_time = 0;
  std::int64_t first = 0, last = 0;  // stored
};

// Memory of one event that is held, by itself: minima, ranks and order keys come on top.
std::size_t event_bytes(const SeriesPlan& plan);

// Not thread-safe. Every call takes the same plan, which is not stored: entities are many.
class Series {
 public:
  // Makes it empty, keeping its buffers.
  void reset(const SeriesPlan& plan);
  // Room for one more event; false when kEventsMax are live. `newest`: of the entity.
  bool reserve(const SeriesPlan& plan, std::int64_t newest);
  // After reserve. `open` is the oldest time that may still arrive.
  void insert(const SeriesPlan& plan, const Event& event, std::int64_t open,
              const Sources& sources);

  // The newest event at or before `as_of`.
  Newest newest(const SeriesPlan& plan, std::int64_t as_of) const;
  void totals(const SeriesPlan& plan, std::size_t window, std::int64_t as_of, Totals& out);

  // Of a window that `totals` has just described and that is not empty.
  Ends ends(const SeriesPlan& plan, const Totals& totals) const;

  // The panes of one of the plan's half-lives, as of a time.
  Weighted weighted(const SeriesPlan& plan, std::size_t decay, std::int64_t as_of);

  // The values of one of the plan's value windows, which holds the events [begin, end); until the
  // next call.
  ValueWindow values(const SeriesPlan& plan, std::size_t at, std::uint32_t begin,
                     std::uint32_t end);

  // The known share of a window that `totals` has just described: 1 if an event lies within one
  // window before it, else counted from its first event.
  double known_share(const Totals& totals, std::int64_t window, std::int64_t as_of) const;
  // Where the span begins that it measures, which ends at as_of; totals.count > 0.
  std::int64_t known_from(const Totals& totals, std::int64_t window, std::int64_t as_of) const;

  // Its events and what is kept of them, where the plan has spans; `values`: which of them, -1:
  // none.
  EventView view(const SeriesPlan& plan) const;
  Ranges& ranges() { return *ranges_; }
  Values* values_at(int values) { return values < 0 ? nullptr : &values_[values]; }
  const Newest& settled() const { return settled_; }

  std::size_t memory_bytes(const SeriesPlan& plan) const;

  // For snapshots: events after `pruned`, and the newest one at or before it.
  std::uint32_t begin_after(std::int64_t pruned) const;
  std::uint32_t end() const { return end_; }
  std::int64_t time(std::uint32_t at) const { return times_[at]; }
  std::int64_t stored(const SeriesPlan& plan, std::uint32_t at) const;
  OrderKey key(std::uint32_t at) const { return order_[order_.end() - (end_ - at)]; }
  Newest settled(const SeriesPlan& plan, std::int64_t pruned) const;
  void set_settled(const Newest& settled) { settled_ = settled; }

 private:
  bool known_before(const Totals& totals, std::int64_t window, std::int64_t as_of) const;
  struct Window {
    std::uint32_t begin = 0, end = 0;
    std::uint32_t min_at = 0, max_at = 0;  // where the last search in the deques ended
    Wide sum, squares;
  };

  template <bool kNarrow>
  std::int64_t value(const SeriesPlan& plan, std::uint32_t at) const;
  void set_value(const SeriesPlan& plan, std::uint32_t at, std::int64_t stored);
  bool is_before(const SeriesPlan& plan, std::uint32_t at, const Event& event, bool keyed,
                 const Sources& sources) const;
  void open_gap(const SeriesPlan& plan, std::uint32_t at);
  void move_windows_over_gap(const SeriesPlan& plan, std::uint32_t at, std::int64_t stored);
  template <bool kNarrow>
  void push_deques(const SeriesPlan& plan, std::uint32_t at);
  void push_from(const SeriesPlan& plan, std::uint32_t at);
  void prune(const SeriesPlan& plan, std::uint32_t upto);
  void slide(const SeriesPlan& plan);
  void grow(const SeriesPlan& plan, std::uint32_t capacity);

  void add(const SeriesPlan& plan, std::size_t window, std::uint32_t at);
  void subtract(const SeriesPlan& plan, std::size_t window, std::uint32_t at);
  template <bool kNarrow>
  void advance(const SeriesPlan& plan, Window& window, std::int64_t bound, Totals& out) const;
  void advance_floats(const SeriesPlan& plan, std::size_t window, std::int64_t bound);
  template <bool kNarrow>
  void totals_now(const SeriesPlan& plan, std::size_t window, std::int64_t bound, Totals& out);
  void totals_back(const SeriesPlan& plan, std::int64_t bound, std::int64_t as_of, Totals& out);

  std::unique_ptr<std::int64_t[]> times_;
  std::unique_ptr<std::uint32_t[]> narrow_;  // stored - plan.low
  std::unique_ptr<std::int64_t[]> wide_;
  std::uint32_t begin_ = 0, end_ = 0, capacity_ = 0;
  std::unique_ptr<Window[]> windows_;
  std::unique_ptr<FloatSum[]> float_sums_;      // per window, Grid::kFloat
  std::unique_ptr<SquareSum[]> float_squares_;  // likewise, where squares are needed
  std::unique_ptr<Decay[]> decays_;
  std::unique_ptr<Ranges> ranges_;
  std::unique_ptr<Values[]> values_;  // per window of the plan's values
  Indices minima_, maxima_;
  Sliding<OrderKey> order_;  // of the last order_.size() events
  Newest settled_;
};

}  // namespace edgecore::features
