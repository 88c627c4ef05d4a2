// Restored state goes on as if nothing had happened; batch and stream agree; damage is seen.
#include <cmath>

#include "feature_fixtures.hpp"

namespace edgecore::features {
namespace {

RowBatch rough_rows(std::uint64_t seed, std::size_t count, const SchemaPtr& schema) {
  RowBatch rows(schema);
  Chance chance(seed);
  std::int64_t time = kStart;
  for (std::size_t i = 0; i < count; ++i) {
    time += chance.one_in(40) ? chance.between(0, 5000) * kSecond : chance.between(0, 15) * kSecond;
    const std::int64_t at = chance.one_in(5) ? time - chance.between(0, 40) * kSecond : time;
    add_row(rows, at, chance.one_in(3) ? "b" : "a", chance.between(-40000, 150000),
            chance.one_in(2) ? "x" : "y", static_cast<std::uint64_t>(chance.between(0, 2)));
  }
  return rows;
}

TEST(Snapshot, RestoredAtEveryCutGoesOnToTheSameBits) {
  const SchemaPtr schema = pump_schema();
  const PlanPtr plan = make_plan(f20_view(), schema).value();
  const RowBatch rows = rough_rows(7, 250, schema);
  auto whole = Engine::create(plan).value();
  std::vector<Reading> readings;
  std::vector<Bytes> snapshots;
  std::int64_t clock = INT64_MIN;
  std::vector<std::int64_t> clocks;
  for (std::size_t i = 0; i < rows.count(); ++i) {
    snapshots.push_back(whole->snapshot());
    ASSERT_TRUE(whole->update(rows, i, 1, i + 1).is_ok());
    clock = std::max(clock, rows.time_ns(i));
    clocks.push_back(clock);
    readings.push_back(read_all(*whole, std::string(rows.text(i, 0)), clock));
  }
  for (std::size_t cut = 0; cut < rows.count(); ++cut) {
    auto restored = Engine::restore(plan, snapshots[cut]);
    ASSERT_TRUE(restored.is_ok()) << restored.status().to_string();
    auto& engine = *restored.value();
    ASSERT_EQ(engine.position(), cut);
    ASSERT_EQ(engine.snapshot(), snapshots[cut]);
    for (std::size_t i = cut; i < std::min(cut + 40, rows.count()); ++i) {
      ASSERT_TRUE(engine.update(rows, i, 1, i + 1).is_ok());
      ASSERT_TRUE(read_all(engine, std::string(rows.text(i, 0)), clocks[i]) == readings[i])
          << "cut " << cut << " row " << i;
    }
  }
  auto last = Engine::restore(plan, snapshots.back()).value();
  ASSERT_TRUE(last->update(rows, rows.count() - 1, 1, rows.count()).is_ok());
  EXPECT_EQ(last->snapshot(), whole->snapshot());
  EXPECT_EQ(last->late_rows(), whole->late_rows());
}

// A view of what floats and big integers need, beside decimals.
ViewSpec wide_view() {
  std::vector<FeatureSpec> features;
  for (const auto* field : {"f", "u", "steps"})
    for (const Op op : {Op::kCount, Op::kSum, Op::kMean, Op::kMin, Op::kMax})
      for (const std::int64_t window : {30, 300}) features.push_back(feature(op, field, window));
  for (const auto* field : {"f", "u", "steps"}) features.push_back(feature(Op::kLast, field, 0));
  features.push_back(feature(Op::kStd, "steps", 300));
  return make_view(std::move(features));
}

SchemaPtr wide_schema() {
  Field steps = number_field("steps", DType::kF64);
  steps.resolution = 0.125;
  EXPECT_TRUE(set_range(steps, -1000, 1000).is_ok());
  return make_schema({number_field("f", DType::kF64), number_field("u", DType::kU64), steps});
}

RowBatch wide_rows(std::uint64_t seed, std::size_t count, const SchemaPtr& schema) {
  RowBatch rows(schema);
  Chance chance(seed);
  std::int64_t time = kStart;
  for (std::size_t i = 0; i < count; ++i) {
    time += chance.between(0, 4) * kSecond;
    const std::size_t row = rows.add_row(time);
    rows.set_bytes(row, 0, as_byte_span(chance.one_in(4) ? "b" : "a"));
    // Any finite double, some that are not, and both zeros.
    double value = std::bit_cast<double>(chance.next());
    if (chance.one_in(3)) value = static_cast<double>(chance.between(-5, 5)) * 0.1;
    if (chance.one_in(9)) value = -0.0;
    rows.set_f64(row, 1, value);
    if (!chance.one_in(5)) rows.set_cell(row, 2, chance.next());
    rows.set_f64(row, 3, static_cast<double>(chance.between(-1000, 1000)) * 0.1);
  }
  return rows;
}

void expect_batch_is_stream(const PlanPtr& plan, const RowBatch& rows) {
  const auto order = total_order(rows);
  const std::size_t width = plan->width();
  std::vector<double> values(order.size() * width);
  std::vector<std::uint8_t> states(values.size());
  ASSERT_TRUE(backfill(plan, rows, order, values, states).is_ok());
  auto engine = Engine::create(plan).value();
  for (std::size_t i = 0; i < order.size(); ++i) {
    const std::size_t row = order[i];
    ASSERT_TRUE(engine->update(rows, row, 1, i + 1).is_ok());
    const Reading reading = read_all(*engine, std::string(rows.text(row, 0)), rows.time_ns(row));
    for (std::size_t f = 0; f < width; ++f) {
      ASSERT_EQ(std::bit_cast<std::uint64_t>(values[i * width + f]),
                std::bit_cast<std::uint64_t>(reading.values[f]))
          << plan->view().features[f].name << " at " << i;
      ASSERT_EQ(states[i * width + f], reading.states[f]);
    }
  }
}

TEST(Batch, IsTheStreamToTheBit) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const SchemaPtr schema = pump_schema();
    expect_batch_is_stream(make_plan(f20_view(), schema).value(), rough_rows(seed, 600, schema));
    const SchemaPtr wide = wide_schema();
    expect_batch_is_stream(make_plan(wide_view(), wide).value(), wide_rows(seed, 600, wide));
  }
}

