// How the values of a field become the integers that its series hold.
#pragma once

#include <optional>

#include "base/schema.hpp"
#include "features/plan.hpp"

namespace edgecore::features {

// Sets the grid of a field's series and the bounds of its stored values. Incompatible: a resolution
// without a range.
Status set_grid(const Field& field, SeriesPlan& series);

// What follows from the grid and the bounds of a series.
void finish_grid(SeriesPlan& series);

// Has the series of a text field hold codes (category.hpp), where so far it counted alone.
void set_categories(SeriesPlan& series);

// The decimal that a double was written as: value / power, power the least power of ten that will
// do. nullopt: not finite, or not within 64 bits and 18 places.
struct Decimal {
  std::int64_t value = 0;
  std::int64_t power = 1;
};
std::optional<Decimal> decimal_of(double value);

// A number in the series' unit as its values are stored; nullopt where it is not on the grid. It
// may lie beyond the bounds.
std::optional<std::int64_t> stored_edge(const SeriesPlan& series, double edge);

}  // namespace edgecore::features
