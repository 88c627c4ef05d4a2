// edgecore._core.log: the log, its scans and its runs.
#include <pybind11/stl.h>

#include <optional>
#include <set>

#include "bindings/cipher.hpp"
#include "bindings/log.hpp"
#include "log/runs.hpp"

namespace edgecore::bindings {
namespace {

using Row = std::tuple<int, std::int64_t, std::uint32_t>;  // level, group ns, group bytes
using Keep = std::tuple<std::optional<std::uint64_t>, std::optional<std::uint64_t>,
                        std::optional<std::int64_t>>;  // bytes, rows, ns

using Range = std::tuple<std::uint32_t, std::uint64_t, std::uint64_t, std::string>;

StoreId store_id_of(const py::bytes& bytes) {
  const BufferView view(bytes);
  StoreId id{};
  if (view.bytes().size() != id.size()) raise_if_bad(Status::invalid("a store id has 16 bytes"));
  std::memcpy(id.data(), view.bytes().data(), id.size());
  return id;
}

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

}  // namespace

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
        through_(after) {}

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
  std::vector<PyScanned> found_;
  std::size_t at_ = 0;
  Bytes buffer_;  // the segment
};

Appended append_batch(Log& log, const RowBatch& rows) {
  for (;;) {
    const Log::Taken taken = take(log.take(rows));
    if (taken.commit) unlocked([&] { return log.settle(taken); });
    if (!taken.reserve) return taken.done;
    unlocked([&] { return log.reserve(rows); });
  }
}

void PyLog::close() {
  if (!log_) return;
  unlocked([this] { return log_->close(); });
  log_.reset();
}

void PyLog::remember(const PySchemaPtr& schema) {
  scratch_.reset();
  for (const CatalogueEntry& entry : log_->catalogue())
    if (entry.fingerprint == schema->schema()->fingerprint) by_number_[entry.number] = schema;
  const auto found = by_stream_.find(schema->schema()->stream);
  if (found == by_stream_.end() || found->second->schema()->version <= schema->schema()->version)
    by_stream_[schema->schema()->stream] = schema;
}

std::uint32_t PyLog::register_schema(const PySchemaPtr& schema) {
  Log& log = core();
  const auto partition = unlocked([&] { return log.register_schema(schema->schema()); });
  remember(schema);
  return partition;
}

void PyLog::attach_schema(const PySchemaPtr& schema) {
  raise_if_bad(core().attach_schema(schema->schema()));
  remember(schema);
}

PySchemaPtr PyLog::schema_of_stream(const std::string& stream) const {
  const auto found = by_stream_.find(stream);
  if (found == by_stream_.end())
    raise_if_bad(Status::invalid("the log has no stream '" + stream + "'"));
  return found->second;
}

PySchemaPtr PyLog::schema_of_number(std::uint32_t number) const {
  const auto found = by_number_.find(number);
  return found == by_number_.end() ? nullptr : found->second;
}

PyBatchPtr PyLog::take_scratch(const py::str& stream) {
  if (scratch_ && scratch_stream_.ptr() == stream.ptr()) return std::move(scratch_);
  return std::make_shared<PyBatch>(schema_of_stream(stream), clock_);
}

void PyLog::give_scratch(const py::str& stream, PyBatchPtr batch) {
  batch->clear();
  scratch_stream_ = stream;
  scratch_ = std::move(batch);
}

