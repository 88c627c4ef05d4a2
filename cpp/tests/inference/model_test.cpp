// The native executor against a plain reference, on every kernel of this processor; hostile files.
#include "inference/model.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <thread>

#include "inference/litert.hpp"
#include "inference/requantise.hpp"
#include "tests/inference/tflite_builder.hpp"

namespace edgecore::inference {
namespace {

using testing::LayerSpec;
using testing::ModelSpec;
using testing::ModelWriter;

constexpr Profile kProfiles[] = {Profile::kLitertSingle, Profile::kTfliteDouble};
constexpr Isa kIsas[] = {Isa::kBest,       Isa::kPortable, Isa::kAvx2,
                         Isa::kAvx512Vnni, Isa::kNeonDot,  Isa::kNeon};

// The reference kernels' own words: a rounding of the real number, or truncating divisions and a
// threshold, not shifts.
std::int32_t reference_requantise(Rounding rounding, std::int32_t x, double real) {
  if (rounding == Rounding::kReal)
    return static_cast<std::int32_t>(std::round(static_cast<double>(x) * real));
  int shift = 0;
  const double fraction = std::frexp(real, &shift);
  auto value = static_cast<std::int64_t>(std::round(fraction * 2147483648.0));
  if (value == std::int64_t{1} << 31) {
    value /= 2;
    ++shift;
  }
  if (shift < -31) value = shift = 0;
  const std::int64_t product = (std::int64_t{x} << std::max(shift, 0)) * value;
  const std::int64_t nudge = product >= 0 ? 1 << 30 : 1 - (1 << 30);
  const auto high = static_cast<std::int32_t>((product + nudge) / (std::int64_t{1} << 31));
  const int exponent = std::max(-shift, 0);
  const auto mask = static_cast<std::int32_t>((std::int64_t{1} << exponent) - 1);
  const std::int32_t threshold = (mask >> 1) + (high < 0 ? 1 : 0);
  return static_cast<std::int32_t>((std::int64_t{high} >> exponent) +
                                   ((high & mask) > threshold ? 1 : 0));
}

std::vector<std::int8_t> reference_run(const ModelSpec& spec, Profile profile,
                                       std::vector<std::int8_t> row) {
  float scale = spec.scale;
  std::int64_t zero = spec.zero;
  for (const LayerSpec& layer : spec.layers) {
    std::vector<std::int8_t> out;
    for (std::size_t o = 0; o < layer.width; ++o) {
      std::int64_t sum = layer.bias.empty() ? 0 : layer.bias[o];
      for (std::size_t i = 0; i < row.size(); ++i)
        sum += (row[i] - zero) * layer.weights[o * row.size() + i];
      const bool one = layer.scales.size() == 1 && profile == Profile::kTfliteDouble;
      const Rounding rounding =
          profile == Profile::kLitertSingle ? Rounding::kReal : Rounding::kDoubled;
      const double product =
          one ? static_cast<double>(scale * layer.scales[0])
              : static_cast<double>(scale) *
                    static_cast<double>(layer.scales[layer.scales.size() == 1 ? 0 : o]);
      std::int64_t code =
          layer.out_zero + reference_requantise(rounding, static_cast<std::int32_t>(sum),
                                                product / static_cast<double>(layer.out_scale));
      std::int64_t low = -128;
      std::int64_t high = 127;
      if (layer.activation != 0) low = std::max(low, layer.out_zero);
      if (layer.activation == 3)
        high = std::min<std::int64_t>(high, layer.out_zero + std::lround(6.0F / layer.out_scale));
      out.push_back(static_cast<std::int8_t>(std::clamp(code, low, high)));
    }
    row = out;
    scale = layer.out_scale;
    zero = layer.out_zero;
  }
  return row;
}

class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}
  int pick(int low, int high) { return std::uniform_int_distribution<int>(low, high)(engine_); }
  float real(float low, float high) {
    return std::uniform_real_distribution<float>(low, high)(engine_);
  }
  std::vector<std::int8_t> codes(std::size_t n) {
    std::vector<std::int8_t> out(n);
    for (auto& code : out) code = static_cast<std::int8_t>(pick(-128, 127));
    return out;
  }

 private:
  std::mt19937 engine_;
};

