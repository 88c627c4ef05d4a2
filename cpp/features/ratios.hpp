// Ratios of two features of one view: what is divided are the two answers as they were given, so
// one IEEE division, the same everywhere. Nothing of it is kept.
#pragma once

#include <string>
#include <vector>

#include "features/engine.hpp"
#include "features/plan.hpp"

namespace edgecore::features {

// Invalid: a ratio that has more than its two names; it is judged by what it divides.
Status check_ratio(const FeatureSpec& spec, const std::string& name);

// The ratio at a place of a view's features. Invalid: a name that is none of theirs, or of a ratio.
Result<Ratio> ratio_of(const std::vector<FeatureSpec>& features, std::size_t at);

// All ratios of the plan, where the features that they divide have their answers.
void answer_ratios(const Plan& plan, const Answers& to);

}  // namespace edgecore::features
