// Buckets of ratio scales: their bounds, and quantiles of windows that hold many values against all
// of them sorted.
#include "features/buckets.hpp"

#include "feature_fixtures.hpp"
#include "features/values.hpp"

namespace edgecore::features {
namespace {

TEST(Buckets, OfWholeNumbersMeetAndAreNarrow) {
  static_assert(octave_bucket(UINT64_MAX) < kLogBuckets);
  for (std::uint32_t bucket = 0; bucket < octave_bucket(UINT64_MAX); ++bucket) {
    const std::uint64_t first = octave_first(bucket);
    const std::uint64_t last = octave_first(bucket + 1) - 1;
    ASSERT_EQ(octave_bucket(first), bucket);
    ASSERT_EQ(octave_bucket(last), bucket);
    ASSERT_LE((last - first + 1) / 2, (first + 63) / 64) << bucket;
    if (first < 64) {
      ASSERT_EQ(first, last);
    }
  }
}

Field ratio_field(const std::string& name, DType dtype, double high, int scale = 0) {
  Field field = number_field(name, dtype, scale);
  field.ratio = true;
  if (high > 0) {
    EXPECT_TRUE(set_range(field, 0, high).is_ok());
  }
  return field;
}

// From a thousandth to a million, and now and then 0: as decimals, doubles, on a resolution, and
// with a whole u64.
SchemaPtr ratio_schema() {
  Field step = ratio_field("step", DType::kF64, 1e6);
  step.resolution = 0.001;
  return make_schema({ratio_field("ms", DType::kDecimal, 1e6, 3),
                      ratio_field("real", DType::kF64, 1e6), step,
                      ratio_field("wide", DType::kU64, 0)});
}

constexpr std::uint16_t kPermilles[] = {10, 500, 950, 999};
constexpr const char* kFields[] = {"ms", "real", "step", "wide"};

ViewSpec ratio_view() {
  std::vector<FeatureSpec> out;
  for (const std::string field : kFields)
    for (const std::int64_t window : {3, 60})
      for (const std::uint16_t permille : kPermilles) {
        FeatureSpec spec = feature(Op::kQuantile, field, window);
        spec.permille = permille;
        spec.name.append("_").append(std::to_string(permille));
        out.push_back(spec);
      }
  return make_view(std::move(out), 2);
}

struct Measured {
  std::int64_t time = 0, ms = 0;
  double real = 0;
  std::uint64_t wide = 0;
  double value(std::size_t field) const {
    if (field == 1) return real;
    return field == 3 ? static_cast<double>(wide) : static_cast<double>(ms) / 1000;
  }
};

std::vector<Measured> measured(Chance& chance, std::size_t count) {
  std::vector<Measured> out;
  std::int64_t time = kStart;
  for (std::size_t i = 0; i < count; ++i) {
    time += chance.between(0, i / 3000 % 2 == 0 ? kSecond / 30 : kSecond / 400);
    Measured one;
    one.time = chance.one_in(7) ? time - chance.between(0, 2 * kSecond) : time;
    one.ms = chance.one_in(40) ? 0 : chance.between(0, 1'000'000'000) >> chance.between(0, 29);
    one.real = static_cast<double>(chance.between(0, 1'000'000'000)) / 1000 /
               static_cast<double>(std::int64_t{1} << chance.between(0, 30));
    one.wide = chance.next() >> chance.between(0, 63);
    out.push_back(one);
  }
  return out;
}

RowBatch batch_of(const std::vector<Measured>& rows, const SchemaPtr& schema) {
  RowBatch out(schema);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::size_t at = add_row(out, rows[i].time, "a", rows[i].ms, "", i + 1);
    out.set_f64(at, 2, rows[i].real);
    out.set_f64(at, 3, static_cast<double>(rows[i].ms) / 1000);
    out.set_cell(at, 4, rows[i].wide);
  }
  return out;
}

TEST(Buckets, QuantilesOfARatioScaleAreOffByASmallShareOfThemselves) {
  const SchemaPtr schema = ratio_schema();
  const PlanPtr plan = make_plan(ratio_view(), schema).value();
  for (const FeaturePlan& one : plan->features()) EXPECT_EQ(one.relative_error, 1.0 / 64);
  EXPECT_EQ(plan->features()[0].error, 1e6 / 64);
  Chance chance(7);
  const std::vector<Measured> rows = measured(chance, 15'000);
  const RowBatch batch = batch_of(rows, schema);
  auto engine = Engine::create(plan).value();
  std::int64_t newest = kStart;
  std::size_t approximate = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    ASSERT_TRUE(engine->update(batch, i, 1, i + 1).is_ok());
    newest = std::max(newest, rows[i].time);
    if (i % 997 == 0) engine = Engine::restore(plan, engine->snapshot()).value();
    if (!chance.one_in(120)) continue;
    const std::int64_t as_of = newest - (chance.one_in(3) ? chance.between(0, kSecond) : 0);
    const Reading found = read_all(*engine, "a", as_of);
    std::size_t at = 0;
    for (std::size_t field = 0; field < std::size(kFields); ++field)
      for (const std::int64_t window : {3, 60}) {
        std::vector<double> inside;
        for (std::size_t j = 0; j <= i; ++j)
          if (rows[j].time <= as_of && rows[j].time > as_of - window * kSecond)
            inside.push_back(rows[j].value(field));
        std::sort(inside.begin(), inside.end());
        for (const std::uint16_t permille : kPermilles) {
          const double want = inside[(permille * inside.size() + 999) / 1000 - 1];
          const bool few = inside.size() <= kFewMax;
          ASSERT_NEAR(found.values[at], want, few ? 0 : want * (1.0 / 64 + 1e-12))
              << plan->view().features[at].name;
          ASSERT_EQ(found.reasons[at] != 0, !few);
          approximate += few ? 0 : 1;
          ++at;
        }
      }
  }
  EXPECT_GT(approximate, 500u);
}

TEST(Buckets, BatchAndStreamOfARatioScaleAreTheSameBits) {
  const SchemaPtr schema = ratio_schema();
  ViewSpec view = ratio_view();
  for (const bool columns : {false, true}) {
    // Without what has no columns, the batch kernel takes them.
    if (columns)
      std::erase_if(view.features, [](const FeatureSpec& one) { return one.field != "ms"; });
    const PlanPtr plan = make_plan(view, schema).value();
    Chance chance(8);
    const std::vector<Measured> rows = measured(chance, 8'000);
    const RowBatch batch = batch_of(rows, schema);
    const auto order = total_order(batch);
    std::vector<double> values(rows.size() * plan->width());
    std::vector<std::uint8_t> states(values.size());
    ASSERT_TRUE(backfill(plan, batch, order, values, states).is_ok());
    auto engine = Engine::create(plan).value();
    for (std::size_t i = 0; i < rows.size(); ++i) {
      ASSERT_TRUE(engine->update(batch, order[i], 1, i + 1).is_ok());
      const Reading one = read_all(*engine, "a", rows[order[i]].time);
      for (std::size_t f = 0; f < plan->width(); ++f)
        ASSERT_EQ(std::bit_cast<std::uint64_t>(one.values[f]),
                  std::bit_cast<std::uint64_t>(values[i * plan->width() + f]))
            << plan->view().features[f].name << " at " << i;
    }
  }
}

TEST(Buckets, MemoryOfARatioScaleIsBoundedWhateverItsRange) {
  const SchemaPtr schema = ratio_schema();
  for (const std::string field : kFields) {
    FeatureSpec spec = feature(Op::kQuantile, field, 60);
    spec.permille = 500;
    const PlanPtr plan = make_plan(make_view({spec}), schema).value();
    EXPECT_TRUE(plan->series()[0].values[0].log);
    EXPECT_LE(plan->series()[0].values[0].buckets, kLogBuckets);
  }
}

TEST(Buckets, WhatHasNoEndOrNoZeroIsRefusedOrLinear) {
  const auto plan_of = [](Field field) {
    FeatureSpec spec = feature(Op::kQuantile, field.name, 60);
    spec.permille = 500;
    return make_plan(make_view({spec}), make_schema({std::move(field)}));
  };
  Field endless = ratio_field("x", DType::kF64, 0);
  EXPECT_EQ(plan_of(endless).status().outcome(), Outcome::kIncompatible);
  ASSERT_TRUE(set_range(endless, 0, std::numeric_limits<double>::infinity()).is_ok());
  EXPECT_EQ(plan_of(endless).status().outcome(), Outcome::kIncompatible);
  // Few steps are told apart by buckets of one each.
  const PlanPtr few = plan_of(ratio_field("x", DType::kI32, 1000)).value();
  EXPECT_FALSE(few->series()[0].values[0].log);
  EXPECT_EQ(few->features()[0].error, 0);
}

}  // namespace
}  // namespace edgecore::features
