#include "base/crc32c.hpp"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace edgecore {
namespace {

TEST(Crc32c, VectorsOfRfc3720) {
  const std::vector<std::byte> zeros(32, std::byte{0});
  const std::vector<std::byte> ones(32, std::byte{0xff});
  EXPECT_EQ(crc32c(zeros), 0x8A9136AAu);
  EXPECT_EQ(crc32c(ones), 0x62A8AB43u);
  EXPECT_EQ(crc32c(as_byte_span("123456789")), 0xE3069283u);
}

TEST(Crc32c, ContinuesAcrossAnySplit) {
  const auto text = as_byte_span("the quick brown fox jumps over the lazy dog, twice");
  const std::uint32_t whole = crc32c(text);
  for (std::size_t cut = 0; cut <= text.size(); ++cut)
    EXPECT_EQ(crc32c(text.subspan(cut), crc32c(text.first(cut))), whole) << "cut at " << cut;
}

// One bit at a time, as the polynomial is written.
std::uint32_t by_bits(ByteSpan bytes) {
  std::uint32_t crc = ~0u;
  for (const std::byte byte : bytes) {
    crc ^= static_cast<std::uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78u : 0u);
  }
  return ~crc;
}

TEST(Crc32c, LongInputsAgreeWithTheBitwiseForm) {
  const std::uint32_t seed = 41;
  std::mt19937 rng(seed);
  Bytes bytes(20000);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(rng());
  for (const std::size_t size : {3071, 3072, 3073, 6143, 6144, 9217, 20000 - 7})
    for (const std::size_t start : {0, 1, 7}) {
      const ByteSpan part = ByteSpan(bytes).subspan(start, size);
      EXPECT_EQ(crc32c(part), by_bits(part))
          << size << " bytes from " << start << ", seed " << seed;
      EXPECT_EQ(crc32c(part.subspan(5), crc32c(part.first(5))), by_bits(part));
    }
}

}  // namespace
}  // namespace edgecore
