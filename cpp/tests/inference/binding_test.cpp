// The quantiser to the bit, and the scores on their grid.
#include "inference/binding.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <random>

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

// The steps of docs/formats/binding.md, one slot after the other.
std::int8_t code_of(const Slot& slot, double value, Quantisation to, double& x, bool& clipped) {
  x = (value - slot.centre) / std::max(slot.scale, slot.scale_floor);
  const double c = std::clamp(x, slot.clip_lo, slot.clip_hi);
  clipped = c != x;
  const double y = std::clamp(c / static_cast<double>(to.scale), -1024.0, 1024.0);
  return static_cast<std::int8_t>(
      std::clamp(static_cast<int>(std::nearbyint(y)) + to.zero_point, -128, 127));
}

TEST(Binding, AnyNumberOfSlotsGivesWhatEachGivesAlone) {
  const std::uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  std::normal_distribution<double> draw;
  for (std::size_t n = 1; n <= 200; n += 1 + n / 7) {
    std::vector<Slot> slots(n);
    std::vector<double> values(n), normalised(n);
    for (std::size_t i = 0; i < n; ++i) {
      slots[i].centre = draw(random) * 10;
      slots[i].scale = random() % 5 == 0 ? 0.0 : std::abs(draw(random));
      slots[i].clip_lo = -std::abs(draw(random)) - 0.1;
      slots[i].clip_hi = std::abs(draw(random)) * 4;
      values[i] = random() % 20 == 0 ? 1e308 : slots[i].centre + draw(random) * 2;
    }
    const Quantisation to{0.03F, static_cast<std::int32_t>(random() % 100) - 50};
    std::vector<std::int8_t> input(n);
    const Binding binding = Binding::make(slots).value();
    const auto counts =
        binding.quantise(values, std::vector<std::uint8_t>(n), to, input, normalised).value();
    std::uint32_t clips = 0;
    for (std::size_t i = 0; i < n; ++i) {
      double x = 0;
      bool clipped = false;
      ASSERT_EQ(input[i], code_of(slots[i], values[i], to, x, clipped)) << i << " of " << n;
      ASSERT_EQ(normalised[i], x);
      clips += clipped ? 1 : 0;
    }
    ASSERT_EQ(counts.clipped, clips);
  }
}

TEST(Binding, WrongSizesOrEmptyClipThenInvalid) {
  Slot bad = value_slot(0, 1);
  bad.clip_hi = bad.clip_lo;
  EXPECT_EQ(Binding::make({bad}).status().outcome(), Outcome::kInvalid);
  auto binding = Binding::make({value_slot(0, 1)}).value();
  EXPECT_EQ(binding.quantise({}, {}, {}, {}, {}).status().outcome(), Outcome::kInvalid);
}

TEST(Binding, RowsAreHeldToTheContractOldFirst) {
  Slot state = value_slot(0, 1);
  state.kind = SlotKind::kState;
  Slot own = value_slot(0, 1);
  own.max_age_ns = 50;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Binding binding = Binding::make({value_slot(0, 1), state, own}, {9, 0.5}).value();
  EXPECT_TRUE(binding.needs_ages());
  struct Case {
    std::array<double, 3> values;
    std::array<std::uint8_t, 3> states;
    std::array<std::int64_t, 3> ages;
    Refusal refusal;
  };
  const Case cases[] = {
      {{1, 1, 1}, {0, 0, 0}, {9, 99, 50}, Refusal::kNone},  // a state's age is nobody's business
      {{1, 1, 1}, {0, 0, 0}, {10, 0, 0}, Refusal::kOld},
      {{1, 1, 1}, {0, 0, 0}, {0, 0, 51}, Refusal::kOld},
      {{nan, 1, 1}, {kMissing, 0, 0}, {-1, 0, 0}, Refusal::kOld},  // no event is older than any
      {{nan, 1, 1}, {kMissing, 0, 0}, {0, 0, 0}, Refusal::kNone},  // two of three
      {{nan, 1, 1}, {kMissing, kStale, 0}, {0, 0, 0}, Refusal::kSparse},
      {{nan, 1, nan}, {0, 0, 0}, {0, 0, 0}, Refusal::kSparse},
      {{1, nan, 1}, {kStale, 0, 0}, {0, 0, 0}, Refusal::kNone},
      {{1, 1, 1}, {kStale, kStale, kStale}, {10, 0, 0}, Refusal::kOld},
  };
  for (const Case& one : cases)
    EXPECT_EQ(binding.refusal(one.values, one.states, one.ages), one.refusal) << &one - cases;
  const Binding none = Binding::make({value_slot(0, 1)}).value();
  EXPECT_FALSE(none.needs_ages());
  EXPECT_EQ(none.refusal(std::array{nan}, std::array{kMissing}, {}), Refusal::kNone);
  // A share is a quotient: four of five are 0.8.
  const Binding share = Binding::make(std::vector<Slot>(5, value_slot(0, 1)), {0, 0.8}).value();
  const std::array<std::uint8_t, 5> states = {0, 0, kStale, 0, 0};
  EXPECT_EQ(share.refusal(std::array<double, 5>{}, states, {}), Refusal::kNone);
}

TEST(Binding, ContractsWithoutMeaningAreInvalid) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const Contract contract :
       {Contract{-1, 0}, Contract{INT64_MIN, 0}, Contract{INT64_MAX, 0}, Contract{0, nan},
        Contract{0, -0.1}, Contract{0, 1.0000001}, Contract{0, 1e300}})
    EXPECT_EQ(Binding::make({value_slot(0, 1)}, contract).status().outcome(), Outcome::kInvalid);
  Slot state = value_slot(0, 1);
  state.kind = SlotKind::kState;
  state.max_age_ns = 1;
  EXPECT_EQ(Binding::make({state}).status().outcome(), Outcome::kInvalid);
  Slot negative = value_slot(0, 1);
  negative.max_age_ns = -1;
  EXPECT_EQ(Binding::make({negative}).status().outcome(), Outcome::kInvalid);
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
