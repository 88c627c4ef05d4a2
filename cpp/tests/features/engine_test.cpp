// The engine against its definition: any order of arrival, any time of reading, any cut.
#include "features/engine.hpp"

#include <cmath>
#include <span>

#include "feature_fixtures.hpp"
#include "stale_policies.hpp"
#include "tests/reference/naive_features.hpp"

namespace edgecore::features {
namespace {

using reference::NaiveAnswer;
using reference::NaiveEntity;
using reference::NaiveEvent;

// Events with gaps, ties, nulls, late ones and ones too late, of a few entities and sources.
struct History {
  explicit History(std::uint64_t seed, std::size_t count) : rows(pump_schema()) {
    Chance chance(seed);
    std::int64_t time = kStart;
    for (std::size_t i = 0; i < count; ++i) {
      if (chance.one_in(97)) time += chance.between(40, 4000) * kSecond;
      if (!chance.one_in(5)) time += chance.between(1, 20 * kSecond);
      std::int64_t at = time;
      if (chance.one_in(6)) at -= chance.between(0, 45 * kSecond);
      const std::string entity(1, static_cast<char>('a' + chance.between(0, 2)));
      const std::string source = chance.one_in(2) ? "" : "s" + std::to_string(chance.between(0, 2));
      const auto value = chance.one_in(3) ? chance.between(-40000, 150000) : chance.between(20, 22);
      const std::size_t row = rows.add_row(
          at, source, chance.one_in(2) ? 0 : static_cast<std::uint64_t>(chance.between(0, 3)));
      rows.set_bytes(row, 0, as_byte_span(entity));
      if (!chance.one_in(11)) rows.set_i64(row, 1, value);
    }
  }
  NaiveEvent event(std::size_t row) const {
    return {rows.time_ns(row), std::string(rows.source(row)), rows.source_seq(row),
            rows.present(row, 1), rows.i64(row, 1)};
  }
  RowBatch rows;
};

ViewSpec judged_view() {
  ViewSpec view = f20_view();
  for (const std::int64_t window : {7, 60, 900})
    for (const Op op : kOthers) view.features.push_back(feature(op, "temp", window));
  for (const std::int64_t half_life : {2, 9, 120})
    view.features.push_back(feature(Op::kEwma, "temp", half_life));
  for (std::size_t i = 0; i < view.features.size(); ++i) {
    FeatureSpec& spec = view.features[i];
    if (i % 4 == 1) spec.ttl_ns = 50 * kSecond;
    if (i % 5 == 1) spec.min_coverage = 0.5;
    if (i % 7 == 2) spec.min_count = 3;
    set_policy(spec, static_cast<std::int64_t>(i) % kPolicies);
    if (i % 2 == 0) spec.default_value = -1.5;
  }
  FeatureSpec rows = feature(Op::kCount, "", 90);
  view.features.push_back(rows);
  return view;
}

void expect_naive(const Engine& engine, const std::string& name, const NaiveEntity& naive,
                  std::int64_t as_of) {
  const Reading reading = read_all(engine, name, as_of);
  const auto& specs = engine.plan().view().features;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const NaiveAnswer want = naive.read(specs[i], 3, as_of);
    ASSERT_EQ(std::bit_cast<std::uint64_t>(reading.values[i]),
              std::bit_cast<std::uint64_t>(want.value))
        << specs[i].name << " is " << reading.values[i] << ", should be " << want.value;
    ASSERT_EQ(reading.states[i], static_cast<std::uint8_t>(want.state)) << specs[i].name;
    ASSERT_EQ(reading.reasons[i], static_cast<std::uint8_t>(want.reason)) << specs[i].name;
    ASSERT_EQ(reading.ages[i], want.age) << specs[i].name;
    ASSERT_EQ(reading.coverage[i], want.coverage) << specs[i].name;
  }
}

// Sessions and windows that hop, of every operator over a window.
ViewSpec span_view() {
  ViewSpec view = make_view({});
  const auto add = [&view](Op op, std::int64_t window, std::int64_t hop, std::int64_t gap) {
    FeatureSpec spec = feature(op, "temp", window);
    spec.hop_ns = hop * kSecond;
    spec.gap_ns = gap * kSecond;
    spec.name += "_" + std::to_string(hop) + "_" + std::to_string(gap);
    view.features.push_back(spec);
  };
  for (const auto& ops : {std::span<const Op>(kAggregates), std::span<const Op>(kOthers)})
    for (const Op op : ops) {
      add(op, 60, 60, 0);
      add(op, 900, 37, 0);
      add(op, 7, 200, 0);
      add(op, 900, 0, 12);
      add(op, 60, 0, 60);
    }
  for (std::size_t i = 0; i < view.features.size(); ++i) {
    FeatureSpec& spec = view.features[i];
    if (i % 4 == 1) spec.ttl_ns = (i % 8 == 1 ? 50 : 4000) * kSecond;
    if (i % 6 == 1) spec.min_coverage = 0.5;
    if (i % 7 == 2) spec.min_count = 3;
    set_policy(spec, static_cast<std::int64_t>(i) % kPolicies);
  }
  return view;
}

TEST(Engine, AnswersAreTheDefinitionsForAnyArrivalAndAnyLegalTime) {
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const History history(seed, 700);
    const ViewSpec view = seed % 2 == 0 ? span_view() : judged_view();
    auto engine = Engine::create(make_plan(view, history.rows.schema()).value()).value();
    std::map<std::string, NaiveEntity> naive;
    Chance chance(seed + 1000);
    std::uint64_t late = 0;
    for (std::size_t row = 0; row < history.rows.count(); ++row) {
      const std::string name(history.rows.text(row, 0));
      ASSERT_TRUE(engine->update(history.rows, row, 1, row + 1).is_ok());
      auto& entity = naive.try_emplace(name, NaiveEntity(30 * kSecond)).first->second;
      late += entity.apply(history.event(row)) ? 0 : 1;
      ASSERT_EQ(engine->late_rows(), late);
      if (chance.one_in(3)) continue;
      const std::int64_t newest = entity.newest();
      expect_naive(*engine, name, entity, newest);
      if (chance.one_in(4))
        expect_naive(*engine, name, entity, newest - chance.between(0, 30 * kSecond));
      if (chance.one_in(4))
        expect_naive(*engine, name, entity, newest + chance.between(0, 8000 * kSecond));
      if (HasFatalFailure()) return;
    }
    EXPECT_GT(late, 0u);
    EXPECT_EQ(engine->position(), history.rows.count());
  }
}

