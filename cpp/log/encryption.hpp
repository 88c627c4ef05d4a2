// Blocks of an encrypted segment: their records are one encrypted span, head and table stay
// readable, and a checksum over the span finds damage without the key. docs/formats/segment.md.
//
// The nonce is the block's offset in the segment. A key encrypts one segment, a segment is written
// by one open, and a block that has been encrypted is written at an offset that no other block of
// the segment gets: so no nonce comes twice under a key.
#pragma once

#include "base/cipher.hpp"
#include "log/format.hpp"

namespace edgecore::wal {

inline constexpr std::size_t kSpanCrcBytes = 4;
inline constexpr std::size_t kSpanExtraBytes = kSpanCrcBytes + kTagBytes;

constexpr bool is_encrypted(const SegmentHeader& header) {
  return header.cipher != kPlain;
}

// Encrypts the records in a block whose head is encoded: they stand, as in the clear, behind the
// head and room for the checksum; behind them is room for the tag.
Status encrypt_records(CipherKey& key, const SegmentHeader& header, std::uint64_t offset,
                       const BlockHead& head, std::span<std::byte> block);
// By its checksum alone.
bool span_intact(ByteSpan block, const BlockHead& head, std::uint32_t seed);
// The records in the clear. Untrusted when the span is not what the key has encrypted here.
Status decrypt_records(CipherKey& key, const SegmentHeader& header, std::uint64_t offset,
                       const BlockHead& head, ByteSpan block, Bytes& records);

}  // namespace edgecore::wal
