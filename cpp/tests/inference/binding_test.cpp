// The quantiser to the bit, and the scores on their grid.
#include "inference/binding.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "inference/score.hpp"

namespace edgecore::inference {
namespace {

Slot value_slot(double centre, double scale) {
  Slot slot;
  slot.centre = slot.substitute = centre;
  slot.scale = scale;
  slot.clip_lo = -4;
  slot.clip_hi = 4;
  return slot;
}

TEST(Binding, TiesRoundToEvenAndClipIsCountedButKeptInNormalised) {
  auto binding = Binding::make(std::vector<Slot>(4, value_slot(10, 2))).value();
  const double values[] = {11, 13, 9, 100};
  const std::uint8_t states[] = {0, 0, 0, 0};
  std::int8_t in[4];
  double normalised[4];
  const auto counts = binding.quantise(values, states, {1.0F, -3}, in, normalised).value();
  EXPECT_EQ(in[0], -3);  // 0.5 to 0
  EXPECT_EQ(in[1], -1);  // 1.5 to 2
  EXPECT_EQ(in[2], -3);  // -0.5 to 0
  EXPECT_EQ(in[3], 1);   // clipped to 4
  EXPECT_EQ(normalised[3], 45.0);
  EXPECT_EQ(counts.clipped, 1U);
  EXPECT_EQ(counts.substituted, 0U);
}

TEST(Binding, MissingOrNanThenSubstituteAndCategoryUsesItsCodes) {
  Slot category = value_slot(0, 1);
  category.kind = SlotKind::kCategory;
  category.vocabulary = {3, 7};
  auto binding =
      Binding::make({value_slot(5, 1), value_slot(5, 1), category, category, category}).value();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double values[] = {9, nan, 7, 4, nan};
  const std::uint8_t states[] = {kMissing, kStale, 0, 0, kMissing};
  std::int8_t in[5];
  double normalised[5];
  const auto counts = binding.quantise(values, states, {1.0F, 0}, in, normalised).value();
  const std::int8_t expected[] = {0, 0, 1, -1, -2};
  for (int i = 0; i < 5; ++i) EXPECT_EQ(in[i], expected[i]) << i;
  EXPECT_EQ(counts.substituted, 3U);
}

TEST(Binding, WrongSizesOrEmptyClipThenInvalid) {
  Slot bad = value_slot(0, 1);
  bad.clip_hi = bad.clip_lo;
  EXPECT_EQ(Binding::make({bad}).status().outcome(), Outcome::kInvalid);
  auto binding = Binding::make({value_slot(0, 1)}).value();
  EXPECT_EQ(binding.quantise({}, {}, {}, {}, {}).status().outcome(), Outcome::kInvalid);
}

TEST(Score, EachKindOnItsGrid) {
  const double normalised[] = {1.0, -0.5};
  const std::int8_t output[] = {1, 2};
  EXPECT_EQ(score(ScoreKind::kReconstruction, normalised, output, {0.5F, 0}).value(), 1250000);
  EXPECT_EQ(score(ScoreKind::kIdentity, {}, output, {0.5F, 3}).value(), -1000000);
  EXPECT_EQ(score(ScoreKind::kArgmax, {}, output, {}).value(), 1000000);
  EXPECT_EQ(score(ScoreKind::kReconstruction, {}, output, {}).status().outcome(),
            Outcome::kIncompatible);
}

}  // namespace
}  // namespace edgecore::inference
