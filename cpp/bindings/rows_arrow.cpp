// Arrow data through the C data interface: what pyarrow, polars, DuckDB and others give away.
#include <algorithm>
#include <cstdlib>

#include "base/arrow.hpp"
#include "base/exact.hpp"
#include "bindings/rows_columns.hpp"

namespace edgecore::bindings {
namespace {

[[noreturn]] void refuse_type(const ArrowSchema& schema) {
  raise_if_bad(Status::invalid(std::string("Arrow column '") + (schema.name ? schema.name : "") +
                               "': type '" + schema.format + "' is not taken"));
  std::abort();
}

template <typename T>
T at(const ArrowArray& array, int buffer, std::size_t index) {
  return load_le<T>(static_cast<const std::byte*>(array.buffers[buffer]) + index * sizeof(T));
}

bool bit(const void* bits, std::size_t index) {
  return (static_cast<const std::uint8_t*>(bits)[index / 8] >> (index % 8) & 1) != 0;
}

template <typename Offset>
std::string_view span_of(const ArrowArray& array, std::size_t index) {
  const auto from = static_cast<std::size_t>(at<Offset>(array, 1, index));
  const auto to = static_cast<std::size_t>(at<Offset>(array, 1, index + 1));
  return {static_cast<const char*>(array.buffers[2]) + from, to - from};
}

// A string view: 16 bytes with the text itself, or where in which buffer it stands.
std::string_view view_of(const ArrowArray& array, std::size_t index) {
  const auto* view = static_cast<const char*>(array.buffers[1]) + index * 16;
  const auto* raw = reinterpret_cast<const std::byte*>(view);
  const auto size = static_cast<std::size_t>(load_le<std::int32_t>(raw));
  if (size <= 12) return {view + 4, size};
  const auto buffer = load_le<std::int32_t>(raw + 8);
  const auto offset = load_le<std::int32_t>(raw + 12);
  return {static_cast<const char*>(array.buffers[2 + buffer]) + offset, size};
}

// Nanoseconds per unit of a timestamp "ts<unit>:<zone>".
std::int64_t unit_ns(char unit) {
  return unit == 'n' ? 1 : unit == 'u' ? 1'000 : unit == 'm' ? 1'000'000 : 1'000'000'000;
}

class ArrowChunk final : public Table {
 public:
  ArrowChunk(const ArrowSchema& schema, const ArrowArray& array) : schema_(schema), array_(array) {
    for (std::int64_t i = 0; i < schema.n_children; ++i) {
      names_.emplace_back(schema.children[i]->name ? schema.children[i]->name : "");
      check(*schema.children[i]);
    }
  }
  std::size_t rows() const override { return static_cast<std::size_t>(array_.length); }
  const std::vector<std::string>& names() const override { return names_; }
  Cell cell(std::size_t column, std::size_t row) override {
    const auto outer = static_cast<std::size_t>(array_.offset);
    if (array_.n_buffers > 0 && array_.buffers[0] != nullptr &&
        !bit(array_.buffers[0], outer + row))
      return {};
    return value(*schema_.children[column], *array_.children[column], outer + row);
  }

 private:
  static void check(const ArrowSchema& schema) {
    const std::string_view format = schema.format;
    if (schema.dictionary != nullptr) return check(*schema.dictionary);
    const bool one = format.size() == 1 && std::strchr("bcCsSiIlLfguUzZn", format[0]) != nullptr;
    if (!one && format != "vu" && format != "vz" && !format.starts_with("ts") &&
        !(format.starts_with("d:") && std::count(format.begin(), format.end(), ',') == 1))
      refuse_type(schema);
  }

  Cell value(const ArrowSchema& schema, const ArrowArray& array, std::size_t row) {
    const std::string_view format = schema.format;
    if (format == "n") return {};
    const std::size_t i = row + static_cast<std::size_t>(array.offset);
    if (array.buffers[0] != nullptr && !bit(array.buffers[0], i)) return {};
    if (schema.dictionary != nullptr) {
      const Cell index = fixed(format[0], array, i);
      return value(*schema.dictionary, *array.dictionary, static_cast<std::size_t>(index.integer));
    }
    if (format == "vu") return {Cell::kText, 0, 0, view_of(array, i)};
    if (format == "vz") return {Cell::kBytes, 0, 0, view_of(array, i)};
    if (format.starts_with("ts")) {
      std::int64_t ns = 0;
      if (__builtin_mul_overflow(at<std::int64_t>(array, 1, i), unit_ns(format[2]), &ns))
        return {Cell::kDouble, 0, 0, {}};  // no integer: refused as a time
      return {Cell::kSigned, ns, 0, {}};
    }
    if (format.starts_with("d:")) return decimal(format, array, i);
    return fixed(format[0], array, i);
  }

