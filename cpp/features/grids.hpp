// How the values of a field become the integers that its series hold.
#pragma once

#include <optional>

#include "base/schema.hpp"
#include "features/plan.hpp"

namespace edgecore::features {

// Sets the grid of a field's series and the bounds of its stored values. Incompatible: a resolution
// without a range.
Status set_grid(const Field& field, SeriesPlan& series);

// Has the series of a text field hold codes (category.hpp), where so far it counted alone.
void set_categories(SeriesPlan& series);

// A number in the field's unit as its values are stored; nullopt where it is not on the grid. It
// may lie beyond the field's range.
std::optional<std::int64_t> stored_edge(const Field& field, const SeriesPlan& series, double edge);

}  // namespace edgecore::features
