#include "bindings/common.hpp"

namespace edgecore::bindings {

void bind_rows(py::module_& m) { m.doc() = "see python/edgecore/_core/rows.pyi"; }

}  // namespace edgecore::bindings
