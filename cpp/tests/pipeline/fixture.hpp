// A small device for the pipeline's tests: a log on a disk in memory, a view, a model whose
// answers are simple and which fails when told to.
#pragma once

#include <gtest/gtest.h>

#include <random>

#include "base/fs_memory.hpp"
#include "pipeline/pipeline.hpp"
#include "pipeline/rebuild.hpp"

namespace edgecore::pipeline::testing {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kStart = 1'700'000'000 * kSecond;

inline SchemaPtr make_schema(const std::string& stream, Tier tier, std::vector<Field> fields) {
  auto schema = std::make_shared<Schema>();
  schema->stream = stream;
  schema->tier = tier;
  schema->fields = std::move(fields);
  const std::string canonical = "schema of " + stream;
  const ByteSpan bytes = as_byte_span(canonical);
  schema->canonical.assign(bytes.begin(), bytes.end());
  schema->fingerprint = blake3(schema->canonical);
  return schema;
}

inline Field field(const char* name, DType dtype, std::uint8_t scale = 0) {
  Field out;
  out.name = name;
  out.dtype = dtype;
  out.scale = scale;
  return out;
}

inline SchemaPtr source_schema() {
  auto temp = field("temp", DType::kDecimal, 3);
  EXPECT_TRUE(set_range(temp, -40, 150).is_ok());
  return make_schema("telemetry", Tier::kBulk, {field("pump", DType::kCategory), temp});
}

inline SchemaPtr prediction_schema() {
  return make_schema(
      "edgecore.prediction", Tier::kFeedback,
      {field("context", DType::kU32), field("entity", DType::kCategory),
       field("as_of", DType::kI64), field("position", DType::kU64),
       field("score", DType::kDecimal, 6), field("threshold", DType::kDecimal, 6),
       field("verdict", DType::kU8), field("episode", DType::kU32), field("clipped", DType::kU16),
       field("substituted", DType::kU16), field("input_hash", DType::kBytes),
       field("output_hash", DType::kBytes), field("reason", DType::kCategory)});
}

inline SchemaPtr gap_schema() {
  return make_schema(
      "edgecore.gap", Tier::kFeedback,
      {field("stream", DType::kCategory), field("begin", DType::kI64), field("end", DType::kI64),
       field("kind", DType::kCategory), field("through", DType::kU64), field("told", DType::kU64)});
}

inline features::PlanPtr make_view(const SchemaPtr& source, double min_coverage = 0) {
  features::ViewSpec view;
  view.name = "pump_health";
  view.entity = "pump";
  view.stream = "telemetry";
  view.lateness_ns = 5 * kSecond;
  const auto add = [&](const char* name, features::Op op, std::int64_t window_ns) {
    features::FeatureSpec one;
    one.name = name;
    one.op = op;
    one.field = "temp";
    one.window_ns = window_ns;
    if (window_ns > 0) one.min_coverage = min_coverage;
    one.fingerprint = blake3(as_byte_span(name));
    view.features.push_back(one);
  };
  add("temp_mean_1m", features::Op::kMean, 60 * kSecond);
  add("temp_mean_10m", features::Op::kMean, 600 * kSecond);
  add("temp_last", features::Op::kLast, 0);
  view.fingerprint = blake3(as_byte_span("view"));
  auto plan = features::make_plan(view, source);
  EXPECT_TRUE(plan.is_ok()) << plan.status().to_string();
  return plan.value();
}

inline features::PartsPtr parts_of(const features::PlanPtr& plan) {
  return features::Parts::make(plan).value();
}

// Halves its input; fails on the rows whose `last` (in codes) is one it was told of.
class Halver : public inference::Executor {
 public:
  explicit Halver(std::size_t width = 3) : width_(width) {}
  std::size_t input_size() const override { return width_; }
  std::size_t output_size() const override { return width_; }
  inference::Quantisation input_quantisation() const override { return {0.05F, 0}; }
  inference::Quantisation output_quantisation() const override { return {0.05F, 0}; }
  std::size_t arena_bytes() const override { return 0; }
  inference::Description describe() const override { return {"test", "none", "none", {}, {}}; }
  Status run(const std::int8_t* in, std::int8_t* out, inference::Scratch&) const override {
    if (broken || in[width_ - 1] == fails_on) return Status::unavailable("told to fail");
    for (std::size_t i = 0; i < width_; ++i) out[i] = static_cast<std::int8_t>(in[i] / divisor);
    return {};
  }
  Status run_batch(const std::int8_t* in, std::int8_t* out, std::size_t rows,
                   inference::Scratch& scratch) const override {
    for (std::size_t r = 0; r < rows; ++r)
      EDGECORE_TRY(run(in + r * width_, out + r * width_, scratch));
    return {};
  }
  bool broken = false;
  int fails_on = 1000;
  int divisor = 2;

