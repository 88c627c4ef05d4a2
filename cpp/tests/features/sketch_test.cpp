// Estimates of distinct values: what they are of a set, that nothing but the set shows in them, and
// what they cost.
#include "features/sketch.hpp"

#include <cmath>
#include <set>

#include "feature_fixtures.hpp"
#include "features/category.hpp"
#include "features/values.hpp"

namespace edgecore::features {
namespace {

// The sketch of a set, made anew, as a stream would make one that forgets nothing: the highest rank
// of each register. The estimate by the definition of the two series, to a fixed number of terms.
double reference_estimate(const std::set<std::int64_t>& values) {
  constexpr int kRegisters = 1024;
  constexpr int kRanks = 24;
  std::vector<int> highest(kRegisters);
  for (const std::int64_t value : values) {
    auto x = static_cast<std::uint64_t>(value) + 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    int rank = 1;
    while (rank < kRanks && (x >> (54 - rank) & 1) == 0) ++rank;
    int& one = highest[x >> 54];
    one = std::max(one, rank);
  }
  std::vector<double> having(kRanks + 1);
  for (const int one : highest) ++having[static_cast<std::size_t>(one)];
  const double full = 1 - having[kRanks] / kRegisters;
  double tau = 1 - full;
  double sigma = having[0] / kRegisters;
  for (int k = 1; k < 60; ++k) {
    const double root = std::pow(full, std::pow(2.0, -k));
    tau -= (1 - root) * (1 - root) * std::pow(2.0, -k);
    sigma += std::pow(having[0] / kRegisters, std::pow(2.0, k)) * std::pow(2.0, k - 1);
  }
  double sum = full == 1 || full == 0 ? 0 : kRegisters * tau / 3;
  for (std::size_t rank = kRanks - 1; rank > 0; --rank) sum = (sum + having[rank]) / 2;
  return 1 / (2 * std::log(2.0)) * kRegisters * kRegisters / (sum + kRegisters * sigma);
}

TEST(Sketch, EqualsTheOneOfTheSetWhateverEnteredAndLeft) {
  Chance chance(1);
  Sketch sketch;
  std::multiset<std::int64_t> held;
  for (int i = 0; i < 60'000; ++i) {
    if (held.empty() || chance.next() % 100 < (i % 20'000 < 10'000 ? 75u : 30u)) {
      const std::int64_t value =
          chance.one_in(2) ? static_cast<std::int64_t>(chance.next()) : chance.between(-500, 500);
      sketch.add(value, 1);
      held.insert(value);
    } else {
      auto gone = held.lower_bound(static_cast<std::int64_t>(chance.next()));
      if (gone == held.end()) gone = held.begin();
      sketch.remove(*gone);
      held.erase(gone);
    }
    if (i % 1499 != 0) continue;
    const std::set<std::int64_t> set(held.begin(), held.end());
    EXPECT_NEAR(sketch.estimate(), reference_estimate(set), 0.5001) << i;
    EXPECT_LE(sketch.cells(), set.size());
  }
  EXPECT_LE(sketch.memory_bytes(), 97u * 1024);
}

TEST(Sketch, HasTheErrorThatItStates) {
  Chance chance(2);
  for (const std::size_t different : {1'100u, 5'000u, 30'000u, 200'000u}) {
    double sum = 0;
    double squares = 0;
    const int runs = different > 100'000 ? 100 : 200;
    for (int run = 0; run < runs; ++run) {
      Sketch sketch;
      // Neighbours, as counters and identifiers are; of a run none is one of another.
      const auto first = static_cast<std::int64_t>(chance.next() >> 2);
      for (std::size_t i = 0; i < different; ++i)
        sketch.add(first + static_cast<std::int64_t>(i), 1);
      const double off = sketch.estimate() / static_cast<double>(different) - 1;
      sum += off;
      squares += off * off;
    }
    EXPECT_LT(std::abs(sum / runs), 4 * Sketch::kStandardError / std::sqrt(runs)) << different;
    EXPECT_LT(std::sqrt(squares / runs), 1.3 * Sketch::kStandardError) << different;
    EXPECT_GT(std::sqrt(squares / runs), 0.6 * Sketch::kStandardError) << different;
  }
}

// ---------------------------------------------------------------- in windows

FeatureSpec about(const std::string& field, std::int64_t window_s) {
  FeatureSpec spec = feature(Op::kDistinct, field, window_s);
  spec.approx = true;
  spec.name += "_about";
  return spec;
}

// pump, code i64, name text; windows of 5 s and 20 s.
SchemaPtr schema_of_codes() {
  return make_schema({number_field("code", DType::kI64), number_field("name", DType::kCategory)});
}

constexpr std::int64_t kWindows[] = {5, 20};

ViewSpec about_view(bool more, std::int64_t lateness_s) {
  std::vector<FeatureSpec> out;
  for (const std::int64_t window : kWindows) {
    out.push_back(about("code", window));
    out.push_back(about("name", window));
    if (!more) continue;
    out.push_back(feature(Op::kDistinct, "code", window));
    out.push_back(feature(Op::kMostFrequent, "name", window));
  }
  FeatureSpec hops = about("code", 15);
  hops.name = "hops";
  hops.hop_ns = 7 * kSecond;
  out.push_back(hops);
  FeatureSpec session = about("code", 15);
  session.name = "session";
  session.gap_ns = 2 * kSecond;
  out.push_back(session);
  return make_view(std::move(out), lateness_s);
}

struct Coded {
  std::int64_t time = 0, code = 0;
};

// Few different values for a while, then many, then few among many events; some rows late.
std::vector<Coded> coded(Chance& chance, std::size_t count, std::int64_t lateness) {
  std::vector<Coded> out;
  std::int64_t time = kStart;
  std::int64_t step = kSecond / 100;
  std::int64_t reach = 100;
  for (std::size_t i = 0; i < count; ++i) {
    if (chance.one_in(1500)) step = kSecond / chance.between(5, 900);
    if (chance.one_in(1200)) reach = chance.one_in(2) ? chance.between(1, 1400) : 1'000'000;
    if (chance.one_in(4000)) time += 3 * kSecond;
    time += chance.between(0, 2 * step);
    out.push_back({chance.one_in(6) ? time - chance.between(0, lateness) : time,
                   chance.between(-reach, reach)});
  }
  return out;
}

RowBatch batch_of(const std::vector<Coded>& rows, const SchemaPtr& schema) {
  RowBatch out(schema);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::size_t at = add_row(out, rows[i].time, "a", rows[i].code, "", i + 1);
    out.set_bytes(at, 2, as_byte_span("name " + std::to_string(rows[i].code)));
  }
  return out;
}

void expect_about(const Reading& found, std::size_t at, const std::set<std::int64_t>& values,
                  std::size_t events, std::size_t& estimates) {
  if (found.reasons[at] == static_cast<std::uint8_t>(Reason::kNever)) return;
  if (values.size() <= kDistinctMax) {
    ASSERT_EQ(found.values[at], static_cast<double>(values.size()));
    ASSERT_EQ(found.reasons[at], 0);
    return;
  }
  ++estimates;
  const double want =
      std::clamp(reference_estimate(values), kDistinctMax + 1.0, static_cast<double>(events));
  ASSERT_NEAR(found.values[at], want, 0.5001);
  ASSERT_EQ(found.values[at], std::floor(found.values[at]));
  ASSERT_EQ(found.states[at], 0);
  ASSERT_EQ(found.reasons[at], static_cast<std::uint8_t>(Reason::kApproximate));
}

TEST(Sketch, AWindowsEstimateFollowsFromItsValuesAlone) {
  const SchemaPtr schema = schema_of_codes();
  std::size_t estimates = 0;
  for (const bool more : {false, true}) {
    SCOPED_TRACE(more);
    Chance chance(more ? 3 : 4);
    const PlanPtr plan = make_plan(about_view(more, 4), schema).value();
    const std::vector<Coded> rows = coded(chance, 12'000, 4 * kSecond);
    const RowBatch batch = batch_of(rows, schema);
    auto engine = Engine::create(plan).value();
    auto restored = Engine::create(plan).value();
    std::int64_t newest = kStart;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      ASSERT_TRUE(engine->update(batch, i, 1, i + 1).is_ok());
      ASSERT_TRUE(restored->update(batch, i, 1, i + 1).is_ok());
      newest = std::max(newest, rows[i].time);
      if (i % 2003 == 0) restored = Engine::restore(plan, restored->snapshot()).value();
      if (!chance.one_in(150)) continue;
      const std::int64_t shift = chance.one_in(2)   ? 0
                                 : chance.one_in(2) ? chance.between(0, 9 * kSecond)
                                                    : -chance.between(0, 4 * kSecond);
      const std::int64_t as_of = newest + shift;
      const Reading found = read_all(*engine, "a", as_of);
      // The other one is not read all the time, so that its windows move in leaps.
      if (chance.one_in(5)) {
        ASSERT_TRUE(found == read_all(*restored, "a", as_of)) << i;
      }
      for (std::size_t w = 0; w < 2; ++w) {
        std::set<std::int64_t> codes, names;
        std::size_t events = 0;
        for (std::size_t j = 0; j <= i; ++j) {
          if (rows[j].time > as_of || rows[j].time <= as_of - kWindows[w] * kSecond) continue;
          codes.insert(rows[j].code);
          names.insert(category_code("name " + std::to_string(rows[j].code)));
          ++events;
        }
        const std::size_t at = w * (more ? 4 : 2);
        expect_about(found, at, codes, events, estimates);
        expect_about(found, at + 1, names, events, estimates);
        if (more) {
          ASSERT_EQ(found.values[at + 2], static_cast<double>(codes.size()));
        }
        if (HasFatalFailure()) return;
      }
    }
  }
  EXPECT_GT(estimates, 100u);
}

TEST(Sketch, BatchStreamAndLaterBeginningsAreTheSameBits) {
  const SchemaPtr schema = schema_of_codes();
  for (const bool late : {false, true}) {
    Chance chance(late ? 5 : 6);
    const PlanPtr plan = make_plan(about_view(false, 4), schema).value();
    const std::vector<Coded> rows = coded(chance, 12'000, late ? 4 * kSecond : 0);
    const RowBatch batch = batch_of(rows, schema);
    std::vector<std::uint32_t> order(rows.size());
    for (std::uint32_t i = 0; i < order.size(); ++i) order[i] = i;
    std::vector<double> values(rows.size() * plan->width());
    std::vector<std::uint8_t> states(values.size());
    ASSERT_TRUE(backfill(plan, batch, order, values, states).is_ok());
    auto stream = Engine::create(plan).value();
    auto begun = Engine::create(plan).value();
    const std::size_t cut = rows.size() / 3;
    std::size_t compared = 0;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      ASSERT_TRUE(stream->update(batch, i, 1, i + 1).is_ok());
      if (i >= cut) {
        ASSERT_TRUE(begun->update(batch, i, 1, i + 1).is_ok());
      }
      const Reading one = read_all(*stream, "a", rows[i].time);
      for (std::size_t f = 0; f < plan->width(); ++f)
        ASSERT_EQ(std::bit_cast<std::uint64_t>(one.values[f]),
                  std::bit_cast<std::uint64_t>(values[i * plan->width() + f]))
            << plan->view().features[f].name << " at " << i;
      if (i < cut || i % 7 != 0 || rows[i].time < rows[cut].time + 41 * kSecond) continue;
      ASSERT_TRUE(one == read_all(*begun, "a", rows[i].time)) << i;
      ++compared;
    }
    EXPECT_GT(compared, 20u);
  }
}

TEST(Sketch, MemoryAndCostStayWhereTheyAreHoweverManyValuesDiffer) {
  const SchemaPtr schema = schema_of_codes();
  const PlanPtr plan = make_plan(make_view({about("code", 1'000'000)}), schema).value();
  const PlanPtr bare =
      make_plan(make_view({feature(Op::kCount, "code", 1'000'000)}), schema).value();
  const auto memory = [&](const PlanPtr& of, std::int64_t events) {
    RowBatch batch(schema);
    for (std::int64_t i = 0; i < events; ++i)
      add_row(batch, kStart + i * kSecond / 1000, "a", i * 7919);
    auto engine = Engine::create(of).value();
    EXPECT_TRUE(engine->update(batch, 0, static_cast<std::size_t>(events), 1).is_ok());
    read_all(*engine, "a", kStart + events * kSecond);
    return engine->memory_bytes();
  };
  for (const std::int64_t events : {900, 1'500, 20'000, 200'000})
    EXPECT_LE(memory(plan, events) - memory(bare, events), 164u * 1024) << events;
  EXPECT_LE(memory(plan, 200'000) - memory(bare, 200'000), 98u * 1024);
}

TEST(Sketch, APlanSaysWhatAnEstimateIsWorthAndWhereThereIsNone) {
  const auto plan_of = [](FeatureSpec spec) {
    return make_plan(make_view({std::move(spec)}), schema_of_codes());
  };
  const PlanPtr plan = plan_of(about("code", 10)).value();
  EXPECT_TRUE(std::isnan(plan->features()[0].error));
  EXPECT_EQ(plan->features()[0].relative_error, 0.0325);
  // So few can differ that they are counted.
  Field level = number_field("level", DType::kU8);
  const PlanPtr few = make_plan(make_view({about("level", 10)}), make_schema({level})).value();
  EXPECT_EQ(few->features()[0].error, 0);
  EXPECT_EQ(few->features()[0].relative_error, 0);
  FeatureSpec mean = feature(Op::kMean, "code", 10);
  mean.approx = true;
  EXPECT_EQ(plan_of(mean).status().outcome(), Outcome::kInvalid);
}

}  // namespace
}  // namespace edgecore::features
