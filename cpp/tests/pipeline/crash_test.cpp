// Power cuts at every operation, with everything the disk may lose lost by chance, and cut again
// in the replay: rows that survive have one serving prediction each, with the bits of a run that
// was never interrupted, the gaps that were told between them included.
#include <set>

#include "tests/pipeline/fixture.hpp"

namespace edgecore::pipeline {
namespace {

using namespace edgecore::pipeline::testing;

constexpr std::size_t kRows = 60;
constexpr double kMinCoverage = 0.05;  // of 10 minutes: met in the middle of the rows, less gaps

// Known before row `at` comes: the device was off.
Status tell_gap(Device& device, const RowBatch& rows, std::size_t at) {
  const std::int64_t time = rows.time_ns(at);
  return at % 12 == 8 ? device.tell(time - 9 * kSecond, time - kSecond) : Status::ok();
}

// Sends rows from `from` on, in small batches, until the power goes; the log is polled between.
void drive(Device& device, const RowBatch& rows, std::size_t from) {
  for (std::size_t at = from; at < rows.count(); at += 4) {
    if (!tell_gap(device, rows, at).is_ok()) return;
    if (!device.process(slice(rows, at, 4)).is_ok()) return;
    device.clock->advance(40'000'000);
    if (!device.log->poll(device.clock->monotonic_ns()).is_ok()) return;
  }
  static_cast<void>(device.log->sync());
}

// Source rows of the log, which are a prefix of what was sent.
std::size_t source_rows(Device& device) {
  std::set<std::uint64_t> seqs;
  const auto add = [&](const RowBatch& rows, std::size_t first, std::uint64_t) {
    for (std::size_t row = first; row < rows.count(); ++row) seqs.insert(rows.source_seq(row));
    return Status::ok();
  };
  EXPECT_TRUE(device.log->flush().is_ok());
  LogReader reader = device.log->reader();
  EXPECT_TRUE(visit_rows(reader, device.source, 0, UINT64_MAX, add).is_ok());
  EXPECT_TRUE(seqs.empty() || *seqs.rbegin() == seqs.size());
  return seqs.size();
}

class PipelineCrash : public ::testing::TestWithParam<DiskModel> {};

TEST_P(PipelineCrash, SurvivingRowsAreAnsweredOnceWithTheSameBits) {
  const RowBatch rows = readings(source_schema(), kRows, 21);
  Device whole(std::make_shared<MemoryFs>(), 1, Durability::kGroup, kMinCoverage);
  ASSERT_TRUE(whole.serve().is_ok());
  drive(whole, rows, 0);
  const auto expected = said(whole);
  ASSERT_EQ(expected.size(), kRows);

  const auto count_operations = [&] {
    Device device(std::make_shared<MemoryFs>(MemoryFsOptions{512, GetParam(), 1ull << 40}), 1,
                  Durability::kSync, kMinCoverage);
    EXPECT_TRUE(device.serve().is_ok());
    const std::uint64_t before = device.fs->operations();
    drive(device, rows, 0);
    return device.fs->operations() - before;
  };
  const std::uint64_t operations = count_operations();
  std::size_t completed = 0;
  for (std::uint64_t cut = 1; cut <= operations + 1; ++cut) {
    Device first(std::make_shared<MemoryFs>(MemoryFsOptions{512, GetParam(), 1ull << 40}), 1,
                 Durability::kSync, kMinCoverage);
    ASSERT_TRUE(first.serve().is_ok());
    first.fs->cut_power_at(cut);
    drive(first, rows, 0);
    auto disk = first.fs->crash(cut);
    // The power goes again while the replay runs.
    {
      Device second(disk, 2, Durability::kSync, kMinCoverage);
      ASSERT_TRUE(second.status.is_ok()) << "cut " << cut << ": " << second.status.to_string();
      ASSERT_TRUE(second.serve().is_ok());
      second.fs->cut_power_at(1 + cut % 7);
      static_cast<void>(second.pipeline->replay());
      static_cast<void>(second.log->sync());
      disk = second.fs->crash(cut + 1);
    }
    Device third(disk, 3, Durability::kSync, kMinCoverage);
    ASSERT_TRUE(third.status.is_ok()) << "cut " << cut << ": " << third.status.to_string();
    ASSERT_TRUE(third.serve().is_ok());
    ASSERT_TRUE(third.pipeline->replay().is_ok());
    completed += third.pipeline->counters().completed;
    drive(third, rows, source_rows(third));
    const auto found = said(third);
    ASSERT_EQ(found.size(), kRows) << "cut " << cut;
    for (std::size_t i = 0; i < kRows; ++i) {
      ASSERT_EQ(found[i].source_seq, i + 1) << "cut " << cut;
      ASSERT_TRUE(same(found[i].answer, expected[i].answer)) << "cut " << cut << " row " << i;
      ASSERT_GT(found[i].answered_at, found[i].position);
    }
  }
  EXPECT_GT(completed, 0u);  // the cut between the two appends was met
}

// ---------------------------------------------------------------- rows of another stream

constexpr std::size_t kBatch = 4;

SchemaPtr weather_schema() {
  auto outside = field("outside", DType::kDecimal, 1);
  EXPECT_TRUE(set_range(outside, -50, 60).is_ok());
  return make_schema("weather", Tier::kDiagnostic, {outside});
}

// The weather of the last ten minutes behind the features of the source.
features::PartsPtr with_weather(const features::PlanPtr& plan) {
  features::ViewSpec view;
  view.name = plan->view().name;
  view.stream = "weather";
  view.lateness_ns = 60 * kSecond;
  features::FeatureSpec last;
  last.name = "outside_last";
  last.op = features::Op::kLast;
  last.field = "outside";
  last.fingerprint = blake3(as_byte_span(last.name));
  view.features.push_back(last);
  auto weather = features::make_plan(view, weather_schema());
  EXPECT_TRUE(weather.is_ok()) << weather.status().to_string();
  std::vector<std::uint16_t> columns;
  for (std::uint16_t at = 0; at < plan->width(); ++at) columns.push_back(at);
  const auto width = static_cast<std::uint16_t>(plan->width());
  return features::Parts::make({{plan, columns, true}, {weather.value(), {width}, false}}).value();
}

// Before each batch the weather of its first row, and once in three after it. The log has the rows
// before `from`, and `told` of the weather.
void drive_joined(Device& device, const RowBatch& rows, std::size_t from, std::size_t told) {
  std::size_t count = 0;
  const auto tell = [&](std::size_t at, std::int64_t tenths) {
    if (count++ < told) return Status::ok();
    RowBatch weather(weather_schema());
    const std::size_t row = weather.add_row(rows.time_ns(at), "sky", at + 1);
    weather.set_i64(row, 0, tenths);
    const auto done = device.log->append(weather);
    if (done.is_ok() && at % 8 == 0) device.pipeline->observe(weather, done.value().position);
    return done.status();
  };
  for (std::size_t at = 0; at < rows.count(); at += kBatch) {
    if (!tell(at, static_cast<std::int64_t>(150 + at)).is_ok()) return;
    if (at >= from && !device.process(slice(rows, at, kBatch)).is_ok()) return;
    if (at / kBatch % 3 == 0 && !tell(at, static_cast<std::int64_t>(250 - at)).is_ok()) return;
    device.clock->advance(40'000'000);
    if (!device.log->poll(device.clock->monotonic_ns()).is_ok()) return;
  }
  static_cast<void>(device.log->sync());
}

std::size_t weather_rows(Device& device) {
  std::size_t count = 0;
  LogReader reader = device.log->reader();
  const auto add = [&](const RowBatch& rows, std::size_t first, std::uint64_t) {
    count += rows.count() - first;
    return Status::ok();
  };
  EXPECT_TRUE(visit_rows(reader, weather_schema(), 0, UINT64_MAX, add).is_ok());
  return count;
}

TEST_P(PipelineCrash, RowsOfAnotherStreamAreMetWhereTheyStood) {
  const RowBatch rows = readings(source_schema(), kRows, 22);
  const auto fresh = [&](std::shared_ptr<MemoryFs> disk, std::uint64_t epoch) {
    return std::make_unique<Device>(std::move(disk), epoch, Durability::kSync, 0,
                                    with_weather(make_view(source_schema())));
  };
  const auto disk_of = [&] {
    return std::make_shared<MemoryFs>(MemoryFsOptions{512, GetParam(), 1ull << 40});
  };
  const auto whole = fresh(disk_of(), 1);
  ASSERT_TRUE(whole->serve().is_ok());
  const std::uint64_t before = whole->fs->operations();
  drive_joined(*whole, rows, 0, 0);
  const std::uint64_t operations = whole->fs->operations() - before;
  const auto expected = said(*whole);
  ASSERT_EQ(expected.size(), kRows);
  std::size_t completed = 0;
  for (std::uint64_t cut = 1; cut <= operations + 1; cut += 3) {
    const auto first = fresh(disk_of(), 1);
    ASSERT_TRUE(first->serve().is_ok());
    first->fs->cut_power_at(cut);
    drive_joined(*first, rows, 0, 0);
    const auto again = fresh(first->fs->crash(cut), 2);
    ASSERT_TRUE(again->status.is_ok()) << "cut " << cut << ": " << again->status.to_string();
    ASSERT_TRUE(again->serve().is_ok());
    ASSERT_TRUE(again->pipeline->replay().is_ok());
    completed += again->pipeline->counters().completed;
    const std::size_t from = source_rows(*again);
    drive_joined(*again, rows, from, weather_rows(*again));
    const auto found = said(*again);
    ASSERT_EQ(found.size(), kRows) << "cut " << cut;
    for (std::size_t i = 0; i < kRows; ++i)
      ASSERT_TRUE(same(found[i].answer, expected[i].answer)) << "cut " << cut << " row " << i;
  }
  EXPECT_GT(completed, 0u);
}

INSTANTIATE_TEST_SUITE_P(Models, PipelineCrash,
                         ::testing::Values(DiskModel::kPosix, DiskModel::kExt4));

}  // namespace
}  // namespace edgecore::pipeline