 private:
  std::size_t width_;
};

inline std::shared_ptr<const inference::Binding> make_binding(const features::PartsPtr& parts,
                                                              double centre = 20) {
  std::vector<inference::Slot> slots;
  for (const Digest& feature : parts->fingerprints()) {
    inference::Slot slot;
    slot.feature = feature;
    slot.centre = slot.substitute = centre;
    slot.scale = 2;
    slot.clip_lo = -6;
    slot.clip_hi = 6;
    slots.push_back(slot);
  }
  return std::make_shared<inference::Binding>(inference::Binding::make(std::move(slots)).value());
}

// `count` readings of two pumps, some late, some null, one spike in fifty.
inline RowBatch readings(const SchemaPtr& schema, std::size_t count, std::uint32_t seed) {
  std::mt19937 chance(seed);
  RowBatch rows(schema);
  std::int64_t time = kStart;
  for (std::size_t i = 0; i < count; ++i) {
    time += kSecond;
    std::int64_t at = time;
    if (chance() % 20 == 0) at -= static_cast<std::int64_t>(chance() % 20) * kSecond;
    const std::size_t row = rows.add_row(at, "sim", i + 1);
    rows.set_bytes(row, 0, as_byte_span(chance() % 3 == 0 ? "b" : "a"));
    std::int64_t value = 19'000 + static_cast<std::int64_t>(chance() % 2'000);
    if (chance() % 50 == 0) value += 9'000;
    if (chance() % 30 != 0) rows.set_i64(row, 1, value);
  }
  return rows;
}

inline void copy_row(const RowBatch& from, std::size_t row, RowBatch& to) {
  const std::size_t at = to.add_row(from.time_ns(row), from.source(row), from.source_seq(row));
  to.set_bytes(at, 0, from.bytes(row, 0));
  if (from.present(row, 1)) to.set_i64(at, 1, from.i64(row, 1));
}

inline RowBatch slice(const RowBatch& from, std::size_t first, std::size_t count) {
  RowBatch out(from.schema());
  for (std::size_t i = first; i < std::min(first + count, from.count()); ++i)
    copy_row(from, i, out);
  return out;
}

// One open of one device's log.
class Device {
 public:
  explicit Device(std::shared_ptr<MemoryFs> disk = std::make_shared<MemoryFs>(),
                  std::uint64_t epoch = 1, Durability::Level source_level = Durability::kGroup,
                  double min_coverage = 0, features::PartsPtr given = nullptr)
      : fs(std::move(disk)),
        plan(make_view(source, min_coverage)),
        parts(given ? std::move(given) : parts_of(plan)),
        model(std::make_shared<Halver>(parts->width())) {
    LogOptions options;
    options.segment_bytes = 32 * 1024;
    options.store.fill(std::byte{7});
    options.epoch = epoch;
    options.salt = epoch * 77;
    options.durability[static_cast<std::size_t>(Tier::kBulk)].level = source_level;
    auto opened = Log::open(fs, "log", options, clock);
    status = opened.status();
    if (!opened.is_ok()) return;
    log = std::move(opened).value();
    std::vector<std::uint32_t> serving;
    for (std::uint32_t earlier = 1; earlier < epoch; ++earlier) serving.push_back(earlier * 10);
    auto made = Pipeline::create(log, parts, source, prediction, serving, gap);
    status = made.status();
    if (made.is_ok()) pipeline = std::move(made).value();
    spec.context = static_cast<std::uint32_t>(epoch) * 10;
    spec.aliases = serving;
    spec.run = blake3(as_byte_span("run"));
    spec.binding = make_binding(parts);
    spec.executor = model;
    spec.verdict = VerdictSpec{};
    spec.verdict->window = 32;
    spec.verdict->warmup = 8;
    spec.verdict->enter_count = 1;
    spec.verdict->exit_count = 2;
    spec.verdict->factor_permille = 3000;
  }

