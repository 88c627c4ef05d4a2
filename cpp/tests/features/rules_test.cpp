// What holds for a view's whole stream: clocks that jump ahead, the watermark, gaps, bounded state.
#include "features/rules.hpp"

#include <map>

#include "feature_fixtures.hpp"

namespace edgecore::features {
namespace {

ViewSpec ruled_view(Rules rules, std::int64_t lateness_s = 10) {
  ViewSpec view = make_view({feature(Op::kCount, "temp", 60), feature(Op::kMean, "temp", 60),
                             feature(Op::kLast, "temp", 600), feature(Op::kEwma, "temp", 8)},
                            lateness_s);
  view.rules = rules;
  return view;
}

std::unique_ptr<Engine> ruled(Rules rules, std::int64_t lateness_s = 10) {
  return Engine::create(make_plan(ruled_view(rules, lateness_s), pump_schema()).value()).value();
}

// Feeds one row at a time; returns whether it was applied.
class Feeder {
 public:
  explicit Feeder(Engine& engine) : engine_(engine), rows_(engine.plan().schema()) {}
  bool operator()(std::int64_t second, const std::string& entity = "a",
                  const std::string& source = "", std::int64_t value = 20'000) {
    const std::size_t row = add_row(rows_, kStart + second * kSecond, entity, value, source);
    const std::uint64_t aside = engine_.late_rows() + engine_.ahead_rows();
    EXPECT_TRUE(engine_.update(rows_, row, 1, engine_.position() + 1).is_ok());
    return engine_.late_rows() + engine_.ahead_rows() == aside;
  }

