// All paths of this build against one another; across builds: tests/features/parity_matrix.py.
#include <gtest/gtest.h>

#include "parity_matrix.hpp"

namespace edgecore::features::matrix {
namespace {

void expect_none(const Difference& difference, const Plan& plan, const char* path) {
  EXPECT_GT(difference.compared, 0u) << path;
  for (std::size_t i = 0; i < difference.bits.size(); ++i)
    EXPECT_EQ(difference.bits[i], 0u) << path << ", " << plan.view().features[i].name;
}

TEST(Parity, EveryPathGivesTheSameBitsForEveryOperator) {
  for (std::uint64_t run = 0; run < 2; ++run) {
    SCOPED_TRACE("run " + std::to_string(run));
    const Matrix found = replay_all(4000, 97, 3, run).value();
    EXPECT_GT(found.late, 0u);
    expect_none(found.batch, *found.plan, "batch");
    expect_none(found.restore, *found.plan, "restore");
    expect_none(found.cut, *found.plan, "cut");
  }
}

TEST(Parity, ARestoreBeforeEveryRowLeavesNoTrace) {
  const Matrix found = replay_all(600, 1, 0, 5).value();
  expect_none(found.restore, *found.plan, "restore");
}

TEST(Parity, EveryOperatorWindowAndPolicyIsInTheMatrix) {
  std::set<Op> slide, hop, session;
  std::set<OnStale> stale;  // of features that do go stale
  std::set<Grid> grids;
  bool least = false, covered = false, held = false, instead = false;
  for (const FeatureSpec& spec : view().features) {
    (spec.hop_ns > 0 ? hop : spec.gap_ns > 0 ? session : slide).insert(spec.op);
    if (spec.ttl_ns > 0) stale.insert(spec.on_stale);
    least |= spec.min_count > 0;
    covered |= spec.min_coverage > 0;
    held |= spec.hold_ns > 0;
    instead |= spec.ttl_ns > 0 && spec.on_stale == OnStale::kDefault && spec.default_value;
  }
  for (const SeriesPlan& series : make_plan(view(), schema()).value()->series())
    grids.insert(series.grid);
  EXPECT_EQ(slide.size(), operators().size());
  for (const Operator& one : operators()) {
    const bool windows = one.family == Family::kTotals || one.family == Family::kEnds ||
                         one.family == Family::kValues;
    EXPECT_EQ(hop.count(one.op) > 0, windows || one.family == Family::kHeld) << one.name;
    EXPECT_EQ(session.count(one.op) > 0, windows) << one.name;
  }
  EXPECT_EQ(stale, (std::set{OnStale::kUse, OnStale::kDefault, OnStale::kMissing,
                             OnStale::kRecompute, OnStale::kRefuse}));
  EXPECT_EQ(grids.size(), 5u);
  EXPECT_TRUE(least && covered && held && instead);
}

TEST(Parity, ACutThatIsNotWarmDiffers) {
  const PlanPtr plan = make_plan(view(), schema()).value();
  const RowBatch rows = history(2000, 3);
  Replay whole, late;
  ASSERT_TRUE(replay(plan, rows, 0, 0, whole).is_ok());
  ASSERT_TRUE(replay(plan, rows, 1000, 0, late).is_ok());
  Difference difference;
  difference.bits.resize(plan->width());
  std::vector<std::uint8_t> chosen(rows.count());
  std::fill(chosen.begin() + 1000, chosen.end(), std::uint8_t{1});
  compare(whole.at_row, late.at_row, chosen, true, difference);
  EXPECT_GT(difference.total(), 0u);
}

}  // namespace
}  // namespace edgecore::features::matrix
