// Encryption of what a log holds.
//
// Blocks of an encrypted segment: their records are one encrypted span, head and table stay
// readable, and a checksum over the span finds damage without the key. docs/formats/segment.md.
//
// The nonce is the block's offset in the segment. A key encrypts one segment, a segment is written
// by one open, and a block that has been encrypted is written at an offset that no other block of
// the segment gets: so no nonce comes twice under a key.
#pragma once

#include "base/cipher.hpp"
#include "log/format.hpp"
#include "log/pack.hpp"

namespace edgecore {

// A span on disk: CRC-32C of the rest, ciphertext, tag.
inline constexpr std::size_t kSpanCrcBytes = 4;
inline constexpr std::size_t kSpanExtraBytes = kSpanCrcBytes + kTagBytes;

// Blocks of a pack: each is a span of its own, the index stays readable (docs/formats/pack.md). A
// key of packs is used by one open of the log, which gives a number to one pack alone; the nonce is
// the pack's number and the block's place in its index.
Status encrypt_blocks(CipherKey& key, PackIndex& index, Bytes& blocks);
// By its checksum alone.
bool block_intact(ByteSpan span);
// The column block. Untrusted when the span is not what the key has sealed here.
Result<Bytes> decrypt_block(CipherKey& key, const PackIndex& index, const PackBlock& block,
                            ByteSpan span);

}  // namespace edgecore

namespace edgecore::wal {

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
