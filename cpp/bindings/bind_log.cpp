// edgecore._core.log: the log, its scans and its runs.
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <optional>
#include <set>

#include "bindings/cipher.hpp"
#include "bindings/log.hpp"
#include "columns/block.hpp"
#include "log/runs.hpp"

namespace edgecore::bindings {
namespace {

using Row = std::tuple<int, std::int64_t, std::uint32_t>;  // level, group ns, group bytes
using Keep = std::tuple<std::optional<std::uint64_t>, std::optional<std::uint64_t>,
                        std::optional<std::int64_t>>;  // bytes, rows, ns

using Range = std::tuple<std::uint32_t, std::uint64_t, std::uint64_t, std::string>;

// By tier: bytes, time to live, what gives way, one block in how many.
using Quota =
    std::tuple<std::optional<std::uint64_t>, std::optional<std::int64_t>, int, std::uint32_t>;

StoreId store_id_of(const py::bytes& bytes) {
  const BufferView view(bytes);
  StoreId id{};
  if (view.bytes().size() != id.size()) raise_if_bad(Status::invalid("a store id has 16 bytes"));
  std::memcpy(id.data(), view.bytes().data(), id.size());
  return id;
}

}  // namespace

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
                  const Keep& keep, const std::vector<Quota>& quotas,
                  std::optional<std::uint64_t> bytes_max,
                  const std::array<std::uint8_t, 5>& priority, const py::object& cipher) {
  LogOptions options;
  options.cipher = cipher_of(cipher);
  options.read_only = read_only;
  options.flusher_thread = flusher_thread;
  options.segment_bytes = segment_bytes;
  options.store = store_id_of(store);
  options.epoch = epoch;
  options.salt = salt;
  std::tie(options.keep.bytes, options.keep.rows, options.keep.ns) = keep;
  options.bytes_max = bytes_max;
  auto tiers = options.priority;
  options.priority = priority;
  if (!std::is_permutation(tiers.begin(), tiers.end(), priority.begin()))
    raise_if_bad(Status::invalid("priority: each tier once"));
  for (std::size_t tier = 0; tier < options.quotas.size() && tier < quotas.size(); ++tier) {
    const auto& [bytes, ttl_ns, full, thin] = quotas[tier];
    options.quotas[tier] = {bytes, ttl_ns, static_cast<TierQuota::Full>(full), thin};
  }
  for (std::size_t tier = 0; tier < options.durability.size() && tier < durability.size(); ++tier) {
    const auto& [level, ns, bytes] = durability[tier];
    options.durability[tier] = {static_cast<Durability::Level>(level), ns, bytes};
  }
  auto log = unlocked([&] { return Log::open(fs, directory, options, clock); });
  return std::make_shared<PyLog>(std::move(log), std::move(clock));
}

py::list runs_of(PyLog& self, std::uint32_t partition, std::uint64_t after, std::size_t bytes_max,
                 bool blocks) {
  Log& log = self.core();
  const auto runs = unlocked([&] {
    return collect_runs(log.reader(), {partition, after, self.position_hint(partition, after),
                                       log.durable_position(), bytes_max, blocks});
  });
  py::list out;
  for (const Run& run : runs) {
    py::list arrivals;
    for (const Arrival& a : run.arrivals)
      arrivals.append(py::make_tuple(a.rows, a.position, a.hlc, int{a.clock_trust}));
    const Digest digest = run.block.empty() ? run_digest(log.store(), run.partition, run.first,
                                                         run.count, run.schema, run.rows)
                                            : take(read_block_header(run.block)).digest;
    out.append(py::make_tuple(run.partition, run.first, run.count, to_py_bytes(run.schema),
                              to_py_bytes(digest), to_py_bytes(run.rows), arrivals,
                              to_py_bytes(run.block)));
  }
  if (!runs.empty()) {
    const Run& last = runs.back();
    self.remember_position(partition, last.first + last.count - 1, last.position);
  }
  return out;
}

constexpr const char* kReasons[] = {"lost",    "burnt",  "uncertain", "dropped",
                                    "expired", "purged", "thinned"};
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
          "wait_durable",
          [](PyLog& self, std::uint64_t position) {
            Log& log = self.core();
            unlocked([&] { return log.wait_durable(position); });
          },
          py::arg("position"));
}

void bind_keeping(py::class_<PyLog, PyLogPtr>& log) {
  log.def(
         "release",
         [](PyLog& self, const Log::Sequences& acked, std::uint64_t upto, std::uint32_t announced) {
           Log& log = self.core();
           return unlocked([&] { return log.release(acked, upto, announced); });
         },
         py::arg("acked"), py::arg("upto"), py::arg("announced"))
      .def(
          "seal",
          [](PyLog& self, std::size_t segments_kept, std::uint64_t bytes, bool dense,
             std::uint32_t announced) {
            Log& log = self.core();
            const SealRequest request{segments_kept, bytes, dense ? Coding::kDense : Coding::kFast,
                                      announced};
            const Sealed done = unlocked([&] { return log.seal(request); });
            return py::make_tuple(done.rows, done.packs, done.bytes, done.segments);
          },
          py::arg("segments_kept"), py::arg("bytes"), py::arg("dense"), py::arg("announced"))
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
      .def(
          "make_room",
          [](PyLog& self, const Log::Sequences& acked, std::uint64_t wanted, bool expire) {
            Log& log = self.core();
            const Room room = unlocked([&] { return log.make_room(acked, wanted, expire); });
            return py::make_tuple(room.bytes, room.acked, room.dropped);
          },
          py::arg("acked"), py::arg("wanted"), py::arg("expire"))
      .def("disk_bytes",
           [](PyLog& self) {
             Log& log = self.core();
             return unlocked([&] { return Result<std::uint64_t>(log.disk_bytes()); });
           })
      .def("untold", [](PyLog& self) { return tuples_of(self.core().untold()); });
}

void bind_reading(py::class_<PyLog, PyLogPtr>& log) {
  log.def("runs", &runs_of, py::arg("partition"), py::arg("after"), py::arg("bytes_max"),
          py::arg("blocks"))
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
      .def_property_readonly("segment_position",
                             [](PyLog& self) { return self.core().segment_position(); })
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
  bind_arrow(m, log);
  bind_scan(m, log);
  bind_writing(log);
  bind_keeping(log);
  bind_reading(log);
  bind_encryption(log);
  m.def("open", &open_log, py::arg("fs"), py::arg("directory"), py::arg("clock"),
        py::arg("durability"), py::arg("store"), py::arg("epoch"), py::arg("salt"),
        py::arg("segment_bytes"), py::arg("flusher_thread"), py::arg("read_only"), py::arg("keep"),
        py::arg("quotas"), py::arg("bytes_max"), py::arg("priority"),
        py::arg("cipher") = py::none());
}

}  // namespace

void bind_log(py::module_& m) {
  m.doc() = "see python/edgecore/_core/log.pyi";
  bind_log_class(m);
}

}  // namespace edgecore::bindings
