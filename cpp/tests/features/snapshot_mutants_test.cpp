// Snapshots that are damaged: as a disk does it, and as somebody does who makes the checksum right
// again. Of a view that keeps every part there is: guard, watermark, gaps, a bound, late and let-go
// entities, and series of each kind.
#include "feature_fixtures.hpp"

namespace edgecore::features {
namespace {

SchemaPtr mutants_schema() {
  Field temp = number_field("temp", DType::kDecimal, 3);
  EXPECT_TRUE(set_range(temp, -40, 150).is_ok());
  return make_schema(
      {temp, number_field("on", DType::kBool), number_field("mode", DType::kCategory)});
}

PlanPtr mutants_plan() {
  std::vector<FeatureSpec> features;
  const auto add = [&features](Op op, const std::string& field, std::int64_t window_s) {
    FeatureSpec& spec = features.emplace_back(feature(op, field, window_s));
    spec.name = std::to_string(features.size());
    return &spec;
  };
  for (const Op op : kAggregates) add(op, "temp", 20);
  for (const Op op : {Op::kFirst, Op::kRate, Op::kEwma}) add(op, "temp", 5);
  add(Op::kLast, "temp", 60);
  add(Op::kQuantile, "temp", 20)->permille = 900;
  add(Op::kDistinct, "mode", 20);
  add(Op::kMostFrequent, "mode", 20);
  add(Op::kMean, "temp", 30)->gap_ns = 4 * kSecond;
  add(Op::kMax, "temp", 30)->hop_ns = 7 * kSecond;
  add(Op::kTimeIn, "on", 20);
  add(Op::kTimeIn, "on", 20)->hold_ns = 3 * kSecond;
  add(Op::kRecency, "", 60);
  ViewSpec view = make_view(std::move(features), 5);
  view.rules = {.max_ahead_ns = 300 * kSecond, .idle_ns = 20 * kSecond, .max_entities = 2};
  return make_plan(view, mutants_schema()).value();
}

void add_event(RowBatch& rows, std::int64_t second, const std::string& entity,
               const std::string& source) {
  const std::size_t row = add_row(rows, kStart + second * kSecond, entity, second * 137 % 9000,
                                  source, static_cast<std::uint64_t>(second));
  rows.set_i64(row, 2, second % 2);
  rows.set_bytes(row, 3, as_byte_span(second % 3 == 0 ? "x" : "y"));
}

// Where parts begin, by the page of the format: what is before them has one size.
constexpr std::size_t kPosition = 50;
constexpr std::size_t kAheadRows = kPosition + 16;
constexpr std::size_t kEvictedNewest = kAheadRows + 16;
constexpr std::size_t kGuard = kEvictedNewest + 8;
constexpr std::size_t kWatermark = kGuard + 21;
constexpr std::size_t kGaps = kWatermark + 13;  // without sources

// Position, late rows, a row ahead that waits for its fellows, sources, a gap and an entity let go:
// none of them is empty.
Bytes mutants_snapshot(const PlanPtr& plan) {
  RowBatch rows(plan->schema());
  add_event(rows, 0, "gone", "p");
  add_event(rows, 1, "a", "p");
  for (const std::int64_t second : {60, 62, 70, 71, 90}) add_event(rows, second, "a", "p");
  for (const std::int64_t second : {88, 91, 91}) add_event(rows, second, "b", "q");
  add_event(rows, 89, "a", "q");
  add_event(rows, 10, "a", "q");
  add_event(rows, 9000, "a", "p");
  auto engine = Engine::create(plan).value();
  EXPECT_TRUE(engine->update(rows, 0, rows.count(), 1).is_ok());
  EXPECT_TRUE(engine->gap(kStart + 63 * kSecond, kStart + 66 * kSecond, rows.count() + 1).is_ok());
  EXPECT_EQ(engine->late_rows(), 1u);
  EXPECT_EQ(engine->ahead_rows(), 1u);
  EXPECT_EQ(engine->evicted(), 1u);
  EXPECT_EQ(engine->entities(), 2u);
  EXPECT_TRUE(engine->final_before());
  return engine->snapshot();
}

Outcome outcome_of(const PlanPtr& plan, ByteSpan bytes) {
  return Engine::restore(plan, bytes).status().outcome();
}

TEST(SnapshotMutants, EveryFlippedByteAndEveryCutIsSeenByTheChecksum) {
  const PlanPtr plan = mutants_plan();
  const Bytes good = mutants_snapshot(plan);
  ASSERT_TRUE(Engine::restore(plan, good).is_ok());
  for (std::size_t at = 0; at < good.size(); ++at) {
    ASSERT_EQ(outcome_of(plan, ByteSpan(good).first(at)), Outcome::kCorrupt) << at;
    for (const int flip : {0x01, 0x80, 0xff}) {
      Bytes bad = good;
      bad[at] ^= static_cast<std::byte>(flip);
      ASSERT_EQ(outcome_of(plan, bad), Outcome::kCorrupt) << at;
    }
  }
}

TEST(SnapshotMutants, EveryCutWithItsChecksumMadeRightIsRefused) {
  const PlanPtr plan = mutants_plan();
  const Bytes good = mutants_snapshot(plan);
  for (std::size_t size = 4; size < good.size(); ++size)
    ASSERT_EQ(
        outcome_of(plan, with_checksum(Bytes(good.begin(),
                                             good.begin() + static_cast<std::ptrdiff_t>(size)))),
        Outcome::kCorrupt)
        << size;
}

void read_at(const Engine& engine, std::int64_t as_of) {
  std::vector<double> values(engine.width());
  std::vector<std::uint8_t> states(engine.width());
  std::vector<std::int64_t> ages(engine.width());
  std::vector<double> coverage(engine.width());
  for (const auto* name : {"a", "b", "new"}) {
    const Status status = engine.read(name, as_of, Answers{values, states, ages, coverage, {}});
    ASSERT_TRUE(status.is_ok() || status.outcome() == Outcome::kStale) << status.to_string();
    if (!status.is_ok()) continue;
    for (const double share : coverage) ASSERT_TRUE(share >= 0 && share <= 1) << share;
  }
}

// Whatever state it is, it takes rows, answers, and comes back from its own snapshot as it was.
void expect_survives(const PlanPtr& plan, Engine& engine, const RowBatch& rows) {
  constexpr std::int64_t kNow = kStart + 95 * kSecond;
  for (const std::int64_t as_of : {INT64_MIN, kStart + 92 * kSecond, kNow, INT64_MAX})
    ASSERT_NO_FATAL_FAILURE(read_at(engine, as_of));
  const std::uint64_t position = engine.position();
  const Status status = engine.update(rows, 0, rows.count(), position + 1);
  if (position <= UINT64_MAX - rows.count()) {
    ASSERT_TRUE(status.is_ok()) << status.to_string();
  } else {
    ASSERT_EQ(status.outcome(), Outcome::kInvalid);
  }
  ASSERT_GE(engine.position(), position);
  ASSERT_NO_FATAL_FAILURE(read_at(engine, kNow));
  ASSERT_LE(engine.entities(), 3u);
  ASSERT_LT(engine.memory_bytes(), std::size_t{1} << 18);
  const Bytes again = engine.snapshot();
  auto restored = Engine::restore(plan, again);
  ASSERT_TRUE(restored.is_ok()) << restored.status().to_string();
  ASSERT_EQ(restored.value()->snapshot(), again);
}

// Restores mutants and counts what became of them.
class Mutants {
 public:
  explicit Mutants(PlanPtr plan) : plan_(std::move(plan)), rows_(plan_->schema()) {
    add_event(rows_, 91, "a", "p");
    add_event(rows_, 93, "new", "r");
    add_event(rows_, 94, "b", "q");
  }
  void try_one(Bytes bad) {
    auto restored = Engine::restore(plan_, with_checksum(std::move(bad)));
    if (restored.is_ok()) {
      ++taken;
      ASSERT_NO_FATAL_FAILURE(expect_survives(plan_, *restored.value(), rows_));
      return;
    }
    ++refused;
    const Outcome outcome = restored.status().outcome();
    ASSERT_TRUE(outcome == Outcome::kCorrupt || outcome == Outcome::kIncompatible);
  }
  std::size_t taken = 0, refused = 0;

