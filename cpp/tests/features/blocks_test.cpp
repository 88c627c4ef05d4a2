// Sums of ranges are those of their events, however events come, move up and go.
#include "features/blocks.hpp"

#include <vector>

#include "feature_fixtures.hpp"

namespace edgecore::features {
namespace {

struct Sum {
  std::uint64_t total = 0;
  std::int64_t most = INT64_MIN;
  void add(std::int64_t value) {
    total += static_cast<std::uint64_t>(value);
    most = std::max(most, value);
  }
  void merge(const Sum& other) {
    total += other.total;
    most = std::max(most, other.most);
  }
};

// Events at indices [begin, end) of a buffer that slides, as a series has them.
class Blocked {
 public:
  explicit Blocked(std::uint64_t seed) : chance_(seed) {}

  void step() {
    const bool late = size() > 0 && chance_.one_in(4);
    const auto back = late ? chance_.between(0, std::min<std::int64_t>(size(), 200)) : 0;
    const auto at = static_cast<std::uint32_t>(values_.size()) - static_cast<std::uint32_t>(back);
    values_.insert(values_.begin() + at, chance_.between(-1000, 1000));
    blocks_.change(at);
    // Events go one by one or many at once, up to all.
    if (chance_.one_in(3)) forget(chance_.between(0, 3));
    if (chance_.one_in(4000)) forget(size());
    if (begin_ > 700) {
      blocks_.shift(begin_);
      values_.erase(values_.begin(), values_.begin() + begin_);
      begin_ = 0;
    }
    if (size() > 0 && chance_.one_in(5)) check();
  }

 private:
  std::uint32_t size() const { return static_cast<std::uint32_t>(values_.size()) - begin_; }
  void forget(std::int64_t count) {
    begin_ += static_cast<std::uint32_t>(std::min<std::int64_t>(count, size()));
    blocks_.forget(begin_);
  }
  void check() {
    const auto any = [this](std::int64_t low) {
      return static_cast<std::uint32_t>(
          chance_.between(low, static_cast<std::int64_t>(values_.size())));
    };
    const std::uint32_t begin = chance_.one_in(4) ? begin_ : any(begin_);
    const std::uint32_t end = any(begin);
    const auto one = [this](std::uint32_t at, Sum& to) {
      ASSERT_GE(at, begin_) << "an event that is gone";
      to.add(values_[at]);
    };
    Sum want;
    for (std::uint32_t at = begin; at < end; ++at) want.add(values_[at]);
    const Sum got = blocks_.sum(begin_, begin, end, one);
    ASSERT_EQ(got.total, want.total);
    ASSERT_EQ(got.most, want.most);
    const std::int64_t limit = chance_.between(900, 1000);
    std::optional<std::uint32_t> last;
    for (std::uint32_t at = begin; at < end; ++at)
      if (values_[at] > limit) last = at;
    ASSERT_EQ(blocks_.last(
                  begin_, begin, end, one, [&](std::uint32_t at) { return values_[at] > limit; },
                  [limit](const Sum& sum) { return sum.most > limit; }),
              last);
  }

  Chance chance_;
  std::vector<std::int64_t> values_;
  std::uint32_t begin_ = 0;
  Blocks<Sum> blocks_;
};

TEST(Blocks, SumsAreThoseOfTheEventsInAnyRange) {
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Blocked blocked(seed);
    for (int i = 0; i < 12'000 && !testing::Test::HasFatalFailure(); ++i) blocked.step();
  }
}

TEST(Blocks, ARangeOfAMillionEventsIsReadAtAFewOfThem) {
  constexpr std::uint32_t kEvents = 1u << 20;
  Blocks<Sum> blocks;
  std::uint64_t touched = 0;
  const auto one = [&touched](std::uint32_t at, Sum& to) {
    ++touched;
    to.add(at);
  };
  EXPECT_EQ(blocks.sum(0, 0, kEvents, one).total, std::uint64_t{kEvents} * (kEvents - 1) / 2);
  EXPECT_EQ(touched, kEvents);
  touched = 0;
  for (std::uint32_t i = 0; i < 100; ++i) {
    const Sum found = blocks.sum(0, i * 37, kEvents - i * 1001, one);
    EXPECT_EQ(found.most, static_cast<std::int64_t>(kEvents - i * 1001 - 1));
  }
  EXPECT_LE(touched, 100u * 2 * 63);
  touched = 0;
  const auto never = [](std::uint32_t) { return false; };
  EXPECT_EQ(blocks.last(0, 5, kEvents - 5, one, never, [](const Sum&) { return false; }),
            std::nullopt);
  EXPECT_EQ(touched, 0u);
}

}  // namespace
}  // namespace edgecore::features
