// Roundings against wider arithmetic, and plans that must be refused.
#include "features/finish.hpp"

#include <limits>

#include "feature_fixtures.hpp"

namespace edgecore::features {
namespace {

TEST(Finish, RatioIsTheNearestDouble) {
  Chance chance(3);
  for (int i = 0; i < 200'000; ++i) {
    // a * d + r over d, a a double's mantissa and a half: rounding is known from r alone.
    const auto mantissa =
        static_cast<Int128>(chance.between(std::int64_t{1} << 52, (std::int64_t{1} << 53) - 1));
    const auto divisor = static_cast<UInt128>(chance.between(1, std::int64_t{1} << 60)) << 1;
    const Int128 d = static_cast<Int128>(divisor);
    const Int128 half = d / 2;
    const auto up = static_cast<double>(static_cast<std::int64_t>(mantissa + 1));
    const auto down = static_cast<double>(static_cast<std::int64_t>(mantissa));
    const bool odd = (mantissa & 1) != 0;
    ASSERT_EQ(ratio(mantissa * d + half, divisor), odd ? up : down);
    ASSERT_EQ(ratio(mantissa * d + half + 1, divisor), up);
    ASSERT_EQ(ratio(-(mantissa * d + half - 1), divisor), -down);
  }
  EXPECT_EQ(ratio(1, 3), 1.0 / 3.0);
  EXPECT_EQ(ratio(0, static_cast<UInt128>(1) << 90), 0.0);
}

TEST(Finish, SpreadOfWideNumbersIsThatOfSmallOnesScaled) {
  Chance chance(4);
  for (int round = 0; round < 2000; ++round) {
    const auto n = static_cast<std::uint32_t>(chance.between(2, 50));
    UInt128 sum = 0, wide_sum = 0, squares = 0, wide_squares = 0;
    const int shift = static_cast<int>(chance.between(25, 29));
    for (std::uint32_t i = 0; i < n; ++i) {
      const std::int64_t value = chance.between(-(1 << 22), 1 << 22);
      const std::int64_t wide = value << shift;
      sum += static_cast<UInt128>(Int128{value});
      squares += static_cast<UInt128>(Int128{value} * value);
      wide_sum += static_cast<UInt128>(Int128{wide});
      wide_squares += static_cast<UInt128>(Int128{wide} * wide);
    }
    const double scale = static_cast<double>(std::uint64_t{1} << shift);
    ASSERT_EQ(spread(n, squares, sum) * scale * scale, spread(n, wide_squares, wide_sum));
    ASSERT_EQ(spread_wide(n, squares, static_cast<Int128>(sum)), spread(n, squares, sum));
  }
}

TEST(Finish, ExactSumIsExactForAllDoublesInAnyOrder) {
  Chance chance(6);
  for (int round = 0; round < 300; ++round) {
    std::vector<double> values;
    ExactSum sum;
    for (int i = 0; i < 50; ++i) {
      const double value = std::bit_cast<double>(chance.next());
      if (value - value != 0) continue;
      values.push_back(value);
      sum.add(value);
    }
    sum.add(0.1);
    for (std::size_t i = values.size(); i-- > 0;)
      sum.subtract(values[(i * 7 + 3) % values.size() == i ? i : i]);
    ASSERT_EQ(sum.rounded(), 0.1);
  }
  ExactSum tiny;
  tiny.add(std::numeric_limits<double>::denorm_min());
  tiny.add(1e300);
  tiny.add(-1e300);
  EXPECT_EQ(tiny.rounded(), std::numeric_limits<double>::denorm_min());
  ExactSum tie;  // 1 + 2^-53 ties to 1; anything more goes up
  tie.add(1.0);
  tie.add(0x1p-53);
  EXPECT_EQ(tie.rounded(), 1.0);
  tie.add(0x1p-1074);
  EXPECT_EQ(tie.rounded(), 1.0 + 0x1p-52);
  ExactSum negative;
  negative.add(-0x1p-1022);
  negative.add(0x1p-1074);
  EXPECT_EQ(negative.rounded(), -0x1p-1022 + 0x1p-1074);
  ExactSum huge;
  for (int i = 0; i < 4; ++i) huge.add(std::numeric_limits<double>::max());
  EXPECT_EQ(huge.rounded(), std::numeric_limits<double>::infinity());
  for (int i = 0; i < 3; ++i) huge.subtract(std::numeric_limits<double>::max());
  EXPECT_EQ(huge.rounded(), std::numeric_limits<double>::max());
}

TEST(Finish, ASmallSumOfFloatsIsTheWideOne) {
  Chance chance(8);
  for (int round = 0; round < 400; ++round) {
    const std::int64_t spread = round % 2 == 0 ? 30 : chance.between(30, 1000);  // of exponents
    const std::int64_t middle = chance.between(spread + 2, 2044 - spread);
    std::vector<double> values;
    ExactSum wide;
    FloatSum small;
    for (int i = 0; i < 60; ++i) {
      const auto exponent = static_cast<std::uint64_t>(middle + chance.between(-spread, spread))
                            << 52;
      const auto value = std::bit_cast<double>((chance.next() & ~(0x7ffull << 52)) | exponent);
      values.push_back(value);
      wide.add(value);
      small.add(value);
      if (i % 3 == 2) {
        const double gone = values[static_cast<std::size_t>(chance.between(0, i))];
        wide.subtract(gone);
        small.subtract(gone);
      }
      ASSERT_EQ(std::bit_cast<std::uint64_t>(small.rounded()),
                std::bit_cast<std::uint64_t>(wide.rounded()))
          << "round " << round;
    }
    EXPECT_TRUE(round % 2 != 0 || small.memory_bytes() == 0);
  }
}

TEST(Finish, StepsTieToEvenAndKeysKeepOrder) {
  EXPECT_EQ(steps_of(0.3125, 0.125), 2);
  EXPECT_EQ(steps_of(0.4375, 0.125), 4);
  EXPECT_EQ(steps_of(-0.3125, 0.125), -2);
  EXPECT_FALSE(steps_of(std::numeric_limits<double>::quiet_NaN(), 1).has_value());
  EXPECT_FALSE(steps_of(1e300, 1).has_value());
  const double ordered[] = {-1e300, -1, -1e-310, 0, 1e-310, 1, 1e300};
  for (std::size_t i = 0; i + 1 < std::size(ordered); ++i) {
    EXPECT_LT(float_key(ordered[i]), float_key(ordered[i + 1]));
    EXPECT_EQ(float_of_key(float_key(ordered[i])), ordered[i]);
  }
  EXPECT_EQ(float_key(-0.0), float_key(0.0));
}

Outcome outcome_of(const FeatureSpec& spec, const SchemaPtr& schema) {
  return make_plan(make_view({spec}), schema).status().outcome();
}

TEST(Plan, RefusesWhatItCannotServeExactly) {
  Field ranged = number_field("ranged", DType::kDecimal, 9);
  ASSERT_TRUE(set_range(ranged, -4e6, 4e6).is_ok());
  Field stepped = number_field("stepped", DType::kF32);
  stepped.resolution = 0.1;
  const SchemaPtr schema =
      make_schema({number_field("f", DType::kF64), number_field("d", DType::kDecimal, 3), ranged,
                   stepped, number_field("text", DType::kUtf8), number_field("i", DType::kI32)});
  EXPECT_EQ(outcome_of(feature(Op::kStd, "f", 60), schema), Outcome::kIncompatible);
  EXPECT_EQ(outcome_of(feature(Op::kMean, "f", 60), schema), Outcome::kOk);
  EXPECT_EQ(outcome_of(feature(Op::kStd, "d", 60), schema), Outcome::kIncompatible);
  EXPECT_EQ(outcome_of(feature(Op::kSum, "d", 60), schema), Outcome::kOk);
  EXPECT_EQ(outcome_of(feature(Op::kStd, "ranged", 60), schema), Outcome::kOk);
  EXPECT_EQ(outcome_of(feature(Op::kStd, "i", 60), schema), Outcome::kOk);
  EXPECT_EQ(outcome_of(feature(Op::kSum, "stepped", 60), schema), Outcome::kIncompatible);
  EXPECT_EQ(outcome_of(feature(Op::kMax, "text", 60), schema), Outcome::kIncompatible);
  EXPECT_EQ(outcome_of(feature(Op::kCount, "text", 60), schema), Outcome::kOk);
  EXPECT_EQ(outcome_of(feature(Op::kSum, "absent", 60), schema), Outcome::kIncompatible);
  EXPECT_EQ(outcome_of(feature(Op::kSum, "i", 0), schema), Outcome::kInvalid);
  EXPECT_EQ(outcome_of(feature(Op::kSum, "i", -5), schema), Outcome::kInvalid);
  EXPECT_EQ(outcome_of(feature(static_cast<Op>(99), "i", 5), schema), Outcome::kIncompatible);
  FeatureSpec later = feature(Op::kSum, "i", 60);
  later.version = 2;
  EXPECT_EQ(outcome_of(later, schema), Outcome::kIncompatible);
  EXPECT_EQ(make_plan(make_view({}), schema).status().outcome(), Outcome::kInvalid);
  const FeatureSpec twice = feature(Op::kSum, "i", 60);
  EXPECT_EQ(make_plan(make_view({twice, twice}), schema).status().outcome(), Outcome::kInvalid);
}

TEST(Plan, ABoundAtTheLimitStillFitsItsSums) {
  // 2^52 - 1 steps either way, the widest that std accepts.
  Field edge = number_field("edge", DType::kI64);
  edge.range_min = static_cast<std::uint64_t>(-((std::int64_t{1} << 52) - 1));
  edge.range_max = static_cast<std::uint64_t>((std::int64_t{1} << 52) - 1);
  const SchemaPtr schema = make_schema({edge});
  auto engine =
      Engine::create(make_plan(make_view({feature(Op::kStd, "edge", 60)}), schema).value()).value();
  RowBatch rows(schema);
  const std::int64_t top = (std::int64_t{1} << 52) - 1;
  for (std::int64_t i = 0; i < 4; ++i) add_row(rows, kStart + i, "a", i % 2 == 0 ? top : -top);
  ASSERT_TRUE(engine->update(rows, 0, 4, 1).is_ok());
  const double want = std::sqrt(4.0 * static_cast<double>(top) * static_cast<double>(top) / 3.0);
  EXPECT_NEAR(read_all(*engine, "a", kStart + 3).values[0], want, want * 1e-15);
}

}  // namespace
}  // namespace edgecore::features
