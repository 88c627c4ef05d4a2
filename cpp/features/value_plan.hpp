// What features of Family::kValues ask of a series: ranks, counts and bins of one window.
#pragma once

#include "features/plan.hpp"

namespace edgecore::features {

// Parameters of such features, which no other may have. Invalid.
Status check_value_parameters(const FeatureSpec& spec);

// Has the series keep what the feature reads. Invalid: an edge that is not on the field's grid.
// Incompatible: a quantile whose error no declared range bounds.
Status plan_values(const FeatureSpec& spec, SeriesPlan& series);

// Where in the series' plan the feature finds it; once all features are planned.
void find_values(const FeatureSpec& spec, const SeriesPlan& series, FeaturePlan& feature);

// Which of the series' values have that window.
std::size_t values_of(const SeriesPlan& series, const Span& span);

}  // namespace edgecore::features