TEST(Batch, AnyCutOneHorizonEarlierGivesTheSameBits) {
  const SchemaPtr schema = pump_schema();
  ViewSpec view = f20_view();
  view.features.resize(12);  // up to 10 minutes: a horizon of 20
  const PlanPtr plan = make_plan(view, schema).value();
  EXPECT_EQ(plan->horizon_ns(), 1200 * kSecond);
  const RowBatch rows = rough_rows(3, 900, schema);
  const auto order = total_order(rows);
  const auto run = [&](std::span<const std::uint32_t> part) {
    std::vector<double> values(part.size() * plan->width());
    std::vector<std::uint8_t> states(values.size());
    EXPECT_TRUE(backfill(plan, rows, part, values, states).is_ok());
    return values;
  };
  const auto whole = run(order);
  for (std::size_t cut = 1; cut < order.size(); cut += 13) {
    const auto part = run(std::span(order).subspan(cut));
    for (std::size_t i = cut; i < order.size(); ++i) {
      if (rows.time_ns(order[i]) - rows.time_ns(order[cut - 1]) < plan->horizon_ns()) continue;
      for (std::size_t f = 0; f < plan->width(); ++f)
        ASSERT_EQ(std::bit_cast<std::uint64_t>(part[(i - cut) * plan->width() + f]),
                  std::bit_cast<std::uint64_t>(whole[i * plan->width() + f]));
    }
  }
}

