// Reading a log from Python: rows as they are scanned, and whole columns.
#include <pybind11/stl.h>

#include <algorithm>
#include <bit>
#include <memory>
#include <optional>
#include <set>

#include "base/exact.hpp"
#include "bindings/arrow.hpp"
#include "columns/block.hpp"

namespace edgecore::bindings {
namespace {

// One stretch of rows of one append, as it was found. Rows are decoded when they are asked for.
struct PyScanned {
  wal::RecordHead head;
  std::uint64_t position = 0;
  std::uint64_t hlc = 0;
  std::uint64_t epoch = 0;
  std::uint8_t clock_trust = 0;
  std::uint32_t skip = 0;  // rows of the payload that stand before what was asked for
  bool whole = true;       // all its rows were
  Bytes payload;
  PySchemaPtr schema;
  PyBatchPtr batch;

  void need_schema() const {
    if (!schema)
      raise_if_bad(Status::incompatible("schema " + std::to_string(head.schema) +
                                        " of the log is not attached"));
  }
  // The canonical rows that were asked for.
  Result<ByteSpan> span() const {
    const ByteSpan all(payload);
    if (whole) return all;
    EDGECORE_ASSIGN(const std::size_t start, rows_size(*schema->schema(), all, skip));
    EDGECORE_ASSIGN(const std::size_t size,
                    rows_size(*schema->schema(), all.subspan(start), head.count));
    return all.subspan(start, size);
  }
  py::bytes rows() const {
    need_schema();
    return to_py_bytes(take(span()));
  }
  PyBatchPtr decoded() {
    if (batch) return batch;
    need_schema();
    auto made = std::make_shared<PyBatch>(schema);
    unlocked([&]() -> Status {
      EDGECORE_ASSIGN(const ByteSpan rows, span());
      return decode_rows(rows, head.count, made->rows());
    });
    batch = std::move(made);
    return batch;
  }
  py::object column(const std::string& name) {
    if (!batch) {
      need_schema();
      const Schema& fields = *schema->schema();
      const auto [rows, uniform] = unlocked([&]() -> Result<std::pair<ByteSpan, bool>> {
        EDGECORE_ASSIGN(const ByteSpan found, span());
        return std::pair(found, UniformRows::are(fields, found, head.count));
      });
      py::object made;
      if (uniform) made = column_of(UniformRows(fields, rows), fields, head.count, name);
      if (made) return made;
    }
    return column_of(*schema, decoded()->rows(), name);
  }
};

// Iterates a snapshot of the log, one part of it in memory at a time.
class PyScan {
 public:
  PyScan(PyLogPtr log, LogReader reader, std::optional<Wanted> wanted, std::uint64_t after,
         std::uint64_t until)
      : log_(std::move(log)),
        reader_(std::move(reader)),
        wanted_(std::move(wanted)),
        after_(after),
        until_(std::min(until, reader_.position_max())),
        through_(after),
        timed_(wanted_ && (wanted_->time_min != INT64_MIN || wanted_->time_max != INT64_MAX)) {}

  PyScanned next() {
    while (at_ == found_.size()) {
      if (through_ >= until_) throw py::stop_iteration();
      found_.clear();
      at_ = 0;
      through_ = unlocked([this] {
        return reader_.visit_part(
            through_, wanted_ ? &*wanted_ : nullptr,
            [this](const RecordView& record) { return keep(record); }, buffer_);
      });
      if (timed_) unlocked([this] { return keep_times(); });
    }
    PyScanned out = std::move(found_[at_++]);
    out.schema = log_->schema_of_number(out.head.schema);
    return out;
  }

 private:
  bool keep(const RecordView& record) {
    if (record.position > until_) return false;
    if (wanted_ && !wanted_->partitions.contains(record.head.partition)) return true;
    if (join(record)) return true;
    PyScanned scanned;
    scanned.head = record.head;
    scanned.position = record.position;
    scanned.hlc = record.hlc;
    scanned.epoch = record.epoch;
    scanned.clock_trust = record.clock_trust;
    if (after_ >= record.position) {
      scanned.skip = static_cast<std::uint32_t>(after_ - record.position + 1);
      scanned.whole = false;
      scanned.head.first += scanned.skip;
      scanned.head.count -= scanned.skip;
      scanned.position += scanned.skip;
    }
    scanned.payload.assign(record.payload.begin(), record.payload.end());
    cut(scanned);
    found_.push_back(std::move(scanned));
    return true;
  }

