// edgecore._core: one submodule per room.
#include "bindings/common.hpp"

namespace edgecore::bindings {

void raise_if_bad(const Status& status) {
  if (status.is_ok()) return;
  const std::string word(outcome_word(status.outcome()));
  const py::object type = py::module_::import("edgecore.errors").attr(word.c_str());
  PyErr_SetString(type.ptr(), status.message().c_str());
  throw py::error_already_set();
}

}  // namespace edgecore::bindings

PYBIND11_MODULE(_core, m) {
  namespace bind = edgecore::bindings;
  const auto room = [&m](const char* name) { return m.def_submodule(name); };
  auto base = room("base");
  bind::bind_base(base);
  auto fs = room("fs");
  bind::bind_fs(fs);
  auto rows = room("rows");
  bind::bind_rows(rows);
  auto columns = room("columns");
  bind::bind_columns(columns);
  auto log = room("log");
  bind::bind_log(log);
  auto features = room("features");
  bind::bind_features(features);
  auto artifacts = room("artifacts");
  bind::bind_artifacts(artifacts);
  auto inference = room("inference");
  bind::bind_inference(inference);
  auto learning = room("learning");
  bind::bind_learning(learning);
  auto pipeline = room("pipeline");
  bind::bind_pipeline(pipeline);
  auto verdict = room("verdict");
  bind::bind_verdict(verdict);
}
