// Lineage: what was said can be said again from the log, and only from that log and that release.
#include "pipeline/rebuild.hpp"

#include "tests/pipeline/fixture.hpp"

namespace edgecore::pipeline {
namespace {

using namespace edgecore::pipeline::testing;

class Rebuild : public ::testing::Test {
 protected:
  void SetUp() override {
    rows_ = readings(device_.source, 120, 31);
    ASSERT_TRUE(device_.serve().is_ok());
    ASSERT_TRUE(device_.process(slice(rows_, 0, 60)).is_ok());
    ASSERT_TRUE(device_.process(slice(rows_, 60, 60)).is_ok());
    found_ = said(device_);
  }
  RebuildPlan plan() const {
    return {parts_of(device_.plan), device_.source, device_.prediction, {10},
            Part::kActive,          device_.spec};
  }
  Answer again(const RebuildPlan& plan, std::uint64_t position) const {
    auto rebuilt = rebuild(device_.log->reader(), plan, position);
    EXPECT_TRUE(rebuilt.is_ok()) << rebuilt.status().to_string();
    return rebuilt.is_ok() ? rebuilt->prediction.answer : Answer();
  }

  Device device_;
  RowBatch rows_{device_.source};
  std::vector<Said> found_;
};

TEST_F(Rebuild, EveryPredictionComesOutTheSame) {
  for (std::size_t i = 0; i < found_.size(); i += 7)
    EXPECT_TRUE(same(again(plan(), found_[i].position), found_[i].answer)) << i;
}

TEST_F(Rebuild, PredictionIsFoundByItsIdentity) {
  const std::uint32_t where = device_.log->register_schema(device_.prediction).value();
  const Found one = find_prediction(device_.log->reader(), device_.prediction, where, 5).value();
  EXPECT_EQ(one.prediction.position, found_[4].position);
  EXPECT_TRUE(same(one.prediction.answer, found_[4].answer));
  EXPECT_EQ(one.position, found_[4].answered_at);
  for (const std::uint64_t sequence : {0u, 121u})
    EXPECT_EQ(find_prediction(device_.log->reader(), device_.prediction, where, sequence)
                  .status()
                  .outcome(),
              Outcome::kInvalid);
}

TEST_F(Rebuild, AnotherModelBindingOrVerdictDoesNotComeOutTheSame) {
  const Said& last = found_.back();
  RebuildPlan model = plan();
  auto other = std::make_shared<Halver>();
  other->divisor = 3;
  model.role.executor = other;
  EXPECT_NE(again(model, last.position).output, last.answer.output);
  EXPECT_EQ(again(model, last.position).input, last.answer.input);
  RebuildPlan binding = plan();
  binding.role.binding = make_binding(device_.parts, 21);
  EXPECT_NE(again(binding, last.position).input, last.answer.input);
  RebuildPlan verdict = plan();
  verdict.role.verdict->factor_permille = 5000;
  EXPECT_NE(again(verdict, last.position).threshold, last.answer.threshold);
}

TEST_F(Rebuild, AnotherValueInTheLogDoesNotComeOutTheSame) {
  Device forged;
  RowBatch changed(forged.source);
  for (std::size_t i = 0; i < rows_.count(); ++i) {
    copy_row(rows_, i, changed);
    if (i == 118) changed.set_i64(i, 1, rows_.i64(i, 1) + 2'000);
  }
  ASSERT_TRUE(forged.serve().is_ok());
  ASSERT_TRUE(forged.process(slice(changed, 0, 60)).is_ok());
  ASSERT_TRUE(forged.process(slice(changed, 60, 60)).is_ok());
  ASSERT_TRUE(forged.log->flush().is_ok());
  RebuildPlan from_forged = plan();
  const auto rebuilt = rebuild(forged.log->reader(), from_forged, found_[118].position);
  ASSERT_TRUE(rebuilt.is_ok());
  EXPECT_NE(rebuilt->prediction.answer.input, found_[118].answer.input);
}

TEST_F(Rebuild, PositionWithoutASourceRowIsInvalid) {
  const auto none = rebuild(device_.log->reader(), plan(), found_[0].answered_at);
  EXPECT_EQ(none.status().outcome(), Outcome::kInvalid);
}

TEST_F(Rebuild, FromALogThatHasReleasedRowsIsRefused) {
  const LogReader whole = device_.log->reader();
  auto contents = std::make_shared<wal::Contents>();
  for (const CatalogueEntry& entry : whole.catalogue().entries)
    contents->kept[entry.partition] = {50, 50};
  const LogReader rest(device_.fs, "log", {{}, whole.catalogue(), contents, nullptr}, nullptr,
                       whole.position_max());
  const auto refused = rebuild(rest, plan(), found_[118].position);
  EXPECT_EQ(refused.status().outcome(), Outcome::kUnavailable);
}

TEST_F(Rebuild, GapsThatWereToldBetweenRowsComeBackWhereTheyWere) {
  Device told(std::make_shared<MemoryFs>(), 1, Durability::kGroup, 0.1);
  ASSERT_TRUE(told.serve().is_ok());
  for (std::size_t at = 0; at < 120; at += 20) {
    const std::int64_t time = rows_.time_ns(at);
    if (at > 0) {
      ASSERT_TRUE(told.tell(time - 15 * kSecond, time).is_ok());
    }
    ASSERT_TRUE(told.process(slice(rows_, at, 20)).is_ok());
  }
  RebuildPlan with{parts_of(told.plan), told.source, told.prediction, {10},
                   Part::kActive,       told.spec,   told.gap};
  RebuildPlan without = with;
  without.gap = nullptr;
  std::size_t differ = 0;
  for (const Said& one : said(told)) {
    const auto found = rebuild(told.log->reader(), with, one.position);
    ASSERT_TRUE(found.is_ok()) << found.status().to_string();
    EXPECT_TRUE(same(found->prediction.answer, one.answer)) << one.source_seq;
    const auto other = rebuild(told.log->reader(), without, one.position);
    differ += !same(other->prediction.answer, one.answer);
  }
  EXPECT_GT(differ, 10u);  // or they would not matter
}

TEST_F(Rebuild, FromALogThatHasReleasedGapsIsRefused) {
  ASSERT_TRUE(device_.tell(kStart, kStart + 1).is_ok());
  ASSERT_TRUE(device_.log->flush().is_ok());
  const LogReader whole = device_.log->reader();
  auto contents = std::make_shared<wal::Contents>();
  for (const CatalogueEntry& entry : whole.catalogue().entries)
    if (entry.stream == device_.gap->stream) contents->kept[entry.partition] = {2, 2};
  const LogReader rest(device_.fs, "log", {{}, whole.catalogue(), contents, nullptr}, nullptr,
                       whole.position_max());
  RebuildPlan all = plan();
  all.gap = device_.gap;
  EXPECT_EQ(rebuild(rest, all, found_[118].position).status().outcome(), Outcome::kUnavailable);
}

TEST_F(Rebuild, RowsThatAnotherRoleAnsweredAreLeftOutOfTheVerdict) {
  device_.model->broken = true;
  RoleSpec rule = device_.spec;
  rule.context = 3;
  rule.executor = nullptr;
  rule.verdict.reset();
  rule.limit = 9'000'000;
  ASSERT_TRUE(device_.pipeline->set_role(Part::kRule, rule).is_ok());
  const RowBatch more = readings(device_.source, 200, 31);
  ASSERT_TRUE(device_.process(slice(more, 120, 30)).is_ok());
  device_.model->broken = false;
  ASSERT_TRUE(device_.process(slice(more, 150, 50)).is_ok());
  RebuildPlan mixed = plan();
  mixed.serving.insert(3);
  const auto all = said(device_);
  EXPECT_TRUE(same(again(mixed, all.back().position), all.back().answer));
  mixed.part = Part::kRule;
  mixed.role = rule;
  const Said* by_rule = nullptr;
  for (const Said& one : all)
    if (one.context == 3 && one.answer.scored) by_rule = &one;
  ASSERT_NE(by_rule, nullptr);
  EXPECT_TRUE(same(again(mixed, by_rule->position), by_rule->answer));
}

}  // namespace
}  // namespace edgecore::pipeline
