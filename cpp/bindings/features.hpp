// What bindings of other rooms need of features.
#pragma once

#include "bindings/common.hpp"
#include "features/plan.hpp"

namespace edgecore::bindings {

// Takes `_core.features.Plan`; TypeError otherwise.
features::PlanPtr plan_of(py::handle object);

}  // namespace edgecore::bindings