TEST(Engine, OrderOfArrivalWithinLatenessLeavesNoTrace) {
  const SchemaPtr schema = pump_schema();
  const PlanPtr plan = make_plan(f20_view(), schema).value();
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Chance chance(seed);
    // Whole seconds, so that ties are many; shuffled by less than the lateness.
    struct Item {
      std::int64_t time, shuffled, value;
      std::uint64_t sequence;
      std::string source;
    };
    std::vector<Item> items;
    for (std::int64_t i = 0; i < 400; ++i) {
      const std::int64_t time = i / 3 * 4;
      items.push_back({time, time + chance.between(0, 29), chance.between(-40000, 150000),
                       static_cast<std::uint64_t>(chance.between(0, 1)),
                       chance.one_in(2) ? "left" : "right"});
    }
    const auto run = [&](auto less) {
      std::stable_sort(items.begin(), items.end(), less);
      RowBatch rows(schema);
      for (const Item& item : items)
        add_row(rows, kStart + item.time * kSecond, "a", item.value, item.source, item.sequence);
      auto engine = Engine::create(plan).value();
      EXPECT_TRUE(engine->update(rows, 0, rows.count(), 1).is_ok());
      EXPECT_EQ(engine->late_rows(), 0u);
      return engine;
    };
    auto ordered = run([](const Item& a, const Item& b) { return a.time < b.time; });
    auto shuffled = run([](const Item& a, const Item& b) { return a.shuffled < b.shuffled; });
    EXPECT_EQ(ordered->snapshot(), shuffled->snapshot());
    const std::int64_t newest = kStart + 399 / 3 * 4 * kSecond;
    for (std::int64_t as_of = newest - 30 * kSecond; as_of < newest + 90 * kSecond;
         as_of += kSecond / 2)
      ASSERT_TRUE(read_all(*ordered, "a", as_of) == read_all(*shuffled, "a", as_of));
  }
}

TEST(Engine, WindowIsOpenAtItsBeginAndClosedAtItsEnd) {
  const SchemaPtr schema = pump_schema();
  auto engine =
      Engine::create(make_plan(make_view({feature(Op::kCount, "temp", 60)}), schema).value())
          .value();
  RowBatch rows(schema);
  add_row(rows, kStart, "a", 1);
  add_row(rows, kStart + 60 * kSecond, "a", 1);
  ASSERT_TRUE(engine->update(rows, 0, 2, 1).is_ok());
  EXPECT_EQ(read_all(*engine, "a", kStart + 60 * kSecond - 1).values[0], 1);
  EXPECT_EQ(read_all(*engine, "a", kStart + 60 * kSecond).values[0], 1);
  EXPECT_EQ(read_all(*engine, "a", kStart + 120 * kSecond - 1).values[0], 1);
  EXPECT_EQ(read_all(*engine, "a", kStart + 120 * kSecond).values[0], 0);
}

