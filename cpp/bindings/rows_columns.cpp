// numpy structured arrays through the buffer protocol, and what is common to all tables.
#include "bindings/rows_columns.hpp"

#include <cctype>

namespace edgecore::bindings {
namespace {

struct Item {
  char code = 0;
  std::size_t offset = 0;
  std::size_t count = 1;
};

std::size_t code_size(char code) {
  switch (code) {
    case '?':
    case 'b':
    case 'B':
    case 's':
    case 'x':
      return 1;
    case 'h':
    case 'H':
      return 2;
    case 'i':
    case 'I':
    case 'f':
    case 'w':
      return 4;
    case 'l':
    case 'L':
    case 'q':
    case 'Q':
    case 'd':
      return 8;
    default:
      return 0;
  }
}

[[noreturn]] void refuse_dtype(const std::string& what) {
  raise_if_bad(Status::invalid("structured array: " + what +
                               "; fields are bool, integers, f4, f8, S or U, little-endian (give "
                               "times as int64 ns)"));
  std::abort();
}

// A structured array: "T{<d:temp:<i:rpm:…}" of PEP 3118, one dimension.
class StructuredArray final : public TableReader, public Table {
 public:
  explicit StructuredArray(py::handle object) {
    if (PyObject_GetBuffer(object.ptr(), &view_, PyBUF_FORMAT | PyBUF_STRIDES) != 0) {
      PyErr_Clear();
      refuse_dtype("a field type that has no buffer format");
    }
    held_ = true;
    if (view_.ndim != 1) refuse_dtype(std::to_string(view_.ndim) + " dimensions");
    parse(view_.format);
  }
  ~StructuredArray() override {
    if (held_) PyBuffer_Release(&view_);
  }
  StructuredArray(const StructuredArray&) = delete;
  StructuredArray& operator=(const StructuredArray&) = delete;

  Table* next() override {
    if (given_) return nullptr;
    given_ = true;
    return this;
  }
  std::size_t rows() const override { return static_cast<std::size_t>(view_.shape[0]); }
  const std::vector<std::string>& names() const override { return names_; }

  Cell cell(std::size_t column, std::size_t row) override {
    const Item& item = items_[column];
    const auto* at = static_cast<const std::byte*>(view_.buf) +
                     static_cast<Py_ssize_t>(row) * view_.strides[0] +
                     static_cast<Py_ssize_t>(item.offset);
    switch (item.code) {
      case '?':
        return {Cell::kBool, load_le<std::uint8_t>(at) != 0, 0, {}};
      case 'b':
        return {Cell::kSigned, load_le<std::int8_t>(at), 0, {}};
      case 'h':
        return {Cell::kSigned, load_le<std::int16_t>(at), 0, {}};
      case 'i':
        return {Cell::kSigned, load_le<std::int32_t>(at), 0, {}};
      case 'l':
      case 'q':
        return {Cell::kSigned, load_le<std::int64_t>(at), 0, {}};
      case 'B':
        return {Cell::kUnsigned, load_le<std::uint8_t>(at), 0, {}};
      case 'H':
        return {Cell::kUnsigned, load_le<std::uint16_t>(at), 0, {}};
      case 'I':
        return {Cell::kUnsigned, load_le<std::uint32_t>(at), 0, {}};
      case 'L':
      case 'Q':
        return {Cell::kUnsigned, load_le<std::int64_t>(at), 0, {}};
      case 'f':
        return {Cell::kDouble, 0, static_cast<double>(load_le<float>(at)), {}};
      case 'd':
        return {Cell::kDouble, 0, load_le<double>(at), {}};
      case 's':
        return {Cell::kBytes, 0, 0, trimmed(at, item.count)};
      default:
        return {Cell::kText, 0, 0, utf8_of(at, item.count)};
    }
  }

 private:
  static std::string_view trimmed(const std::byte* at, std::size_t size) {
    while (size > 0 && at[size - 1] == std::byte{0}) --size;
    return as_text({at, size});
  }

  std::string_view utf8_of(const std::byte* at, std::size_t count) {
    text_.clear();
    for (std::size_t i = 0; i < count; ++i) {
      const auto c = load_le<std::uint32_t>(at + 4 * i);
      if (c == 0) break;
      const auto put = [this](std::uint32_t byte) { text_.push_back(static_cast<char>(byte)); };
      if (c < 0x80) {
        put(c);
      } else if (c < 0x800) {
        put(0xC0 | c >> 6), put(0x80 | (c & 63));
      } else if (c < 0x10000) {
        put(0xE0 | c >> 12), put(0x80 | (c >> 6 & 63)), put(0x80 | (c & 63));
      } else {
        put(0xF0 | c >> 18), put(0x80 | (c >> 12 & 63)), put(0x80 | (c >> 6 & 63));
        put(0x80 | (c & 63));
      }
    }
    return text_;
  }

  void parse(const char* format) {
    const char* at = format + 2;  // behind "T{"
    std::size_t offset = 0;
    while (*at != '}') {
      bool big = false;
      while (*at == '<' || *at == '=' || *at == '@' || *at == '>' || *at == '^' || *at == '!') {
        big = *at == '>' || *at == '!';
        ++at;
      }
      Item item;
      if (std::isdigit(static_cast<unsigned char>(*at)) != 0) {
        item.count = 0;
        while (std::isdigit(static_cast<unsigned char>(*at)) != 0)
          item.count = item.count * 10 + static_cast<std::size_t>(*at++ - '0');
      }
      item.code = *at++;
      item.offset = offset;
      const std::size_t size = code_size(item.code);
      if (size == 0) refuse_dtype(std::string("type '") + item.code + "'");
      offset += size * item.count;
      if (item.code == 'x') continue;
      const char* end = *at == ':' ? std::strchr(at + 1, ':') : nullptr;
      if (end == nullptr) refuse_dtype("a field without a name");
      if (big && size > 1) refuse_dtype("big-endian");
      if (item.count != 1 && item.code != 's' && item.code != 'w') refuse_dtype("an array field");
      names_.emplace_back(at + 1, end);
      items_.push_back(item);
      at = end + 1;
    }
    if (offset > static_cast<std::size_t>(view_.itemsize)) refuse_dtype("an unknown layout");
  }

