#include "pipeline/pipeline.hpp"

#include "tests/pipeline/fixture.hpp"

namespace edgecore::pipeline {
namespace {

using namespace edgecore::pipeline::testing;

std::vector<Said> run_in_batches(const RowBatch& rows, std::size_t size) {
  Device device;
  EXPECT_TRUE(device.serve().is_ok());
  for (std::size_t at = 0; at < rows.count(); at += size)
    EXPECT_TRUE(device.process(slice(rows, at, size)).is_ok());
  return said(device);
}

TEST(Pipeline, EveryRowGetsOnePredictionBehindItself) {
  Device device;
  ASSERT_TRUE(device.serve().is_ok()) << device.status.to_string();
  const RowBatch rows = readings(device.source, 300, 1);
  ASSERT_TRUE(device.process(rows).is_ok());
  ASSERT_EQ(device.out.served.size(), 300u);
  EXPECT_TRUE(device.out.recorded);
  const auto found = said(device);
  ASSERT_EQ(found.size(), 300u);
  std::size_t anomalous = 0, not_judged = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].source_seq, i + 1);
    EXPECT_GT(found[i].answered_at, found[i].position);
    EXPECT_TRUE(same(found[i].answer, device.out.served[i].answer));
    anomalous += found[i].answer.verdict == kAnomalous;
    not_judged += found[i].answer.verdict == kNotJudged;
  }
  EXPECT_GT(anomalous, 0u);
  EXPECT_GT(device.pipeline->counters().late, 0u);
  EXPECT_EQ(not_judged, device.spec.verdict->warmup + device.pipeline->counters().late);
}

TEST(Pipeline, StreamAndBatchesOfAnySizeGiveTheSameBits) {
  const RowBatch rows = readings(source_schema(), 500, 2);
  const auto one_by_one = run_in_batches(rows, 1);
  for (const std::size_t size : {3u, 64u, 65u, 500u})
    expect_same(one_by_one, run_in_batches(rows, size));
}

TEST(Pipeline, RestartFromSnapshotOrFromNothingGoesOnWithTheSameBits) {
  const RowBatch rows = readings(source_schema(), 240, 3);
  const auto whole = run_in_batches(rows, 1);
  for (const std::size_t cut : {1u, 7u, 64u, 100u, 239u}) {
    for (const bool with_snapshot : {true, false}) {
      auto disk = std::make_shared<MemoryFs>();
      Bytes snapshot;
      {
        Device first(disk);
        ASSERT_TRUE(first.serve().is_ok());
        ASSERT_TRUE(first.process(slice(rows, 0, cut / 2 + 1)).is_ok());
        snapshot = first.pipeline->snapshot().value();
        if (cut > cut / 2 + 1) {
          ASSERT_TRUE(first.process(slice(rows, cut / 2 + 1, cut - cut / 2 - 1)).is_ok());
        }
        ASSERT_TRUE(first.log->close().is_ok());
      }
      Device second(disk, 2);
      ASSERT_TRUE(second.serve().is_ok());
      if (with_snapshot) {
        ASSERT_TRUE(second.pipeline->restore(snapshot).is_ok());
      }
      EXPECT_EQ(second.process(slice(rows, cut, 1)).outcome(), Outcome::kInvalid);
      ASSERT_TRUE(second.pipeline->replay().is_ok());
      EXPECT_EQ(second.pipeline->counters().completed, 0u);
      ASSERT_TRUE(
          second.process(slice(rows, std::max<std::size_t>(cut, cut / 2 + 1), 500)).is_ok());
      expect_same(whole, said(second));
    }
  }
}

