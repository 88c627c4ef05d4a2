// Hostile .tflite bytes: refused in one of two words, never followed out of the buffer.
#include "base/tflite.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>

namespace edgecore::tflite {
namespace {

Bytes ad01() {
  const char* root = std::getenv("EDGECORE_DATA");
  if (root == nullptr) return {};
  std::ifstream file(std::string(root) + "/mlperf_tiny/ad01_int8.tflite", std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const ByteSpan bytes = as_byte_span(text);
  return {bytes.begin(), bytes.end()};
}

TEST(Tflite, NotAFlatBufferThenCorrupt) {
  EXPECT_EQ(read({}).status().outcome(), Outcome::kCorrupt);
  EXPECT_EQ(read(as_byte_span("\xff\xff\xff\x7fTFL3")).status().outcome(), Outcome::kCorrupt);
  EXPECT_EQ(read(as_byte_span("12345678")).status().outcome(), Outcome::kCorrupt);
}

TEST(Tflite, RealModelThenItsTenLayers) {
  const Bytes file = ad01();
  if (file.empty()) GTEST_SKIP() << "EDGECORE_DATA is not set";
  const auto graph = read(file);
  ASSERT_TRUE(graph.is_ok()) << graph.status().to_string();
  EXPECT_EQ(graph.value().operators.size(), 10U);
}

TEST(Tflite, MutatedStructureThenOkCorruptOrIncompatible) {
  Bytes file = ad01();
  if (file.empty()) GTEST_SKIP() << "EDGECORE_DATA is not set";
  std::mt19937 rng(20260);  // the seed
  int refused = 0;
  for (int i = 0; i < 20000; ++i) {
    // Both ends hold the structure; the middle is weights.
    const std::size_t at = rng() % 2 == 0 ? rng() % 4096 : file.size() - 4 - rng() % 4096;
    const auto before = load_le<std::uint32_t>(file.data() + at);
    store_le<std::uint32_t>(file.data() + at, rng() % 3 == 0 ? static_cast<std::uint32_t>(rng())
                                                             : before ^ (1U << rng() % 32));
    const auto graph = read(file);
    if (!graph.is_ok()) {
      ++refused;
      EXPECT_TRUE(graph.status().outcome() == Outcome::kCorrupt ||
                  graph.status().outcome() == Outcome::kIncompatible);
    }
    store_le<std::uint32_t>(file.data() + at, before);
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace edgecore::tflite
