// Views of several streams: parts that are read as one.
#include "features/joined.hpp"

#include "features/joined_batch.hpp"
#include "tests/features/feature_fixtures.hpp"

namespace edgecore::features {
namespace {

SchemaPtr weather_schema() {
  auto schema = std::make_shared<Schema>();
  schema->stream = "weather";
  schema->fields.push_back(number_field("outside", DType::kDecimal, 1));
  schema->canonical.assign(1, std::byte{7});
  schema->fingerprint = blake3(schema->canonical);
  return schema;
}

PlanPtr pump_plan() {
  auto made = make_plan(make_view({feature(Op::kMean, "temp", 60)}), pump_schema());
  EXPECT_TRUE(made.is_ok());
  return made.value();
}

PlanPtr weather_plan() {
  ViewSpec view = make_view({feature(Op::kLast, "outside", 600)}, 60);
  view.stream = "weather";
  view.entity.clear();
  auto made = make_plan(std::move(view), weather_schema());
  EXPECT_TRUE(made.is_ok()) << made.status().to_string();
  return made.value();
}

// The weather's feature is the first of the view.
PartsPtr two_streams() {
  auto made = Parts::make({{pump_plan(), {1}, true}, {weather_plan(), {0}, false}});
  EXPECT_TRUE(made.is_ok()) << made.status().to_string();
  return made.value();
}

RowBatch weather_at(std::int64_t time, std::int64_t tenths) {
  RowBatch rows(weather_schema());
  rows.set_i64(rows.add_row(time, "", 0), 0, tenths);
  return rows;
}

RowBatch pump_at(std::int64_t time, std::int64_t thousandths) {
  RowBatch rows(pump_schema());
  add_row(rows, time, "a", thousandths);
  return rows;
}

Reading read_of(Joined& joined, std::int64_t as_of) {
  Reading out;
  out.values.resize(joined.width());
  out.states.resize(joined.width());
  out.ages.resize(joined.width());
  out.coverage.resize(joined.width());
  out.reasons.resize(joined.width());
  const Status status =
      joined.read("a", as_of, {out.values, out.states, out.ages, out.coverage, out.reasons});
  EXPECT_TRUE(status.is_ok()) << status.to_string();
  return out;
}

TEST(Joined, PartsThatAreNotEachFeatureOnceAreRefused) {
  EXPECT_FALSE(Parts::make(std::vector<StreamPart>{}).is_ok());
  EXPECT_FALSE(Parts::make({{pump_plan(), {0}, true}, {weather_plan(), {0}, false}}).is_ok());
  EXPECT_FALSE(Parts::make({{pump_plan(), {0}, true}, {weather_plan(), {2}, false}}).is_ok());
  EXPECT_FALSE(Parts::make({{pump_plan(), {0}, true}, {pump_plan(), {1}, true}}).is_ok());
  EXPECT_FALSE(Parts::make({{pump_plan(), {0, 1}, true}}).is_ok());
  EXPECT_FALSE(Parts::make({{pump_plan(), {0}, false}}).is_ok());
  EXPECT_EQ(two_streams()->width(), 2u);
  ASSERT_EQ(two_streams()->others().size(), 1u);
}

TEST(Joined, RowsGoToTheirPartsAndOneTooFarAheadIsMissing) {
  auto made = Joined::create(two_streams());
  ASSERT_TRUE(made.is_ok());
  Joined& joined = *made.value();
  ASSERT_TRUE(joined.update(weather_at(kStart, 31), 0, 1, 1).is_ok());
  ASSERT_TRUE(joined.update(pump_at(kStart, 20'000), 0, 1, 2).is_ok());
  EXPECT_EQ(read_of(joined, kStart).values, (std::vector<double>{3.1, 20.0}));
  ASSERT_TRUE(joined.update(weather_at(kStart + 60 * kSecond, 99), 0, 1, 3).is_ok());
  EXPECT_EQ(read_of(joined, kStart).values.front(), 3.1);
  ASSERT_TRUE(joined.update(weather_at(kStart + 61 * kSecond, 99), 0, 1, 4).is_ok());
  const Reading found = read_of(joined, kStart);
  EXPECT_EQ(found.states.front(), static_cast<std::uint8_t>(State::kMissing));
  EXPECT_EQ(found.reasons.front(), static_cast<std::uint8_t>(Reason::kBehind));
  EXPECT_EQ(found.values.back(), 20.0);
  EXPECT_EQ(joined.position(), 4u);
}

TEST(Joined, WhatWasMetIsNotTakenAgainAndAGapIsOfItsStream) {
  auto made = Joined::create(two_streams());
  Joined& joined = *made.value();
  ASSERT_TRUE(joined.take(weather_at(kStart, 31), 0, 1, 5).is_ok());
  const Bytes before = joined.snapshot();
  ASSERT_TRUE(joined.take(weather_at(kStart + kSecond, 77), 0, 1, 5).is_ok());
  ASSERT_TRUE(joined.gap("weather", kStart, kStart + kSecond, 5).is_ok());
  ASSERT_TRUE(joined.gap("another", kStart, kStart + kSecond, 9).is_ok());
  EXPECT_EQ(joined.snapshot(), before);
  ASSERT_TRUE(joined.gap("weather", kStart, kStart + kSecond, 6).is_ok());
  EXPECT_NE(joined.snapshot(), before);
  EXPECT_FALSE(joined.update(weather_at(kStart, 31), 0, 1, 6).is_ok());
}

TEST(Joined, SetAsideRowsSayWhoseTheyAre) {
  auto made = Joined::create(two_streams());
  Joined& joined = *made.value();
  ASSERT_TRUE(joined.update(weather_at(kStart + 100 * kSecond, 31), 0, 1, 1).is_ok());
  ASSERT_TRUE(joined.update(pump_at(kStart + 100 * kSecond, 1), 0, 1, 2).is_ok());
  ASSERT_TRUE(joined.update(pump_at(kStart, 1), 0, 1, 3).is_ok());
  EXPECT_TRUE(joined.was_set_aside());
  ASSERT_TRUE(joined.update(weather_at(kStart, 31), 0, 1, 4).is_ok());
  const auto aside = joined.take_set_aside();
  ASSERT_EQ(aside.size(), 2u);
  EXPECT_EQ(aside[0].part, 0u);
  EXPECT_EQ(aside[1].part, 1u);
  EXPECT_EQ(aside[1].position, 4u);
  EXPECT_EQ(joined.late_rows(), 2u);
}

TEST(Joined, SnapshotRestoresAndEveryDamageIsRefused) {
  auto made = Joined::create(two_streams());
  Joined& joined = *made.value();
  ASSERT_TRUE(joined.update(weather_at(kStart, 31), 0, 1, 1).is_ok());
  ASSERT_TRUE(joined.update(pump_at(kStart, 20'000), 0, 1, 2).is_ok());
  const Bytes whole = joined.snapshot();
  auto again = Joined::restore(two_streams(), whole);
  ASSERT_TRUE(again.is_ok()) << again.status().to_string();
  EXPECT_EQ(again.value()->snapshot(), whole);
  EXPECT_EQ(read_of(*again.value(), kStart), read_of(joined, kStart));
  for (std::size_t at = 0; at < whole.size(); ++at) {
    Bytes damaged = whole;
    damaged[at] ^= std::byte{1};
    EXPECT_FALSE(Joined::restore(two_streams(), damaged).is_ok()) << at;
    EXPECT_FALSE(Joined::restore(two_streams(), ByteSpan(whole).first(at)).is_ok()) << at;
  }
  auto alone = Joined::create(Parts::make(pump_plan()).value());
  EXPECT_EQ(Joined::restore(two_streams(), alone.value()->snapshot()).status().outcome(),
            Outcome::kIncompatible);
  EXPECT_EQ(alone.value()->snapshot(), Engine::create(pump_plan()).value()->snapshot());
}

TEST(Joined, AnAnswerIsFinalWhenEveryStreamIsPastIt) {
  auto made = Joined::create(two_streams());
  Joined& joined = *made.value();
  ASSERT_TRUE(joined.update(pump_at(kStart + 31 * kSecond, 1), 0, 1, 1).is_ok());
  EXPECT_FALSE(joined.is_final("a", kStart));  // no weather yet
  ASSERT_TRUE(joined.update(weather_at(kStart + 60 * kSecond, 1), 0, 1, 2).is_ok());
  EXPECT_FALSE(joined.is_final("a", kStart));
  ASSERT_TRUE(joined.update(weather_at(kStart + 61 * kSecond, 1), 0, 1, 3).is_ok());
  EXPECT_TRUE(joined.is_final("a", kStart));
  EXPECT_FALSE(joined.is_final("b", kStart));
  EXPECT_EQ(joined.final_before(), std::nullopt);  // no watermark without idle
}

TEST(Joined, HistoryWithoutAStreamOrItsPositionsIsRefused) {
  const RowBatch rows = pump_at(kStart, 1), weather = weather_at(kStart, 1);
  const Part part;
  const Chosen chosen = choose(two_streams()->own(), rows, part);
  std::vector<double> values(2);
  std::vector<std::uint8_t> states(2), final(1);
  std::vector<std::int64_t> times(1);
  std::vector<std::uint32_t> numbers(1);
  const Columns to{times, numbers, final, values, states};
  std::uint64_t late = 0;
  const History own{&rows, {}}, other{&weather, {}};
  const Part arrival{INT64_MIN, INT64_MAX, true, {}};
  EXPECT_FALSE(answer(two_streams(), own, {}, part, chosen, to, late).is_ok());
  EXPECT_FALSE(answer(two_streams(), own, std::span(&other, 1), arrival, chosen, to, late).is_ok());
  ASSERT_TRUE(answer(two_streams(), own, std::span(&other, 1), part, chosen, to, late).is_ok());
  EXPECT_EQ(values, (std::vector<double>{0.1, 0.001}));
}

}  // namespace
}  // namespace edgecore::features
