#include "pipeline/verdict.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <random>

#include "base/crc32c.hpp"

namespace edgecore::pipeline {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

VerdictSpec small() {
  VerdictSpec spec;
  spec.window = 9;
  spec.warmup = 4;
  spec.factor_permille = 3000;
  spec.enter_count = 2;
  spec.exit_count = 3;
  spec.floor = 50;
  spec.gap_ns = 10 * kSecond;
  return spec;
}

// Feeds `scores`, one a second from `first`; gives the verdicts as text: n, A (with the episode
// number behind it), and - for not judged.
std::string verdicts(Verdict& verdict, const std::vector<std::int64_t>& scores,
                     std::int64_t first = 0) {
  std::string out;
  for (const std::int64_t score : scores) {
    const Decision decision = verdict.decide(score, first++ * kSecond);
    if (decision.verdict == kNotJudged) out += "-";
    if (decision.verdict == kNormal) out += "n";
    if (decision.verdict == kAnomalous) out.append("A").append(std::to_string(decision.episode));
    EXPECT_EQ(decision.episode != 0, decision.verdict == kAnomalous);
  }
  return out;
}

TEST(Verdict, TheFirstScoresAreNotJudged) {
  Verdict verdict = Verdict::make(small()).value();
  EXPECT_EQ(verdicts(verdict, {900, 900, 900, 900, 1}), "----n");
}

TEST(Verdict, EpisodeBeginsAndEndsWithHysteresis) {
  Verdict verdict = Verdict::make(small()).value();
  EXPECT_EQ(verdicts(verdict, {10, 10, 10, 10, 99, 10, 99, 99, 40, 10, 10, 99, 10, 10, 10, 10}),
            "----nnnA1A1A1A1A1A1A1nn");
}

TEST(Verdict, AnEpisodeSoonAfterTheLastContinuesIt) {
  Verdict verdict = Verdict::make(small()).value();
  EXPECT_EQ(verdicts(verdict, {10, 10, 10, 10, 99, 99, 9, 9, 9, 9, 99, 99}), "----nA1A1A1nnnA1");
  EXPECT_EQ(verdicts(verdict, {9, 9, 9, 9, 9, 99, 99, 9}, 40), "nnnnnnA2A2");
}

TEST(Verdict, SilenceLongerThanTheGapEndsAnEpisode) {
  Verdict verdict = Verdict::make(small()).value();
  EXPECT_EQ(verdicts(verdict, {10, 10, 10, 10, 99, 99}), "----nA1");
  EXPECT_EQ(verdicts(verdict, {99, 99}, 16), "nA2");
  EXPECT_EQ(verdict.decide(99, 27 * kSecond).verdict, kAnomalous);  // exactly the gap
}

TEST(Verdict, TheThresholdDoesNotSeeTheScoreThatItJudges) {
  VerdictSpec spec = small();
  spec.window = spec.warmup = 1;
  spec.enter_count = 1;
  Verdict verdict = Verdict::make(spec).value();
  EXPECT_EQ(verdict.decide(1'000'000, 0).threshold, 50);
  EXPECT_EQ(verdict.decide(7, 1).threshold, 3'000'000);
  EXPECT_EQ(verdict.decide(0, 2).threshold, 50);
}

TEST(Verdict, ExtremeScoresAndTimesSaturate) {
  Verdict verdict = Verdict::make(small()).value();
  for (int i = 0; i < 20; ++i) {
    verdict.decide(INT64_MAX, INT64_MIN);
    verdict.decide(INT64_MAX, INT64_MAX);
    EXPECT_EQ(verdict.decide(INT64_MAX, INT64_MAX).verdict, i == 0 ? kNotJudged : kNormal);
  }
  EXPECT_EQ(verdict.decide(INT64_MIN, 0).threshold, INT64_MAX);
}

// The definition, written down naively: the last scores are sorted anew each time.
class Oracle {
 public:
  explicit Oracle(VerdictSpec spec) : spec_(spec) {}
  std::int64_t threshold() const {
    std::vector<std::int64_t> last(past_.begin(), past_.end());
    std::sort(last.begin(), last.end());
    if (last.empty()) return spec_.floor;
    const std::int64_t q = last[(last.size() - 1) * spec_.quantile_permille / 1000];
    return std::max(spec_.floor, q * spec_.factor_permille / 1000);
  }
  void push(std::int64_t score) {
    past_.push_back(score);
    if (past_.size() > spec_.window) past_.pop_front();
  }

