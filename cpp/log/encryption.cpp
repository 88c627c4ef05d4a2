#include "log/encryption.hpp"

#include "base/crc32c.hpp"

namespace edgecore {
namespace {

constexpr std::string_view kPackContext = "edgecore pack block 1";

Nonce nonce_of(const PackIndex& index, std::uint32_t place) {
  Nonce nonce{};
  store_le(nonce.data(), index.number);
  store_le(nonce.data() + 8, place);
  return nonce;
}

// Store, file, place, and what the index says of the block.
Bytes associated(const PackIndex& index, std::uint32_t place) {
  const PackBlock& block = index.blocks[place];
  Bytes out(kPackContext.size() + 102);
  std::memcpy(out.data(), kPackContext.data(), kPackContext.size());
  std::byte* const at = out.data() + kPackContext.size();
  std::memcpy(at, index.store.data(), index.store.size());
  store_le(at + 16, index.number);
  store_le(at + 24, index.tier);
  store_le(at + 26, index.key);
  store_le(at + 30, place);
  store_le(at + 34, block.partition);
  store_le(at + 38, block.schema);
  store_le(at + 42, block.first);
  store_le(at + 50, block.count);
  store_le(at + 54, block.epoch);
  store_le(at + 62, block.position_first);
  store_le(at + 70, block.position_last);
  store_le(at + 78, block.hlc);
  store_le(at + 86, block.time_min);
  store_le(at + 94, block.time_max);
  return out;
}

}  // namespace

Status encrypt_blocks(CipherKey& key, PackIndex& index, Bytes& blocks) {
  Bytes out;
  out.reserve(blocks.size() + index.blocks.size() * kSpanExtraBytes);
  std::size_t from = 0;
  for (std::uint32_t place = 0; place < index.blocks.size(); ++place) {
    PackBlock& block = index.blocks[place];
    const std::size_t begin = out.size();
    out.resize(begin + block.length + kSpanExtraBytes);
    const std::span<std::byte> sealed = std::span(out).subspan(begin + kSpanCrcBytes);
    EDGECORE_TRY(key.seal(nonce_of(index, place), associated(index, place),
                          ByteSpan(blocks).subspan(from, block.length), sealed));
    store_le(out.data() + begin, crc32c(sealed));
    from += block.length;
    block.length += static_cast<std::uint32_t>(kSpanExtraBytes);
  }
  blocks = std::move(out);
  return Status::ok();
}

bool block_intact(ByteSpan span) {
  return span.size() >= kSpanExtraBytes &&
         crc32c(span.subspan(kSpanCrcBytes)) == load_le<std::uint32_t>(span.data());
}

Result<Bytes> decrypt_block(CipherKey& key, const PackIndex& index, const PackBlock& block,
                            ByteSpan span) {
  if (!block_intact(span)) return Status::corrupt("a pack's block is damaged");
  const auto place = static_cast<std::uint32_t>(&block - index.blocks.data());
  Bytes out(span.size() - kSpanExtraBytes);
  EDGECORE_TRY(
      key.open(nonce_of(index, place), associated(index, place), span.subspan(kSpanCrcBytes), out));
  return out;
}

}  // namespace edgecore

namespace edgecore::wal {
namespace {

constexpr std::string_view kContext = "edgecore wal block 1";

Nonce nonce_at(std::uint64_t offset) {
  Nonce nonce{};
  store_le(nonce.data(), offset);
  return nonce;
}

// Store, file, place, and the block's own head and table.
Bytes associated(const SegmentHeader& header, std::uint64_t offset, const BlockHead& head,
                 ByteSpan block) {
  Bytes out(kContext.size() + 44 + head.head_bytes());
  std::memcpy(out.data(), kContext.data(), kContext.size());
  std::byte* at = out.data() + kContext.size();
  std::memcpy(at, header.store.data(), header.store.size());
  store_le(at + 16, header.number);
  store_le(at + 24, header.salt);
  store_le(at + 32, header.key);
  store_le(at + 36, offset);
  std::memcpy(at + 44, block.data(), head.head_bytes());
  return out;
}

}  // namespace

Status encrypt_records(CipherKey& key, const SegmentHeader& header, std::uint64_t offset,
                       const BlockHead& head, std::span<std::byte> block) {
  std::byte* const crc = block.data() + head.head_bytes();
  const std::span<std::byte> span(crc + kSpanCrcBytes,
                                  head.length - head.head_bytes() - kSpanCrcBytes);
  EDGECORE_TRY(key.seal(nonce_at(offset), associated(header, offset, head, block),
                        span.first(span.size() - kTagBytes), span));
  store_le(crc, crc32c(span, salted(header.salt)));
  return Status::ok();
}

bool span_intact(ByteSpan block, const BlockHead& head, std::uint32_t seed) {
  const ByteSpan rest = block.subspan(head.head_bytes());
  return rest.size() >= kSpanExtraBytes &&
         crc32c(rest.subspan(kSpanCrcBytes), seed) == load_le<std::uint32_t>(rest.data());
}

Status decrypt_records(CipherKey& key, const SegmentHeader& header, std::uint64_t offset,
                       const BlockHead& head, ByteSpan block, Bytes& records) {
  const ByteSpan rest = block.subspan(head.head_bytes());
  if (rest.size() < kSpanExtraBytes) return Status::untrusted("encrypted block: too short");
  records.resize(rest.size() - kSpanExtraBytes);
  return key.open(nonce_at(offset), associated(header, offset, head, block),
                  rest.subspan(kSpanCrcBytes), records);
}

}  // namespace edgecore::wal