TEST(Pipeline, MissingFeaturesAreSubstitutedAndCounted) {
  Device device;
  ASSERT_TRUE(device.serve().is_ok());
  RowBatch rows(device.source);
  rows.set_bytes(rows.add_row(kStart), 0, as_byte_span("new"));  // no temperature was ever seen
  ASSERT_TRUE(device.process(rows).is_ok());
  const Answer& answer = device.out.served.at(0).answer;
  EXPECT_EQ(answer.substituted, 3u);
  EXPECT_TRUE(answer.scored);
  EXPECT_EQ(answer.score, 0);  // the substitute is the centre
  const std::array<std::int8_t, 3> zeros{};
  EXPECT_EQ(answer.input, blake3(std::as_bytes(std::span(zeros))));
}

TEST(Pipeline, FailedModelIsAnsweredByTheFallbackThenByTheRule) {
  Device device;
  ASSERT_TRUE(device.serve().is_ok());
  auto standby = std::make_shared<Halver>();
  RoleSpec fallback = device.spec, rule = device.spec;
  fallback.context = 2;
  fallback.executor = standby;
  rule.context = 3;
  rule.executor = nullptr;
  rule.verdict.reset();
  rule.limit = 9'000'000;
  ASSERT_TRUE(device.pipeline->set_role(Part::kFallback, fallback).is_ok());
  ASSERT_TRUE(device.pipeline->set_role(Part::kRule, rule).is_ok());
  const RowBatch rows = readings(device.source, 90, 4);
  ASSERT_TRUE(device.process(slice(rows, 0, 30)).is_ok());
  device.model->broken = true;
  ASSERT_TRUE(device.process(slice(rows, 30, 30)).is_ok());
  std::size_t late = 0;  // rows that are too late are not judged by anybody
  for (const Prediction& one : device.out.served) {
    if (!one.answer.scored && ++late) continue;
    EXPECT_EQ(one.part, Part::kFallback);
    EXPECT_NE(one.answer.verdict, kNotJudged);  // a standby is warm
  }
  standby->broken = true;
  ASSERT_TRUE(device.process(slice(rows, 60, 29)).is_ok());
  for (const Prediction& one : device.out.served) {
    if (!one.answer.scored && ++late) continue;
    EXPECT_EQ(one.part, Part::kRule);
    EXPECT_EQ(one.context, 3u);
    EXPECT_TRUE(one.answer.scored);
    EXPECT_EQ(one.answer.threshold, 9'000'000);
  }
  EXPECT_TRUE(device.pipeline->find_role(Part::kFallback)->retired());
  device.pipeline->clear_role(Part::kRule);
  ASSERT_TRUE(device.process(slice(rows, 89, 1)).is_ok());
  EXPECT_FALSE(device.out.served.at(0).answer.scored);  // said, not silent
  EXPECT_EQ(device.out.served.at(0).answer.verdict, kNotJudged);
  const auto& counters = device.pipeline->counters();
  EXPECT_EQ(counters.by_fallback + counters.by_rule + late, 59u);
  EXPECT_LT(late, 9u);
  EXPECT_EQ(counters.unanswered, 1u);
  EXPECT_EQ(said(device).size(), 90u);
}

TEST(Pipeline, RowsThatAModelFailsFallBackAloneInABatchAsInAStream) {
  const RowBatch rows = readings(source_schema(), 200, 5);
  std::vector<std::vector<Said>> runs;
  for (const std::size_t size : {1u, 200u}) {
    Device device;
    device.model->fails_on = -7;
    ASSERT_TRUE(device.serve().is_ok());
    for (std::size_t at = 0; at < rows.count(); at += size)
      ASSERT_TRUE(device.process(slice(rows, at, size)).is_ok());
    EXPECT_GT(device.pipeline->counters().unanswered, 0u);
    EXPECT_LT(device.pipeline->counters().unanswered, 100u);
    runs.push_back(said(device));
  }
  expect_same(runs[0], runs[1]);
}

