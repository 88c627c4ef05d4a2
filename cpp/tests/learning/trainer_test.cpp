#include "learning/trainer.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/crc32c.hpp"

namespace edgecore {
namespace {

std::vector<float> wave(std::size_t rows, std::size_t width) {
  std::vector<float> out;
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < width; ++c)
      out.push_back(static_cast<float>(static_cast<int>((r * 7 + c * 13) % 29) - 14) / 16.0f);
  return out;
}

Trainer make(std::vector<std::uint32_t> widths = {4, 3, 4}, std::size_t rows = 50) {
  TrainingPlan plan;
  plan.batch = 8;
  plan.learning_rate = 0.01;
  const auto data = wave(rows, widths.front());
  return Trainer::create({widths}, {}, data, data, plan).value();
}

TEST(Trainer, GradientEqualsFiniteDifferences) {
  const Architecture net{{5, 7, 3, 5}};
  std::vector<float> parameters = initial_parameters(net, 3);
  const auto row = wave(1, 5);
  Activations activations;
  std::vector<double> gradient(parameters.size(), 0.0), ignored(parameters.size(), 0.0);
  forward(net, parameters, row, activations);
  backward(net, parameters, row, activations, gradient);
  const auto loss_at = [&](std::size_t i, float value) {
    std::vector<float> moved = parameters;
    moved[i] = value;
    forward(net, moved, row, activations);
    return backward(net, moved, row, activations, ignored);
  };
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const float up = parameters[i] + 1e-3f, down = parameters[i] - 1e-3f;
    const double slope =
        (loss_at(i, up) - loss_at(i, down)) / (static_cast<double>(up) - static_cast<double>(down));
    EXPECT_NEAR(gradient[i], slope, 1e-4 + 2e-3 * std::abs(slope)) << "parameter " << i;
  }
}

TEST(Trainer, LossFalls) {
  Trainer trainer = make();
  const double first = trainer.step(10);
  trainer.step(600);
  EXPECT_LT(trainer.step(10), 0.6 * first);
}

TEST(Trainer, StoppedAtAnyStepResumesBitIdentically) {
  constexpr std::uint64_t kSteps = 20;
  Trainer whole = make();
  whole.step(kSteps);
  for (std::uint64_t cut = 0; cut <= kSteps; ++cut) {
    Trainer first = make();
    first.step(cut);
    Trainer second = make();
    ASSERT_TRUE(second.restore(first.state()).is_ok());
    second.step(kSteps - cut);
    ASSERT_EQ(second.state(), whole.state()) << "cut at step " << cut;
  }
}

TEST(Trainer, StateWithAnyByteFlippedIsRefused) {
  Trainer trainer = make();
  trainer.step(3);
  const Bytes good = trainer.state();
  for (std::size_t i = 0; i < good.size(); ++i) {
    Bytes bad = good;
    bad[i] ^= std::byte{0x10};
    EXPECT_EQ(trainer.restore(bad).outcome(), Outcome::kCorrupt) << "byte " << i;
  }
  for (const std::size_t size : {std::size_t{0}, std::size_t{3}, good.size() - 1})
    EXPECT_EQ(trainer.restore(ByteSpan(good).first(size)).outcome(), Outcome::kCorrupt);
  EXPECT_EQ(trainer.state(), good);
}

TEST(Trainer, StateWithAGoodChecksumAndNumbersOutOfReachIsRefused) {
  Trainer trainer = make();
  trainer.step(3);
  const Bytes good = trainer.state();
  const std::size_t count = trainer.parameters().size();
  const auto with = [&](std::size_t at, auto value) {
    Bytes bad = good;
    store_le(bad.data() + at, value);
    store_le(bad.data() + bad.size() - 4, crc32c(ByteSpan(bad).first(bad.size() - 4)));
    return trainer.restore(bad).outcome();
  };
  const double broken = std::nan("");
  EXPECT_EQ(with(48, 1.5), Outcome::kCorrupt);  // a power of beta above 1
  EXPECT_EQ(with(56, broken), Outcome::kCorrupt);
  EXPECT_EQ(with(64, std::nanf("")), Outcome::kCorrupt);  // a parameter
  EXPECT_EQ(with(64 + 4 * count, broken), Outcome::kCorrupt);
  EXPECT_EQ(with(64 + 12 * count, -1.0), Outcome::kCorrupt);  // a mean of squares
  EXPECT_EQ(trainer.state(), good);
  EXPECT_EQ(with(40, UINT64_MAX - 5), Outcome::kOk);  // any number of steps goes on
  trainer.step(4);
}

TEST(Trainer, StateOfOtherDataIsIncompatible) {
  Trainer other = make({4, 3, 4}, 51);
  EXPECT_EQ(make().restore(other.state()).outcome(), Outcome::kIncompatible);
}

TEST(Trainer, BadArgumentsAreInvalid) {
  const auto data = wave(4, 4);
  EXPECT_EQ(Trainer::create({{4}}, {}, data, data, {}).status().outcome(), Outcome::kInvalid);
  EXPECT_EQ(Trainer::create({{4, 0}}, {}, data, data, {}).status().outcome(), Outcome::kInvalid);
  EXPECT_EQ(Trainer::create({{4, 4}}, {1.0f}, data, data, {}).status().outcome(),
            Outcome::kInvalid);
  auto broken = data;
  broken[2] = std::nanf("");
  EXPECT_EQ(Trainer::create({{4, 4}}, {}, broken, data, {}).status().outcome(), Outcome::kInvalid);
}

TEST(RangeHistogram, MergedInAnyOrderGivesTheRangeOfAll) {
  RangeHistogram all, left, right;
  for (int i = -500; i < 1500; ++i) {
    const double value = static_cast<double>(i) / 100;
    all.add(value);
    (i % 3 == 0 ? left : right).add(value);
  }
  RangeHistogram other = right;
  other.merge(left);
  left.merge(right);
  EXPECT_EQ(left.to_bytes(), all.to_bytes());
  EXPECT_EQ(other.to_bytes(), all.to_bytes());
  const Range range = all.range(0);
  EXPECT_LE(range.low, -5.0);
  EXPECT_GE(range.low, -5.7);
  EXPECT_GE(range.high, 14.99);
  EXPECT_LE(range.high, 16.9);
}

TEST(RangeHistogram, HostileBytesAreCorrupt) {
  RangeHistogram all;
  all.add(1.5);
  all.add(-2.5);
  const Bytes good = all.to_bytes();
  EXPECT_EQ(RangeHistogram::from_bytes(good).value().total(), 2u);
  EXPECT_FALSE(RangeHistogram::from_bytes(ByteSpan(good).first(good.size() - 1)).is_ok());
  Bytes doubled = good;
  doubled.insert(doubled.end(), good.begin(), good.end());
  EXPECT_FALSE(RangeHistogram::from_bytes(doubled).is_ok());
}

}  // namespace
}  // namespace edgecore