 private:
  VerdictSpec spec_;
  std::deque<std::int64_t> past_;
};

TEST(Verdict, ThresholdEqualsTheNaiveQuantile) {
  const std::uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 chance(seed);
  for (const int quantile : {0, 333, 500, 900, 1000}) {
    VerdictSpec spec = small();
    spec.window = static_cast<std::uint32_t>(1 + chance() % 40);
    spec.warmup = 1;
    spec.quantile_permille = static_cast<std::uint16_t>(quantile);
    spec.floor = 100;
    Verdict verdict = Verdict::make(spec).value();
    Oracle oracle(spec);
    for (int i = 0; i < 500; ++i) {
      const auto score = static_cast<std::int64_t>(chance() % 30) * 17;  // many ties
      ASSERT_EQ(verdict.decide(score, i).threshold, oracle.threshold()) << "at " << i;
      oracle.push(score);
    }
  }
}

TEST(Verdict, RestoredAnywhereGoesOnIdentically) {
  const std::uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 chance(seed);
  std::vector<std::pair<std::int64_t, std::int64_t>> events;
  for (std::int64_t i = 0, time = -100; i < 200; ++i) {
    time += static_cast<std::int64_t>(chance() % 40) * kSecond / 10 - (i % 7 == 0 ? kSecond : 0);
    events.emplace_back(static_cast<std::int64_t>(chance() % 10) * (i / 20 % 2 ? 40 : 4), time);
  }
  Verdict whole = Verdict::make(small()).value();
  std::vector<Decision> expected;
  std::vector<Bytes> states{whole.state()};
  for (const auto& [score, time] : events) {
    expected.push_back(whole.decide(score, time));
    states.push_back(whole.state());
  }
  for (std::size_t cut = 0; cut <= events.size(); ++cut) {
    Verdict resumed = Verdict::make(small()).value();
    resumed.decide(3, 3);  // what was there is replaced
    ASSERT_TRUE(resumed.restore(states[cut]).is_ok()) << "cut " << cut;
    ASSERT_EQ(resumed.state(), states[cut]);
    for (std::size_t i = cut; i < events.size(); ++i)
      ASSERT_EQ(resumed.decide(events[i].first, events[i].second), expected[i]) << "cut " << cut;
    ASSERT_EQ(resumed.state(), whole.state());
  }
}

TEST(Verdict, HostileStateIsRefusedAndChangesNothing) {
  Verdict verdict = Verdict::make(small()).value();
  verdicts(verdict, {10, 10, 10, 10, 99, 99, 40});
  const Bytes good = verdict.state();
  for (std::size_t i = 0; i < good.size(); ++i) {
    Bytes bad = good;
    bad[i] ^= std::byte{1};
    EXPECT_FALSE(verdict.restore(bad).is_ok()) << "byte " << i;
    // With the checksum made good: refused, or accepted without harm.
    if (i + 4 >= good.size()) continue;
    store_le(bad.data() + bad.size() - 4, crc32c(ByteSpan(bad).first(bad.size() - 4)));
    Verdict other = Verdict::make(small()).value();
    if (other.restore(bad).is_ok()) other.decide(5, 5);
  }
  for (std::size_t size = 0; size < good.size(); ++size)
    EXPECT_FALSE(verdict.restore(ByteSpan(good).first(size)).is_ok());
  EXPECT_EQ(verdict.state(), good);
  VerdictSpec other = small();
  other.floor = 51;
  EXPECT_EQ(Verdict::make(other).value().restore(good).outcome(), Outcome::kIncompatible);
}

TEST(VerdictSpec, BytesRoundTripAndHostileOnesAreRefused) {
  const Bytes good = verdict_to_bytes(small()).value();
  EXPECT_EQ(good.size(), 48u);
  EXPECT_EQ(verdict_from_bytes(good).value(), small());
  for (std::size_t size = 0; size < good.size(); ++size)
    EXPECT_EQ(verdict_from_bytes(ByteSpan(good).first(size)).status().outcome(), Outcome::kCorrupt);
  Bytes longer = good;
  longer.push_back(std::byte{0});
  EXPECT_EQ(verdict_from_bytes(longer).status().outcome(), Outcome::kCorrupt);
  Bytes newer = good;
  newer[4] = std::byte{2};
  EXPECT_EQ(verdict_from_bytes(newer).status().outcome(), Outcome::kIncompatible);
}

TEST(VerdictSpec, OutOfRangeIsInvalid) {
  const auto refused = [](auto change) {
    VerdictSpec spec = small();
    change(spec);
    return Verdict::make(spec).status().outcome() == Outcome::kInvalid &&
           verdict_to_bytes(spec).status().outcome() == Outcome::kInvalid;
  };
  EXPECT_TRUE(refused([](VerdictSpec& s) { s.window = 0; }));
  EXPECT_TRUE(refused([](VerdictSpec& s) { s.window = kVerdictWindowMax + 1; }));
  EXPECT_TRUE(refused([](VerdictSpec& s) { s.warmup = 0; }));
  EXPECT_TRUE(refused([](VerdictSpec& s) { s.warmup = s.window + 1; }));
  EXPECT_TRUE(refused([](VerdictSpec& s) { s.quantile_permille = 1001; }));
  EXPECT_TRUE(refused([](VerdictSpec& s) { s.exit_permille = 1001; }));
  EXPECT_TRUE(refused([](VerdictSpec& s) { s.factor_permille = 0; }));
  EXPECT_TRUE(refused([](VerdictSpec& s) { s.enter_count = 0; }));
  EXPECT_TRUE(refused([](VerdictSpec& s) { s.exit_count = 0; }));
  EXPECT_TRUE(refused([](VerdictSpec& s) { s.floor = -1; }));
  EXPECT_TRUE(refused([](VerdictSpec& s) { s.gap_ns = -1; }));
}

}  // namespace
}  // namespace edgecore::pipeline