 private:
  PlanPtr plan_;
  RowBatch rows_;
};

TEST(SnapshotMutants, WithTheChecksumMadeRightItIsRefusedOrAStateThatWorks) {
  const PlanPtr plan = mutants_plan();
  const Bytes good = mutants_snapshot(plan);
  Mutants mutants(plan);
  for (std::size_t at = 0; at < good.size() - 4; ++at) {
    SCOPED_TRACE("byte " + std::to_string(at));
    for (const std::byte now :
         {std::byte{0}, std::byte{0xff}, good[at] ^ std::byte{1}, good[at] ^ std::byte{0x80}}) {
      if (now == good[at]) continue;
      Bytes bad = good;
      bad[at] = now;
      ASSERT_NO_FATAL_FAILURE(mutants.try_one(std::move(bad))) << std::to_integer<int>(now);
    }
    // Times and counts at their ends.
    for (const std::int64_t end : {INT64_MIN, INT64_MIN + 1, INT64_MAX, std::int64_t{-1}}) {
      if (at + 12 > good.size()) continue;
      Bytes bad = good;
      store_le(bad.data() + at, end);
      ASSERT_NO_FATAL_FAILURE(mutants.try_one(std::move(bad))) << end;
    }
  }
  // Both are common, or the fixture reaches too little.
  EXPECT_GT(mutants.refused, good.size());
  EXPECT_GT(mutants.taken, good.size() / 2);
}

// Two to five places at once, so that what checks each other changes together.
TEST(SnapshotMutants, ChangedInSeveralPlacesItIsRefusedOrAStateThatWorks) {
  const PlanPtr plan = mutants_plan();
  const Bytes good = mutants_snapshot(plan);
  Mutants mutants(plan);
  for (std::uint64_t seed = 1; seed <= 20000; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Chance chance(seed);
    Bytes bad = good;
    for (std::int64_t n = chance.between(2, 5); n > 0; --n) {
      // Behind the head, which refuses whatever is changed in it.
      const auto at = static_cast<std::size_t>(
          chance.between(std::int64_t{kPosition}, static_cast<std::int64_t>(good.size()) - 5));
      bad[at] ^= static_cast<std::byte>(chance.one_in(2) ? 1 : chance.between(1, 255));
    }
    ASSERT_NO_FATAL_FAILURE(mutants.try_one(std::move(bad)));
  }
  EXPECT_GT(mutants.refused, 100u);
  EXPECT_GT(mutants.taken, 100u);
}

TEST(SnapshotMutants, PartsThatTheRulesDoNotKeepAreRefusedUnlessTheyAreEmpty) {
  const PlanPtr plan = make_plan(f20_view(), pump_schema()).value();
  RowBatch rows(plan->schema());
  add_row(rows, kStart, "a", 1);
  auto engine = Engine::create(plan).value();
  ASSERT_TRUE(engine->update(rows, 0, 1, 1).is_ok());
  const Bytes good = engine->snapshot();
  for (std::size_t at = kAheadRows; at < kGaps; ++at) {
    Bytes bad = good;
    bad[at] ^= std::byte{1};
    EXPECT_EQ(outcome_of(plan, with_checksum(std::move(bad))), Outcome::kCorrupt) << at;
  }
}

TEST(SnapshotMutants, RulesThatContradictThemselvesAreRefused) {
  const PlanPtr plan = mutants_plan();
  const Bytes good = mutants_snapshot(plan);
  const auto with = [&good](std::size_t at, auto value) {
    Bytes bad = good;
    store_le(bad.data() + at, value);
    return with_checksum(std::move(bad));
  };
  // A watermark ahead of every source, which would make each row to come late.
  ASSERT_TRUE(Engine::restore(plan, with(kWatermark + 1, kStart)).is_ok());
  EXPECT_EQ(outcome_of(plan, with(kWatermark + 1, kStart + 92 * kSecond)), Outcome::kCorrupt);
  // More rows set aside, or entities let go, than there were rows.
  for (const std::size_t at : {kAheadRows - 8, kAheadRows, kAheadRows + 8})
    EXPECT_EQ(outcome_of(plan, with(at, std::uint64_t{15})), Outcome::kCorrupt) << at;
  // A row ahead of which there is none; an entity let go, of none.
  EXPECT_EQ(outcome_of(plan, with(kGuard + 9, std::uint32_t{0})), Outcome::kCorrupt);
  EXPECT_EQ(outcome_of(plan, with(kEvictedNewest - 8, std::uint64_t{0})), Outcome::kCorrupt);
}

TEST(SnapshotMutants, SourcesAndEntitiesOutOfOrderAreRefused) {
  const PlanPtr plan = mutants_plan();
  const Bytes good = mutants_snapshot(plan);
  std::size_t pairs = 0;
  for (const auto& [one, other] : {std::pair{'p', 'q'}, std::pair{'a', 'b'}}) {
    // Names of one byte; those of the watermark come first, those of order keys behind.
    std::vector<std::size_t> places;
    for (std::size_t at = kWatermark; at + 9 < good.size(); ++at)
      if (load_le<std::uint32_t>(good.data() + at) == 1 &&
          (good[at + 4] == std::byte(one) || good[at + 4] == std::byte(other)))
        places.push_back(at + 4);
    ASSERT_EQ(places.size(), one == 'p' ? 4u : 2u);
    for (std::size_t i = 0; i < places.size(); i += 2, ++pairs) {
      Bytes bad = good;
      std::swap(bad[places[i]], bad[places[i + 1]]);
      EXPECT_EQ(outcome_of(plan, with_checksum(std::move(bad))), Outcome::kCorrupt) << places[i];
    }
  }
  EXPECT_EQ(pairs, 3u);
}

TEST(SnapshotMutants, ASourceThatNoOrderKeyNamesIsRefused) {
  const PlanPtr plan =
      make_plan(make_view({feature(Op::kLast, "temp", 60)}, 5), pump_schema()).value();
  RowBatch rows(plan->schema());
  add_row(rows, kStart, "a", 1, "p", 1);
  auto engine = Engine::create(plan).value();
  ASSERT_TRUE(engine->update(rows, 0, 1, 1).is_ok());
  const Bytes good = engine->snapshot();
  constexpr std::size_t kSources = kGaps + 4;
  ASSERT_EQ(load_le<std::uint32_t>(good.data() + kSources), 1u);
  for (const char foreign : {'o', 'q'}) {  // in front of the one that is used, and behind it
    Bytes bad = good;
    store_le(bad.data() + kSources, std::uint32_t{2});
    const std::array<std::byte, 5> text = {std::byte{1}, {}, {}, {}, std::byte(foreign)};
    const auto at = static_cast<std::ptrdiff_t>(kSources + (foreign < 'p' ? 4 : 9));
    bad.insert(bad.begin() + at, text.begin(), text.end());
    EXPECT_EQ(outcome_of(plan, with_checksum(bad)), Outcome::kCorrupt) << foreign;
  }
}

}  // namespace
}  // namespace edgecore::features