TEST(Engine, AReadBeforeTheLatenessIsStaleAndAnUnknownEntityMissing) {
  const SchemaPtr schema = pump_schema();
  auto engine = Engine::create(make_plan(f20_view(), schema).value()).value();
  RowBatch rows(schema);
  add_row(rows, kStart, "a", 1);
  ASSERT_TRUE(engine->update(rows, 0, 1, 1).is_ok());
  std::vector<double> values(20);
  std::vector<std::uint8_t> states(20);
  std::vector<std::int64_t> ages(20);
  std::vector<double> coverage(20);
  EXPECT_TRUE(engine->read("a", kStart - 30 * kSecond, values, states, ages, coverage).is_ok());
  EXPECT_EQ(engine->read("a", kStart - 30 * kSecond - 1, values, states, ages, coverage).outcome(),
            Outcome::kStale);
  ASSERT_TRUE(engine->read("nobody", kStart, values, states, ages, coverage).is_ok());
  for (std::size_t i = 0; i < 20; ++i) {
    EXPECT_EQ(states[i], 2);
    EXPECT_TRUE(std::isnan(values[i]));
    EXPECT_EQ(ages[i], kNeverNs);
  }
  values.pop_back();
  EXPECT_EQ(engine->read("a", kStart, values, states, ages, coverage).outcome(), Outcome::kInvalid);
}

TEST(Engine, PositionsMustAdvanceAndRowsMustFit) {
  const SchemaPtr schema = pump_schema();
  auto engine = Engine::create(make_plan(f20_view(), schema).value()).value();
  RowBatch rows(schema);
  add_row(rows, kStart, "a", 1);
  add_row(rows, kStart + 1, "a", 150'001);
  EXPECT_EQ(engine->update(rows, 0, 3, 1).outcome(), Outcome::kInvalid);
  EXPECT_EQ(engine->update(rows, 0, 2, 5).outcome(), Outcome::kInvalid);  // 150.001 is out of range
  EXPECT_EQ(engine->position(), 5u);
  EXPECT_EQ(engine->update(rows, 0, 1, 5).outcome(), Outcome::kInvalid);
  EXPECT_TRUE(engine->update(rows, 0, 1, 6).is_ok());
  RowBatch other(make_schema({number_field("rpm", DType::kI32)}));
  EXPECT_EQ(engine->update(other, 0, 0, 7).outcome(), Outcome::kInvalid);
}

TEST(Engine, PositionsEndAtTheLargestAndDoNotWrap) {
  const SchemaPtr schema = pump_schema();
  auto engine = Engine::create(make_plan(f20_view(), schema).value()).value();
  RowBatch rows(schema);
  for (int i = 0; i < 3; ++i) add_row(rows, kStart + i, "a", i);
  const Bytes before = engine->snapshot();
  EXPECT_EQ(engine->update(rows, 0, 3, UINT64_MAX - 1).outcome(), Outcome::kInvalid);
  EXPECT_EQ(engine->snapshot(), before);
  EXPECT_TRUE(engine->update(rows, 0, 3, UINT64_MAX - 2).is_ok());
  EXPECT_EQ(engine->position(), UINT64_MAX);
  for (const std::uint64_t next : {std::uint64_t{0}, std::uint64_t{1}, UINT64_MAX})
    EXPECT_EQ(engine->update(rows, 0, 1, next).outcome(), Outcome::kInvalid);
  EXPECT_EQ(engine->gap(kStart, kStart + 1, UINT64_MAX).outcome(), Outcome::kInvalid);
  EXPECT_EQ(read_all(*engine, "a", kStart + 2).values[0], 3);
}

TEST(Engine, ExtremeTimesNeitherWrapNorCrash) {
  const SchemaPtr schema = pump_schema();
  auto engine = Engine::create(make_plan(f20_view(), schema).value()).value();
  RowBatch rows(schema);
  add_row(rows, INT64_MIN, "a", 1000);
  add_row(rows, INT64_MIN + 1, "a", 2000);
  add_row(rows, INT64_MAX - 1, "a", 3000);
  add_row(rows, INT64_MAX, "a", 5000);
  ASSERT_TRUE(engine->update(rows, 0, 2, 1).is_ok());
  EXPECT_EQ(read_all(*engine, "a", INT64_MIN + 1).values[0], 1);  // the bound itself is outside
  ASSERT_TRUE(engine->update(rows, 2, 2, 3).is_ok());
  const Reading end = read_all(*engine, "a", INT64_MAX);
  EXPECT_EQ(end.values[0], 2);
  EXPECT_EQ(end.values[2], 4.0);
}

TEST(Engine, MemoryOfAnHourOfAnEntityIsAtMost8KB) {
  const SchemaPtr schema = pump_schema();
  auto engine = Engine::create(make_plan(f20_view(), schema).value()).value();
  RowBatch rows(schema);
  // Monotone and all distinct: the worst case of the deques.
  for (std::int64_t i = 0; i < 5000; ++i) add_row(rows, kStart + i * 10 * kSecond, "a", i);
  for (std::size_t i = 0; i < rows.count(); ++i) {
    ASSERT_TRUE(engine->update(rows, i, 1, i + 1).is_ok());
    read_all(*engine, "a", rows.time_ns(i));
  }
  EXPECT_EQ(read_all(*engine, "a", rows.time_ns(4999)).values[12], 360);
  std::printf("features.memory: %zu bytes\n", engine->memory_bytes());
  EXPECT_LE(engine->memory_bytes(), 8000u);
}

}  // namespace
}  // namespace edgecore::features