TEST(Pipeline, ShadowIsRecordedBesideAndServesNothing) {
  Device device;
  RoleSpec shadow = device.spec;
  auto other = std::make_shared<Halver>();
  other->divisor = 3;
  shadow.context = 5;
  shadow.executor = other;
  ASSERT_TRUE(device.serve().is_ok());
  ASSERT_TRUE(device.pipeline->set_role(Part::kShadow, shadow).is_ok());
  const RowBatch rows = readings(device.source, 40, 6);
  ASSERT_TRUE(device.process(slice(rows, 0, 20)).is_ok());
  EXPECT_EQ(device.out.served.size(), 20u);
  EXPECT_EQ(device.out.shadow.size(), 20u);
  EXPECT_EQ(said(device).size(), 40u);
  other->broken = true;  // a shadow that fails leaves; the trial sees it
  ASSERT_TRUE(device.process(slice(rows, 20, 20)).is_ok());
  EXPECT_TRUE(device.out.shadow.empty());
  EXPECT_EQ(device.out.served.size(), 20u);
  EXPECT_TRUE(device.pipeline->find_role(Part::kShadow)->retired());
}

TEST(Pipeline, WithoutARoleRowsAreLoggedAndFeaturesKept) {
  Device device;
  const RowBatch rows = readings(device.source, 100, 7);
  ASSERT_TRUE(device.process(slice(rows, 0, 50)).is_ok());
  EXPECT_TRUE(device.out.served.empty());
  EXPECT_EQ(device.log->position(), 50u);
  // A role set now, which is to have seen what was there before, is as if it had always been.
  RoleSpec warm = device.spec;
  warm.at = device.pipeline->position();
  ASSERT_TRUE(device.pipeline->set_role(Part::kActive, warm).is_ok());
  ASSERT_TRUE(device.process(slice(rows, 50, 50)).is_ok());
  const auto late = said(device);
  const auto always = run_in_batches(rows, 1);
  ASSERT_EQ(late.size(), 50u);
  for (std::size_t i = 0; i < 50; ++i) EXPECT_TRUE(same(late[i].answer, always[50 + i].answer));
}

TEST(Pipeline, RoleIsSwappedBetweenBatchesAndRefusedOneLeavesTheOldInPlace) {
  Device device;
  ASSERT_TRUE(device.serve().is_ok());
  const RowBatch rows = readings(device.source, 60, 8);
  ASSERT_TRUE(device.process(slice(rows, 0, 20)).is_ok());
  RoleSpec wrong = device.spec;
  wrong.executor = std::make_shared<Halver>(4);
  EXPECT_EQ(device.pipeline->set_role(Part::kActive, wrong).outcome(), Outcome::kIncompatible);
  RoleSpec foreign = device.spec;
  auto slots = device.spec.binding->slots();
  slots[1].feature[0] ^= std::byte{1};
  foreign.binding = std::make_shared<inference::Binding>(inference::Binding::make(slots).value());
  EXPECT_EQ(device.pipeline->set_role(Part::kActive, foreign).outcome(), Outcome::kIncompatible);
  ASSERT_TRUE(device.process(slice(rows, 20, 20)).is_ok());
  EXPECT_EQ(device.out.served.at(0).context, 10u);
  RoleSpec next = device.spec;
  next.context = 11;
  next.since = next.at = device.pipeline->position();
  ASSERT_TRUE(device.pipeline->set_role(Part::kActive, next).is_ok());
  ASSERT_TRUE(device.process(slice(rows, 40, 20)).is_ok());
  for (std::size_t i = 0; i < 20; ++i) {
    EXPECT_EQ(device.out.served[i].context, 11u);
    EXPECT_EQ(device.out.served[i].answer.verdict == kNotJudged, i < 8);  // a verdict of its own
  }
}

