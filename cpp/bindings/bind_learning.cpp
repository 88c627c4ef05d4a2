#include "bindings/common.hpp"

namespace edgecore::bindings {

void bind_learning(py::module_& m) { m.doc() = "see python/edgecore/_core/learning.pyi"; }

}  // namespace edgecore::bindings
