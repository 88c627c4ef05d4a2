// One entity's rows, already in order of time, answered a column at a time: the batch kernel. Where
// the streaming kernel moves cursors and keeps deques row by row, this one knows all events, so
// that a window's sum is a difference of two running sums, and divisions and square roots run in
// pairs. Operators that have no columns are answered row by row (sweep_rows.cpp), by what the
// streaming kernel keeps for them.
//
// The bits are those of the streaming kernel, because totals are the same integers and become
// doubles by the same operations (answer.cpp says which; divisions and roots are correctly rounded,
// one by one or in pairs).
#pragma once

#include <array>
#include <limits>
#include <span>
#include <vector>

#include "base/rows.hpp"
#include "features/answer.hpp"
#include "features/engine.hpp"
#include "features/series.hpp"
#include "features/spans.hpp"

namespace edgecore::features {

class Sweep {
 public:
  // `values` and `states`: one row of plan.width() answers for each row of the order.
  Sweep(const Plan& plan, const RowBatch& rows, std::span<const std::uint32_t> order,
        std::span<double> values, std::span<std::uint8_t> states);

  // Answers the rows at `places` of the order, one entity's. False, and nothing is written: their
  // times go back, or numbers are beyond what this kernel sums in 64 bits; stream them instead.
  bool run(std::span<const std::uint32_t> places);

 private:
  // Rows whose answers stay in the nearest cache; columns lie a little further apart, so that they
  // do not share its sets.
  static constexpr std::size_t kTile = 128;
  static constexpr std::size_t kStride = kTile + 8;

  // Of stored - centre and of its squares, modulo 2^64.
  struct Sums {
    std::uint64_t sum = 0, squares = 0;
  };
  // The events of one series. `times` ends with one that no event has.
  struct Events {
    bool dense = false;  // every row is an event: times, rows and upto are the rows' own
    std::vector<std::int64_t> times;
    std::vector<std::uint32_t> rows;  // per event
    std::vector<std::uint32_t> upto;  // per row: the events up to it, itself included
    std::vector<std::int64_t> stored;
    std::vector<double> values;  // in the field's unit, and one more
    std::vector<Sums> sums;      // of all events before one, and one more
    std::int64_t centre = 0;
    std::uint64_t reach = 0;    // |stored - centre| is at most that
    std::uint64_t largest = 0;  // |stored| is at most that
    // For each event the newest so far; where rows tie in time, and that matters.
    std::vector<std::uint32_t> newest;
  };
  using Extremes = std::array<double, 2>;  // the least value, and the least of their negatives
  static constexpr Extremes kNoExtremes{std::numeric_limits<double>::infinity(),
                                        std::numeric_limits<double>::infinity()};
  // The window [begin, end) of a group as it moves. Its extremes: those of [begin, middle), which
  // were kept for each begin, and those of [middle, end), which grow with every event. When begin
  // reaches the middle, the end becomes the middle: every event is looked at twice, whatever its
  // value.
  struct Window {
    std::uint32_t begin = 0, middle = 0, end = 0;
    std::uint32_t base = 0;      // the event of kept[0]
    Extremes found{};            // of [middle, end)
    std::vector<Extremes> kept;  // of [base + i, middle)
  };
  // What a tile's rows see of one group's window.
  using Column = std::array<double, kStride>;
  struct Tile {
    bool in_columns = false;  // its answers are there, but for rows of less than two events
    bool whole = false;       // and there are none of these
    std::array<std::uint32_t, kStride> begin{}, end{};
    Column count{}, sum{}, mean{}, std{}, low{}, high{};
  };
  // Of a tile's windows.
  struct Counts {
    std::uint32_t least = 0xffffffff, most = 0;
  };

  const std::int64_t* times(const Events& events) const {
    return events.dense ? times_.data() : events.times.data();
  }
  std::uint32_t upto(const Events& events, std::size_t row) const {
    return events.dense ? static_cast<std::uint32_t>(row + 1) : events.upto[row];
  }
  bool gather(const SeriesPlan& series, Events& events);
  bool gather_some(const SeriesPlan& series, Events& events);
  static void fill_values(const SeriesPlan& series, Events& events);
  static bool accumulate(const SeriesPlan& series, Events& events);
  void find_newest(Events& events) const;
  void sweep_window(std::size_t group, std::size_t first, std::size_t count);
  static void turn(const double* values, Window& window, std::uint32_t begin, std::uint32_t end);
  Counts move(const Group& group, Window& window, Tile& tile, std::size_t first,
              std::size_t count) const;
  static void find_extremes(const Events& events, Window& window, Tile& tile, std::size_t count);
  template <bool kSquares>
  void fill_columns(const SeriesPlan& series, const Events& events, Tile& tile, std::size_t count);
  void sweep_newest(std::size_t group, std::size_t first);
  void place_columns();
  void expect_row();
  void write_tile(std::size_t first, std::size_t count);
  void answer_rest(std::size_t group, std::size_t first, std::size_t count);
  void answer_newest_rows(const Group& group, std::size_t first, std::size_t count);
  void keep_values(std::size_t group);
  void empty_values(std::size_t group);
  void answer_span_row(std::size_t group, std::size_t row);
  void answer_decay(std::size_t group, std::size_t row);
  void answer_values_row(std::size_t group, std::size_t first, std::size_t at);
  void answer_row(std::size_t group, std::size_t first, std::size_t at);
  void judge(const Group& group, const Found& found, std::uint32_t last, std::int64_t width,
             std::size_t row);
  EventView view(const Events& events, std::uint32_t end) const;
  Answers answers_of(std::size_t row) const;

  const Plan& plan_;
  const RowBatch& batch_;
  std::span<const std::uint32_t> order_;
  std::span<double> values_;
  std::span<std::uint8_t> states_;
  bool possible_ = true;  // the plan's series are such that rows can be swept at all

  std::span<const std::uint32_t> places_;
  std::size_t expected_ = 0, expected_end_ = 0;  // rows whose answers are written next
  std::vector<std::int64_t> times_;              // of the rows, and one that no row has
  bool ties_ = false;                            // rows of one time
  std::vector<Events> events_;                   // per series
  std::vector<Window> windows_;                  // per group
  std::vector<Tile> tiles_;                      // per group
  std::vector<const double*> columns_;  // per feature the answers to a tile's rows, and one more
  Column nothing_{};                    // where it has none
  std::vector<Column> constants_;
  // Per group, where it has such a family: kept as the streaming kernel keeps them.
  std::vector<Decay> decays_;
  std::vector<Values> listed_, counted_;
  std::vector<Values*> kept_;                 // which of the two an entity has
  std::uint64_t table_room_ = 4 * kTableMax;  // counts that further tables may have
  std::vector<Ranges> ranges_;                // per series that has spans
};

}  // namespace edgecore::features
