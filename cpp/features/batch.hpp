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

// For each row, in the given order (`order` as total_order makes it), the features of its entity
// as of its time, the row included: the bits of Engine::update then Engine::read. `values` and
// `states` hold order.size() * plan.width() elements, row-major. Invalid: other schema or sizes.
// Rows too late to count are Invalid, or with `late` counted there and answered all MISSING.
Status backfill(const PlanPtr& plan, const RowBatch& rows, std::span<const std::uint32_t> order,
                std::span<double> values, std::span<std::uint8_t> states,
                std::uint64_t* late = nullptr);

// Rows in the given order, that of their arrival, through an engine: each applied and then answered
// as of its time, as a device answers; a row too late to count is answered all MISSING. `position`
// is that of the first.
Status follow(Engine& engine, const RowBatch& rows, std::span<const std::uint32_t> order,
              std::uint64_t position, std::span<double> values, std::span<std::uint8_t> states);

// By row number whether the answer of a row in a total order is final: no row that comes after all
// of these could change it.
Result<std::vector<std::uint8_t>> finality(const PlanPtr& plan, const RowBatch& rows,
                                           std::span<const std::uint32_t> order);

// Which rows a backfill takes, and which of them it answers.
struct Part {
  std::int64_t since = INT64_MIN;  // answers have times in [since, until)
  std::int64_t until = INT64_MAX;  // INT64_MAX: no end
  bool arrival = false;            // the rows stand in order of arrival, which is kept
};

// The row numbers to take, in order, and for each whether it is answered. The history of one
// horizon and the lateness before `since` warms the answers, so that they are those of all rows.
struct Chosen {
  std::vector<std::uint32_t> order;
  std::vector<std::uint8_t> answered;
};
Chosen choose(const Plan& plan, const RowBatch& rows, const Part& part);

}  // namespace edgecore::features
