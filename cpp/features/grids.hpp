// How the values of a field become the integers that its series hold.
#pragma once

#include "base/schema.hpp"
#include "features/plan.hpp"

namespace edgecore::features {

// Sets the grid of a field's series and the bounds of its stored values. Incompatible: a resolution
// without a range.
Status set_grid(const Field& field, SeriesPlan& series);

}  // namespace edgecore::features