  // Of what was found, the stretches whose times are wanted.
  Status keep_times() {
    std::vector<PyScanned> kept;
    for (const PyScanned& scanned : found_) {
      EDGECORE_ASSIGN(const CatalogueEntry* entry,
                      reader_.catalogue().attached(scanned.head.schema));
      ByteSpan rest = scanned.payload;
      EDGECORE_ASSIGN(const std::size_t skip, rows_size(*entry->schema, rest, scanned.skip));
      rest = rest.subspan(skip);
      bool going_on = false;
      for (std::uint32_t row = 0; row < scanned.head.count; ++row) {
        EDGECORE_ASSIGN(const std::size_t size, rows_size(*entry->schema, rest, 1));
        const auto time = load_le<std::int64_t>(rest.data());  // every row begins with it
        const bool wanted = wanted_->holds_times(time, time);
        if (wanted && !going_on) kept.push_back(begin_at(scanned, row));
        if (wanted) {
          ++kept.back().head.count;
          kept.back().payload.insert(kept.back().payload.end(), rest.begin(),
                                     rest.begin() + static_cast<std::ptrdiff_t>(size));
        }
        going_on = wanted;
        rest = rest.subspan(size);
      }
    }
    found_ = std::move(kept);
    return Status::ok();
  }

  static PyScanned begin_at(const PyScanned& scanned, std::uint32_t row) {
    PyScanned out;
    out.head = scanned.head;
    out.head.first += row;
    out.head.count = 0;
    out.position = scanned.position + row;
    out.hlc = scanned.hlc;
    out.epoch = scanned.epoch;
    out.clock_trust = scanned.clock_trust;
    return out;
  }

  void cut(PyScanned& scanned) const {
    const std::uint64_t room = until_ - scanned.position;
    if (room >= scanned.head.count - 1) return;
    scanned.head.count = static_cast<std::uint32_t>(room + 1);
    scanned.whole = false;
  }

  // Single appends of one commit become one stretch.
  bool join(const RecordView& record) {
    if (found_.empty()) return false;
    PyScanned& last = found_.back();
    if (last.head.partition != record.head.partition || last.head.schema != record.head.schema ||
        last.head.first + last.head.count != record.head.first ||
        last.position + last.head.count != record.position || last.hlc != record.hlc ||
        last.epoch != record.epoch || last.head.count + record.head.count > kBatchRowsMax)
      return false;
    last.payload.insert(last.payload.end(), record.payload.begin(), record.payload.end());
    last.head.count += record.head.count;
    cut(last);
    return true;
  }

  PyLogPtr log_;
  LogReader reader_;
  std::optional<Wanted> wanted_;
  std::uint64_t after_;
  std::uint64_t until_;
  std::uint64_t through_;  // the part that was read last
  bool timed_;
  std::vector<PyScanned> found_;
  std::size_t at_ = 0;
  Bytes buffer_;  // the segment
};

constexpr std::uint64_t kRowsTaken = 1u << 22;  // as many are made room for before they are read

// The values of one column of many rows: doubles, or integers of 64 bits. Room for all of them is
// taken at once, and not filled before.
struct Cells {
  char format = 'd';
  std::unique_ptr<std::uint64_t[]> values;
  std::size_t size = 0;
  std::size_t capacity = 0;

  std::span<std::uint64_t> add(std::size_t count) {
    if (size + count > capacity) {
      capacity = std::max(size + count, 2 * capacity);
      auto larger = std::make_unique_for_overwrite<std::uint64_t[]>(capacity);
      std::copy_n(values.get(), size, larger.get());
      values = std::move(larger);
    }
    size += count;
    return {values.get() + size - count, count};
  }
};

// Gathers columns of fixed width from blocks, straight from their streams, and from records.
class Gathering {
 public:
  Gathering(std::vector<std::string> names, std::uint64_t until, std::uint64_t rows_max)
      : names_(std::move(names)), until_(until), cells_(names_.size()) {
    for (Cells& cells : cells_) {
      cells.capacity = static_cast<std::size_t>(rows_max);
      cells.values = std::make_unique_for_overwrite<std::uint64_t[]>(cells.capacity);
    }
  }

  // Of one of the schemas that the rows may have.
  Status expect(const Schema& schema) {
    for (std::size_t i = 0; i < names_.size(); ++i) {
      const int found = schema.find(names_[i]);
      EDGECORE_TRY(set_format(i, found < 0 ? nullptr : &schema.fields[std::size_t(found)]));
    }
    return Status::ok();
  }