ModelSpec random_model(Random& random, int widest) {
  ModelSpec spec;
  spec.inputs = static_cast<std::size_t>(random.pick(1, widest));
  spec.scale = random.real(0.01F, 0.2F);
  spec.zero = random.pick(-128, 127);
  spec.reshape_first = random.pick(0, 1) == 1;
  std::size_t depth = spec.inputs;
  float scale = spec.scale;
  for (int n = random.pick(1, 4); n > 0; --n) {
    LayerSpec layer;
    layer.width = static_cast<std::size_t>(random.pick(1, widest));
    layer.weights = random.codes(layer.width * depth);
    layer.out_scale = random.real(0.01F, 0.2F);
    layer.out_zero = random.pick(-128, 127);
    layer.activation = std::array{0, 1, 3}[static_cast<std::size_t>(random.pick(0, 2))];
    const float reach =
        60.0F * layer.out_scale / scale / (4000.0F * std::sqrt(static_cast<float>(depth)));
    layer.scales.assign(random.pick(0, 1) == 1 ? layer.width : 1, 0);
    for (float& s : layer.scales) s = reach * random.real(0.2F, 20.0F);
    if (random.pick(0, 3) > 0)
      for (std::size_t i = 0; i < layer.width; ++i)
        layer.bias.push_back(random.pick(-20000, 20000));
    depth = layer.width;
    scale = layer.out_scale;
    spec.layers.push_back(layer);
  }
  return spec;
}

TEST(Model, RandomModelsEqualTheReferenceOnEveryKernelAndBatch) {
  Random random(40);  // the seed
  int kernels = 0;
  for (int round = 0; round < 60; ++round) {
    const ModelSpec spec = random_model(random, round < 40 ? 40 : 300);
    const Bytes file = ModelWriter(spec).file();
    const auto rows = static_cast<std::size_t>(random.pick(1, 20));
    const auto in = random.codes(rows * spec.inputs);
    for (const Profile profile : kProfiles) {
      std::vector<std::int8_t> expected;
      for (std::size_t r = 0; r < rows; ++r) {
        const auto first = in.begin() + static_cast<std::ptrdiff_t>(r * spec.inputs);
        const auto out =
            reference_run(spec, profile, {first, first + static_cast<std::ptrdiff_t>(spec.inputs)});
        expected.insert(expected.end(), out.begin(), out.end());
      }
      for (const Isa isa : kIsas) {
        const auto made = load_native(file, profile, isa);
        if (!made.is_ok() && isa > Isa::kPortable) continue;  // not this processor
        ASSERT_TRUE(made.is_ok()) << made.status().to_string();
        ++kernels;
        std::vector<std::int8_t> out(expected.size());
        Scratch scratch;
        ASSERT_TRUE(made.value()->run_batch(in.data(), out.data(), rows, scratch).is_ok());
        ASSERT_EQ(out, expected) << "round " << round << ", " << made.value()->describe().isa;
        ASSERT_TRUE(made.value()->run(in.data(), out.data(), scratch).is_ok());
        ASSERT_TRUE(std::equal(out.begin(), out.begin() + 1, expected.begin()));
        EXPECT_LE(scratch.memory.size(), made.value()->arena_bytes());
      }
    }
  }
  EXPECT_GE(kernels, 60 * 2 * 2);
}

TEST(Requantise, TiesAndExtremesAsTheReferenceRounds) {
  Random random(41);
  for (int i = 0; i < 20000; ++i) {
    const double real = std::ldexp(random.real(0.5F, 1.0F), random.pick(-20, 2));
    const int x = i % 2 == 0 ? random.pick(-1 << 20, 1 << 20) : random.pick(-8, 8) * (1 << 12);
    ASSERT_EQ(requantise(x, multiplier_of(real)), reference_requantise(Rounding::kDoubled, x, real))
        << x << " * " << real;
    ASSERT_EQ(requantise(x, real), reference_requantise(Rounding::kReal, x, real))
        << x << " * " << real;
  }
  EXPECT_EQ(requantise(-1, 0.5), -1);  // half away
  EXPECT_EQ(requantise(1, std::nextafter(0.5, 0.0)), 0);
  EXPECT_EQ(requantise(-1, multiplier_of(0.25)), 0);
  EXPECT_EQ(requantise(-2, multiplier_of(0.25)), -1);  // half away
  EXPECT_EQ(multiplier_of(0.0).value, 0);
  EXPECT_EQ(multiplier_of(1e-300).value, 0);
  EXPECT_EQ(multiplier_of(std::nextafter(1.0, 0.0)).value, 1 << 30);  // rounds up to 1
  EXPECT_EQ(multiplier_of(1e300).shift, 31);
}

TEST(Requantise, EveryTieOfARealIsRoundedAway) {
  for (int x = -4096; x <= 4096; ++x)
    for (int down = 0; down < 12; ++down) {
      const double real = std::ldexp(1.0, -down);
      ASSERT_EQ(requantise(x, real), reference_requantise(Rounding::kReal, x, real)) << x;
    }
}

