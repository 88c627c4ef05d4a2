// Bytes of the write-ahead log: segment header, commit block, record. docs/formats/segment.md
// (final). Encoding and decoding only: no file is touched here.
#pragma once

#include <optional>

#include "base/cipher.hpp"
#include "columns/canonical.hpp"

namespace edgecore::wal {

inline constexpr std::uint32_t kSegmentMagic = 0x4C574345;  // "ECWL"
inline constexpr std::uint32_t kBlockMagic = 0x42434345;    // "ECCB"
inline constexpr std::uint16_t kVersion = 1;
inline constexpr std::uint64_t kHeaderBytes = 4096;  // two copies of 2048 bytes
inline constexpr std::uint64_t kHeaderCopyBytes = 2048;
inline constexpr std::size_t kBlockHeadBytes = 80;
inline constexpr std::size_t kTableEntryBytes = 24;
inline constexpr std::size_t kRecordHeadBytes = 32;
inline constexpr std::uint32_t kPartitionsMax = 4096;
inline constexpr std::uint32_t kBlockBytesMax = 256u << 20;

// Required features of a segment.
inline constexpr std::uint32_t kEncryptedFeature = 1;  // records are encrypted, block by block

enum BlockFlag : std::uint16_t {
  kCheckpoint = 1,  // the table names every partition of the store
  kClosing = 2,     // written by an orderly close: nothing is reserved
  // The first block of an open. A partition of which a crash has burnt numbers has two entries:
  // where its numbers ended and through which they are burnt, then where they go on.
  kOpening = 4,
};

struct SegmentHeader {
  std::uint32_t required_features = 0;
  std::uint32_t optional_features = 0;
  StoreId store{};
  std::uint64_t epoch = 0;
  std::uint16_t cipher = 0;
  std::uint32_t key = 0;
  std::array<std::byte, 16> policy{};
  std::uint64_t number = 0;
  std::uint64_t salt = 0;
  std::uint64_t base_position = 1;  // position of the segment's first row
  std::uint64_t previous = 0;       // number of the segment before; 0 = none
  std::uint64_t previous_end = 0;   // where its data ends; what stands behind is not data
  std::uint64_t capacity = 0;
  std::uint32_t sector = 512;
};

Bytes encode_header(const SegmentHeader& header);  // kHeaderBytes, both copies
// The first intact copy. Corrupt, or Incompatible for a version, cipher or required feature not
// known.
Result<SegmentHeader> decode_header(ByteSpan bytes);

struct TableEntry {
  std::uint32_t partition = 0;
  std::uint64_t next = 1;              // first sequence not used by the end of the block
  std::uint64_t reserved_through = 0;  // sequences that may have been handed out
};

struct BlockHead {
  std::uint32_t length = 0;  // head, table and records, without padding
  std::uint16_t flags = 0;
  std::uint64_t epoch = 0;
  std::uint64_t first_position = 0;
  std::uint32_t rows = 0;
  std::uint32_t records = 0;
  std::uint64_t durable_before = 0;  // highest position known durable when this was written
  std::uint64_t hlc = 0;
  std::int64_t monotonic_ns = 0;
  std::uint8_t clock_trust = 0;
  std::vector<TableEntry> table;

  std::size_t head_bytes() const { return kBlockHeadBytes + table.size() * kTableEntryBytes; }
};

struct RecordHead {
  std::uint32_t partition = 0;
  std::uint32_t schema = 0;
  std::uint64_t first = 0;
  std::uint32_t count = 0;
  std::uint32_t length = 0;  // of the payload: canonical rows
};

// Checksums begin from the segment's salt, so that the same bytes in a recycled segment fail.
std::uint32_t salted(std::uint64_t salt);

void encode_block_head(const BlockHead& head, std::uint64_t salt, std::byte* out);
// nullopt when no intact head begins here.
std::optional<BlockHead> decode_block_head(ByteSpan bytes, std::uint64_t salt);

// A record's head; its checksum waits for the salt of the segment that the record will land in.
void put_record_head(const RecordHead& head, std::byte* out);
// Gives the record at `at`, head and payload, its checksum. Returns the end of the record.
// `seed` here and below: salted(salt of the segment).
std::byte* seal_record(std::byte* at, std::uint32_t seed);
// nullopt when the record, payload included, is not intact; `payload` borrows from `bytes`.
std::optional<RecordHead> decode_record(ByteSpan bytes, std::uint32_t seed, ByteSpan& payload);

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}

}  // namespace edgecore::wal
