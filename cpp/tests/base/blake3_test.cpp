#include "base/blake3.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <random>
#include <sstream>

#include "base/blake3_kernel.hpp"

namespace edgecore {
namespace {

Bytes pattern(std::size_t length) {
  Bytes bytes(length);
  for (std::size_t i = 0; i < length; ++i) bytes[i] = static_cast<std::byte>(i % 251);
  return bytes;
}

Bytes noise(std::mt19937_64& random, std::size_t length) {
  Bytes bytes(length);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

Digest digest_by(const Blake3Isa& isa, ByteSpan bytes) {
  Blake3 hasher(isa);
  hasher.update(bytes);
  return hasher.finish();
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
    for (const Blake3Isa& isa : blake3_isas())
      EXPECT_EQ(to_hex(digest_by(isa, pattern(length))), expected) << isa.name << length;
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

TEST(Blake3, EveryInstructionSetGivesThePortableDigest) {
  const std::uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const Bytes data = noise(random, 300'000);
  const auto isas = blake3_isas();
  ASSERT_STREQ(isas.back().name, "portable");
  for (int round = 0; round < 150; ++round) {
    const std::size_t most = round % 3 == 0 ? data.size() : round % 3 == 1 ? 20'000 : 2'000;
    const ByteSpan part = ByteSpan(data).first(random() % (most + 1));
    const Digest expected = digest_by(isas.back(), part);
    for (const Blake3Isa& isa : isas.first(isas.size() - 1))
      ASSERT_EQ(digest_by(isa, part), expected) << isa.name << " " << part.size();
  }
}

TEST(Blake3, UpdatesCutAnywhereGiveTheSameDigestOnEveryInstructionSet) {
  const std::uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const Bytes data = noise(random, 200'000);
  const Digest whole = digest_by(blake3_isas().back(), data);
  for (const Blake3Isa& isa : blake3_isas()) {
    for (const std::size_t most : {100u, 3'000u, 50'000u, 150'000u}) {
      Blake3 hasher(isa);
      for (std::size_t at = 0; at < data.size();) {
        const std::size_t take = std::min(random() % (most + 1), data.size() - at);
        hasher.update(ByteSpan(data).subspan(at, take));
        at += take;
      }
      EXPECT_EQ(hasher.finish(), whole) << isa.name << " " << most;
    }
  }
}

TEST(Blake3, ManyMessagesHaveTheDigestsOfEachAlone) {
  const std::uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (const Blake3Isa& isa : blake3_isas()) {
    for (const std::size_t length :
         {0u, 1u, 20u, 63u, 64u, 65u, 128u, 1000u, 1024u, 1025u, 3000u}) {
      for (std::size_t count = 0; count <= 37; count += 1 + count / 9) {
        const Bytes messages = noise(random, length * count);
        std::vector<Digest> digests(count);
        blake3_many(messages, length, digests, isa);
        for (std::size_t i = 0; i < count; ++i) {
          const ByteSpan alone = ByteSpan(messages).subspan(i * length, length);
          ASSERT_EQ(digests[i], digest_by(blake3_isas().back(), alone))
              << isa.name << " " << length << " " << i << " of " << count;
        }
      }
    }
  }
}

}  // namespace
}  // namespace edgecore