  // All columns of the block, or none.
  Status block(const CatalogueEntry& entry, ByteSpan bytes) {
    EDGECORE_TRY(readable(entry));
    const std::size_t before = cells_.empty() ? 0 : cells_[0].size;
    Status status = add_block(entry, bytes);
    if (!status.is_ok())
      for (Cells& cells : cells_) cells.size = before;
    return status;
  }

  Status record(const CatalogueEntry& entry, const RecordView& view, std::uint64_t after) {
    EDGECORE_TRY(readable(entry));
    const Schema& schema = *entry.schema;
    if (UniformRows::are(schema, view.payload, view.head.count))
      return rows(UniformRows(schema, view.payload), schema, view, after);
    RowBatch decoded(entry.schema);
    EDGECORE_TRY(decode_rows(view.payload, view.head.count, decoded));
    return rows(decoded, schema, view, after);
  }

  std::vector<Cells>& cells() { return cells_; }

 private:
  // Rows of a record whose positions are wanted; uniform ones stay where they are.
  template <typename Rows>
  Status rows(const Rows& rows, const Schema& schema, const RecordView& view, std::uint64_t after) {
    const std::size_t from = after >= view.position ? after - view.position + 1 : 0;
    const std::size_t to = std::min<std::uint64_t>(view.head.count, until_ - view.position + 1);
    for (std::size_t i = 0; from < to && i < names_.size(); ++i) {
      const int found = schema.find(names_[i]);
      const auto index = static_cast<std::size_t>(std::max(found, 0));
      const Field* field = found < 0 ? nullptr : &schema.fields[index];
      EDGECORE_TRY(set_format(i, field));
      const std::span<std::uint64_t> out = cells_[i].add(to - from);
      const bool times = names_[i] == "time";
      presence_.clear();
      for (std::size_t row = from; row < to; ++row) {
        if constexpr (std::is_same_v<Rows, RowBatch>)
          presence_.push_back(field == nullptr || rows.present(row, index));
        out[row - from] = field != nullptr ? rows.cell(row, index)
                          : times          ? std::uint64_t(rows.time_ns(row))
                                           : rows.source_seq(row);
      }
      EDGECORE_TRY(finish(i, field, out));
    }
    return Status::ok();
  }

  static Status readable(const CatalogueEntry& entry) {
    if (entry.schema != nullptr) return Status::ok();
    return Status::incompatible("schema " + std::to_string(entry.number) +
                                " of the log is not attached");
  }

  Status add_block(const CatalogueEntry& entry, ByteSpan bytes) {
    EDGECORE_ASSIGN(auto reader, BlockReader::open(bytes, *entry.schema));
    for (std::size_t i = 0; i < names_.size(); ++i) {
      EDGECORE_ASSIGN(const std::size_t column, reader.find(names_[i]));
      const int found = entry.schema->find(names_[i]);
      const Field* field = found < 0 ? nullptr : &entry.schema->fields[std::size_t(found)];
      EDGECORE_TRY(set_format(i, field));
      const std::span<std::uint64_t> out = cells_[i].add(reader.header().count);
      EDGECORE_TRY(reader.read_cells(column, out, presence_));
      EDGECORE_TRY(finish(i, field, out));
    }
    return Status::ok();
  }

  // Those that a schema calls a number; both schemas of a stream must call it the same.
  Status set_format(std::size_t column, const Field* field) {
    const std::string& name = names_[column];
    char format = 'd';
    if (field == nullptr) {
      if (name != "time" && name != "source_seq")
        return Status::invalid("columns: '" + name + "' is no numeric field");
      format = name == "time" ? 'q' : 'Q';
    } else if (is_variable(field->dtype)) {
      return Status::invalid("columns: field '" + name + "' is no number; scan() gives its texts");
    } else if (!is_float(field->dtype) && field->dtype != DType::kDecimal) {
      format = is_unsigned(field->dtype) || field->dtype == DType::kBool ? 'Q' : 'q';
    }
    if (cells_[column].size > 0 && cells_[column].format != format)
      return Status::incompatible("columns: field '" + name + "' has changed its kind");
    cells_[column].format = format;
    return Status::ok();
  }

