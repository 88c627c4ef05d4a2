#include "base/blake3.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>

namespace edgecore {
namespace {

Bytes pattern(std::size_t length) {
  Bytes bytes(length);
  for (std::size_t i = 0; i < length; ++i) bytes[i] = static_cast<std::byte>(i % 251);
  return bytes;
}

TEST(Blake3, MatchesEveryOfficialLength) {
  std::ifstream file(EDGECORE_VECTORS "/blake3.txt");
  std::size_t checked = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    std::size_t length = 0;
    std::string expected;
    words >> length >> expected;
    EXPECT_EQ(to_hex(blake3(pattern(length))), expected) << length;
    ++checked;
  }
  EXPECT_EQ(checked, 35u);
}

TEST(Blake3, AnySplitOfUpdatesGivesTheSameDigest) {
  const Bytes data = pattern(5121);
  const Digest whole = blake3(data);
  for (std::size_t step : {1u, 63u, 64u, 65u, 1000u, 1024u, 1025u, 4096u}) {
    Blake3 hash;
    for (std::size_t at = 0; at < data.size(); at += step)
      hash.update(ByteSpan(data).subspan(at, std::min(step, data.size() - at)));
    EXPECT_EQ(hash.finish(), whole) << step;
  }
}

}  // namespace
}  // namespace edgecore