TEST(Pipeline, FullDiskKeepsPredictionsUntilThereIsRoom) {
  Device device(std::make_shared<MemoryFs>(), 1, Durability::kSync);
  ASSERT_TRUE(device.serve().is_ok());
  const RowBatch rows = readings(device.source, 30, 9);
  ASSERT_TRUE(device.process(slice(rows, 0, 10)).is_ok());
  const auto fault = device.fs->inject({FaultEffect::kNoSpace, kMutations, "", 0, true});
  EXPECT_FALSE(device.process(slice(rows, 10, 10)).is_ok());  // not taken, so not lost
  EXPECT_GT(device.fs->fired(fault), 0u);
  device.fs->clear_faults();
  Status again = device.process(slice(rows, 10, 10));
  if (!again.is_ok()) {
    ASSERT_TRUE(device.pipeline->replay().is_ok());
    again = device.process(slice(rows, 10, 10));
  }
  ASSERT_TRUE(again.is_ok()) << again.to_string();
  ASSERT_TRUE(device.process(slice(rows, 20, 10)).is_ok());
  expect_same(run_in_batches(rows, 1), said(device));
}

TEST(Pipeline, RowsAppendedAroundItAreNoticedAndTakenInByReplay) {
  Device device;
  ASSERT_TRUE(device.serve().is_ok());
  const RowBatch rows = readings(device.source, 30, 10);
  ASSERT_TRUE(device.process(slice(rows, 0, 10)).is_ok());
  ASSERT_TRUE(device.log->append(slice(rows, 10, 10)).is_ok());
  EXPECT_EQ(device.process(slice(rows, 20, 10)).outcome(), Outcome::kInvalid);
  ASSERT_TRUE(device.pipeline->replay().is_ok());
  ASSERT_TRUE(device.process(slice(rows, 20, 10)).is_ok());
  expect_same(run_in_batches(rows, 1), said(device));
}

TEST(Pipeline, SnapshotOfAnotherStoreViewOrLaterLogIsRefusedAndChangesNothing) {
  const RowBatch rows = readings(source_schema(), 40, 11);
  Device device;
  ASSERT_TRUE(device.serve().is_ok());
  ASSERT_TRUE(device.process(rows).is_ok());
  const Bytes good = device.pipeline->snapshot().value();
  Device empty;
  ASSERT_TRUE(empty.serve().is_ok());
  EXPECT_EQ(empty.pipeline->restore(good).outcome(), Outcome::kStale);
  for (std::size_t at = 0; at < good.size(); at += 5) {
    Bytes bad = good;
    bad[at] ^= std::byte{0x10};
    EXPECT_EQ(device.pipeline->restore(bad).outcome(), Outcome::kCorrupt) << at;
    EXPECT_EQ(device.pipeline->restore(ByteSpan(good).first(at)).outcome(), Outcome::kCorrupt);
  }
  EXPECT_EQ(device.pipeline->position(), 40u);
  EXPECT_TRUE(device.pipeline->restore(good).is_ok());
}

TEST(Pipeline, SnapshotSealedOverWrongContentsIsRefusedOrTakenWholeAndNeverHarms) {
  const RowBatch rows = readings(source_schema(), 60, 12);
  Device device;
  ASSERT_TRUE(device.serve().is_ok());
  ASSERT_TRUE(device.process(rows).is_ok());
  const Bytes good = device.pipeline->snapshot().value();
  std::size_t refused = 0;
  for (std::size_t at = 0; at + 32 < good.size(); ++at) {
    for (const auto flip : {std::byte{0x01}, std::byte{0x80}, std::byte{0xff}}) {
      Bytes bad = good;
      bad[at] ^= flip;
      const Digest seal = blake3(ByteSpan(bad).first(bad.size() - sizeof(Digest)));
      std::copy(seal.begin(), seal.end(), bad.end() - sizeof(Digest));
      Device fresh(device.fs->crash(1), 2);
      ASSERT_TRUE(fresh.status.is_ok());
      ASSERT_TRUE(fresh.serve().is_ok());
      const Status status = fresh.pipeline->restore(bad);
      if (status.is_ok()) continue;
      ++refused;
      EXPECT_EQ(fresh.pipeline->position(), 0u);
    }
    if (at > 200) at += 12;
  }
  EXPECT_GT(refused, 100u);
}

}  // namespace
}  // namespace edgecore::pipeline
