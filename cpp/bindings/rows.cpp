// Python rows to cells and back; see rows.hpp. The C API is used where a row's cost is decided.
#include "bindings/rows.hpp"

#include <algorithm>

#include "base/exact.hpp"

namespace edgecore::bindings {
namespace {

// The pending Python exception as a Status. KeyboardInterrupt and the like pass through.
Status python_error(const std::string& context) {
  py::error_already_set error;
  if (!error.matches(PyExc_Exception)) throw error;
  return Status::invalid(context + ": " + std::string(py::str(error.value())));
}

std::string type_name(PyObject* value) {
  return Py_TYPE(value)->tp_name;
}

Status wrong_type(const Field& field, PyObject* value) {
  return Status::invalid("field '" + field.name + "': a " + type_name(value) + " is no " +
                         dtype_text(field));
}

Result<std::string_view> text_of(PyObject* value, const std::string& what) {
  Py_ssize_t size = 0;
  const char* text = PyUnicode_AsUTF8AndSize(value, &size);
  if (text == nullptr) return python_error(what);
  return std::string_view(text, static_cast<std::size_t>(size));
}

Status set_int(RowBatch& rows, std::size_t row, std::size_t index, PyObject* value,
               NormaliseCounts& counts) {
  int overflow = 0;
  const long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
  if (overflow == 0) return cell_from_int(rows, row, index, number, counts);
  const Field& field = rows.schema()->fields[index];
  if (is_float(field.dtype)) {
    const double wide = PyLong_AsDouble(value);
    if (wide == -1.0 && PyErr_Occurred() != nullptr)
      return python_error("field '" + field.name + "'");
    return cell_from_double(rows, row, index, wide, counts);
  }
  const unsigned long long whole = overflow > 0 ? PyLong_AsUnsignedLongLong(value) : 0;
  if (overflow < 0 || PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    return Status::invalid("field '" + field.name + "': an integer beyond 64 bits (" +
                           dtype_text(field) + ")");
  }
  return cell_from_unsigned(rows, row, index, whole, counts);
}

// Values that are none of Python's own number types: numpy scalars, decimal.Decimal, buffers.
Status set_other(RowBatch& rows, std::size_t row, std::size_t index, PyObject* value,
                 NormaliseCounts& counts) {
  const Field& field = rows.schema()->fields[index];
  if (field.dtype == DType::kBytes) {
    if (!PyObject_CheckBuffer(value) || PyIndex_Check(value)) return wrong_type(field, value);
    const BufferView view(value);
    return cell_from_bytes(rows, row, index, view.bytes());
  }
  if (is_variable(field.dtype)) return wrong_type(field, value);
  if (field.dtype == DType::kBool) {  // numpy.bool_ has no index, but a truth
    if (type_name(value).find("bool") == std::string::npos) return wrong_type(field, value);
    return cell_from_bool(rows, row, index, PyObject_IsTrue(value) == 1);
  }
  if (PyIndex_Check(value)) {
    const auto number = py::reinterpret_steal<py::object>(PyNumber_Index(value));
    if (!number) return python_error("field '" + field.name + "'");
    return set_int(rows, row, index, number.ptr(), counts);
  }
  if (type_name(value) == "decimal.Decimal") {
    const std::string text = py::str(py::handle(value));
    return cell_from_text(rows, row, index, text, counts);
  }
  const PyNumberMethods* methods = Py_TYPE(value)->tp_as_number;
  if (methods == nullptr || methods->nb_float == nullptr) return wrong_type(field, value);
  const double number = PyFloat_AsDouble(value);
  if (number == -1.0 && PyErr_Occurred() != nullptr)
    return python_error("field '" + field.name + "'");
  return cell_from_double(rows, row, index, number, counts);
}

Status key_refused(const char* key, PyObject* value, const char* wanted) {
  return Status::invalid(std::string("key '") + key + "': " + std::string(py::repr(value)) +
                         " is not " + wanted);
}

// Reserved keys as Python interns them in source text: found by pointer.
PyObject* interned(const char* name) {
  return PyUnicode_InternFromString(name);  // kept for the life of the process
}
PyObject* time_key() {
  static PyObject* const key = interned("time");
  return key;
}

Status take_time(PyObject* value, std::int64_t& out) {
  if (PyLong_CheckExact(value)) {
    int beyond = 0;
    out = PyLong_AsLongLongAndOverflow(value, &beyond);
    if (beyond == 0) return Status::ok();
  }
  const auto number = py::reinterpret_steal<py::object>(
      PyIndex_Check(value) && !PyBool_Check(value) ? PyNumber_Index(value) : nullptr);
  int overflow = 1;
  if (number) out = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
  PyErr_Clear();
  return overflow == 0 ? Status::ok() : key_refused("time", value, "ns since 1970 as an integer");
}

Status take_source_seq(PyObject* value, std::uint64_t& out) {
  const auto number = py::reinterpret_steal<py::object>(
      PyIndex_Check(value) && !PyBool_Check(value) ? PyNumber_Index(value) : nullptr);
  if (number) out = PyLong_AsUnsignedLongLong(number.ptr());
  const bool good = number && PyErr_Occurred() == nullptr;
  PyErr_Clear();
  return good ? Status::ok() : key_refused("source_seq", value, "an integer from 0 to 2^64 - 1");
}

py::str text_object(std::string_view text) {
  PyObject* made =
      PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace");
  if (made == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::str>(made);
}

std::string grid_text(std::int64_t value, std::size_t scale) {
  const bool negative = value < 0;
  const auto raw = static_cast<std::uint64_t>(value);
  std::string digits = std::to_string(negative ? ~raw + 1 : raw);
  if (digits.size() <= scale) digits.insert(0, scale + 1 - digits.size(), '0');
  if (scale > 0) digits.insert(digits.size() - scale, ".");
  return negative ? "-" + digits : digits;
}

py::object value_to_python(const RowBatch& rows, std::size_t row, std::size_t index, bool exact) {
  const Field& field = rows.schema()->fields[index];
  if (!rows.present(row, index)) return py::none();
  switch (field.dtype) {
    case DType::kBool:
      return py::bool_(rows.cell(row, index) != 0);
    case DType::kF32:
    case DType::kF64:
      return py::float_(rows.f64(row, index));
    case DType::kDecimal:
      if (exact) return text_object(grid_text(rows.i64(row, index), field.scale));
      return py::float_(grid_to_double(rows.i64(row, index), field.scale));
    case DType::kCategory:
    case DType::kUtf8:
      return text_object(rows.text(row, index));
    case DType::kBytes:
      return to_py_bytes(rows.bytes(row, index));
    default:
      if (is_unsigned(field.dtype)) return py::int_(rows.cell(row, index));
      return py::int_(rows.i64(row, index));
  }
}

std::vector<std::size_t> required_fields(const Schema& schema) {
  std::vector<std::size_t> out;
  for (std::size_t i = 0; i < schema.fields.size(); ++i)
    if (schema.fields[i].required) out.push_back(i);
  return out;
}

std::vector<std::uint8_t> any_double_fields(const Schema& schema) {
  std::vector<std::uint8_t> out;
  for (const Field& field : schema.fields) out.push_back(takes_any_double(field) ? 1 : 0);
  return out;
}

// array.array(code) of the 8-byte cells that `cell` gives.
template <typename Cell>
py::object array_of(const char* code, std::size_t count, Cell cell) {
  static PyObject* const array =  // kept for the life of the process
      py::module_::import("array").attr("array").cast<py::object>().release().ptr();
  const auto bytes = py::reinterpret_steal<py::object>(
      PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(8 * count)));
  if (!bytes) throw py::error_already_set();
  auto* at = reinterpret_cast<std::byte*>(PyBytes_AS_STRING(bytes.ptr()));
  for (std::size_t i = 0; i < count; ++i) store_le<std::uint64_t>(at + 8 * i, cell(i));
  return py::handle(array)(code, bytes);
}

template <typename Value>
py::list list_of(std::size_t count, Value value) {
  py::list out;
  for (std::size_t i = 0; i < count; ++i) out.append(value(i));
  return out;
}

}  // namespace

PyBatch::PyBatch(PySchemaPtr schema, std::shared_ptr<Clock> clock)
    : schema_(std::move(schema)),
      clock_(clock ? std::move(clock) : std::make_shared<SystemClock>()),
      rows_(schema_->schema()),
      required_(required_fields(*schema_->schema())),
      any_double_(any_double_fields(*schema_->schema())) {}

Status PyBatch::set_value(std::size_t row, std::size_t index, PyObject* value) {
  if (PyFloat_CheckExact(value))
    return cell_from_double(rows_, row, index, PyFloat_AS_DOUBLE(value), counts_);
  if (value == Py_None) return Status::ok();
  if (PyBool_Check(value)) return cell_from_bool(rows_, row, index, value == Py_True);
  if (PyLong_CheckExact(value)) return set_int(rows_, row, index, value, counts_);
  const Field& field = rows_.schema()->fields[index];
  if (!PyUnicode_Check(value)) return set_other(rows_, row, index, value, counts_);
  if (field.dtype == DType::kBytes) return wrong_type(field, value);
  EDGECORE_ASSIGN(const auto text, text_of(value, "field '" + field.name + "'"));
  // The exact text of a decimal, as rows(exact=True) gives it.
  if (field.dtype == DType::kDecimal && !text.empty())
    return cell_from_text(rows_, row, index, text, counts_);
  return cell_from_bytes(rows_, row, index, as_byte_span(text));
}

// A key that is not where the schema's order has it: another field, a reserved key, or unknown.
Status PyBatch::set_key(std::size_t row, PyObject* key, PyObject* value) {
  if (!PyUnicode_Check(key))
    return Status::invalid("a key of type " + type_name(key) + ": keys are field names");
  if (key == time_key() && value != Py_None) {
    has_time_ = true;
    return take_time(value, time_ns_);
  }
  const auto& names = schema_->names();
  for (std::size_t i = 0; i < names.size(); ++i)
    if (names[i].ptr() == key) return set_value(row, i, value);
  EDGECORE_ASSIGN(const auto name, text_of(key, "key"));
  const int index = schema_->schema()->find(name);
  if (index >= 0) return set_value(row, static_cast<std::size_t>(index), value);
  if (name == "time") {
    if (value == Py_None) return Status::ok();
    has_time_ = true;
    return take_time(value, time_ns_);
  }
  if (name == "source") {
    if (value == Py_None) return Status::ok();
    if (!PyUnicode_Check(value)) return key_refused("source", value, "text");
    EDGECORE_ASSIGN(const auto source, text_of(value, "key 'source'"));
    if (source.size() > kTextValueBytesMax) return Status::invalid("key 'source': over 64 KiB");
    source_ = source;
    return Status::ok();
  }
  if (name == "source_seq")
    return value == Py_None ? Status::ok() : take_source_seq(value, source_seq_);
  return Status::invalid("unknown field '" + std::string(name) + "' of stream " +
                         schema_->schema()->stream);
}

Status PyBatch::check_required(std::size_t row) const {
  for (const std::size_t index : required_)
    if (!rows_.present(row, index))
      return Status::invalid("field '" + rows_.schema()->fields[index].name +
                             "': null, but required");
  return Status::ok();
}

Status PyBatch::add_items(PyObject* dict) {
  const std::size_t row = rows_.count() - 1;
  const auto& names = schema_->names();
  PyObject *key = nullptr, *value = nullptr;
  Py_ssize_t at = 0;
  std::size_t expected = 0;
  while (PyDict_Next(dict, &at, &key, &value) != 0) {
    if (expected == names.size() || names[expected].ptr() != key) {
      EDGECORE_TRY(set_key(row, key, value));
      continue;
    }
    if (any_double_[expected] != 0 && PyFloat_CheckExact(value))
      rows_.set_f64(row, expected, PyFloat_AS_DOUBLE(value));
    else
      EDGECORE_TRY(set_value(row, expected, value));
    ++expected;
  }
  return check_required(row);
}

Status PyBatch::add_dict(PyObject* dict) {
  return add_dict(dict, clock_->wall_ns());
}

Status PyBatch::add_dict(PyObject* dict, std::int64_t now_ns) {
  if (!PyDict_Check(dict)) return Status::invalid("a row is a dict, not a " + type_name(dict));
  if (rows_.count() >= kBatchRowsMax) return Status::exhausted("a batch holds at most 2^20 rows");
  const NormaliseCounts before = counts_;
  has_time_ = false;
  source_.clear();
  source_seq_ = 0;
  const std::size_t row = rows_.add_row(now_ns);
  Status status = add_items(dict);
  if (!status.is_ok()) {
    rows_.drop_last_row();
    counts_ = before;
  } else if (has_time_ || !source_.empty() || source_seq_ != 0) {
    rows_.set_keys(row, has_time_ ? time_ns_ : now_ns, source_, source_seq_);
  }
  return status;
}

Status PyBatch::add_text(const py::list& cells, std::int64_t time_ns, std::string_view source,
                         std::uint64_t source_seq) {
  if (cells.size() != rows_.width())
    return Status::invalid(std::to_string(cells.size()) + " cells, but stream " +
                           rows_.schema()->stream + " has " + std::to_string(rows_.width()) +
                           " fields");
  if (rows_.count() >= kBatchRowsMax) return Status::exhausted("a batch holds at most 2^20 rows");
  if (source.size() > kTextValueBytesMax) return Status::invalid("key 'source': over 64 KiB");
  const NormaliseCounts before = counts_;
  const std::size_t row = rows_.add_row(time_ns, source, source_seq);
  Status status;
  for (std::size_t i = 0; i < rows_.width() && status.is_ok(); ++i) {
    PyObject* cell = PyList_GET_ITEM(cells.ptr(), static_cast<Py_ssize_t>(i));
    if (cell == Py_None) continue;
    const Field& field = rows_.schema()->fields[i];
    if (!PyUnicode_Check(cell)) {
      status = wrong_type(field, cell);
      break;
    }
    const auto text = text_of(cell, "field '" + field.name + "'");
    status = text.is_ok() ? cell_from_text(rows_, row, i, text.value(), counts_) : text.status();
  }
  if (status.is_ok()) status = check_required(row);
  if (!status.is_ok()) {
    rows_.drop_last_row();
    counts_ = before;
  }
  return status;
}

py::dict row_to_dict(const PySchema& schema, const RowBatch& rows, std::size_t row, bool exact) {
  static PyObject* const source = interned("source");
  static PyObject* const source_seq = interned("source_seq");
  py::dict out;
  out[py::handle(time_key())] = py::int_(rows.time_ns(row));
  out[py::handle(source)] = text_object(rows.source(row));
  out[py::handle(source_seq)] = py::int_(rows.source_seq(row));
  for (std::size_t i = 0; i < rows.width(); ++i)
    out[schema.names()[i]] = value_to_python(rows, row, i, exact);
  return out;
}

py::object column_of(const UniformRows& rows, const Schema& schema, std::size_t count,
                     const std::string& name) {
  const int found = schema.find(name);
  if (found < 0 && name == "time")
    return array_of("q", count, [&](std::size_t i) { return std::uint64_t(rows.time_ns(i)); });
  if (found < 0 && name == "source_seq")
    return array_of("Q", count, [&](std::size_t i) { return rows.source_seq(i); });
  if (found < 0) return {};
  const auto index = static_cast<std::size_t>(found);
  const Field& field = schema.fields[index];
  const auto cell = [&](std::size_t i) { return rows.cell(i, index); };
  if (is_float(field.dtype)) return array_of("d", count, cell);
  if (field.dtype != DType::kDecimal)
    return array_of(is_unsigned(field.dtype) ? "Q" : "q", count, cell);
  return array_of("d", count, [&](std::size_t i) {
    const auto value = static_cast<std::int64_t>(cell(i));
    return std::bit_cast<std::uint64_t>(grid_to_double(value, field.scale));
  });
}

py::object column_of(const PySchema& schema, const RowBatch& rows, const std::string& name) {
  const std::size_t count = rows.count();
  const int found = rows.schema()->find(name);
  if (found < 0) {
    if (name == "time")
      return array_of("q", count, [&](std::size_t i) { return std::uint64_t(rows.time_ns(i)); });
    if (name == "source_seq")
      return array_of("Q", count, [&](std::size_t i) { return rows.source_seq(i); });
    if (name == "source")
      return list_of(count, [&](std::size_t i) { return text_object(rows.source(i)); });
    raise_if_bad(
        Status::invalid("stream " + schema.schema()->stream + " has no field '" + name + "'"));
  }
  const auto index = static_cast<std::size_t>(found);
  const Field& field = rows.schema()->fields[index];
  constexpr std::uint64_t kNan = 0x7ff8000000000000;
  if (is_float(field.dtype) || field.dtype == DType::kDecimal)
    return array_of("d", count, [&](std::size_t i) {
      if (!rows.present(i, index)) return kNan;
      if (is_float(field.dtype)) return rows.cell(i, index);
      return std::bit_cast<std::uint64_t>(grid_to_double(rows.i64(i, index), field.scale));
    });
  bool whole = !is_variable(field.dtype) && field.dtype != DType::kBool;
  for (std::size_t i = 0; i < count && whole; ++i) whole = rows.present(i, index);
  if (whole)
    return array_of(is_unsigned(field.dtype) ? "Q" : "q", count,
                    [&](std::size_t i) { return rows.cell(i, index); });
  return list_of(count, [&](std::size_t i) { return value_to_python(rows, i, index, false); });
}

}  // namespace edgecore::bindings
