// Pack files: rows of one tier that have left the write-ahead log, as column blocks, and what
// becomes of every sequence that they account for. docs/formats/pack.md. Encoding and decoding
// only: no file is touched here. Bytes to read are hostile.
#pragma once

#include "log/contents.hpp"

namespace edgecore {

inline constexpr std::size_t kPackBytesMax = 256 * 1024;  // unless one block is larger
inline constexpr std::uint32_t kPackBlockRows = 1024;

// Where a block stands, and what can be told of it without decoding.
struct PackBlock {
  std::uint32_t partition = 0;
  std::uint32_t schema = 0;  // its number in the log's catalogue
  std::uint64_t first = 0;
  std::uint32_t count = 0;
  std::uint32_t offset = 0;  // in the file
  std::uint32_t length = 0;
  std::uint64_t epoch = 0;
  std::uint64_t position_first = 0;
  std::uint64_t position_last = 0;
  std::uint64_t hlc = 0;      // of its last row
  std::int64_t time_min = 0;  // of a block of rows INT64_MIN: not known
  std::int64_t time_max = 0;  // and INT64_MAX
};

// The sequences of a partition that a pack accounts for: each is in a block, in a gap, or, if a
// block can't be read, lost.
struct PackRange {
  std::uint32_t partition = 0;
  std::uint64_t first = 0;
  std::uint64_t end = 0;
};

// Required features of a pack.
inline constexpr std::uint32_t kPackEncryptedFeature = 1;  // its blocks are, each by itself
inline constexpr std::uint32_t kPackRowsFeature = 2;       // some are of rows (rows_block.hpp)

struct PackIndex {
  StoreId store{};
  std::uint64_t epoch = 0;   // of the open that sealed it
  std::uint16_t cipher = 0;  // 0: in the clear, and key 0
  std::uint32_t key = 0;
  std::array<std::byte, 16> policy{};
  std::uint16_t tier = 0;
  std::uint64_t number = 0;
  std::uint64_t base = 0;
  std::uint64_t end = 0;
  bool has_rows = false;          // blocks of rows among them
  std::vector<PackBlock> blocks;  // of each partition in order
  std::vector<PackRange> ranges;  // one per partition
  std::vector<LossRange> gaps;

  std::size_t encoded_bytes() const;
  PackEntry entry(std::size_t file_bytes) const;
};

// The file: index, blocks, the index again. Sets the blocks' offsets, which are then in the order
// of `index.blocks`, back to back.
Bytes encode_pack(PackIndex& index, ByteSpan blocks);

// The first intact of the two indexes. Corrupt when neither is; Incompatible for a version or
// required feature not known. Offsets and lengths are within the file.
Result<PackIndex> decode_pack(ByteSpan file);

}  // namespace edgecore