  static Cell fixed(char format, const ArrowArray& array, std::size_t i) {
    switch (format) {
      case 'b':
        return {Cell::kBool, bit(array.buffers[1], i), 0, {}};
      case 'c':
        return {Cell::kSigned, at<std::int8_t>(array, 1, i), 0, {}};
      case 's':
        return {Cell::kSigned, at<std::int16_t>(array, 1, i), 0, {}};
      case 'i':
        return {Cell::kSigned, at<std::int32_t>(array, 1, i), 0, {}};
      case 'l':
        return {Cell::kSigned, at<std::int64_t>(array, 1, i), 0, {}};
      case 'C':
        return {Cell::kUnsigned, at<std::uint8_t>(array, 1, i), 0, {}};
      case 'S':
        return {Cell::kUnsigned, at<std::uint16_t>(array, 1, i), 0, {}};
      case 'I':
        return {Cell::kUnsigned, at<std::uint32_t>(array, 1, i), 0, {}};
      case 'L':
        return {Cell::kUnsigned, at<std::int64_t>(array, 1, i), 0, {}};
      case 'f':
        return {Cell::kDouble, 0, static_cast<double>(at<float>(array, 1, i)), {}};
      case 'g':
        return {Cell::kDouble, 0, at<double>(array, 1, i), {}};
      case 'u':
        return {Cell::kText, 0, 0, span_of<std::int32_t>(array, i)};
      case 'U':
        return {Cell::kText, 0, 0, span_of<std::int64_t>(array, i)};
      case 'z':
        return {Cell::kBytes, 0, 0, span_of<std::int32_t>(array, i)};
      default:
        return {Cell::kBytes, 0, 0, span_of<std::int64_t>(array, i)};
    }
  }

  // decimal128 "d:precision,scale", as digits.
  Cell decimal(std::string_view format, const ArrowArray& array, std::size_t i) {
    const int scale = std::atoi(format.data() + format.find(',') + 1);
    const auto whole = at<Int128>(array, 1, i);
    UInt128 rest =
        whole < 0 ? UInt128{0} - static_cast<UInt128>(whole) : static_cast<UInt128>(whole);
    std::string digits;
    while (rest > 0 || static_cast<int>(digits.size()) <= scale) {
      digits.insert(digits.begin(), static_cast<char>('0' + static_cast<int>(rest % 10)));
      rest /= 10;
      if (scale > 0 && static_cast<int>(digits.size()) == scale) digits.insert(digits.begin(), '.');
    }
    text_ = (whole < 0 ? "-" : "") + digits;
    return {Cell::kDigits, 0, 0, text_};
  }

  const ArrowSchema& schema_;
  const ArrowArray& array_;
  std::vector<std::string> names_;
  std::string text_;
};

void check_struct(const ArrowSchema& schema) {
  if (std::string_view(schema.format) != "+s")
    raise_if_bad(Status::invalid("Arrow data: a table or a record batch is needed"));
}

template <typename T>
T* pointer_of(const py::object& capsule, const char* name) {
  auto* found = static_cast<T*>(PyCapsule_GetPointer(capsule.ptr(), name));
  if (found == nullptr) throw py::error_already_set();
  return found;
}

class ArrowBatchReader final : public TableReader {
 public:
  explicit ArrowBatchReader(py::handle object) {
    const py::tuple pair = object.attr("__arrow_c_array__")();
    capsules_ = pair;
    schema_ = pointer_of<ArrowSchema>(pair[0], "arrow_schema");
    array_ = pointer_of<ArrowArray>(pair[1], "arrow_array");
    check_struct(*schema_);
    chunk_ = std::make_unique<ArrowChunk>(*schema_, *array_);
  }
  Table* next() override { return given_ ? nullptr : (given_ = true, chunk_.get()); }

 private:
  py::object capsules_;  // they release what they hold
  ArrowSchema* schema_ = nullptr;
  ArrowArray* array_ = nullptr;
  std::unique_ptr<ArrowChunk> chunk_;
  bool given_ = false;
};

class ArrowStreamReader final : public TableReader {
 public:
  explicit ArrowStreamReader(py::handle object) {
    capsule_ = object.attr("__arrow_c_stream__")();
    stream_ = pointer_of<ArrowArrayStream>(capsule_, "arrow_array_stream");
    check(stream_->get_schema(stream_, &schema_.value));
    check_struct(schema_.value);
  }
  Table* next() override {
    chunk_.reset();
    array_.reset();
    check(stream_->get_next(stream_, &array_.value));
    if (array_.value.release == nullptr) return nullptr;
    chunk_ = std::make_unique<ArrowChunk>(schema_.value, array_.value);
    return chunk_.get();
  }

 private:
  void check(int code) {
    if (code == 0) return;
    const char* why = stream_->get_last_error(stream_);
    raise_if_bad(Status::invalid(std::string("Arrow stream: ") + (why ? why : "failed")));
  }

  py::object capsule_;
  ArrowArrayStream* stream_ = nullptr;
  Released<ArrowSchema> schema_;
  Released<ArrowArray> array_;
  std::unique_ptr<ArrowChunk> chunk_;
};

}  // namespace

std::unique_ptr<TableReader> read_arrow(py::handle object) {
  if (py::hasattr(object, "__arrow_c_stream__")) return std::make_unique<ArrowStreamReader>(object);
  if (py::hasattr(object, "__arrow_c_array__")) return std::make_unique<ArrowBatchReader>(object);
  return nullptr;
}

}  // namespace edgecore::bindings