  Status finish(std::size_t column, const Field* field, std::span<std::uint64_t> values) const {
    if (field == nullptr) return Status::ok();
    if (field->dtype == DType::kDecimal)
      for (std::uint64_t& value : values)
        value = std::bit_cast<std::uint64_t>(
            grid_to_double(static_cast<std::int64_t>(value), field->scale));
    for (std::size_t row = 0; row < presence_.size(); ++row) {
      if (presence_[row] != 0) continue;
      if (cells_[column].format != 'd')
        return Status::invalid("columns: field '" + names_[column] +
                               "' has nulls among its integers; scan() gives them");
      values[row] = kNan;
    }
    return Status::ok();
  }

  static constexpr std::uint64_t kNan = 0x7ff8000000000000;
  std::vector<std::string> names_;
  std::uint64_t until_;
  std::vector<Cells> cells_;
  std::vector<std::uint8_t> presence_;
};

py::list read_columns(const PyLogPtr& self, const std::set<std::uint32_t>& partitions,
                      const std::vector<std::string>& names, std::uint64_t after,
                      std::uint64_t until) {
  LogReader reader = self->core().reader();
  const Wanted wanted{partitions};
  Gathering gathering(names, std::min(until, reader.position_max()),
                      std::min(reader.rows_max(wanted), kRowsTaken));
  for (const CatalogueEntry& entry : reader.catalogue().entries)
    if (entry.schema != nullptr && partitions.contains(entry.partition))
      raise_if_bad(gathering.expect(*entry.schema));
  unlocked([&] {
    return reader.visit_blocks(
        after, until, wanted,
        [&](const CatalogueEntry& entry, const PackBlock&, ByteSpan block) -> Result<bool> {
          EDGECORE_TRY(gathering.block(entry, block));
          return true;
        },
        [&](const CatalogueEntry& entry, const RecordView& record) -> Result<bool> {
          EDGECORE_TRY(gathering.record(entry, record, after));
          return true;
        });
  });
  py::list out;
  for (Cells& cells : gathering.cells())
    out.append(py::reinterpret_steal<py::object>(
        PyMemoryView_FromObject(py::cast(std::move(cells)).ptr())));
  return out;
}

}  // namespace

void bind_scan(py::module_& m, py::class_<PyLog, PyLogPtr>& log) {
  py::class_<PyScanned>(m, "Scanned")
      .def_property_readonly("partition", [](const PyScanned& s) { return s.head.partition; })
      .def_property_readonly("schema_number", [](const PyScanned& s) { return s.head.schema; })
      .def_property_readonly("first", [](const PyScanned& s) { return s.head.first; })
      .def_property_readonly("count", [](const PyScanned& s) { return s.head.count; })
      .def_readonly("position", &PyScanned::position)
      .def_readonly("hlc", &PyScanned::hlc)
      .def_readonly("epoch", &PyScanned::epoch)
      .def_property_readonly("clock_trust", [](const PyScanned& s) { return int{s.clock_trust}; })
      .def_property_readonly("payload", &PyScanned::rows)
      .def_property_readonly("batch", &PyScanned::decoded)
      .def("column", &PyScanned::column, py::arg("name"))
      .def(
          "arrow",
          [](PyScanned& s, const std::map<std::string, ArrowMetadata>& of_columns) {
            return arrow_batch_of(s.decoded()->rows(),
                                  {0, s.head.count, s.head.partition, s.head.first, s.position},
                                  of_columns);
          },
          py::arg("of_columns"));
  py::class_<PyScan>(m, "Scan")
      .def("__iter__", [](py::object self) { return self; })
      .def("__next__", &PyScan::next);
  py::class_<Cells>(m, "Cells", py::buffer_protocol()).def_buffer([](Cells& cells) {
    return py::buffer_info(cells.values.get(), sizeof(std::uint64_t), std::string(1, cells.format),
                           1, {cells.size}, {sizeof(std::uint64_t)});
  });
  log.def(
         "scan",
         [](const PyLogPtr& self, std::optional<std::set<std::uint32_t>> partitions,
            std::uint64_t after, std::uint64_t until,
            std::optional<std::pair<std::int64_t, std::int64_t>> times) {
           std::optional<Wanted> wanted;
           if (partitions) wanted = Wanted{std::move(*partitions)};
           if (wanted && times) std::tie(wanted->time_min, wanted->time_max) = *times;
           return PyScan(self, self->core().reader(), std::move(wanted), after, until);
         },
         py::arg("partitions"), py::arg("after"), py::arg("until"), py::arg("times"))
      .def("columns", &read_columns, py::arg("partitions"), py::arg("names"), py::arg("after"),
           py::arg("until"));
}

}  // namespace edgecore::bindings