// What a double accumulator would do, the way one reaches for first: the parity check must be able
// to see it.
TEST(Batch, ANaiveAccumulatorIsSeenByTheComparison) {
  const SchemaPtr schema = pump_schema();
  const PlanPtr plan =
      make_plan(make_view({feature(Op::kSum, "temp", 60), feature(Op::kStd, "temp", 60)}), schema)
          .value();
  RowBatch rows(schema);
  Chance chance(5);
  for (std::int64_t i = 0; i < 5000; ++i)
    add_row(rows, kStart + i * kSecond, "a", chance.between(20'000, 25'000));
  const auto order = total_order(rows);
  std::vector<double> values(order.size() * 2);
  std::vector<std::uint8_t> states(values.size());
  ASSERT_TRUE(backfill(plan, rows, order, values, states).is_ok());
  double sum = 0;
  double squares = 0;
  double fused = 0;
  std::size_t sums_differ = 0;
  std::size_t stds_differ = 0;
  std::size_t fused_differ = 0;
  for (std::size_t i = 0; i < 5000; ++i) {
    const auto value = [&](std::size_t row) {
      return static_cast<double>(rows.i64(row, 1)) / 1000;
    };
    sum += value(i);
    squares += value(i) * value(i);
    fused = std::fma(value(i), value(i), fused);
    if (i >= 60) {
      sum -= value(i - 60);
      squares -= value(i - 60) * value(i - 60);
      fused = std::fma(-value(i - 60), value(i - 60), fused);
    }
    const auto n = static_cast<double>(std::min<std::size_t>(i + 1, 60));
    sums_differ += sum != values[2 * i] ? 1 : 0;
    const double std_naive = std::sqrt((squares - sum * sum / n) / (n - 1));
    const double std_fused = std::sqrt((fused - sum * sum / n) / (n - 1));
    if (i >= 1) {
      stds_differ += std_naive != values[2 * i + 1] ? 1 : 0;
      fused_differ += std_fused != std_naive ? 1 : 0;
    }
  }
  EXPECT_GT(sums_differ, 2500u);
  EXPECT_GT(stds_differ, 4500u);
  EXPECT_GT(fused_differ, 2500u);
}

TEST(Snapshot, DamageIsCorruptAndAnotherPlanIncompatible) {
  const SchemaPtr schema = pump_schema();
  const PlanPtr plan = make_plan(f20_view(), schema).value();
  const RowBatch rows = rough_rows(11, 40, schema);
  auto engine = Engine::create(plan).value();
  ASSERT_TRUE(engine->update(rows, 0, rows.count(), 1).is_ok());
  const Bytes good = engine->snapshot();
  for (std::size_t size = 0; size < good.size(); ++size) {
    ASSERT_FALSE(Engine::restore(plan, ByteSpan(good).first(size)).is_ok());
    if (size >= 4) {
      Bytes cut = with_checksum(Bytes(good.begin(), good.begin() + static_cast<long>(size)));
      ASSERT_FALSE(Engine::restore(plan, cut).is_ok()) << size;
    }
  }
  // Every byte changed, with the checksum made right again: refused, or a state that works.
  Chance chance(1);
  std::size_t refused = 0;
  for (std::size_t at = 0; at < good.size() - 4; ++at) {
    for (int turn = 0; turn < 3; ++turn) {
      Bytes bad = good;
      bad[at] ^= static_cast<std::byte>(turn == 0 ? 0xff : chance.between(1, 255));
      ASSERT_EQ(Engine::restore(plan, bad).status().outcome(), Outcome::kCorrupt);
      auto restored = Engine::restore(plan, with_checksum(bad));
      refused += restored.is_ok() ? 0 : 1;
      if (!restored.is_ok()) continue;
      (void)restored.value()->snapshot();
      for (const auto* name : {"a", "b"}) {
        std::vector<double> values(plan->width());
        std::vector<std::uint8_t> states(plan->width());
        (void)restored.value()->read(name, rows.time_ns(39) + kSecond,
                                     Answers{values, states, {}, {}, {}});
      }
      (void)restored.value()->update(rows, 0, rows.count(), 1 + restored.value()->position());
    }
  }
  EXPECT_GT(refused, good.size());
  ViewSpec other = f20_view(31);
  EXPECT_EQ(Engine::restore(make_plan(other, schema).value(), good).status().outcome(),
            Outcome::kIncompatible);
}

}  // namespace
}  // namespace edgecore::features