  Status serve() { return pipeline->set_role(Part::kActive, spec); }
  Status process(const RowBatch& rows) { return pipeline->process(rows, out); }
  // Events in (begin, end] may be missing; with `through`, rows up to that position went.
  Status tell(std::int64_t begin, std::int64_t end, std::uint64_t through = 0,
              const std::string& stream = "telemetry") {
    RowBatch rows(gap);
    const std::size_t row = rows.add_row(end, "device");
    rows.set_bytes(row, 0, as_byte_span(stream));
    rows.set_i64(row, 1, begin);
    rows.set_i64(row, 2, end);
    rows.set_bytes(row, 3, as_byte_span(through > 0 ? "lost" : "off"));
    if (through > 0) rows.set_i64(row, 4, static_cast<std::int64_t>(through));
    return log->append(rows).status();
  }

  std::shared_ptr<MemoryFs> fs;
  std::shared_ptr<ManualClock> clock = std::make_shared<ManualClock>(kStart);
  SchemaPtr source = source_schema();
  SchemaPtr prediction = prediction_schema();
  SchemaPtr gap = gap_schema();
  features::PlanPtr plan;
  features::PartsPtr parts;
  std::shared_ptr<Halver> model;
  Status status;
  std::shared_ptr<Log> log;
  std::unique_ptr<Pipeline> pipeline;
  RoleSpec spec;
  Predictions out;
};

// What the log says, by source sequence: every answer in every context but its numbers.
struct Said {
  std::uint64_t source_seq = 0;
  std::uint32_t context = 0;
  std::uint64_t position = 0, answered_at = 0;
  Answer answer;
};

inline std::vector<Said> said(Device& device) {
  EXPECT_TRUE(device.log->flush().is_ok());
  LogReader reader = device.log->reader();
  std::map<std::uint64_t, std::uint64_t> seqs;
  const auto rows_of = [&](const RowBatch& rows, std::size_t first, std::uint64_t position) {
    for (std::size_t row = first; row < rows.count(); ++row)
      seqs[position + row - first] = rows.source_seq(row);
    return Status::ok();
  };
  EXPECT_TRUE(visit_rows(reader, device.source, 0, UINT64_MAX, rows_of).is_ok());
  const auto columns = PredictionColumns::find(*device.prediction).value();
  std::vector<Said> out;
  const auto add = [&](const RowBatch& rows, std::size_t first, std::uint64_t position) {
    for (std::size_t row = first; row < rows.count(); ++row) {
      const Prediction found = columns.take(rows, row);
      EXPECT_TRUE(seqs.contains(found.position)) << "no row at " << found.position;
      out.push_back({seqs[found.position], found.context, found.position, position + row - first,
                     found.answer});
    }
    return Status::ok();
  };
  EXPECT_TRUE(visit_rows(reader, device.prediction, 0, UINT64_MAX, add).is_ok());
  std::stable_sort(out.begin(), out.end(),
                   [](const Said& a, const Said& b) { return a.source_seq < b.source_seq; });
  return out;
}

inline bool same(const Answer& a, const Answer& b) {
  return a.scored == b.scored && a.score == b.score && a.threshold == b.threshold &&
         a.verdict == b.verdict && a.episode == b.episode && a.clipped == b.clipped &&
         a.substituted == b.substituted && a.input == b.input && a.output == b.output;
}

inline void expect_same(const std::vector<Said>& a, const std::vector<Said>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(a[i].source_seq, b[i].source_seq) << i;
    ASSERT_TRUE(same(a[i].answer, b[i].answer)) << "row " << a[i].source_seq;
  }
}

}  // namespace edgecore::pipeline::testing
