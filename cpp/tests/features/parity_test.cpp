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

TEST(Parity, EveryOperatorIsInTheMatrix) {
  std::set<Op> seen;
  for (const FeatureSpec& spec : view().features) seen.insert(spec.op);
  EXPECT_EQ(seen.size(), operators().size());
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
