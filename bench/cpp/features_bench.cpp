// What one event costs, timed one by one, without Python in the process:
//
//     features_bench WINDOWS ENTITIES EVENTS        prints {"median": ns, "p999": ns, "worst": ns}
//
// An event is an update and a read of its entity as of its time: count, sum, mean, std, min and max
// of WINDOWS windows, of which the longest, an hour, holds EVENTS of each entity. The same events
// run several times from the start, and each counts with its least time: what an interrupt or a
// neighbour took is gone, what the event itself costs at its place is not.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "base/normalise.hpp"
#include "driver.hpp"
#include "features/engine.hpp"

namespace {

using namespace edgecore;

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kHour = 3600 * kSecond;
constexpr std::int64_t kStart = 1'700'000'000 * kSecond;
constexpr std::uint64_t kTimed = 20'000;  // events
constexpr int kRuns = 5;

template <typename T>
T must(Result<T> found) {
  if (found.is_ok()) return std::move(found).value();
  bench::end(found.status().to_string());
}

void must_do(const Status& status) {
  if (!status.is_ok()) bench::end(status.to_string());
}

SchemaPtr telemetry() {
  auto schema = std::make_shared<Schema>();
  schema->stream = "telemetry";
  Field pump;
  pump.name = "pump";
  pump.dtype = DType::kCategory;
  Field temp;
  temp.name = "temp";
  temp.dtype = DType::kDecimal;
  temp.scale = 3;
  must_do(set_range(temp, 0, 100));
  schema->fields = {pump, temp};
  return schema;
}

features::PlanPtr plan_of(const SchemaPtr& schema, int windows) {
  using features::Op;
  features::ViewSpec view;
  view.name = "bench";
  view.entity = "pump";
  view.stream = "telemetry";
  for (int i = 0; i < windows; ++i)
    for (const Op op : {Op::kCount, Op::kSum, Op::kMean, Op::kStd, Op::kMin, Op::kMax}) {
      features::FeatureSpec one;
      one.op = op;
      one.version = 1;
      one.field = "temp";
      one.window_ns = kHour >> i;
      one.name = std::to_string(view.features.size());
      view.features.push_back(one);
    }
  return must(features::make_plan(std::move(view), schema));
}

class Events {
 public:
  Events(features::PlanPtr plan, std::uint64_t entities, std::uint64_t events)
      : engine_(must(features::Engine::create(plan))),
        rows_(plan->schema()),
        entities_(entities),
        step_(kHour / static_cast<std::int64_t>(entities * events)),
        values_(plan->width()),
        states_(plan->width()) {}

  std::int64_t next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;  // the seed: 20
    name_ = std::to_string(at_ % entities_);
    rows_.clear();
    rows_.add_row(kStart + static_cast<std::int64_t>(at_) * step_);
    rows_.set_bytes(0, 0, as_byte_span(name_));
    rows_.set_i64(0, 1, static_cast<std::int64_t>(20'000 + (state_ >> 33) % 5000));
    const std::int64_t began = bench::now_ns(CLOCK_MONOTONIC);
    must_do(engine_->update(rows_, 0, 1, ++at_));
    must_do(engine_->read(name_, rows_.time_ns(0), {values_, states_, {}, {}, {}}));
    return bench::now_ns(CLOCK_MONOTONIC) - began;
  }

 private:
  std::unique_ptr<features::Engine> engine_;
  RowBatch rows_;
  std::uint64_t entities_, at_ = 0, state_ = 20;
  std::int64_t step_;
  std::string name_;
  std::vector<double> values_;
  std::vector<std::uint8_t> states_;
};

// What reading the clock twice takes.
std::int64_t clock_ns() {
  std::int64_t least = kSecond;
  for (int i = 0; i < 1000; ++i) {
    const std::int64_t began = bench::now_ns(CLOCK_MONOTONIC);
    least = std::min(least, bench::now_ns(CLOCK_MONOTONIC) - began);
  }
  return least;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: features_bench WINDOWS ENTITIES EVENTS\n");
    return 2;
  }
  const std::uint64_t entities = std::strtoull(argv[2], nullptr, 10);
  const std::uint64_t events = std::strtoull(argv[3], nullptr, 10);
  const features::PlanPtr plan = plan_of(telemetry(), std::atoi(argv[1]));
  std::vector<std::int64_t> least(kTimed, kSecond);
  for (int run = 0; run < kRuns; ++run) {
    Events stream(plan, entities, events);
    for (std::uint64_t i = 0; i < entities * events + entities; ++i) stream.next();
    for (auto& one : least) one = std::min(one, stream.next());
  }
  std::sort(least.begin(), least.end());
  const std::int64_t clock = clock_ns();
  std::printf("{\"median\": %lld, \"p999\": %lld, \"worst\": %lld}\n",
              static_cast<long long>(least[kTimed / 2] - clock),
              static_cast<long long>(least[kTimed - kTimed / 1000] - clock),
              static_cast<long long>(least.back() - clock));
  return 0;
}
