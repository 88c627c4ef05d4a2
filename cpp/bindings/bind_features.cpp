#include "bindings/common.hpp"

namespace edgecore::bindings {

void bind_features(py::module_& m) {
  m.doc() = "see python/edgecore/_core/features.pyi";
}

}  // namespace edgecore::bindings
