// Blocks of rows whose schema is not known: what goes in comes out, and hostile bytes do nothing.
#include "log/rows_block.hpp"

#include <gtest/gtest.h>

#include "base/crc32c.hpp"

namespace edgecore {
namespace {

PackBlock place_of() {
  PackBlock place;
  place.partition = 7;
  place.first = 41;
  place.count = 5;
  return place;
}

SealedRows sample() {
  SealedRows rows;
  rows.arrivals = {{2, 100, 9'000, 0}, {3, 107, 9'500, 1}};
  rows.sizes = {10, 4};
  for (int i = 0; i < 14; ++i) rows.canonical.push_back(static_cast<std::byte>(i));
  return rows;
}

TEST(RowsBlock, RecordsComeOutAsTheyWentIn) {
  const Bytes block = encode_rows_block(place_of(), sample());
  EXPECT_TRUE(is_rows_block(block));
  EXPECT_EQ(block.size(), 28u + 2 * 25 + 14 + 4);
  const auto read = decode_rows_block(block, place_of());
  ASSERT_TRUE(read.is_ok()) << read.status().to_string();
  EXPECT_EQ(read->arrivals, sample().arrivals);
  EXPECT_EQ(read->sizes, sample().sizes);
  EXPECT_EQ(read->canonical, sample().canonical);
  PackBlock other = place_of();
  ++other.first;
  EXPECT_EQ(decode_rows_block(block, other).status().outcome(), Outcome::kCorrupt);
}

TEST(RowsBlock, AnyOtherBytesAreRefusedOrGiveWhatTheIndexSays) {
  const Bytes block = encode_rows_block(place_of(), sample());
  for (std::size_t at = 0; at < block.size(); ++at)
    for (unsigned bit = 0; bit < 8; ++bit) {
      Bytes bad = block;
      bad[at] ^= static_cast<std::byte>(1u << bit);
      EXPECT_FALSE(decode_rows_block(bad, place_of()).is_ok());
      store_le(bad.data() + bad.size() - 4, crc32c(ByteSpan(bad).first(bad.size() - 4)));
      const auto read = decode_rows_block(bad, place_of());
      if (!read.is_ok()) continue;
      std::uint64_t rows = 0, bytes = 0;
      for (std::size_t i = 0; i < read->arrivals.size(); ++i) {
        rows += read->arrivals[i].rows;
        bytes += read->sizes[i];
      }
      EXPECT_EQ(rows, 5u);
      EXPECT_EQ(bytes, read->canonical.size());
    }
  for (std::size_t size = 0; size < block.size(); ++size)
    EXPECT_FALSE(decode_rows_block(ByteSpan(block).first(size), place_of()).is_ok());
}

}  // namespace
}  // namespace edgecore
