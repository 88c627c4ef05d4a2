// Log.append and its result. A lone small append is the hottest call of a device, so both are
// written against the C API: a fast-call method and an object whose numbers become Python integers
// when they are read.
#include "bindings/log.hpp"

// Needs Python.h before it.
#include <structmember.h>

namespace edgecore::bindings {
namespace {

// `rejected` holds (index, reason) of rows that were left out; null: none.
struct AppendedObject {
  PyObject ob_base;
  unsigned int partition;
  unsigned int count;
  unsigned long long first;
  unsigned long long position;
  PyObject* rejected;
};

PyTypeObject* appended_type = nullptr;  // made with the module, never freed

void appended_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  Py_XDECREF(reinterpret_cast<AppendedObject*>(self)->rejected);
  PyObject_Free(self);
  Py_DECREF(type);
}

PyObject* appended_rejected(PyObject* self, void*) {
  PyObject* rejected = reinterpret_cast<AppendedObject*>(self)->rejected;
  return rejected == nullptr ? PyList_New(0) : Py_NewRef(rejected);
}

PyTypeObject* make_appended_type() {
  static PyMemberDef members[] = {
      {"partition", T_UINT, offsetof(AppendedObject, partition), READONLY, nullptr},
      {"first", T_ULONGLONG, offsetof(AppendedObject, first), READONLY, nullptr},
      {"count", T_UINT, offsetof(AppendedObject, count), READONLY, nullptr},
      {"position", T_ULONGLONG, offsetof(AppendedObject, position), READONLY, nullptr},
      {nullptr, 0, 0, 0, nullptr}};
  static PyGetSetDef getters[] = {{"rejected", appended_rejected, nullptr, nullptr, nullptr},
                                  {nullptr, nullptr, nullptr, nullptr, nullptr}};
  static PyType_Slot slots[] = {{Py_tp_dealloc, reinterpret_cast<void*>(appended_dealloc)},
                                {Py_tp_members, members},
                                {Py_tp_getset, getters},
                                {0, nullptr}};
  static PyType_Spec spec = {"edgecore._core.log.Appended", sizeof(AppendedObject), 0,
                             Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
  PyObject* made = PyType_FromSpec(&spec);
  if (made == nullptr) throw py::error_already_set();
  return reinterpret_cast<PyTypeObject*>(made);
}

PyObject* appended_to_python(const Appended& done, py::object rejected) {
  auto* made = PyObject_New(AppendedObject, appended_type);
  if (made == nullptr) throw py::error_already_set();
  made->partition = done.partition;
  made->count = done.count;
  made->first = done.first;
  made->position = done.position;
  made->rejected = rejected.release().ptr();
  return reinterpret_cast<PyObject*>(made);
}

bool skips(PyObject* on_invalid) {
  if (on_invalid == nullptr) return false;
  if (!PyUnicode_Check(on_invalid)) throw py::type_error("append: on_invalid is a str");
  if (PyUnicode_CompareWithASCIIString(on_invalid, "raise") == 0) return false;
  if (PyUnicode_CompareWithASCIIString(on_invalid, "skip") == 0) return true;
  raise_if_bad(
      Status::invalid("on_invalid " + std::string(py::str(on_invalid)) + ": raise or skip"));
  return false;
}

Appended append_or_none(Log& log, const RowBatch& rows) {
  if (rows.count() > 0) return append_batch(log, rows);
  Appended nothing;
  nothing.position = log.position();
  return nothing;
}

PyObject* append_rows(PyLog& self, const py::str& stream, py::handle rows, bool skip) {
  Log& log = self.core();
  if (!PyDict_CheckExact(rows.ptr()) && py::isinstance<PyBatch>(rows)) {
    const auto batch = rows.cast<PyBatchPtr>();
    const std::string& name = batch->rows().schema()->stream;
    if (PyUnicode_CompareWithASCIIString(stream.ptr(), name.c_str()) != 0 &&
        std::string(stream) != name)
      raise_if_bad(
          Status::invalid("the batch is of stream " + name + ", not " + std::string(stream)));
    return appended_to_python(append_or_none(log, batch->rows()), {});
  }
  PyBatchPtr batch = self.take_scratch(stream);
  py::object rejected;
  if (PyDict_CheckExact(rows.ptr()) && !skip)
    raise_if_bad(batch->add_dict(rows.ptr()));
  else
    rejected = batch->extend(rows, skip);
  const Appended done = append_or_none(log, batch->rows());
  self.give_scratch(stream, std::move(batch));
  return appended_to_python(done, std::move(rejected));
}

// The arguments of append by name and place: stream, rows, on_invalid.
constexpr const char* kArguments[] = {"stream", "rows", "on_invalid"};

void place_arguments(PyObject* const* given, Py_ssize_t count, PyObject* names,
                     PyObject* (&placed)[3]) {
  if (count > 3) throw py::type_error("append takes at most 3 arguments");
  for (Py_ssize_t i = 0; i < count; ++i) placed[i] = given[i];
  const Py_ssize_t named = names == nullptr ? 0 : PyTuple_GET_SIZE(names);
  for (Py_ssize_t i = 0; i < named; ++i) {
    PyObject* name = PyTuple_GET_ITEM(names, i);
    std::size_t at = 0;
    while (at < 3 && PyUnicode_CompareWithASCIIString(name, kArguments[at]) != 0) ++at;
    if (at == 3 || placed[at] != nullptr)
      throw py::type_error("append: argument " + std::string(py::str(py::handle(name))) +
                           " is unknown or given twice");
    placed[at] = given[count + i];
  }
  if (placed[0] == nullptr || placed[1] == nullptr || !PyUnicode_Check(placed[0]))
    throw py::type_error("append: a stream (str) and rows are needed");
}

PyObject* append(PyObject* self, PyObject* const* given, Py_ssize_t count, PyObject* names) {
  try {
    PyObject* placed[3] = {};
    place_arguments(given, count, names, placed);
    // The descriptor has checked that `self` is a Log; a Log has one base and one C++ object.
    auto* log = static_cast<PyLog*>(
        reinterpret_cast<py::detail::instance*>(self)->get_value_and_holder().value_ptr());
    if (log == nullptr) throw py::type_error("append: a log that was never opened");
    return append_rows(*log, py::reinterpret_borrow<py::str>(placed[0]), placed[1],
                       skips(placed[2]));
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::builtin_exception& error) {
    error.set_error();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

}  // namespace

void bind_append(py::module_& m, py::class_<PyLog, PyLogPtr>& log) {
  appended_type = make_appended_type();
  m.attr("Appended") = py::handle(reinterpret_cast<PyObject*>(appended_type));
  static PyMethodDef method = {
      "append", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(append)),
      METH_FASTCALL | METH_KEYWORDS,
      "append(self: Log, stream: str, rows: object, on_invalid: str = 'raise') -> Appended"};
  PyObject* made = PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(log.ptr()), &method);
  if (made == nullptr) throw py::error_already_set();
  log.attr("append") = py::reinterpret_steal<py::object>(made);
}

}  // namespace edgecore::bindings
