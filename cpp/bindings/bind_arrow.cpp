// A log's rows given away as Arrow data, through capsules of the C data interface (PyCapsule
// protocol: https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html).
#include <pybind11/stl.h>

#include <mutex>

#include "bindings/arrow.hpp"
#include "log/table_stream.hpp"

namespace edgecore::bindings {
namespace {

constexpr const char* kSchemaName = "arrow_schema";
constexpr const char* kArrayName = "arrow_array";
constexpr const char* kStreamName = "arrow_array_stream";

template <typename T>
void end_capsule(PyObject* capsule) {
  auto* held = static_cast<Released<T>*>(PyCapsule_GetContext(capsule));
  delete held;
}

// Owns what `fill` makes, until a consumer has moved it out.
template <typename T, typename Fill>
py::object capsule_of(const char* name, Fill fill) {
  auto held = std::make_unique<Released<T>>();
  fill(held->value);
  auto made = py::reinterpret_steal<py::object>(PyCapsule_New(&held->value, name, end_capsule<T>));
  if (!made || PyCapsule_SetContext(made.ptr(), held.get()) != 0) throw py::error_already_set();
  static_cast<void>(held.release());
  return made;
}

py::object schema_capsule(const ArrowType& type) {
  return capsule_of<ArrowSchema>(kSchemaName, [&](auto& out) { export_schema(type, out); });
}

// Reads for consumers, who may have the GIL or not, as long as the log is open.
class LogSource final : public ArrowSource {
 public:
  LogSource(std::weak_ptr<Log> log, std::unique_ptr<TableStream> stream)
      : log_(std::move(log)), stream_(std::move(stream)) {}
  const ArrowType& type() const override { return stream_->type(); }
  Result<bool> next(ArrowData& out) override {
    if (PyGILState_Check() == 0) return step(out);
    const py::gil_scoped_release release;
    return step(out);
  }

 private:
  Result<bool> step(ArrowData& out) {
    const std::lock_guard guard(mutex_);  // batches may be asked for by several threads
    const auto log = log_.lock();         // which the reader asks where rows are now
    if (log == nullptr) return Status::invalid("the log is closed");
    return stream_->next(out);
  }

  std::mutex mutex_;
  std::weak_ptr<Log> log_;
  std::unique_ptr<TableStream> stream_;
};

// A snapshot of what was asked for; each reading of it begins at its first row.
class PyArrowTable {
 public:
  PyArrowTable(std::weak_ptr<Log> log, LogReader reader, TableRequest request)
      : log_(std::move(log)), reader_(std::move(reader)), request_(std::move(request)) {
    type_ = std::make_shared<const ArrowType>(take(TableStream::open(reader_, request_))->type());
  }
  std::unique_ptr<LogSource> open() const {
    return std::make_unique<LogSource>(log_, take(TableStream::open(reader_, request_)));
  }
  const std::shared_ptr<const ArrowType>& type() const { return type_; }

 private:
  std::weak_ptr<Log> log_;
  LogReader reader_;
  TableRequest request_;
  std::shared_ptr<const ArrowType> type_;
};

class PyArrowBatches {
 public:
  explicit PyArrowBatches(const PyArrowTable& table) : type_(table.type()), source_(table.open()) {}
  PyArrowBatch next() {
    ArrowData data;
    if (!take(source_->next(data))) throw py::stop_iteration();
    return {type_, std::move(data)};
  }

 private:
  std::shared_ptr<const ArrowType> type_;
  std::unique_ptr<LogSource> source_;
};

PyArrowTable arrow_of(const PyLogPtr& self, const std::set<std::uint32_t>& partitions,
                      const std::vector<std::string>& names, std::uint64_t after,
                      std::uint64_t until,
                      std::optional<std::pair<std::int64_t, std::int64_t>> times,
                      const ArrowMetadata& metadata,
                      const std::map<std::string, ArrowMetadata>& of_columns) {
  TableRequest request{partitions, names, after, until, {}, metadata, of_columns};
  if (times) request.times = {times->first, times->second};
  return {self->share(), self->core().reader(), std::move(request)};
}

}  // namespace

PyArrowBatch arrow_batch_of(const RowBatch& rows, const RowPlaces& place,
                            const std::map<std::string, ArrowMetadata>& of_columns) {
  auto columns = take(table_columns({rows.schema()}, {}));
  for (TableColumn& column : columns)
    if (const auto found = of_columns.find(column.name); found != of_columns.end())
      column.metadata = found->second;
  TableBuilder builder(std::move(columns));
  builder.add_rows(rows, std::span(&place, 1));
  return {std::make_shared<const ArrowType>(builder.type()), builder.finish()};
}

void bind_arrow(py::module_& m, py::class_<PyLog, PyLogPtr>& log) {
  py::class_<PyArrowBatch>(m, "ArrowBatch")
      .def("__len__", [](const PyArrowBatch& self) { return self.data.length; })
      .def("__arrow_c_schema__",
           [](const PyArrowBatch& self) { return schema_capsule(*self.type); })
      .def(
          "__arrow_c_array__",
          [](const PyArrowBatch& self, const py::object&) {
            return py::make_tuple(schema_capsule(*self.type),
                                  capsule_of<ArrowArray>(kArrayName, [&](auto& out) {
                                    export_array(self.data, out);
                                  }));
          },
          py::arg("requested_schema") = py::none());
  py::class_<PyArrowBatches>(m, "ArrowBatches")
      .def("__iter__", [](py::object self) { return self; })
      .def("__next__", &PyArrowBatches::next);
  py::class_<PyArrowTable>(m, "ArrowTable")
      .def("__iter__", [](const PyArrowTable& self) { return PyArrowBatches(self); })
      .def("__arrow_c_schema__",
           [](const PyArrowTable& self) { return schema_capsule(*self.type()); })
      .def(
          "__arrow_c_stream__",
          [](const PyArrowTable& self, const py::object&) {
            return capsule_of<ArrowArrayStream>(
                kStreamName, [&](auto& out) { export_stream(self.open(), out); });
          },
          py::arg("requested_schema") = py::none());
  log.def("arrow", &arrow_of, py::arg("partitions"), py::arg("names"), py::arg("after"),
          py::arg("until"), py::arg("times"), py::arg("metadata"), py::arg("of_columns"));
}

}  // namespace edgecore::bindings
