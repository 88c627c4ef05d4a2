// edgecore._core.rows: schemas, and Python rows to and from RowBatch.
#include <pybind11/stl.h>

#include "bindings/rows.hpp"

namespace edgecore::bindings {
namespace {

Field field_from(const py::handle& item) {
  const auto parts = item.cast<py::tuple>();
  if (parts.size() != 6)
    throw py::value_error("a field is (name, dtype, scale, required, resolution, range)");
  Field field;
  field.name = parts[0].cast<std::string>();
  const int dtype = parts[1].cast<int>();
  const int scale = parts[2].cast<int>();
  if (dtype < 1 || dtype > static_cast<int>(DType::kBytes))
    raise_if_bad(Status::invalid("field '" + field.name + "': unknown dtype number"));
  if (scale < 0 || scale > 18)
    raise_if_bad(Status::invalid("field '" + field.name + "': scale is 0 to 18"));
  field.dtype = static_cast<DType>(dtype);
  field.scale = static_cast<std::uint8_t>(scale);
  field.required = parts[3].cast<bool>();
  field.resolution = parts[4].cast<double>();
  if (!parts[5].is_none()) {
    const auto [low, high] = parts[5].cast<std::pair<double, double>>();
    raise_if_bad(set_range(field, low, high));
  }
  return field;
}

}  // namespace

PySchema::PySchema(std::string stream, int tier, std::uint32_t version, const py::list& fields,
                   const py::bytes& canonical) {
  if (tier < 0 || tier > static_cast<int>(Tier::kBulk))
    raise_if_bad(Status::invalid("stream '" + stream + "': unknown tier number"));
  auto schema = std::make_shared<Schema>();
  schema->stream = std::move(stream);
  schema->tier = static_cast<Tier>(tier);
  schema->version = version;
  for (const py::handle item : fields) {
    schema->fields.push_back(field_from(item));
    PyObject* name = PyUnicode_InternFromString(schema->fields.back().name.c_str());
    if (name == nullptr) throw py::error_already_set();
    names_.push_back(py::reinterpret_steal<py::str>(name));
  }
  const BufferView view(canonical);
  schema->canonical.assign(view.bytes().begin(), view.bytes().end());
  schema->fingerprint = blake3(schema->canonical);
  schema_ = std::move(schema);
}

PySchemaPtr schema_of(py::handle object) {
  if (py::isinstance<PySchema>(object)) return object.cast<PySchemaPtr>();
  if (py::hasattr(object, "core")) return py::object(object.attr("core")).cast<PySchemaPtr>();
  throw py::type_error("expected an edgecore.Schema");
}

void bind_rows(py::module_& m) {
  m.doc() = "see python/edgecore/_core/rows.pyi";
  py::class_<PySchema, PySchemaPtr>(m, "Schema")
      .def(py::init<std::string, int, std::uint32_t, const py::list&, const py::bytes&>(),
           py::arg("stream"), py::arg("tier"), py::arg("version"), py::arg("fields"),
           py::arg("canonical"))
      .def_property_readonly("fingerprint",
                             [](const PySchema& s) { return to_py_bytes(s.schema()->fingerprint); })
      .def_property_readonly("stream", [](const PySchema& s) { return s.schema()->stream; })
      .def_property_readonly("tier",
                             [](const PySchema& s) { return static_cast<int>(s.schema()->tier); })
      .def_property_readonly("version", [](const PySchema& s) { return s.schema()->version; });
}

}  // namespace edgecore::bindings
