#include "bindings/common.hpp"

namespace edgecore::bindings {

void bind_artifacts(py::module_& m) {
  m.doc() = "see python/edgecore/_core/artifacts.pyi";
}

}  // namespace edgecore::bindings
