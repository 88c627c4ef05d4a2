#include "base/crc32c.hpp"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace edgecore
