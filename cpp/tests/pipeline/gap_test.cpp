// Gaps that are told in the log, between rows: every answer behind one knows of it, in the stream,
// after a restart anywhere, and in a replay from nothing.
#include "pipeline/gap.hpp"

#include "tests/pipeline/fixture.hpp"

namespace edgecore::pipeline {
namespace {

using namespace edgecore::pipeline::testing;

constexpr double kHalf = 0.5;  // of one minute and of ten must be known

Device judged(std::shared_ptr<MemoryFs> disk = std::make_shared<MemoryFs>(),
              std::uint64_t epoch = 1) {
  return Device(std::move(disk), epoch, Durability::kGroup, kHalf);
}

struct Told {
  std::size_t before = 0;  // the row that it is known before
  std::int64_t begin = 0, end = 0;
};

std::vector<Told> random_gaps(const RowBatch& rows, std::uint32_t seed) {
  std::mt19937 chance(seed);
  std::vector<Told> out;
  for (std::size_t row = 1; row < rows.count(); ++row) {
    if (chance() % 9 != 0) continue;
    const std::int64_t end = rows.time_ns(row) - static_cast<std::int64_t>(chance() % 5) * kSecond;
    out.push_back({row, end - static_cast<std::int64_t>(chance() % 30) * kSecond, end});
  }
  return out;
}

// Rows [first, last) one by one, each behind the gaps that were known before it.
void drive(Device& device, const RowBatch& rows, const std::vector<Told>& gaps, std::size_t first,
           std::size_t last) {
  for (std::size_t row = first; row < last; ++row) {
    for (const Told& gap : gaps)
      if (gap.before == row) {
        ASSERT_TRUE(device.tell(gap.begin, gap.end).is_ok());
      }
    ASSERT_TRUE(device.process(slice(rows, row, 1)).is_ok());
  }
}

std::size_t substituted(const std::vector<Said>& found) {
  std::size_t out = 0;
  for (const Said& one : found) out += one.answer.substituted;
  return out;
}

TEST(PipelineGap, AnswersBehindItAreThoseOfAnEngineThatWasTold) {
  Device device = judged();
  ASSERT_TRUE(device.serve().is_ok());
  const RowBatch rows = readings(device.source, 300, 41);
  const auto gaps = random_gaps(rows, 41);
  ASSERT_GT(gaps.size(), 10u);
  drive(device, rows, gaps, 0, rows.count());
  const auto found = said(device);
  auto engine = features::Engine::create(device.plan).value();
  std::vector<double> values(device.plan->width());
  std::vector<std::uint8_t> states(device.plan->width());
  std::size_t missing = 0, position = 0;
  for (std::size_t row = 0; row < rows.count(); ++row) {
    for (const Told& gap : gaps)
      if (gap.before == row) {
        ASSERT_TRUE(engine->gap(gap.begin, gap.end).is_ok());
      }
    ASSERT_TRUE(engine->update(rows, row, 1, ++position).is_ok());
    if (engine->was_set_aside()) continue;
    ASSERT_TRUE(
        engine->read(rows.text(row, 0), rows.time_ns(row), {values, states, {}, {}, {}}).is_ok());
    std::size_t want = 0;
    for (const std::uint8_t state : states)
      want += state == static_cast<std::uint8_t>(features::State::kMissing);
    EXPECT_EQ(found[row].answer.substituted, want) << row;
    missing += want;
  }
  EXPECT_GT(missing, 100u);
  Device untold = judged();
  ASSERT_TRUE(untold.serve().is_ok());
  drive(untold, rows, {}, 0, rows.count());
  EXPECT_GT(substituted(found), substituted(said(untold)));
}

TEST(PipelineGap, RestartAnywhereGoesOnWithTheSameBits) {
  const RowBatch rows = readings(source_schema(), 90, 42);
  const auto gaps = random_gaps(rows, 42);
  Device whole = judged();
  ASSERT_TRUE(whole.serve().is_ok());
  drive(whole, rows, gaps, 0, rows.count());
  const auto expected = said(whole);
  for (std::size_t cut = 1; cut < rows.count(); ++cut) {
    for (const bool with_snapshot : {true, false}) {
      auto disk = std::make_shared<MemoryFs>();
      Bytes snapshot;
      {
        Device first = judged(disk);
        ASSERT_TRUE(first.serve().is_ok());
        drive(first, rows, gaps, 0, cut / 2 + 1);
        snapshot = first.pipeline->snapshot().value();
        drive(first, rows, gaps, cut / 2 + 1, cut);
        // Told, and then the power goes before the row comes that it was told before.
        for (const Told& gap : gaps)
          if (gap.before == cut) {
            ASSERT_TRUE(first.tell(gap.begin, gap.end).is_ok());
          }
        ASSERT_TRUE(first.log->close().is_ok());
      }
      Device second = judged(disk, 2);
      ASSERT_TRUE(second.serve().is_ok());
      if (with_snapshot) {
        ASSERT_TRUE(second.pipeline->restore(snapshot).is_ok());
      }
      ASSERT_TRUE(second.pipeline->replay().is_ok());
      EXPECT_EQ(second.pipeline->counters().completed, 0u);
      drive(second, rows, gaps, std::max<std::size_t>(cut, cut / 2 + 1), rows.count());
      expect_same(expected, said(second));
      if (HasFatalFailure()) return;
    }
  }
}

TEST(PipelineGap, OfOtherStreamsOrWithoutASpanItChangesNothing) {
  const RowBatch rows = readings(source_schema(), 120, 43);
  std::vector<std::vector<Said>> runs;
  for (const bool hostile : {false, true}) {
    Device device = judged();
    ASSERT_TRUE(device.serve().is_ok());
    ASSERT_TRUE(device.process(slice(rows, 0, 90)).is_ok());
    if (hostile) {
      const std::int64_t now = rows.time_ns(89);
      ASSERT_TRUE(device.tell(now - 50 * kSecond, now, 0, "vibration").is_ok());
      ASSERT_TRUE(device.tell(now - 50 * kSecond, now, 0, "").is_ok());
      ASSERT_TRUE(device.tell(now, now - 50 * kSecond).is_ok());
      ASSERT_TRUE(device.tell(now, now).is_ok());
      ASSERT_TRUE(device.tell(INT64_MAX, INT64_MIN).is_ok());
      ASSERT_TRUE(device.tell(INT64_MIN, INT64_MIN).is_ok());
      RowBatch empty(device.gap);  // every field null
      empty.add_row(now);
      ASSERT_TRUE(device.log->append(empty).is_ok());
    }
    ASSERT_TRUE(device.process(slice(rows, 90, 30)).is_ok());
    runs.push_back(said(device));
  }
  expect_same(runs[0], runs[1]);
}

TEST(PipelineGap, OfAllOfTimeLeavesNothingKnownAndStopsNothing) {
  Device device = judged();
  ASSERT_TRUE(device.serve().is_ok());
  const RowBatch rows = readings(device.source, 120, 43);
  ASSERT_TRUE(device.process(slice(rows, 0, 90)).is_ok());
  ASSERT_TRUE(device.tell(INT64_MIN, INT64_MAX).is_ok());
  ASSERT_TRUE(device.process(slice(rows, 90, 30)).is_ok());
  for (const Prediction& one : device.out.served) {
    if (!one.answer.scored) continue;       // late
    EXPECT_GE(one.answer.substituted, 2u);  // the newest value is known all the same
    EXPECT_LE(one.answer.substituted, 3u);
  }
  EXPECT_EQ(device.pipeline->counters().feature_errors, 0u);
}

TEST(PipelineGap, OfRowsThatWentLaterDoesNotConcernWhoHasMetThem) {
  auto disk = std::make_shared<MemoryFs>();
  const RowBatch rows = readings(source_schema(), 150, 44);
  Bytes snapshot;
  std::vector<Said> expected;
  {
    Device device = judged(disk);
    ASSERT_TRUE(device.serve().is_ok());
    ASSERT_TRUE(device.process(slice(rows, 0, 120)).is_ok());
    snapshot = device.pipeline->snapshot().value();
    const std::uint64_t through = said(device)[60].position;
    ASSERT_TRUE(device.tell(rows.time_ns(40), rows.time_ns(110), through).is_ok());
    ASSERT_TRUE(device.process(slice(rows, 120, 15)).is_ok());
    expected = said(device);
    ASSERT_TRUE(device.log->close().is_ok());
  }
  Device untold = judged();
  ASSERT_TRUE(untold.serve().is_ok());
  ASSERT_TRUE(untold.process(slice(rows, 0, 135)).is_ok());
  expect_same(expected, said(untold));
  std::array<std::size_t, 2> missing{};
  for (const bool with_snapshot : {true, false}) {
    Device again = judged(disk->crash(1), with_snapshot ? 2 : 3);
    ASSERT_TRUE(again.serve().is_ok());
    if (with_snapshot) {
      ASSERT_TRUE(again.pipeline->restore(snapshot).is_ok());
    }
    ASSERT_TRUE(again.pipeline->replay().is_ok());
    ASSERT_TRUE(again.process(slice(rows, 135, 1)).is_ok());
    missing[with_snapshot] = again.out.served.at(0).answer.substituted;
  }
  EXPECT_EQ(missing[1], 1u);  // of ten minutes, which nobody has yet
  EXPECT_EQ(missing[0], 2u);  // of the minute too
}

TEST(PipelineGap, ToldWhileRowsAreTakenHoldsByItsPosition) {
  auto disk = std::make_shared<MemoryFs>();
  const RowBatch rows = readings(source_schema(), 1500, 45);
  std::size_t told = 0;
  std::vector<Said> live;
  {
    Device device = judged(disk);
    ASSERT_TRUE(device.serve().is_ok());
    std::size_t at = 0;
    bool inside = false;
    device.pipeline->set_waiter([&](const std::function<Status()>& work) {
      if (!inside) {  // the log is about to make room for the rows, or to read of gaps
        inside = true;
        EXPECT_TRUE(device.tell(rows.time_ns(at) - 50 * kSecond, rows.time_ns(at)).is_ok());
        ++told;
      }
      return work();
    });
    for (; at < rows.count(); at += 10) {
      inside = at < 60;
      ASSERT_TRUE(device.process(slice(rows, at, 10)).is_ok());
    }
    ASSERT_GT(told, 3u);
    live = said(device);
    ASSERT_TRUE(device.log->close().is_ok());
  }
  Device again = judged(disk, 2);
  ASSERT_TRUE(again.serve().is_ok());
  RebuildPlan plan{parts_of(again.plan), again.source, again.prediction, {10},
                   Part::kActive,        again.spec,   again.gap};
  plan.role.context = 10;
  ASSERT_TRUE(again.log->flush().is_ok());
  for (std::size_t i = 0; i < live.size(); i += 10) {
    const auto found = rebuild(again.log->reader(), plan, live[i].position);
    ASSERT_TRUE(found.is_ok()) << found.status().to_string();
    ASSERT_TRUE(same(found->prediction.answer, live[i].answer)) << i;
  }
}

TEST(PipelineGap, ASchemaWithoutItsFieldsIsIncompatible) {
  const SchemaPtr good = gap_schema();
  EXPECT_TRUE(GapColumns::find(*good).is_ok());
  for (const std::size_t gone : {0u, 1u, 2u, 4u}) {
    Schema bad = *good;
    bad.fields[gone].name = "other";
    EXPECT_EQ(GapColumns::find(bad).status().outcome(), Outcome::kIncompatible);
    bad = *good;
    bad.fields[gone].dtype = DType::kU32;  // of none of them
    EXPECT_EQ(GapColumns::find(bad).status().outcome(), Outcome::kIncompatible);
  }
}

}  // namespace
}  // namespace edgecore::pipeline
