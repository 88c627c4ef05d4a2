// Spread of floats without a grid, against whole numbers of one power of two.
#include "features/squares.hpp"

#include <cmath>
#include <deque>

#include "feature_fixtures.hpp"

namespace edgecore::features {
namespace {

// Of values k 2^exponent, exactly, then rounded as the page says.
Deviation reference(const std::deque<std::int64_t>& values, int exponent) {
  const auto n = static_cast<Int128>(values.size());
  Int128 sum = 0;
  Int128 squares = 0;
  for (const std::int64_t one : values) {
    sum += one;
    squares += static_cast<Int128>(one) * one;
  }
  const auto spread = static_cast<double>(n * squares - sum * sum);
  const double variance = spread / static_cast<double>(static_cast<std::int64_t>(n * (n - 1)));
  return {std::ldexp(variance, 2 * exponent), std::ldexp(std::sqrt(variance), exponent)};
}

TEST(Squares, SpreadIsExactOverAllExponents) {
  Chance chance(1);
  for (const int exponent : {-1074, -1060, -600, -520, -40, 0, 30, 500, 511, 900, 970}) {
    SCOPED_TRACE(exponent);
    SquareSum squares;
    ExactSum sum;
    std::deque<std::int64_t> held;
    const std::int64_t offset = chance.between(-1'000'000'000'000, 1'000'000'000'000);
    for (int i = 0; i < 2'000; ++i) {
      const std::int64_t one = chance.one_in(3) ? offset : offset + chance.between(-99, 99);
      squares.add(std::ldexp(static_cast<double>(one), exponent));
      sum.add(std::ldexp(static_cast<double>(one), exponent));
      held.push_back(one);
      while (held.size() > 400 || (held.size() > 2 && chance.one_in(3))) {
        squares.subtract(std::ldexp(static_cast<double>(held.front()), exponent));
        sum.subtract(std::ldexp(static_cast<double>(held.front()), exponent));
        held.pop_front();
      }
      if (held.size() < 2 || i % 17 != 0) continue;
      const Deviation found = deviation_of(static_cast<std::uint32_t>(held.size()), squares, sum);
      const Deviation want = reference(held, exponent);
      ASSERT_EQ(found.variance, want.variance);
      ASSERT_EQ(found.std, want.std);
    }
  }
}

TEST(Squares, EndsOfTheDoublesAreInfiniteOrZeroAndNeverNegative) {
  constexpr double kMax = std::numeric_limits<double>::max();
  constexpr double kLeast = std::numeric_limits<double>::denorm_min();
  const auto of = [](std::initializer_list<double> values) {
    SquareSum squares;
    ExactSum sum;
    for (const double one : values) {
      squares.add(one);
      sum.add(one);
    }
    return deviation_of(static_cast<std::uint32_t>(values.size()), squares, sum);
  };
  EXPECT_EQ(of({kMax, -kMax}).variance, std::numeric_limits<double>::infinity());
  EXPECT_EQ(of({kMax, -kMax}).std, std::numeric_limits<double>::infinity());
  EXPECT_EQ(of({kMax, kMax, kMax}).variance, 0);
  EXPECT_EQ(of({kMax, 0, 0}).std, kMax / std::sqrt(3.0));
  EXPECT_EQ(of({kLeast, -kLeast}).variance, 0);  // 2^-2147: less than half of the least double
  EXPECT_EQ(of({kLeast, -kLeast}).std, kLeast);
  EXPECT_EQ(of({-0.0, 0.0}).variance, 0);
  // Naively 0, or worse.
  EXPECT_EQ(of({1e9, 1e9 + 1, 1e9 + 2}).variance, 1);
}

// pump, load f64.
FeatureSpec spread_of(Op op, std::int64_t window_s) {
  FeatureSpec spec = feature(op, "load", window_s);
  spec.approx = true;
  return spec;
}

TEST(Squares, WindowsOfFloatsAreTheSameBitsOnEveryPath) {
  const SchemaPtr schema = make_schema({number_field("load", DType::kF64)});
  std::vector<FeatureSpec> features;
  for (const Op op : {Op::kStd, Op::kVariance})
    for (const int kind : {0, 1, 2, 3}) {
      FeatureSpec spec = spread_of(op, kind == 1 ? 20 : 300);
      if (kind == 2) spec.hop_ns = 7 * kSecond;
      if (kind == 3) spec.gap_ns = kSecond;
      spec.name += "_" + std::to_string(kind);
      features.push_back(spec);
    }
  const PlanPtr plan = make_plan(make_view(std::move(features), 5), schema).value();
  EXPECT_EQ(plan->features()[0].error, 0);
  Chance chance(9);
  RowBatch batch(schema);
  std::int64_t time = kStart;
  constexpr double kInfinite = std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < 6'000; ++i) {
    time += chance.between(0, kSecond / (i / 1500 % 2 == 0 ? 2 : 20));
    const std::size_t row =
        batch.add_row(chance.one_in(6) ? time - chance.between(0, 5 * kSecond) : time, "", i + 1);
    batch.set_bytes(row, 0, as_byte_span("a"));
    const double value = static_cast<double>(chance.between(-1'000'000'000, 1'000'000'000));
    batch.set_f64(row, 1,
                  chance.one_in(30) ? kInfinite
                  : chance.one_in(30)
                      ? std::ldexp(value, static_cast<int>(chance.between(-1070, 900)))
                      : 1e9 + value / 1e10);
  }
  auto stream = Engine::create(plan).value();
  auto restored = Engine::create(plan).value();
  auto begun = Engine::create(plan).value();
  std::vector<std::uint32_t> order(batch.count());
  for (std::uint32_t i = 0; i < order.size(); ++i) order[i] = i;
  std::vector<double> values(batch.count() * plan->width());
  std::vector<std::uint8_t> states(values.size());
  ASSERT_TRUE(backfill(plan, batch, order, values, states).is_ok());
  std::int64_t newest = kStart;
  for (std::size_t i = 0; i < batch.count(); ++i) {
    ASSERT_TRUE(stream->update(batch, i, 1, i + 1).is_ok());
    ASSERT_TRUE(restored->update(batch, i, 1, i + 1).is_ok());
    if (i >= 1000) {
      ASSERT_TRUE(begun->update(batch, i, 1, i + 1).is_ok());
    }
    if (i % 301 == 0) restored = Engine::restore(plan, restored->snapshot()).value();
    newest = std::max(newest, batch.time_ns(i));
    const Reading one = read_all(*stream, "a", batch.time_ns(i));
    for (std::size_t f = 0; f < plan->width(); ++f) {
      ASSERT_EQ(std::bit_cast<std::uint64_t>(one.values[f]),
                std::bit_cast<std::uint64_t>(values[i * plan->width() + f]));
      ASSERT_FALSE(one.values[f] < 0);
    }
    if (i % 13 != 0) continue;
    // Back within the lateness, where the window is summed anew, or from blocks.
    const std::int64_t as_of = newest - chance.between(0, 5 * kSecond);
    ASSERT_TRUE(read_all(*stream, "a", as_of) == read_all(*restored, "a", as_of));
    if (newest > batch.time_ns(1000) + 620 * kSecond) {
      ASSERT_TRUE(read_all(*stream, "a", as_of) == read_all(*begun, "a", as_of)) << i;
    }
  }
}

TEST(Squares, WithoutApproxAFloatHasNoSpreadAndNothingIsKeptForIt) {
  const SchemaPtr schema = make_schema({number_field("load", DType::kF64)});
  const auto refused = make_plan(make_view({feature(Op::kStd, "load", 60)}), schema);
  EXPECT_EQ(refused.status().outcome(), Outcome::kIncompatible);
  EXPECT_NE(refused.status().to_string().find("or say approx=True"), std::string::npos);
  // On a grid it says nothing that would change an answer.
  FeatureSpec exact = feature(Op::kStd, "temp", 60);
  exact.approx = true;
  EXPECT_TRUE(make_plan(make_view({exact}), pump_schema()).is_ok());
}

}  // namespace
}  // namespace edgecore::features
