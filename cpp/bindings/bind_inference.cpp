#include "bindings/common.hpp"

namespace edgecore::bindings {

void bind_inference(py::module_& m) {
  m.doc() = "see python/edgecore/_core/inference.pyi";
}

}  // namespace edgecore::bindings