namespace {

PyLogPtr open_log(std::shared_ptr<Fs> fs, const std::string& directory,
                  std::shared_ptr<Clock> clock, const std::vector<Row>& durability,
                  const py::bytes& store, std::uint64_t epoch, std::uint64_t salt,
                  std::uint64_t segment_bytes, bool flusher_thread, bool read_only,
                  const Keep& keep, const py::object& cipher) {
  LogOptions options;
  options.cipher = cipher_of(cipher);
  options.read_only = read_only;
  options.flusher_thread = flusher_thread;
  options.segment_bytes = segment_bytes;
  options.store = store_id_of(store);
  options.epoch = epoch;
  options.salt = salt;
  std::tie(options.keep.bytes, options.keep.rows, options.keep.ns) = keep;
  for (std::size_t tier = 0; tier < options.durability.size() && tier < durability.size(); ++tier) {
    const auto& [level, ns, bytes] = durability[tier];
    options.durability[tier] = {static_cast<Durability::Level>(level), ns, bytes};
  }
  auto log = unlocked([&] { return Log::open(fs, directory, options, clock); });
  return std::make_shared<PyLog>(std::move(log), std::move(clock));
}

py::list runs_of(PyLog& self, std::uint32_t partition, std::uint64_t after, std::size_t bytes_max) {
  Log& log = self.core();
  const auto runs = unlocked([&] {
    return collect_runs(log.reader(), {partition, after, self.position_hint(partition, after),
                                       log.durable_position(), bytes_max});
  });
  py::list out;
  for (const Run& run : runs) {
    py::list arrivals;
    for (const Arrival& a : run.arrivals)
      arrivals.append(py::make_tuple(a.rows, a.position, a.hlc, int{a.clock_trust}));
    const Digest digest =
        run_digest(log.store(), run.partition, run.first, run.count, run.schema, run.rows);
    out.append(py::make_tuple(run.partition, run.first, run.count, to_py_bytes(run.schema),
                              to_py_bytes(digest), to_py_bytes(run.rows), arrivals));
  }
  if (!runs.empty()) {
    const Run& last = runs.back();
    const Arrival& arrival = last.arrivals.back();
    self.remember_position(partition, last.first + last.count - 1,
                           arrival.position + arrival.rows - 1);
  }
  return out;
}

constexpr const char* kReasons[] = {"lost", "burnt", "uncertain", "dropped", "expired", "purged"};
static_assert(std::size(kReasons) == kLossReasons);

LossRange::Reason reason_of(const std::string& name) {
  for (std::uint8_t i = 0; i < kLossReasons; ++i)
    if (name == kReasons[i]) return static_cast<LossRange::Reason>(i);
  raise_if_bad(Status::invalid("no reason '" + name + "'"));
  return LossRange::kLost;
}

py::list tuples_of(const std::vector<LossRange>& ranges) {
  py::list out;
  for (const LossRange& range : ranges)
    out.append(py::make_tuple(range.partition, range.first, range.last, kReasons[range.reason]));
  return out;
}

py::tuple recovery_of(PyLog& self) {
  const RecoveryReport& report = self.core().recovery();
  return py::make_tuple(report.clean, report.tail_uncertain, tuples_of(report.ranges),
                        tuples_of(report.burnt), report.missing);
}

// Reads everything there is: (rows, records, bytes of rows, [(partition, first, last, reason)], of
// these without their keys (rows, rows missing)).
py::tuple verify(PyLog& self) {
  std::uint64_t rows = 0, records = 0, bytes = 0;
  std::vector<LossRange> losses;
  Unopened unopened;
  LogReader reader = self.core().reader();
  unlocked([&]() -> Status {
    Status status;
    EDGECORE_TRY(reader.visit(
        0,
        [&](const RecordView& record) {
          const CatalogueEntry* entry = reader.catalogue().find(record.head.schema);
          if (entry != nullptr && entry->schema != nullptr) {
            RowBatch decoded(entry->schema);
            status = decode_rows(record.payload, record.head.count, decoded);
          }
          rows += record.head.count;
          ++records;
          bytes += record.payload.size();
          return status.is_ok();
        },
        &losses, &unopened));
    return status;
  });
  return py::make_tuple(rows + unopened.rows, records + unopened.records, bytes + unopened.bytes,
                        tuples_of(losses), py::make_tuple(unopened.rows, unopened.missing));
}

py::list catalogue_of(PyLog& self) {
  py::list out;
  for (const CatalogueEntry& entry : self.core().catalogue())
    out.append(py::make_tuple(entry.number, entry.partition, int{entry.tier}, entry.stream,
                              to_py_bytes(entry.canonical)));
  return out;
}

void bind_scan(py::module_& m) {
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
      .def("column", &PyScanned::column, py::arg("name"));
  py::class_<PyScan>(m, "Scan")
      .def("__iter__", [](py::object self) { return self; })
      .def("__next__", &PyScan::next);
}

void bind_writing(py::class_<PyLog, PyLogPtr>& log) {
  const auto run = [](auto member) {
    return [member](PyLog& self) {
      Log& log = self.core();
      unlocked([&] { return (log.*member)(); });
    };
  };
  log.def("close", &PyLog::close)
      .def("register_schema", &PyLog::register_schema, py::arg("schema"))
      .def("attach_schema", &PyLog::attach_schema, py::arg("schema"))
      .def("flush", run(&Log::flush))
      .def("sync", run(&Log::sync))
      .def(
          "poll",
          [](PyLog& self, std::int64_t now_ns) {
            Log& log = self.core();
            return unlocked([&] { return log.poll(now_ns); });
          },
          py::arg("now_ns"))
      .def(
          "release",
          [](PyLog& self, const Log::Sequences& acked, std::uint64_t upto,
             std::uint32_t announced) {
            Log& log = self.core();
            return unlocked([&] { return log.release(acked, upto, announced); });
          },
          py::arg("acked"), py::arg("upto"), py::arg("announced"))
      .def(
          "seal",
          [](PyLog& self, std::size_t segments_kept, std::uint64_t bytes, bool dense) {
            Log& log = self.core();
            const SealRequest request{segments_kept, bytes, dense ? Coding::kDense : Coding::kFast};
            const Sealed done = unlocked([&] { return log.seal(request); });
            return py::make_tuple(done.rows, done.packs, done.bytes, done.segments);
          },
          py::arg("segments_kept"), py::arg("bytes"), py::arg("dense"))
      .def(
          "told",
          [](PyLog& self, const std::vector<Range>& ranges) {
            Log& log = self.core();
            std::vector<LossRange> told;
            for (const auto& [partition, first, last, reason] : ranges)
              told.push_back({partition, first, last, reason_of(reason)});
            unlocked([&] {
              log.told(told);
              return Status::ok();
            });
          },
          py::arg("ranges"))
      .def("untold", [](PyLog& self) { return tuples_of(self.core().untold()); })
      .def(
          "wait_durable",
          [](PyLog& self, std::uint64_t position) {
            Log& log = self.core();
            unlocked([&] { return log.wait_durable(position); });
          },
          py::arg("position"));
}

void bind_reading(py::class_<PyLog, PyLogPtr>& log) {
  log.def(
         "scan",
         [](const PyLogPtr& self, std::optional<std::set<std::uint32_t>> partitions,
            std::uint64_t after, std::uint64_t until) {
           std::optional<Wanted> wanted;
           if (partitions) wanted = Wanted{std::move(*partitions), 0};
           return PyScan(self, self->core().reader(), std::move(wanted), after, until);
         },
         py::arg("partitions"), py::arg("after"), py::arg("until"))
      .def("runs", &runs_of, py::arg("partition"), py::arg("after"), py::arg("bytes_max"))
      .def(
          "position_before",  // of the first row above a sequence: the position in front of it
          [](PyLog& self, std::uint32_t partition, std::uint64_t sequence) {
            Log& log = self.core();
            const auto runs = unlocked([&] {
              return collect_runs(log.reader(), {partition, sequence, 0, UINT64_MAX - 1, 1});
            });
            return runs.empty() ? log.position() : runs[0].arrivals[0].position - 1;
          },
          py::arg("partition"), py::arg("sequence"))
      .def(
          "sequence_at",
          [](PyLog& self, std::uint32_t partition, std::uint64_t position) {
            Log& log = self.core();
            return unlocked([&] { return sequence_at(log.reader(), partition, position); });
          },
          py::arg("partition"), py::arg("position"))
      .def("released", [](PyLog& self) { return self.core().released(); })
      .def("announced", [](PyLog& self) { return self.core().announced(); })
      .def_property_readonly("first_position",
                             [](PyLog& self) { return self.core().first_position(); })
      .def("recovery", &recovery_of)
      .def("verify", &verify)
      .def("catalogue", &catalogue_of)
      .def(
          "next_sequence",
          [](PyLog& self, std::uint32_t partition) { return self.core().next_sequence(partition); },
          py::arg("partition"))
      .def(
          "set_clock_trust",
          [](PyLog& self, std::uint8_t trust) { self.core().set_clock_trust(trust); },
          py::arg("trust"))
      .def_property_readonly("store_id",
                             [](PyLog& self) { return to_py_bytes(self.core().store()); })
      .def_property_readonly("epoch", [](PyLog& self) { return self.core().epoch(); })
      .def_property_readonly("position", [](PyLog& self) { return self.core().position(); })
      .def_property_readonly("data_bytes", [](PyLog& self) { return self.core().data_bytes(); })
      .def_property_readonly("durable_position",
                             [](PyLog& self) { return self.core().durable_position(); });
}

void bind_log_class(py::module_& m) {
  py::class_<PyLog, PyLogPtr> log(m, "Log");
  bind_append(m, log);
  bind_writing(log);
  bind_reading(log);
  bind_encryption(log);
  m.def("open", &open_log, py::arg("fs"), py::arg("directory"), py::arg("clock"),
        py::arg("durability"), py::arg("store"), py::arg("epoch"), py::arg("salt"),
        py::arg("segment_bytes"), py::arg("flusher_thread"), py::arg("read_only"), py::arg("keep"),
        py::arg("cipher") = py::none());
}

}  // namespace

void bind_log(py::module_& m) {
  m.doc() = "see python/edgecore/_core/log.pyi";
  bind_scan(m);
  bind_log_class(m);
}

}  // namespace edgecore::bindings