  Py_buffer view_{};
  bool held_ = false;
  bool given_ = false;
  std::vector<std::string> names_;
  std::vector<Item> items_;
  std::string text_;
};

bool is_structured(py::handle object) {
  if (!PyObject_CheckBuffer(object.ptr()) || py::isinstance<py::bytes>(object)) return false;
  Py_buffer view{};
  if (PyObject_GetBuffer(object.ptr(), &view, PyBUF_FORMAT | PyBUF_STRIDES) != 0) {
    PyErr_Clear();
    return py::hasattr(object, "dtype");  // numpy, with a type that has no buffer format
  }
  const bool found = view.format != nullptr && std::strncmp(view.format, "T{", 2) == 0;
  PyBuffer_Release(&view);
  return found;
}

}  // namespace

std::unique_ptr<TableReader> read_table(py::handle object) {
  if (is_structured(object)) return std::make_unique<StructuredArray>(object);
  return read_arrow(object);
}

ColumnWriter::ColumnWriter(PyBatch& batch, const std::vector<std::string>& names,
                           std::int64_t now_ns)
    : batch_(batch), now_ns_(now_ns) {
  for (const std::string& name : names) {
    int target = batch.rows_.schema()->find(name);
    if (target < 0 && name == "time") target = kTime;
    if (target < 0 && name == "source") target = kSource;
    if (target < 0 && name == "source_seq") target = kSourceSeq;
    if (target == -1 && name != "time")
      raise_if_bad(Status::invalid("unknown field '" + name + "' of stream " +
                                   batch.rows_.schema()->stream));
    targets_.push_back(target);
  }
}

Status ColumnWriter::add(Table& table, std::size_t from) {
  if (batch_.rows_.count() >= kBatchRowsMax)
    return Status::exhausted("a batch holds at most 2^20 rows");
  const NormaliseCounts before = batch_.counts_;
  batch_.has_time_ = false;
  batch_.source_.clear();
  batch_.source_seq_ = 0;
  const std::size_t row = batch_.rows_.add_row(0);
  Status status;
  for (std::size_t column = 0; column < targets_.size() && status.is_ok(); ++column)
    status = set(table, column, from, row);
  if (status.is_ok()) status = batch_.check_required(row);
  if (!status.is_ok()) {
    batch_.rows_.drop_last_row();
    batch_.counts_ = before;
    return status;
  }
  batch_.rows_.set_keys(row, batch_.has_time_ ? batch_.time_ns_ : batch_.clock_->wall_ns(),
                        batch_.source_, batch_.source_seq_);
  return status;
}

Status ColumnWriter::set(Table& table, std::size_t column, std::size_t from, std::size_t row) {
  const Cell cell = table.cell(column, from);
  if (cell.kind == Cell::kNull) return Status::ok();
  const int target = targets_[column];
  if (target < 0) return set_key(target, cell);
  const auto index = static_cast<std::size_t>(target);
  RowBatch& rows = batch_.rows_;
  const Field& field = rows.schema()->fields[index];
  NormaliseCounts& counts = batch_.counts_;
  switch (cell.kind) {
    case Cell::kBool:
      return cell_from_bool(rows, row, index, cell.integer != 0);
    case Cell::kSigned:
      return cell_from_int(rows, row, index, cell.integer, counts);
    case Cell::kUnsigned:
      return cell_from_unsigned(rows, row, index, static_cast<std::uint64_t>(cell.integer), counts);
    case Cell::kDouble:
      return cell_from_double(rows, row, index, cell.number, counts);
    case Cell::kDigits:
      return cell_from_text(rows, row, index, cell.text, counts);
    default:
      break;
  }
  const bool is_text = cell.kind == Cell::kText;
  if (is_text && field.dtype == DType::kDecimal && !cell.text.empty())
    return cell_from_text(rows, row, index, cell.text, counts);
  if (is_text != (field.dtype != DType::kBytes))
    return Status::invalid("field '" + field.name + "': " + (is_text ? "text" : "bytes") +
                           " is no " + dtype_text(field));
  return cell_from_bytes(rows, row, index, as_byte_span(cell.text));
}

Status ColumnWriter::set_key(int key, const Cell& cell) {
  const bool is_integer = cell.kind == Cell::kSigned || cell.kind == Cell::kUnsigned;
  if (key == kTime) {
    if (!is_integer || (cell.kind == Cell::kUnsigned && cell.integer < 0))
      return Status::invalid("key 'time': ns since 1970 as an integer");
    batch_.has_time_ = true;
    batch_.time_ns_ = cell.integer;
  } else if (key == kSource) {
    if (cell.kind != Cell::kText || cell.text.size() > kTextValueBytesMax)
      return Status::invalid("key 'source': text of at most 64 KiB");
    batch_.source_ = cell.text;
  } else {
    if (!is_integer || (cell.kind == Cell::kSigned && cell.integer < 0))
      return Status::invalid("key 'source_seq': an integer from 0 to 2^64 - 1");
    batch_.source_seq_ = static_cast<std::uint64_t>(cell.integer);
  }
  return Status::ok();
}

}  // namespace edgecore::bindings
