// What the bindings of every room share about rows: the schema as a Python object.
#pragma once

#include <vector>

#include "base/schema.hpp"
#include "bindings/common.hpp"

namespace edgecore::bindings {

// `_core.rows.Schema`: a schema with its field names as interned Python strings, so that a row's
// keys are found by pointer. Immutable. Every method needs the GIL.
class PySchema {
 public:
  PySchema(std::string stream, int tier, std::uint32_t version, const py::list& fields,
           const py::bytes& canonical);
  const SchemaPtr& schema() const { return schema_; }
  const std::vector<py::str>& names() const { return names_; }

 private:
  SchemaPtr schema_;
  std::vector<py::str> names_;
};
using PySchemaPtr = std::shared_ptr<PySchema>;

// Takes `_core.rows.Schema`, or an `edgecore.Schema` by its `core`; TypeError otherwise.
PySchemaPtr schema_of(py::handle object);

}  // namespace edgecore::bindings
