#include "bindings/common.hpp"

namespace edgecore::bindings {

void bind_log(py::module_& m) {
  m.doc() = "see python/edgecore/_core/log.pyi";
}

}  // namespace edgecore::bindings
