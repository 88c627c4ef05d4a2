// Windows that do not slide, over many events: what blocks of blocks sum, at the ends of time, and
// after a restore. Definitions at small scale are in engine_test.cpp and tests/features.
#include "features/spans.hpp"

#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include "feature_fixtures.hpp"

namespace edgecore::features {
namespace {

TEST(Spans, HopsAreMultiplesSinceTheEpochAlsoBeforeIt) {
  EXPECT_EQ(hop_before(17, 0), 17);
  EXPECT_EQ(hop_before(17, 5), 15);
  EXPECT_EQ(hop_before(15, 5), 15);
  EXPECT_EQ(hop_before(0, 5), 0);
  EXPECT_EQ(hop_before(-1, 5), -5);
  EXPECT_EQ(hop_before(-5, 5), -5);
  EXPECT_EQ(hop_before(INT64_MIN, 7), INT64_MIN);
  EXPECT_EQ(hop_before(INT64_MAX, kDurationMaxNs / 2),
            INT64_MAX - INT64_MAX % (kDurationMaxNs / 2));
}

SchemaPtr schema() {
  Field temp = number_field("temp", DType::kDecimal, 3);
  EXPECT_TRUE(set_range(temp, -40, 150).is_ok());
  return make_schema({temp, number_field("on", DType::kBool)});
}

constexpr std::int64_t kWindow = 5000;
constexpr std::int64_t kHop = 700;
constexpr std::int64_t kGap = 9;
constexpr std::int64_t kHold = 3;

// In milliseconds, so that windows hold thousands of events.
ViewSpec view() {
  ViewSpec out = make_view({});
  out.lateness_ns = 60;
  const auto add = [&out](Op op, const std::string& field, std::int64_t hop, std::int64_t gap,
                          std::int64_t hold) {
    FeatureSpec spec = feature(op, field, 0);
    spec.name = std::to_string(out.features.size());
    spec.window_ns = kWindow;
    spec.hop_ns = hop;
    spec.gap_ns = gap;
    spec.hold_ns = hold;
    out.features.push_back(spec);
  };
  for (const auto& [hop, gap] : {std::pair{kHop, std::int64_t{0}}, {std::int64_t{0}, kGap}}) {
    for (const Op op : {Op::kCount, Op::kDistinct, Op::kSum, Op::kMin, Op::kMax, Op::kMostFrequent})
      add(op, "temp", hop, gap, 0);
    add(Op::kQuantile, "on", hop, gap, 0);
    out.features.back().permille = 600;
  }
  add(Op::kTimeIn, "on", 0, 0, 0);
  add(Op::kTimeIn, "on", 0, 0, kHold);
  // A sliding window beside: what a read that goes back sums from blocks too.
  for (const Op op : {Op::kCount, Op::kSum, Op::kMin, Op::kMax}) add(op, "temp", 0, 0, 0);
  return out;
}

struct Row {
  std::int64_t time, temp, on;
};

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::size_t first_after(const std::vector<Row>& rows, std::int64_t time) {
  std::size_t at = 0;
  while (at < rows.size() && rows[at].time <= time) ++at;
  return at;
}

bool seen_within_horizon(const std::vector<Row>& rows, std::int64_t as_of) {
  return first_after(rows, as_of) > first_after(rows, as_of - 2 * kWindow);
}

// Of the rows [begin, end) what view() asks for.
std::vector<double> totals(const std::vector<Row>& rows, std::size_t begin, std::size_t end) {
  if (begin == end) return {0, 0, kNan, kNan, kNan, kNan, kNan};
  std::int64_t sum = 0;
  std::int64_t low = rows[begin].temp;
  std::int64_t high = low;
  std::size_t on = 0;
  std::map<std::int64_t, std::size_t> counts;
  for (std::size_t i = begin; i < end; ++i) {
    sum += rows[i].temp;
    low = std::min(low, rows[i].temp);
    high = std::max(high, rows[i].temp);
    on += rows[i].on != 0 ? 1 : 0;
    ++counts[rows[i].temp];
  }
  const auto most = std::max_element(counts.begin(), counts.end(),
                                     [](auto& a, auto& b) { return a.second < b.second; });
  const std::size_t count = end - begin;
  const bool rank_is_on = (600 * count + 999) / 1000 > count - on;
  const auto value = [](std::int64_t x) { return static_cast<double>(x) / 1000; };
  return {static_cast<double>(count),
          static_cast<double>(counts.size()),
          value(sum),
          value(low),
          value(high),
          value(most->first),
          rank_is_on ? 1.0 : 0.0};
}

double time_in(const std::vector<Row>& rows, std::int64_t as_of, std::int64_t hold) {
  if (!seen_within_horizon(rows, as_of)) return kNan;
  std::int64_t on = 0;
  for (std::size_t i = 0; i < rows.size() && rows[i].time <= as_of; ++i) {
    const bool newest = i + 1 == rows.size() || rows[i + 1].time > as_of;
    const std::int64_t until =
        std::min(newest ? as_of : rows[i + 1].time, saturating_sub(rows[i].time, -hold));
    const std::int64_t from = std::max(rows[i].time, as_of - kWindow);
    if (rows[i].time > as_of - 2 * kWindow && rows[i].on != 0 && until > from) on += until - from;
  }
  return static_cast<double>(on) / 1e9;
}

std::vector<double> expected(const std::vector<Row>& rows, std::int64_t as_of) {
  const std::int64_t hop = as_of - as_of % kHop;
  auto out = totals(rows, first_after(rows, hop - kWindow), first_after(rows, hop));
  if (!seen_within_horizon(rows, hop)) out[0] = out[1] = kNan;
  const std::size_t end = first_after(rows, as_of);
  std::size_t begin = end;
  const std::size_t oldest = first_after(rows, as_of - kWindow);
  if (end > oldest && as_of - rows[end - 1].time <= kGap) {
    --begin;
    while (begin > oldest && rows[begin].time - rows[begin - 1].time <= kGap) --begin;
  }
  auto session = totals(rows, begin, end);
  if (!seen_within_horizon(rows, as_of)) session[0] = session[1] = kNan;
  out.insert(out.end(), session.begin(), session.end());
  out.push_back(time_in(rows, as_of, INT64_MAX));
  out.push_back(time_in(rows, as_of, kHold));
  auto sliding = totals(rows, oldest, end);
  if (!seen_within_horizon(rows, as_of)) sliding[0] = kNan;
  for (const std::size_t at : {0, 2, 3, 4}) out.push_back(sliding[at]);
  return out;
}

void expect_all(const Engine& engine, const std::vector<Row>& rows, std::int64_t as_of) {
  const Reading reading = read_all(engine, "a", as_of);
  const auto want = expected(rows, as_of);
  for (std::size_t i = 0; i < want.size(); ++i)
    ASSERT_TRUE(reading.values[i] == want[i] ||
                (want[i] != want[i] && std::isnan(reading.values[i])))
        << "feature " << i << " is " << reading.values[i] << ", should be " << want[i];
}

TEST(Spans, OverThousandsOfEventsAreTheirDefinitions) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Chance chance(seed);
    const PlanPtr plan = make_plan(view(), schema()).value();
    auto engine = Engine::create(plan).value();
    std::vector<Row> rows;  // in order
    std::int64_t time = kStart;
    RowBatch batch(plan->schema());
    for (std::uint64_t i = 0; i < 9000; ++i) {
      // Mostly sessions longer than the window; now and then shorter ones, and a silence.
      time += chance.one_in(i % 3000 < 2000 ? 2000 : 100) ? kGap + 1 : chance.between(0, 3);
      if (chance.one_in(4000)) time += 3 * kWindow;
      const std::int64_t at = time - (chance.one_in(5) ? chance.between(0, 60) : 0);
      const Row row{at, chance.between(-40'000, chance.one_in(3) ? -39'000 : 150'000),
                    chance.between(0, 1)};
      rows.insert(rows.begin() + static_cast<std::ptrdiff_t>(first_after(rows, at)), row);
      const std::size_t added = add_row(batch, at, "a", row.temp, "", i + 1);
      batch.set_i64(added, 2, row.on);
      ASSERT_TRUE(engine->update(batch, added, 1, i + 1).is_ok());
      if (i % 701 == 700) engine = Engine::restore(plan, engine->snapshot()).value();
      if (!chance.one_in(29)) continue;
      expect_all(*engine, rows, time);
      expect_all(*engine, rows, time - chance.between(0, 60));
      expect_all(*engine, rows, time + chance.between(0, chance.one_in(2) ? kGap : kWindow));
      if (HasFatalFailure()) return;
    }
    EXPECT_EQ(engine->late_rows(), 0u);
  }
}

TEST(Spans, ABatchIsTheStreamToTheBit) {
  const PlanPtr plan = make_plan(view(), schema()).value();
  const std::size_t width = plan->width();
  for (const std::int64_t least : {0, 1}) {  // with ties in time, which are streamed; and without
    Chance chance(static_cast<std::uint64_t>(least) + 7);
    RowBatch rows(plan->schema());
    std::int64_t time = kStart;
    for (std::uint64_t i = 0; i < 4000; ++i) {
      time += chance.one_in(300) ? kGap + 1 : chance.between(least, 4);
      const std::size_t row = add_row(rows, time, chance.one_in(5) ? "b" : "a",
                                      chance.between(-40'000, 150'000), "", i);
      if (!chance.one_in(7)) rows.set_i64(row, 2, chance.between(0, 1));
    }
    const auto order = total_order(rows);
    std::vector<double> values(order.size() * width);
    std::vector<std::uint8_t> states(values.size());
    ASSERT_TRUE(backfill(plan, rows, order, values, states).is_ok());
    auto engine = Engine::create(plan).value();
    for (std::size_t i = 0; i < order.size(); ++i) {
      ASSERT_TRUE(engine->update(rows, order[i], 1, i + 1).is_ok());
      const Reading reading =
          read_all(*engine, std::string(rows.text(order[i], 0)), rows.time_ns(order[i]));
      for (std::size_t f = 0; f < width; ++f) {
        ASSERT_EQ(std::bit_cast<std::uint64_t>(values[i * width + f]),
                  std::bit_cast<std::uint64_t>(reading.values[f]))
            << "feature " << f << " at row " << i << ", least step " << least;
        ASSERT_EQ(states[i * width + f], reading.states[f]);
      }
    }
  }
}

TEST(Spans, TheEndsOfTimeNeitherWrapNorCrash) {
  ViewSpec spec = view();
  for (FeatureSpec& one : spec.features) one.window_ns = kDurationMaxNs / 2;
  spec.features[0].hop_ns = kDurationMaxNs / 2;
  const PlanPtr plan = make_plan(spec, schema()).value();
  auto engine = Engine::create(plan).value();
  RowBatch rows(plan->schema());
  for (const std::int64_t time : {INT64_MIN, INT64_MIN + 1, INT64_MAX - 1, INT64_MAX}) {
    const std::size_t row = add_row(rows, time, "a", 1000);
    rows.set_i64(row, 2, 1);
    ASSERT_TRUE(engine->update(rows, row, 1, row + 1).is_ok());
    const Reading reading = read_all(*engine, "a", time);
    EXPECT_LE(reading.coverage[14], 1);
    if (time == INT64_MIN) continue;  // the bound itself, which is outside
    EXPECT_GE(reading.values[14], 0);
  }
  const Reading end = read_all(*engine, "a", INT64_MAX);
  EXPECT_EQ(end.values[7], 2);      // a session of the last two
  EXPECT_EQ(end.values[14], 1e-9);  // they hold for the nanosecond between them
}

}  // namespace
}  // namespace edgecore::features
