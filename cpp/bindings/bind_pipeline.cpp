#include "bindings/common.hpp"

namespace edgecore::bindings {

void bind_pipeline(py::module_& m) {
  m.doc() = "see python/edgecore/_core/pipeline.pyi";
}

}  // namespace edgecore::bindings
