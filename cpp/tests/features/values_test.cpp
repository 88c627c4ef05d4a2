// Quantiles, distinct values, the most frequent one and bins, against all values sorted anew; texts
// as codes.
#include "features/values.hpp"

#include <map>
#include <set>

#include "feature_fixtures.hpp"
#include "features/category.hpp"
#include "features/tally.hpp"

namespace edgecore::features {
namespace {

constexpr std::uint16_t kPermilles[] = {1, 500, 950, 999};
constexpr std::int64_t kWindows[] = {3, 40};
constexpr double kEdges[] = {-10, 0.5, 20};  // of four bins

// pump, temp decimal(3) in [-40, 150], load f64 without a grid, mode text, count i64 without a
// range.
SchemaPtr schema_of_values() {
  Field temp = number_field("temp", DType::kDecimal, 3);
  EXPECT_TRUE(set_range(temp, -40, 150).is_ok());
  return make_schema({temp, number_field("load", DType::kF64),
                      number_field("mode", DType::kCategory), number_field("count", DType::kI64)});
}

FeatureSpec quantile_of(const std::string& field, std::int64_t window_s, std::uint16_t permille) {
  FeatureSpec spec = feature(Op::kQuantile, field, window_s);
  spec.permille = permille;
  spec.name += "_" + std::to_string(permille);
  return spec;
}

FeatureSpec bin_of(const std::string& field, std::int64_t window_s, std::optional<double> at_least,
                   std::optional<double> below) {
  FeatureSpec spec = feature(Op::kBin, field, window_s);
  spec.at_least = at_least;
  spec.below = below;
  spec.name += "_" + std::to_string(at_least.value_or(-1e9));
  return spec;
}

// All of it, over both windows; a mean beside, and a count of what has no value operators.
ViewSpec values_view(std::int64_t lateness_s) {
  std::vector<FeatureSpec> out;
  for (const std::int64_t window : kWindows) {
    for (const std::uint16_t permille : kPermilles)
      out.push_back(quantile_of("temp", window, permille));
    for (const std::string field : {"temp", "load", "mode"}) {
      out.push_back(feature(Op::kDistinct, field, window));
      out.push_back(feature(Op::kMostFrequent, field, window));
    }
    for (std::size_t i = 0; i <= std::size(kEdges); ++i)
      out.push_back(bin_of("temp", window, i > 0 ? std::optional(kEdges[i - 1]) : std::nullopt,
                           i < std::size(kEdges) ? std::optional(kEdges[i]) : std::nullopt));
    out.push_back(bin_of("load", window, 0.25, 0.75));
    out.push_back(feature(Op::kMean, "temp", window));
  }
  return make_view(std::move(out), lateness_s);
}

struct Row {
  std::int64_t time = 0;
  std::int64_t temp = 0;
  double load = 0;
  std::string mode;
};

// Rates that come and go, so that windows hold from none to some thousand events, and a fifth of
// the rows late.
std::vector<Row> some_rows(Chance& chance, std::size_t count, std::int64_t lateness) {
  std::vector<Row> out;
  std::int64_t time = kStart;
  std::int64_t step = kSecond;
  for (std::size_t i = 0; i < count; ++i) {
    if (chance.one_in(700)) step = kSecond / chance.between(1, 900);
    time += chance.between(0, 2 * step);
    Row row;
    row.time = chance.one_in(5) ? time - chance.between(0, lateness) : time;
    row.temp = chance.one_in(2) ? chance.between(20, 24) * 1000 : chance.between(-40'000, 150'000);
    row.load = static_cast<double>(chance.between(0, 30)) / 32;
    row.mode = "mode " + std::to_string(chance.between(0, 4) * chance.between(0, 4));
    out.push_back(row);
  }
  return out;
}

RowBatch batch_of(const std::vector<Row>& rows, const SchemaPtr& schema) {
  RowBatch out(schema);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::size_t at = out.add_row(rows[i].time, "", i + 1);
    out.set_bytes(at, 0, as_byte_span("a"));
    out.set_i64(at, 1, rows[i].temp);
    out.set_f64(at, 2, rows[i].load);
    out.set_bytes(at, 3, as_byte_span(rows[i].mode));
  }
  return out;
}

// Every value of a field in a window, ascending.
template <typename Value>
std::vector<double> values_in(const std::vector<Row>& rows, std::size_t upto, std::int64_t window,
                              std::int64_t as_of, Value value) {
  std::vector<double> out;
  for (std::size_t i = 0; i < upto; ++i)
    if (rows[i].time <= as_of && rows[i].time > as_of - window) out.push_back(value(rows[i]));
  std::sort(out.begin(), out.end());
  return out;
}

double most_frequent(const std::vector<double>& ascending) {
  std::map<double, std::size_t> counts;
  for (const double one : ascending) ++counts[one];
  return std::max_element(counts.begin(), counts.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

std::size_t distinct(const std::vector<double>& ascending) {
  return std::set<double>(ascending.begin(), ascending.end()).size();
}

class Checked {
 public:
  Checked(const std::vector<Row>& rows, const PlanPtr& plan) : rows_(rows), plan_(plan) {}

  void check(const Reading& found, std::size_t upto, std::int64_t as_of) {
    found_ = &found;
    at_ = 0;
    for (const std::int64_t window_s : kWindows) {
      const auto in_window = [&](auto value) {
        return values_in(rows_, upto, window_s * kSecond, as_of, value);
      };
      const auto temps =
          in_window([](const Row& row) { return static_cast<double>(row.temp) / 1000; });
      const auto loads = in_window([](const Row& row) { return row.load; });
      const auto modes =
          in_window([](const Row& row) { return static_cast<double>(category_code(row.mode)); });
      for (const std::uint16_t permille : kPermilles) check_quantile(temps, permille);
      for (const auto* values : {&temps, &loads, &modes}) {
        expect(static_cast<double>(distinct(*values)));
        if (values->empty())
          expect_missing();
        else
          expect(most_frequent(*values));
      }
      check_bins(temps, loads);
      ++at_;  // the mean
    }
  }
  std::size_t exact = 0, approximate = 0;

 private:
  void expect(double value) {
    ASSERT_EQ(found_->values[at_], value) << plan_->view().features[at_].name;
    ASSERT_EQ(found_->states[at_], 0);
    ASSERT_EQ(found_->reasons[at_], 0);
    ++at_;
  }
  void expect_missing() {
    ASSERT_EQ(found_->states[at_], 2) << plan_->view().features[at_].name;
    ASSERT_EQ(found_->reasons[at_], static_cast<std::uint8_t>(Reason::kEmptyWindow));
    ++at_;
  }
  void check_quantile(const std::vector<double>& values, std::uint16_t permille) {
    if (values.empty()) return expect_missing();
    const double rank = values[(permille * values.size() + 999) / 1000 - 1];
    if (values.size() <= kFewMax) {
      ++exact;
      return expect(rank);
    }
    ++approximate;
    ASSERT_NEAR(found_->values[at_], rank, plan_->features()[at_].error + 1e-12);
    ASSERT_EQ(found_->states[at_], 0);
    ASSERT_EQ(found_->reasons[at_], static_cast<std::uint8_t>(Reason::kApproximate));
    ++at_;
  }
  void check_bins(const std::vector<double>& temps, const std::vector<double>& loads) {
    const auto below = [](const std::vector<double>& values, double edge) {
      return static_cast<double>(std::lower_bound(values.begin(), values.end(), edge) -
                                 values.begin());
    };
    double before = 0;
    for (const double edge : kEdges) {
      expect(below(temps, edge) - before);
      before = below(temps, edge);
    }
    expect(static_cast<double>(temps.size()) - before);
    expect(below(loads, 0.75) - below(loads, 0.25));
  }

  const std::vector<Row>& rows_;
  PlanPtr plan_;
  const Reading* found_ = nullptr;
  std::size_t at_ = 0;
};

PlanPtr plan_or_die(ViewSpec view, const SchemaPtr& schema) {
  auto made = make_plan(std::move(view), schema);
  EXPECT_TRUE(made.is_ok()) << made.status().to_string();
  return made.value();
}

TEST(Values, EqualSortedValuesWhateverTheRateTheDisorderAndTheWayBack) {
  const SchemaPtr schema = schema_of_values();
  std::size_t exact = 0;
  std::size_t approximate = 0;
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Chance chance(seed);
    const std::int64_t lateness = seed % 2 * 4 * kSecond;  // without, events are pruned at once
    const PlanPtr plan = plan_or_die(values_view(lateness / kSecond), schema);
    const std::vector<Row> rows = some_rows(chance, 12'000, lateness);
    const RowBatch batch = batch_of(rows, schema);
    Checked checked(rows, plan);
    auto engine = Engine::create(plan).value();
    std::int64_t newest = kStart;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      ASSERT_TRUE(engine->update(batch, i, 1, i + 1).is_ok());
      newest = std::max(newest, rows[i].time);
      if (!chance.one_in(60)) continue;
      // At the newest event, later, and back within the lateness.
      const std::int64_t shift = chance.one_in(3)   ? 0
                                 : chance.one_in(2) ? chance.between(0, 50 * kSecond)
                                                    : -chance.between(0, lateness);
      const std::int64_t as_of = newest + shift;
      const Reading found = read_all(*engine, "a", as_of);
      // Silent for the horizon of the short window: all is never, and of no interest here.
      if (found.reasons[0] == static_cast<std::uint8_t>(Reason::kNever)) continue;
      checked.check(found, i + 1, as_of);
      if (HasFatalFailure()) return;
    }
    EXPECT_EQ(engine->late_rows(), 0u);
    exact += checked.exact;
    approximate += checked.approximate;
  }
  EXPECT_GT(exact, 500u);
  EXPECT_GT(approximate, 500u);
}

TEST(Values, OfAWindowAreTheSameBitsOnEveryPathAndAfterEveryPast) {
  const SchemaPtr schema = schema_of_values();
  const PlanPtr plan = plan_or_die(values_view(4), schema);
  Chance chance(11);
  const std::vector<Row> rows = some_rows(chance, 9000, 4 * kSecond);
  const RowBatch batch = batch_of(rows, schema);
  std::vector<std::uint32_t> order(rows.size());
  for (std::uint32_t i = 0; i < order.size(); ++i) order[i] = i;
  std::vector<double> values(rows.size() * plan->width());
  std::vector<std::uint8_t> states(values.size());
  std::uint64_t late = 0;
  ASSERT_TRUE(backfill(plan, batch, order, values, states, &late).is_ok());
  auto stream = Engine::create(plan).value();
  auto restored = Engine::create(plan).value();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    ASSERT_TRUE(stream->update(batch, i, 1, i + 1).is_ok());
    ASSERT_TRUE(restored->update(batch, i, 1, i + 1).is_ok());
    if (i % 501 == 0) restored = Engine::restore(plan, restored->snapshot()).value();
    const Reading one = read_all(*stream, "a", rows[i].time);
    for (std::size_t f = 0; f < plan->width(); ++f) {
      const std::size_t at = i * plan->width() + f;
      ASSERT_EQ(std::bit_cast<std::uint64_t>(one.values[f]),
                std::bit_cast<std::uint64_t>(values[at]));
      ASSERT_EQ(one.states[f], states[at]);
    }
    if (i % 83 != 0) continue;
    ASSERT_TRUE(one == read_all(*restored, "a", rows[i].time)) << i;
  }
}

TEST(Values, OfRowsInOrderAreTheSameBitsInColumns) {
  const SchemaPtr schema = schema_of_values();
  ViewSpec view = values_view(0);
  std::erase_if(view.features, [](const FeatureSpec& spec) { return spec.field == "load"; });
  const PlanPtr plan = plan_or_die(view, schema);
  Chance chance(12);
  const std::vector<Row> rows = some_rows(chance, 12'000, 0);
  const RowBatch batch = batch_of(rows, schema);
  std::vector<double> values(rows.size() * plan->width());
  std::vector<std::uint8_t> states(values.size());
  ASSERT_TRUE(backfill(plan, batch, total_order(batch), values, states).is_ok());
  auto engine = Engine::create(plan).value();
  std::size_t approximate = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    ASSERT_TRUE(engine->update(batch, i, 1, i + 1).is_ok());
    const Reading one = read_all(*engine, "a", rows[i].time);
    for (std::size_t f = 0; f < plan->width(); ++f) {
      const std::size_t at = i * plan->width() + f;
      ASSERT_EQ(std::bit_cast<std::uint64_t>(one.values[f]),
                std::bit_cast<std::uint64_t>(values[at]))
          << plan->view().features[f].name << " at " << i;
      ASSERT_EQ(one.states[f], states[at]);
      approximate += one.reasons[f] == static_cast<std::uint8_t>(Reason::kApproximate) ? 1 : 0;
    }
  }
  EXPECT_GT(approximate, 1000u);
}

TEST(Values, AQuantileIsExactAgainAsSoonAsTheWindowHoldsFewEnough) {
  const SchemaPtr schema = schema_of_values();
  const PlanPtr plan = plan_or_die(make_view({quantile_of("temp", 2000, 500)}), schema);
  EXPECT_EQ(plan->features()[0].error, 0.093);
  RowBatch batch(schema);
  for (std::int64_t i = 0; i < 1500; ++i)
    add_row(batch, kStart + i * kSecond, "a", i * 100 - 40'000);
  auto engine = Engine::create(plan).value();
  ASSERT_TRUE(engine->update(batch, 0, 1500, 1).is_ok());
  for (std::int64_t gone = 1500 - 1030; gone < 1500 - 1018; ++gone) {
    // As of then, the first `gone` have left.
    const std::int64_t as_of = kStart + (gone - 1) * kSecond + 2000 * kSecond;
    const Reading found = read_all(*engine, "a", as_of);
    const std::int64_t n = 1500 - gone;
    const double want = static_cast<double>((gone + (n + 1) / 2 - 1) * 100 - 40'000) / 1000;
    if (n > kFewMax) {
      EXPECT_NEAR(found.values[0], want, 0.0930001);
      EXPECT_EQ(found.reasons[0], static_cast<std::uint8_t>(Reason::kApproximate));
    } else {
      EXPECT_EQ(found.values[0], want) << n;
      EXPECT_EQ(found.reasons[0], 0);
    }
  }
}

TEST(Values, AFewStepsWideFieldHasExactQuantilesOfAnyNumber) {
  Field level = number_field("level", DType::kU8);
  const SchemaPtr schema = make_schema({level});
  const PlanPtr plan = plan_or_die(make_view({quantile_of("level", 5000, 950)}), schema);
  EXPECT_EQ(plan->features()[0].error, 0);
  RowBatch batch(schema);
  std::vector<std::int64_t> all;
  Chance chance(3);
  for (std::int64_t i = 0; i < 4000; ++i) {
    all.push_back(chance.between(0, 255));
    add_row(batch, kStart + i * kSecond, "a", all.back());
  }
  auto engine = Engine::create(plan).value();
  ASSERT_TRUE(engine->update(batch, 0, all.size(), 1).is_ok());
  std::sort(all.begin(), all.end());
  const Reading found = read_all(*engine, "a", kStart + 3999 * kSecond);
  EXPECT_EQ(found.values[0], static_cast<double>(all[3799]));
  EXPECT_EQ(found.reasons[0], 0);
}

TEST(Values, MemoryIsThatOfOrderedValuesOrOfBuckets) {
  const SchemaPtr schema = pump_schema();
  const auto memory = [&](std::vector<FeatureSpec> features, std::int64_t events) {
    features.push_back(feature(Op::kCount, "temp", 100'000));
    const PlanPtr plan = plan_or_die(make_view(std::move(features)), schema);
    RowBatch batch(schema);
    for (std::int64_t i = 0; i < events; ++i)
      add_row(batch, kStart + i * kSecond, "a", i % 190'000 - 40'000);
    auto engine = Engine::create(plan).value();
    EXPECT_TRUE(engine->update(batch, 0, static_cast<std::size_t>(events), 1).is_ok());
    read_all(*engine, "a", kStart + events * kSecond);
    return engine->memory_bytes();
  };
  const FeatureSpec quantile = quantile_of("temp", 100'000, 950);
  const FeatureSpec different = feature(Op::kDistinct, "temp", 100'000);
  for (const std::int64_t events : {360, 1024, 3600, 50'000}) {
    const std::size_t without = memory({}, events);
    EXPECT_LE(memory({quantile}, events) - without, 4096u + 512) << events;
    // Two slots of 16 bytes for each different value at most, once there are many.
    const auto most = static_cast<std::size_t>(events > 1024 ? 64 * events : 4096) + 512;
    EXPECT_LE(memory({different}, events) - without, most) << events;
  }
}

TEST(Values, OfTextAreCodesOfTheTextAlone) {
  EXPECT_EQ(category_code(""), 0x0efd01f60ba992926u >> 12);
  std::set<std::int64_t> codes;
  for (int i = 0; i < 10'000; ++i) {
    const std::int64_t code = category_code("value " + std::to_string(i));
    EXPECT_GE(code, 0);
    EXPECT_LT(code, kCategoryCodes);
    codes.insert(code);
  }
  EXPECT_EQ(codes.size(), 10'000u);

  const SchemaPtr schema = schema_of_values();
  const PlanPtr plan = plan_or_die(
      make_view({feature(Op::kLast, "mode", 0), feature(Op::kFirst, "mode", 60),
                 feature(Op::kCount, "mode", 60), feature(Op::kMostFrequent, "mode", 60)}),
      schema);
  RowBatch batch(schema);
  int at = 0;
  for (const std::string mode : {"idle", "run", "run", "off"}) {
    const std::size_t row = batch.add_row(kStart + at++ * kSecond, "", 1);
    batch.set_bytes(row, 0, as_byte_span("a"));
    batch.set_bytes(row, 3, as_byte_span(mode));
  }
  auto engine = Engine::create(plan).value();
  ASSERT_TRUE(engine->update(batch, 0, 4, 1).is_ok());
  engine = Engine::restore(plan, engine->snapshot()).value();
  const Reading found = read_all(*engine, "a", kStart + 3 * kSecond);
  EXPECT_EQ(found.values[0], static_cast<double>(category_code("off")));
  EXPECT_EQ(found.values[1], static_cast<double>(category_code("idle")));
  EXPECT_EQ(found.values[2], 4);
  EXPECT_EQ(found.values[3], static_cast<double>(category_code("run")));
}

// What a plan says of one feature.
std::string refusal(const FeatureSpec& spec) {
  const auto made = make_plan(make_view({spec}), schema_of_values());
  return made.is_ok() ? "" : made.status().to_string();
}

TEST(Values, DefinitionsThatCannotBeServedSayWhy) {
  const auto says = [](const FeatureSpec& spec, const std::string& text) {
    EXPECT_NE(refusal(spec).find(text), std::string::npos) << refusal(spec);
  };
  says(quantile_of("mode", 60, 500), "needs a number");
  says(quantile_of("load", 60, 500), "needs a grid");
  says(quantile_of("count", 60, 500), "declare the range=");
  says(quantile_of("temp", 60, 1000), "permille");
  says(feature(Op::kQuantile, "temp", 60), "permille");
  says(feature(Op::kMean, "mode", 60), "needs a number");
  says(bin_of("temp", 60, 0.0005, 1), "not on the grid");
  says(bin_of("count", 60, 0.5, 1), "not on the grid");
  says(bin_of("temp", 60, 2, 2), "less than its below");
  says(bin_of("temp", 60, std::nullopt, std::nullopt), "at_least, below or both");
  says(bin_of("mode", 60, 0, 1), "needs a number");
  FeatureSpec mean = feature(Op::kMean, "temp", 60);
  mean.below = 3;
  says(mean, "those of a bin");
  EXPECT_EQ(refusal(bin_of("temp", 60, -1000, 1e6)), "");  // beyond the range, and no harm
}

TEST(Values, TextThatIsOnlyCountedIsNotHeld) {
  const auto plan = plan_or_die(make_view({feature(Op::kCount, "mode", 60)}), schema_of_values());
  EXPECT_EQ(plan->series()[0].grid, Grid::kNone);
}

TEST(Tally, CountsWhatEntersAndLeavesInAnyOrder) {
  for (const bool modes : {false, true}) {
    Chance chance(modes ? 5 : 6);
    Tally tally;
    std::multiset<std::int64_t> held;
    for (int i = 0; i < 30'000; ++i) {
      // It grows, it shrinks, and then again.
      if (held.empty() || chance.next() % 100 < (i % 10'000 < 5'000 ? 60u : 42u)) {
        const std::int64_t value = chance.between(-3, 3) * chance.between(0, 900);
        tally.add(value, modes);
        held.insert(value);
      } else {
        auto gone = held.lower_bound(chance.between(-900, 900));
        if (gone == held.end()) gone = held.begin();
        tally.remove(*gone, modes);
        held.erase(gone);
      }
      if (i % 97 != 0 || held.empty()) continue;
      std::map<std::int64_t, std::size_t> counts;
      for (const std::int64_t one : held) ++counts[one];
      ASSERT_EQ(tally.distinct(), counts.size());
      if (!modes) continue;
      const auto most =
          std::max_element(counts.begin(), counts.end(),
                           [](const auto& a, const auto& b) { return a.second < b.second; });
      ASSERT_EQ(tally.mode(), most->first);
    }
  }
}

}  // namespace
}  // namespace edgecore::features
