// The batch kernel for backfill: the same series and the same arithmetic as the engine, entity by
// entity, so that the state of one stays in the cache.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/rows.hpp"
#include "features/engine.hpp"

namespace edgecore::features {

// Row numbers in total order (time, source, source sequence), stable.
std::vector<std::uint32_t> total_order(const RowBatch& rows);

// Places in an order, entity after entity, in order within each; entity e has those from bounds[e]
// to bounds[e + 1].
struct Grouped {
  std::vector<std::uint32_t> places;
  std::vector<std::uint32_t> bounds;
};
Grouped group_by_entity(const Plan& plan, const RowBatch& rows,
                        std::span<const std::uint32_t> order);

// Events in (from, to] may be missing: known before row `row` of a batch came.
struct GapBefore {
  std::uint32_t row = 0;
  std::int64_t from_ns = 0, to_ns = 0;
};

// For each row, in the given order (`order` as total_order makes it), the features of its entity
// as of its time, the row included: the bits of Engine::update then Engine::read. `values` and
// `states` hold order.size() * plan.width() elements, row-major. Invalid: other schema or sizes.
// Rows too late to count are Invalid, or with `late` counted there and answered all MISSING.
// `gaps` as in follow.
Status backfill(const PlanPtr& plan, const RowBatch& rows, std::span<const std::uint32_t> order,
                std::span<double> values, std::span<std::uint8_t> states,
                std::uint64_t* late = nullptr, std::span<const GapBefore> gaps = {});

// Rows in the given order, that of their arrival, through an engine: each applied and then answered
// as of its time, as a device answers; a row too late to count is answered all MISSING. `position`
// is that of the first. Each of `gaps`, in order of their rows, holds from the first row on that
// has its number or a higher one.
Status follow(Engine& engine, const RowBatch& rows, std::span<const std::uint32_t> order,
              std::uint64_t position, std::span<double> values, std::span<std::uint8_t> states,
              std::span<const GapBefore> gaps = {});

// Which rows a backfill takes, and which of them it answers.
struct Part {
  std::int64_t since = INT64_MIN;  // answers have times in [since, until)
  std::int64_t until = INT64_MAX;  // INT64_MAX: no end
  bool arrival = false;            // the rows stand in order of arrival, which is kept
  std::span<const GapBefore> gaps = {};
};

// The row numbers to take, in order, and for each whether it is answered (none said: all are). The
// history of one horizon and the lateness before `since` warms the answers, so that they are those
// of all rows.
struct Chosen {
  std::vector<std::uint32_t> order;
  std::vector<std::uint8_t> answered;
  std::size_t count = 0;  // of those that are answered
};
Chosen choose(const Plan& plan, const RowBatch& rows, const Part& part);

// Room for `count` rows of what a backfill says.
struct Columns {
  std::span<std::int64_t> times;
  std::span<std::uint32_t> numbers;  // of the rows
  std::span<std::uint8_t> final;     // 1: no row that comes after all of these could change it
  std::span<double> values;          // count * plan.width()
  std::span<std::uint8_t> states;    // likewise
};
// Answers the rows that were chosen; `late`: see backfill, it counts where the part keeps the order
// of arrival.
Status answer(const PlanPtr& plan, const RowBatch& rows, const Part& part, const Chosen& chosen,
              const Columns& to, std::uint64_t& late);

}  // namespace edgecore::features
