#include "log/encryption.hpp"

#include "base/crc32c.hpp"

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
