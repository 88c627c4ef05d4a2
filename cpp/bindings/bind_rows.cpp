// edgecore._core.rows: schemas, and Python rows to and from RowBatch.
#include <pybind11/stl.h>

#include "base/bounded.hpp"
#include "bindings/rows_columns.hpp"

namespace edgecore::bindings {
namespace {

Field field_from(const py::handle& item) {
  const auto parts = item.cast<py::tuple>();
  if (parts.size() != 9)
    throw py::value_error(
        "a field is (name, dtype, scale, required, resolution, range, max_error, ratio, "
        "fingerprint)");
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
  raise_if_bad(set_max_error(field, parts[6].cast<double>()));
  field.ratio = parts[7].cast<bool>();
  field.fingerprint = digest_of(parts[8]);
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

py::list PyBatch::extend(py::handle rows, bool skip) {
  const std::size_t count_before = rows_.count();
  const NormaliseCounts counts_before = counts_;
  py::list rejected;
  const std::int64_t now = clock_->wall_ns();
  std::size_t index = 0;
  const auto note = [&](const Status& status) {
    if (!status.is_ok() && skip) rejected.append(py::make_tuple(index, status.message()));
    if (!status.is_ok() && !skip)
      raise_if_bad(
          Status(status.outcome(), "row " + std::to_string(index) + ": " + status.message()));
    ++index;
  };
  try {
    if (py::isinstance<py::dict>(rows)) {
      note(add_dict(rows.ptr(), now));
    } else if (py::isinstance<py::list>(rows)) {
      // By index: a value's own code may change the list.
      for (Py_ssize_t i = 0; i < PyList_GET_SIZE(rows.ptr()); ++i)
        note(add_dict(py::reinterpret_borrow<py::object>(PyList_GET_ITEM(rows.ptr(), i)).ptr(),
                      now));
    } else if (const auto table = read_table(rows)) {
      while (Table* chunk = table->next()) {
        ColumnWriter writer(*this, chunk->names(), now);
        for (std::size_t row = 0; row < chunk->rows(); ++row) note(writer.add(*chunk, row));
      }
    } else {
      for (const py::handle row : rows) note(add_dict(row.ptr(), now));
    }
  } catch (...) {
    truncate(count_before);
    counts_ = counts_before;
    throw;
  }
  return rejected;
}

namespace {

bool skips(const std::string& on_invalid) {
  if (on_invalid != "skip" && on_invalid != "raise")
    raise_if_bad(Status::invalid("on_invalid " + on_invalid + ": raise or skip"));
  return on_invalid == "skip";
}

void bind_batch(py::module_& m) {
  py::class_<PyBatch, PyBatchPtr>(m, "Batch")
      .def(py::init([](const py::object& schema, std::shared_ptr<Clock> clock) {
             return std::make_shared<PyBatch>(schema_of(schema), std::move(clock));
           }),
           py::arg("schema"), py::arg("clock") = py::none())
      .def_property_readonly("schema", &PyBatch::schema)
      .def_property_readonly("off_grid", &PyBatch::off_grid)
      .def("__len__", [](const PyBatch& self) { return self.rows().count(); })
      .def(
          "append",
          [](PyBatch& self, const py::object& row) { raise_if_bad(self.add_dict(row.ptr())); },
          py::arg("row"))
      .def(
          "extend",
          [](PyBatch& self, const py::object& rows, const std::string& on_invalid) {
            return self.extend(rows, skips(on_invalid));
          },
          py::arg("rows"), py::arg("on_invalid") = "raise")
      .def(
          "append_text",
          [](PyBatch& self, const py::list& fields, std::int64_t time_ns, const std::string& source,
             std::uint64_t source_seq) {
            raise_if_bad(self.add_text(fields, time_ns, source, source_seq));
          },
          py::arg("fields"), py::arg("time_ns"), py::arg("source") = "", py::arg("source_seq") = 0)
      .def(
          "rows",
          [](const PyBatch& self, bool exact) {
            py::list out;
            for (std::size_t i = 0; i < self.rows().count(); ++i)
              out.append(row_to_dict(*self.schema(), self.rows(), i, exact));
            return out;
          },
          py::arg("exact") = false)
      .def(
          "column",
          [](const PyBatch& self, const std::string& name) {
            return column_of(*self.schema(), self.rows(), name);
          },
          py::arg("name"))
      .def("clear", &PyBatch::clear);
}

}  // namespace

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
  bind_batch(m);
}

}  // namespace edgecore::bindings
