// The batch kernel for backfill: the same series and the same arithmetic as the engine, entity by
// entity, so that the state of one stays in the cache.
#pragma once

#include <span>
#include <vector>

#include "base/rows.hpp"
#include "features/plan.hpp"

namespace edgecore::features {

// Row numbers in total order (time, source, source sequence), stable.
std::vector<std::uint32_t> total_order(const RowBatch& rows);

// For each row, in the given order (`order` as total_order makes it), the features of its entity
// as of its time, the row included: the bits of Engine::update then Engine::read. `values` and
// `states` hold order.size() * plan.width() elements, row-major. Invalid: other schema or sizes.
Status backfill(const PlanPtr& plan, const RowBatch& rows, std::span<const std::uint32_t> order,
                std::span<double> values, std::span<std::uint8_t> states);

}  // namespace edgecore::features