 private:
  Engine& engine_;
  RowBatch rows_;
};

TEST(Guard, OneRowOfAJumpedClockIsSetAsideAndMakesNoGoodRowLate) {
  auto engine = ruled({.max_ahead_ns = 300 * kSecond});
  Feeder feed(*engine);
  ASSERT_TRUE(feed(0));
  EXPECT_FALSE(feed(86'400 * 365));
  for (std::int64_t second = 1; second < 20; ++second) EXPECT_TRUE(feed(second));
  EXPECT_EQ(engine->ahead_rows(), 1u);
  EXPECT_EQ(engine->late_rows(), 0u);
  const auto aside = engine->take_set_aside();
  ASSERT_EQ(aside.size(), 1u);
  EXPECT_EQ(aside[0].position, 2u);
  EXPECT_EQ(aside[0].kind, SetAside::Kind::kAhead);
  EXPECT_EQ(aside[0].by_ns, 86'400 * 365 * kSecond);
  EXPECT_TRUE(engine->take_set_aside().empty());
}

TEST(Guard, WithoutItTheSameRowMakesGoodOnesLate) {
  auto engine = ruled({});
  Feeder feed(*engine);
  ASSERT_TRUE(feed(0));
  ASSERT_TRUE(feed(86'400 * 365));
  EXPECT_FALSE(feed(1));
  EXPECT_EQ(engine->late_rows(), 1u);
}

TEST(Guard, AStreamThatGoesOnAfterASilenceIsBelievedAtTheThirdRow) {
  auto engine = ruled({.max_ahead_ns = 300 * kSecond});
  Feeder feed(*engine);
  ASSERT_TRUE(feed(0));
  EXPECT_FALSE(feed(10'000));
  EXPECT_FALSE(feed(10'005));
  EXPECT_TRUE(feed(10'010));
  EXPECT_TRUE(feed(10'015));
  EXPECT_EQ(engine->ahead_rows(), 2u);
}

TEST(Guard, ABadClockIsNeverBelievedWhileAGoodSourceSpeaks) {
  auto engine = ruled({.max_ahead_ns = 300 * kSecond});
  Feeder feed(*engine);
  ASSERT_TRUE(feed(0, "a", "good"));
  for (std::int64_t second = 1; second < 100; ++second) {
    EXPECT_FALSE(feed(50'000 + second, "a", "bad"));
    EXPECT_FALSE(feed(50'000 + second, "b", "bad"));
    EXPECT_TRUE(feed(second, "a", "good"));
  }
}

TEST(Guard, RowsAheadThatDoNotAgreeAreNoQuorum) {
  auto engine = ruled({.max_ahead_ns = 300 * kSecond});
  Feeder feed(*engine);
  ASSERT_TRUE(feed(0));
  for (std::int64_t i = 1; i < 50; ++i) EXPECT_FALSE(feed(i * 10'000));
}

TEST(Watermark, AnAnswerThatIsFinalNeverChanges) {
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Chance chance(seed);
    auto engine = ruled({.idle_ns = 40 * kSecond});
    Feeder feed(*engine);
    std::map<std::pair<std::string, std::int64_t>, Reading> told;
    std::int64_t time = 0;
    std::size_t checked = 0;
    for (int i = 0; i < 1500; ++i) {
      time += chance.between(0, 3) + (chance.one_in(90) ? 60 : 0);
      const std::string source(1, static_cast<char>('p' + chance.between(0, 2)));
      const std::string entity(1, static_cast<char>('a' + chance.between(0, 3)));
      if (source == "r" && i / 300 % 2 == 1) continue;  // it is silent, and comes back
      feed(time - (chance.one_in(3) ? chance.between(0, 30) : 0), entity, source,
           chance.between(-40'000, 150'000));
      if (!engine->final_before()) continue;
      const std::int64_t as_of = *engine->final_before() - 1;
      for (const char* name : {"a", "b", "c", "d"}) {
        told.try_emplace({name, as_of}, read_all(*engine, name, as_of));
        // Earlier ones that can still be read.
        const auto earlier = told.lower_bound({name, as_of - 20 * kSecond});
        std::vector<double> values(engine->width());
        std::vector<std::uint8_t> states(engine->width());
        if (!engine->read(name, earlier->first.second, Answers{values, states, {}, {}, {}}).is_ok())
          continue;
        ASSERT_TRUE(read_all(*engine, name, earlier->first.second) == earlier->second);
        ++checked;
      }
    }
    EXPECT_GT(engine->late_rows(), 0u);
    EXPECT_GT(checked, 1000u);
  }
}

TEST(Watermark, IsTheLowestOfTheSourcesThatAreHeard) {
  auto engine = ruled({.idle_ns = 100 * kSecond});
  Feeder feed(*engine);
  EXPECT_FALSE(engine->final_before().has_value());
  feed(100, "a", "slow");
  feed(150, "a", "fast");
  EXPECT_EQ(*engine->final_before(), kStart + 90 * kSecond);
  feed(201, "a", "fast");  // the slow one is no longer waited for
  EXPECT_EQ(*engine->final_before(), kStart + 191 * kSecond);
  EXPECT_FALSE(feed(190, "b", "slow"));  // and does not undo what was final
  EXPECT_EQ(*engine->final_before(), kStart + 191 * kSecond);
}

TEST(Gaps, CoverageCountsOnlyWhatIsKnown) {
  auto engine = ruled({});
  Feeder feed(*engine);
  for (std::int64_t second = 0; second <= 120; second += 5) feed(second);
  const std::int64_t now = kStart + 120 * kSecond;
  EXPECT_EQ(read_all(*engine, "a", now).coverage[0], 1);
  const Reading before = read_all(*engine, "a", now);
  ASSERT_TRUE(engine->gap(kStart + 90 * kSecond, kStart + 105 * kSecond, 1000).is_ok());
  ASSERT_TRUE(engine->gap(kStart + 100 * kSecond, kStart + 105 * kSecond, 1001).is_ok());
  const Reading after = read_all(*engine, "a", now);
  EXPECT_EQ(after.coverage[0], 0.75);  // 15 of 60 s
  EXPECT_EQ(after.values[1], before.values[1]);
  EXPECT_EQ(read_all(*engine, "a", now + 45 * kSecond).coverage[0], 1);  // the window has left it
  EXPECT_EQ(engine->gap(kStart, kStart + 1, 1001).outcome(), Outcome::kInvalid);
  EXPECT_EQ(engine->gap(kStart + 1, kStart, 2000).outcome(), Outcome::kInvalid);
  auto restored =
      Engine::restore(make_plan(ruled_view({}), pump_schema()).value(), engine->snapshot()).value();
  EXPECT_TRUE(read_all(*restored, "a", now) == after);
}

TEST(Gaps, MergeAndAreMeasuredExactly) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Chance chance(seed);
    Gaps gaps;
    std::vector<bool> lost(400);
    for (int i = 0; i < 40; ++i) {
      const std::int64_t from = chance.between(0, 390);
      const std::int64_t to = std::min<std::int64_t>(399, from + chance.between(0, 9));
      gaps.add(from, to);
      for (auto at = from; at < to; ++at) lost[static_cast<std::size_t>(at)] = true;
      const std::int64_t low = chance.between(0, 399);
      const std::int64_t high = chance.between(low, 399);
      std::int64_t want = 0;
      for (auto at = low; at < high; ++at) want += lost[static_cast<std::size_t>(at)];
      ASSERT_EQ(gaps.within(low, high), want);
    }
  }
  Gaps many;
  for (std::int64_t i = 0; i < 3000; ++i) many.add(i * 10, i * 10 + 1);
  const auto apart = static_cast<std::int64_t>(kGapsMax) - 1;  // the newest; the others are one
  EXPECT_EQ(many.within(0, 30'000), (2999 - apart) * 10 + 1 + apart);
  EXPECT_EQ(many.within(29'000, 30'000), 100);
}

// A view's stream with all rules at once, restored before every row, against the one that goes on.
TEST(Rules, ARestoreBeforeAnyRowLeavesNoTrace) {
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Chance chance(seed);
    const Rules rules{.max_ahead_ns = 200 * kSecond,
                      .idle_ns = seed % 2 == 0 ? 50 * kSecond : 0,
                      .max_entities = 5,
                      .max_bytes = seed % 3 == 0 ? 900u : 0u};
    const PlanPtr plan = make_plan(ruled_view(rules), pump_schema()).value();
    auto whole = Engine::create(plan).value();
    auto again = Engine::create(plan).value();
    RowBatch rows(plan->schema());
    std::int64_t time = 0;
    for (std::uint64_t i = 1; i <= 400; ++i) {
      time += chance.between(0, 4) + (chance.one_in(60) ? 500 : 0);
      const std::int64_t at =
          time + (chance.one_in(40) ? 90'000 : 0) - (chance.one_in(5) ? chance.between(0, 20) : 0);
      const std::string entity = std::string("e") + std::to_string(chance.between(0, 8));
      const std::size_t row = add_row(rows, kStart + at * kSecond, entity, chance.between(0, 9),
                                      chance.one_in(2) ? "p" : "q");
      again = Engine::restore(plan, again->snapshot()).value();
      if (chance.one_in(50)) {
        for (Engine* one : {whole.get(), again.get()})
          ASSERT_TRUE(
              one->gap(kStart + (time - 9) * kSecond, kStart + time * kSecond, 2 * i).is_ok());
      }
      for (Engine* one : {whole.get(), again.get()})
        ASSERT_TRUE(one->update(rows, row, 1, 2 * i + 1).is_ok());
      ASSERT_EQ(whole->snapshot(), again->snapshot());
      ASSERT_LE(whole->entities(), 5u);
      ASSERT_EQ(whole->state_bytes(), again->state_bytes());
      if (rules.max_bytes > 0) {
        ASSERT_LE(whole->state_bytes(), rules.max_bytes);
      }
      for (int e = 0; e <= 8; ++e) {
        const std::string name = std::string("e") + std::to_string(e);
        const std::int64_t as_of = kStart + (time + 100'000) * kSecond;
        ASSERT_TRUE(read_all(*whole, name, as_of) == read_all(*again, name, as_of));
      }
    }
    EXPECT_GT(whole->evicted(), 0u);
    EXPECT_GT(whole->ahead_rows(), 0u);
  }
}

TEST(Bound, AFloodOfEntitiesKeepsTheNewestAndItsMemory) {
  auto engine = ruled({.max_entities = 100});
  Feeder feed(*engine);
  for (std::int64_t i = 0; i < 20'000; ++i) feed(i / 10, std::string("e") + std::to_string(i));
  EXPECT_EQ(engine->entities(), 100u);
  EXPECT_EQ(engine->evicted(), 19'900u);
  EXPECT_LT(engine->memory_bytes(), 200'000u);
  EXPECT_EQ(read_all(*engine, "e19999", kStart + 2000 * kSecond).values[0], 1);
  const Reading gone = read_all(*engine, "e7", kStart + 2000 * kSecond);
  EXPECT_EQ(gone.states[0], static_cast<std::uint8_t>(State::kMissing));
  EXPECT_EQ(gone.reasons[0], static_cast<std::uint8_t>(Reason::kEvicted));
  // Far enough behind, nobody who was let go would have had an answer.
  EXPECT_EQ(read_all(*engine, "e7", kStart + 4000 * kSecond).reasons[0],
            static_cast<std::uint8_t>(Reason::kNever));
}

TEST(Bound, TheLeastRecentlyUpdatedGoesAndOfEqualsTheFirstByName) {
  auto engine = ruled({.max_entities = 3});
  Feeder feed(*engine);
  feed(5, "c");
  feed(5, "b");
  feed(9, "a");
  feed(6, "d");
  const auto known = [&](const std::string& name) {
    return read_all(*engine, name, kStart + 10 * kSecond).states[0] == 0;
  };
  EXPECT_TRUE(known("a") && known("c") && known("d"));
  EXPECT_FALSE(known("b"));
  feed(1, "z");  // older than all: it goes itself
  EXPECT_FALSE(known("z"));
  EXPECT_TRUE(known("a") && known("c") && known("d"));
}

TEST(Bound, BytesAreThoseOfTheSnapshot) {
  auto engine = ruled({.max_bytes = 1u << 20});
  Feeder feed(*engine);
  feed(0, "a");
  const std::size_t base = engine->snapshot().size() - engine->state_bytes();
  for (std::int64_t i = 0; i < 300; ++i) {
    feed(i, std::string(1, static_cast<char>('a' + i % 7)));
    ASSERT_EQ(engine->snapshot().size() - engine->state_bytes(), base);
  }
  EXPECT_EQ(engine->evicted(), 0u);
}

TEST(Names, AreFoundWhateverWasRemovedBefore) {
  Names names;
  std::map<std::string, std::uint32_t> want;
  Chance chance(3);
  for (int i = 0; i < 20'000; ++i) {
    const std::string name = std::string("n") + std::to_string(chance.between(0, 300));
    const std::uint32_t id = names.find(name);
    const auto known = want.find(name);
    ASSERT_EQ(id, known == want.end() ? Names::kNone : known->second);
    if (id == Names::kNone) {
      want[name] = names.add(name);
    } else if (chance.one_in(2)) {
      names.remove(id);
      want.erase(name);
    } else {
      names.remember(id);
    }
    ASSERT_EQ(names.count(), want.size());
  }
}

}  // namespace
}  // namespace edgecore::features
