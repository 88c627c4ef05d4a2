// The running quantile against sorting the window anew.
#include "pipeline/quantile.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <random>

namespace edgecore::pipeline {
namespace {

TEST(RunningQuantile, EqualsTheElementOfTheSortedWindow) {
  const std::uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (const std::uint32_t window : {1u, 2u, 3u, 7u, 64u, 100u}) {
    for (const std::uint32_t permille : {0u, 1u, 250u, 500u, 900u, 999u, 1000u}) {
      RunningQuantile quantile(window, permille);
      std::deque<std::int64_t> last;
      // A drift with ties, so that scores come at both ends and cross the cut.
      for (std::int64_t i = 0; i < 600; ++i) {
        const auto spread = static_cast<std::int64_t>(random() % 20);
        const std::int64_t score = i % 100 < 50 ? i / 10 + spread : 40 - i / 10 - spread;
        last.push_back(random() % 50 == 0 ? INT64_MIN : score);
        if (last.size() > window) last.pop_front();
        quantile.push(last.back());
        std::vector<std::int64_t> sorted(last.begin(), last.end());
        std::sort(sorted.begin(), sorted.end());
        ASSERT_EQ(quantile.size(), sorted.size());
        ASSERT_EQ(quantile.value(), sorted[(sorted.size() - 1) * permille / 1000])
            << window << " " << permille << " " << i;
        for (std::size_t at = 0; at < last.size(); ++at) ASSERT_EQ(quantile.score(at), last[at]);
      }
    }
  }
}

}  // namespace
}  // namespace edgecore::pipeline