ModelSpec small_model() {
  Random random(42);
  ModelSpec spec;
  spec.inputs = 5;
  LayerSpec layer;
  layer.width = 3;
  layer.weights = random.codes(15);
  layer.bias = {1, 2, 3};
  layer.out_scale = 64.0F;
  spec.layers = {layer};
  return spec;
}

Outcome outcome_of(const ModelSpec& spec) {
  return load_native(ModelWriter(spec).file(), Profile::kLitertSingle).status().outcome();
}

TEST(Model, WhatNoKernelPromisesThenIncompatible) {
  EXPECT_EQ(outcome_of(small_model()), Outcome::kOk);
  ModelSpec weight_zero = small_model();
  weight_zero.layers[0].weight_zero = 1;
  EXPECT_EQ(outcome_of(weight_zero), Outcome::kIncompatible);
  ModelSpec overflow = small_model();
  overflow.layers[0].bias[1] = std::numeric_limits<std::int32_t>::min();
  EXPECT_EQ(outcome_of(overflow), Outcome::kIncompatible);
  ModelSpec steep = small_model();
  steep.layers[0].out_scale = 1e-20F;
  EXPECT_EQ(outcome_of(steep), Outcome::kIncompatible);
  ModelSpec channels = small_model();
  channels.layers[0].scales = {1.0F, 1.0F};
  EXPECT_EQ(outcome_of(channels), Outcome::kIncompatible);
  ModelSpec empty = small_model();
  empty.layers.clear();
  EXPECT_EQ(outcome_of(empty), Outcome::kIncompatible);
  EXPECT_EQ(load_native({}, Profile::kLitertSingle).status().outcome(), Outcome::kCorrupt);
}

TEST(Model, OneExecutorServesManyThreadsEachWithItsScratch) {
  Random random(43);
  ModelSpec spec = random_model(random, 64);
  const auto made = load_native(ModelWriter(spec).file(), Profile::kLitertSingle).value();
  const auto in = random.codes(spec.inputs);
  const auto expected = reference_run(spec, Profile::kLitertSingle, in);
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (std::size_t t = 0; t < wrong.size(); ++t)
    threads.emplace_back([&, t] {
      Scratch scratch;
      std::vector<std::int8_t> out(expected.size());
      for (int i = 0; i < 200; ++i)
        if (!made->run(in.data(), out.data(), scratch).is_ok() || out != expected) ++wrong[t];
    });
  for (auto& thread : threads) thread.join();
  for (const int count : wrong) EXPECT_EQ(count, 0);
}

TEST(Model, MutatedFilesThenOkCorruptOrIncompatibleAndWhatLoadsRuns) {
  Random random(20261);  // the seed
  int refused = 0;
  int ran = 0;
  for (int round = 0; round < 40; ++round) {
    const Bytes good = ModelWriter(random_model(random, 12)).file();
    for (int i = 0; i < 600; ++i) {
      Bytes file = good;
      for (int n = random.pick(1, 3); n > 0; --n) {
        const auto at = static_cast<std::size_t>(random.pick(0, static_cast<int>(file.size()) - 4));
        const int value = random.pick(0, 3) == 0 ? random.pick(0, 1 << 30) : random.pick(-4, 260);
        if (random.pick(0, 1) == 0)
          store_le(file.data() + at, static_cast<std::uint8_t>(value));
        else
          store_le(file.data() + at, value);
      }
      if (random.pick(0, 9) == 0) file.resize(static_cast<std::size_t>(random.pick(0, 400)));
      const auto made = load_native(file, kProfiles[i % 2]);
      if (!made.is_ok()) {
        ++refused;
        ASSERT_TRUE(made.status().outcome() == Outcome::kCorrupt ||
                    made.status().outcome() == Outcome::kIncompatible);
        continue;
      }
      const auto in = random.codes(made.value()->input_size());
      std::vector<std::int8_t> out(made.value()->output_size());
      Scratch scratch;
      ASSERT_TRUE(made.value()->run(in.data(), out.data(), scratch).is_ok());
      ++ran;
    }
  }
  EXPECT_GT(refused, 5000);
  EXPECT_GT(ran, 2000);
}

TEST(Litert, NoSuchLibraryThenUnavailable) {
  const auto made = load_litert({}, "/nowhere/libLiteRt.so");
  EXPECT_EQ(made.status().outcome(), Outcome::kUnavailable);
}

}  // namespace
}  // namespace edgecore::inference
