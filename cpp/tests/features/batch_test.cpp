// The batch kernel against the stream, to the bit, over histories and views of every shape.
#include "features/batch.hpp"

#include <algorithm>
#include <numeric>
#include <tuple>

#include "feature_fixtures.hpp"
#include "stale_policies.hpp"

namespace edgecore::features {
namespace {

struct Shape {
  std::int64_t entities = 1;
  std::int64_t step_ns = kSecond;    // between events, at most
  std::uint64_t tie_in = 1u << 30;   // one in so many has the time of the one before
  std::uint64_t gap_in = 1u << 30;   // one in so many comes after a long silence
  std::uint64_t null_in = 1u << 30;  // one in so many has no value
  std::uint64_t late_in = 1u << 30;  // one in so many is up to 25 s late
  std::int64_t low = 20'000, high = 25'000;
  std::size_t count = 700;
};

Shape any_shape(Chance& chance) {
  Shape shape;
  shape.entities = chance.one_in(3) ? 1 : chance.between(1, 40);
  shape.step_ns = chance.one_in(3) ? 20 * kSecond : chance.between(1, 3 * kSecond);
  if (chance.one_in(2)) shape.tie_in = static_cast<std::uint64_t>(chance.between(2, 20));
  if (chance.one_in(2)) shape.gap_in = static_cast<std::uint64_t>(chance.between(20, 200));
  if (chance.one_in(2)) shape.null_in = static_cast<std::uint64_t>(chance.between(2, 30));
  if (chance.one_in(2)) shape.late_in = static_cast<std::uint64_t>(chance.between(4, 40));
  // Few values, so that extremes tie; or so many that 64 bits do not hold their squares.
  const int digits = static_cast<int>(chance.between(0, 14));
  std::int64_t span = 3;
  for (int i = 0; i < digits; ++i) span *= 10;
  shape.low = chance.between(-span, span);
  shape.high = shape.low + span;
  shape.count = static_cast<std::size_t>(chance.between(1, 900));
  return shape;
}

// pump (category), temp decimal(3), load i32.
SchemaPtr two_fields() {
  Field temp = number_field("temp", DType::kDecimal, 3);
  EXPECT_TRUE(set_range(temp, -1e12, 1e12).is_ok());
  Field load = number_field("load", DType::kI32);
  EXPECT_TRUE(set_range(load, -2000, 2000).is_ok());
  return make_schema({temp, load});
}

RowBatch rows_of(const Shape& shape, Chance& chance, const SchemaPtr& schema) {
  RowBatch rows(schema);
  std::int64_t time = kStart;
  for (std::size_t i = 0; i < shape.count; ++i) {
    if (!chance.one_in(shape.tie_in)) time += chance.between(1, shape.step_ns);
    if (chance.one_in(shape.gap_in)) time += chance.between(0, 9000) * kSecond;
    const bool late = chance.one_in(shape.late_in);
    const std::string source = chance.one_in(2) ? "" : std::to_string(chance.between(8, 11));
    const std::size_t row = rows.add_row(late ? time - chance.between(0, 25 * kSecond) : time,
                                         source, static_cast<std::uint64_t>(chance.between(0, 1)));
    rows.set_bytes(row, 0, as_byte_span(std::to_string(chance.between(1, shape.entities))));
    if (!chance.one_in(shape.null_in)) rows.set_i64(row, 1, chance.between(shape.low, shape.high));
    if (!chance.one_in(shape.null_in)) rows.set_i64(row, 2, chance.between(-5, 5));
  }
  return rows;
}

// Of values as a set, and of the entity's name as a text.
void add_values(Chance& chance, std::vector<FeatureSpec>& features) {
  const auto add = [&](Op op, const std::string& field) -> FeatureSpec& {
    features.push_back(feature(op, field, chance.between(1, 900)));
    features.back().name += "_" + std::to_string(features.size());
    return features.back();
  };
  for (const std::string field : {"temp", "load"}) {
    if (chance.one_in(2)) add(Op::kDistinct, field);
    if (chance.one_in(2)) add(Op::kMostFrequent, field);
    if (chance.one_in(2))
      add(Op::kBin, field).at_least = static_cast<double>(chance.between(-2, 2));
    const auto permille = static_cast<std::uint16_t>(chance.between(1, 999));
    if (chance.one_in(2)) add(Op::kQuantile, field).permille = permille;
  }
  for (const Op op : {Op::kLast, Op::kFirst, Op::kMostFrequent})
    if (chance.one_in(4)) add(op, "pump");
}

ViewSpec any_view(Chance& chance) {
  std::vector<FeatureSpec> features;
  const bool judged = chance.one_in(2);
  for (const std::int64_t window : {1, 60, 600, 3600}) {
    if (chance.one_in(3)) continue;
    for (const Op op : kAggregates) {
      if (!chance.one_in(4)) features.push_back(feature(op, "temp", window));
      if (chance.one_in(4)) features.push_back(feature(op, "load", window));
    }
    if (chance.one_in(3)) features.push_back(feature(Op::kCount, "", window));
    if (chance.one_in(5)) features.push_back(feature(Op::kCount, "pump", window));
  }
  if (chance.one_in(2)) features.push_back(feature(Op::kLast, "temp", 0));
  if (chance.one_in(2)) features.push_back(feature(Op::kLast, "load", 40));
  if (chance.one_in(2) || features.empty()) features.push_back(feature(Op::kRecency, "", 0));
  if (chance.one_in(3))
    for (const Op op : kOthers)
      if (chance.one_in(2)) features.push_back(feature(op, "temp", chance.between(5, 900)));
  if (chance.one_in(3))
    features.push_back(feature(Op::kEwma, "load", std::int64_t{1} << chance.between(0, 9)));
  if (chance.one_in(3)) add_values(chance, features);
  for (FeatureSpec& spec : features) {
    if (!judged || chance.one_in(3)) continue;
    if (chance.one_in(2)) spec.ttl_ns = chance.between(1, 60) * kSecond;
    if (chance.one_in(2)) spec.min_coverage = 0.5;
    if (chance.one_in(2)) spec.min_count = 3;
    set_policy(spec, chance.between(0, kPolicies - 1));
    if (chance.one_in(2)) spec.default_value = -1.5;
  }
  return make_view(std::move(features));
}

void expect_stream(const PlanPtr& plan, const RowBatch& rows,
                   const std::vector<std::uint32_t>& order) {
  const std::size_t width = plan->width();
  std::vector<double> values(order.size() * width);
  std::vector<std::uint8_t> states(values.size(), 77);
  ASSERT_TRUE(backfill(plan, rows, order, values, states).is_ok());
  auto engine = Engine::create(plan).value();
  for (std::size_t i = 0; i < order.size(); ++i) {
    const std::size_t row = order[i];
    ASSERT_TRUE(engine->update(rows, row, 1, i + 1).is_ok());
    const Reading reading = read_all(*engine, std::string(rows.text(row, 0)), rows.time_ns(row));
    for (std::size_t f = 0; f < width; ++f) {
      ASSERT_EQ(std::bit_cast<std::uint64_t>(values[i * width + f]),
                std::bit_cast<std::uint64_t>(reading.values[f]))
          << plan->view().features[f].name << " at " << i << ": " << values[i * width + f]
          << ", the stream says " << reading.values[f];
      ASSERT_EQ(states[i * width + f], reading.states[f]);
    }
  }
}

TEST(Batch, IsTheStreamForEveryShapeOfHistoryAndView) {
  const SchemaPtr schema = two_fields();
  for (std::uint64_t seed = 1; seed <= 120; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Chance chance(seed);
    const PlanPtr plan = make_plan(any_view(chance), schema).value();
    const RowBatch rows = rows_of(any_shape(chance), chance, schema);
    expect_stream(plan, rows, total_order(rows));
    if (HasFatalFailure()) return;
  }
}

TEST(Batch, IsTheStreamInOrderOfArrivalWithLateRows) {
  const SchemaPtr schema = two_fields();
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Chance chance(seed);
    Shape shape = any_shape(chance);
    shape.late_in = 20;
    const PlanPtr plan = make_plan(any_view(chance), schema).value();
    const RowBatch rows = rows_of(shape, chance, schema);
    std::vector<std::uint32_t> order(rows.count());
    std::iota(order.begin(), order.end(), 0u);
    expect_stream(plan, rows, order);
    if (HasFatalFailure()) return;
  }
}

TEST(Batch, IsTheStreamAtTheEndsOfTime) {
  const SchemaPtr schema = two_fields();
  const PlanPtr plan = make_plan(f20_view(), schema).value();
  RowBatch rows(schema);
  for (const std::int64_t time :
       {INT64_MIN, INT64_MIN + 1, INT64_MIN + kDurationMaxNs, INT64_MAX - 1, INT64_MAX})
    add_row(rows, time, "a", time % 1000);
  expect_stream(plan, rows, total_order(rows));
  expect_stream(plan, rows, {2, 3, 4});
}

// More events in the hour than two bytes number, rising and then falling.
TEST(Batch, IsTheStreamOfAWindowOfManyEvents) {
  const SchemaPtr schema = pump_schema();
  ViewSpec view = make_view({feature(Op::kMin, "temp", 3600), feature(Op::kMax, "temp", 3600),
                             feature(Op::kMax, "temp", 60)});
  const PlanPtr plan = make_plan(std::move(view), schema).value();
  RowBatch rows(schema);
  constexpr std::int64_t kRows = 150'000;
  for (std::int64_t i = 0; i < kRows; ++i)
    add_row(rows, kStart + i * kSecond / 25, "a", i < kRows / 2 ? i : kRows - i);
  expect_stream(plan, rows, total_order(rows));
}

TEST(Batch, TotalOrderIsThatOfAStableSort) {
  const SchemaPtr schema = pump_schema();
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    Chance chance(seed);
    RowBatch rows(schema);
    const std::int64_t disorder = chance.between(0, 40);
    for (std::int64_t i = 0; i < 200; ++i)
      rows.add_row(kStart + i / 3 - chance.between(0, disorder), chance.one_in(2) ? "" : "s",
                   static_cast<std::uint64_t>(chance.between(0, 2)));
    std::vector<std::uint32_t> want(rows.count());
    std::iota(want.begin(), want.end(), 0u);
    std::stable_sort(want.begin(), want.end(), [&rows](std::uint32_t a, std::uint32_t b) {
      const auto key = [&rows](std::uint32_t row) {
        return std::tuple(rows.time_ns(row), rows.source(row), rows.source_seq(row));
      };
      return key(a) < key(b);
    });
    ASSERT_EQ(total_order(rows), want) << "seed " << seed;
  }
}

TEST(Batch, AValueOutsideItsRangeIsInvalidAndNoRowsAreNone) {
  const SchemaPtr schema = pump_schema();
  const PlanPtr plan = make_plan(f20_view(), schema).value();
  RowBatch rows(schema);
  EXPECT_TRUE(backfill(plan, rows, {}, {}, {}).is_ok());
  add_row(rows, kStart, "a", 1);
  add_row(rows, kStart + 1, "a", 150'001);
  std::vector<double> values(40);
  std::vector<std::uint8_t> states(40);
  EXPECT_EQ(backfill(plan, rows, total_order(rows), values, states).outcome(), Outcome::kInvalid);
}

}  // namespace
}  // namespace edgecore::features
