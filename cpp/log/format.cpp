#include "log/format.hpp"

#include "base/crc32c.hpp"

namespace edgecore::wal {
namespace {

constexpr std::size_t kHeaderUsed = 132;  // bytes of a header copy before its checksum

void encode_copy(const SegmentHeader& header, Bytes& out) {
  const std::size_t start = out.size();
  ByteWriter writer(out);
  writer.put(kSegmentMagic);
  writer.put(kVersion);
  writer.put(header.cipher);
  writer.put(header.required_features);
  writer.put(header.optional_features);
  writer.put_bytes(header.store);
  writer.put(header.epoch);
  writer.put(header.key);
  writer.put(header.sector);
  writer.put_bytes(header.policy);
  writer.put(header.number);
  writer.put(header.salt);
  writer.put(header.base_position);
  writer.put(header.previous);
  writer.put(header.previous_end);
  writer.put(header.capacity);
  writer.put_zeros(kHeaderUsed - (out.size() - start));
  writer.put(crc32c(ByteSpan(out).subspan(start)));
  writer.put_zeros(kHeaderCopyBytes - (out.size() - start));
}

bool decode_copy(ByteSpan bytes, SegmentHeader& header, std::uint16_t& version) {
  if (bytes.size() < kHeaderUsed + 4 ||
      crc32c(bytes.first(kHeaderUsed)) != load_le<std::uint32_t>(bytes.data() + kHeaderUsed))
    return false;
  ByteReader reader(bytes);
  std::uint32_t magic = 0;
  ByteSpan store, policy;
  const bool whole = reader.take(magic) && reader.take(version) && reader.take(header.cipher) &&
                     reader.take(header.required_features) &&
                     reader.take(header.optional_features) && reader.take_bytes(16, store) &&
                     reader.take(header.epoch) && reader.take(header.key) &&
                     reader.take(header.sector) && reader.take_bytes(16, policy) &&
                     reader.take(header.number) && reader.take(header.salt) &&
                     reader.take(header.base_position) && reader.take(header.previous) &&
                     reader.take(header.previous_end) && reader.take(header.capacity);
  if (!whole || magic != kSegmentMagic) return false;
  std::memcpy(header.store.data(), store.data(), 16);
  std::memcpy(header.policy.data(), policy.data(), 16);
  return true;
}

}  // namespace

Bytes encode_header(const SegmentHeader& header) {
  Bytes out;
  encode_copy(header, out);
  encode_copy(header, out);
  return out;
}

Result<SegmentHeader> decode_header(ByteSpan bytes) {
  for (const std::uint64_t at : {std::uint64_t{0}, kHeaderCopyBytes}) {
    SegmentHeader header;
    std::uint16_t version = 0;
    if (bytes.size() < at || !decode_copy(bytes.subspan(at), header, version)) continue;
    if (version != kVersion)
      return Status::incompatible("segment version " + std::to_string(version));
    const bool encrypted = header.required_features == kEncryptedFeature;
    if ((header.required_features & ~kEncryptedFeature) != 0 || header.cipher > kAes256Gcm)
      return Status::incompatible("segment needs a feature or cipher that is not known");
    if (encrypted != (header.cipher != kPlain) || encrypted != (header.key != 0))
      return Status::corrupt("segment header: cipher and key");
    if (header.sector < 512 || header.sector > 65536 || (header.sector & (header.sector - 1)) != 0)
      return Status::corrupt("segment header: sector size");
    return header;
  }
  return Status::corrupt("segment header: both copies are damaged");
}

std::uint32_t salted(std::uint64_t salt) {
  return crc32c({reinterpret_cast<const std::byte*>(&salt), sizeof salt});
}

void encode_block_head(const BlockHead& head, std::uint64_t salt, std::byte* out) {
  store_le(out, kBlockMagic);
  store_le(out + 8, head.length);
  store_le(out + 12, static_cast<std::uint16_t>(head.table.size()));
  store_le(out + 14, head.flags);
  store_le(out + 16, head.epoch);
  store_le(out + 24, head.first_position);
  store_le(out + 32, head.rows);
  store_le(out + 36, head.records);
  store_le(out + 40, head.durable_before);
  store_le(out + 48, head.hlc);
  store_le(out + 56, head.monotonic_ns);
  store_le(out + 64, static_cast<std::uint64_t>(head.clock_trust));
  store_le(out + 72, std::uint64_t{0});
  std::byte* at = out + kBlockHeadBytes;
  for (const TableEntry& entry : head.table) {
    store_le(at, static_cast<std::uint64_t>(entry.partition));
    store_le(at + 8, entry.next);
    store_le(at + 16, entry.reserved_through);
    at += kTableEntryBytes;
  }
  const ByteSpan covered(out + 8, head.head_bytes() - 8);
  store_le(out + 4, crc32c(covered, salted(salt)));
}

std::optional<BlockHead> decode_block_head(ByteSpan bytes, std::uint64_t salt) {
  if (bytes.size() < kBlockHeadBytes || load_le<std::uint32_t>(bytes.data()) != kBlockMagic)
    return std::nullopt;
  const std::byte* in = bytes.data();
  BlockHead head;
  head.length = load_le<std::uint32_t>(in + 8);
  const std::size_t entries = load_le<std::uint16_t>(in + 12);
  const std::size_t head_bytes = kBlockHeadBytes + entries * kTableEntryBytes;
  if (entries > 2 * kPartitionsMax || head.length < head_bytes || head.length > kBlockBytesMax ||
      head.length > bytes.size() ||
      crc32c(bytes.subspan(8, head_bytes - 8), salted(salt)) != load_le<std::uint32_t>(in + 4))
    return std::nullopt;
  head.flags = load_le<std::uint16_t>(in + 14);
  head.epoch = load_le<std::uint64_t>(in + 16);
  head.first_position = load_le<std::uint64_t>(in + 24);
  head.rows = load_le<std::uint32_t>(in + 32);
  head.records = load_le<std::uint32_t>(in + 36);
  head.durable_before = load_le<std::uint64_t>(in + 40);
  head.hlc = load_le<std::uint64_t>(in + 48);
  head.monotonic_ns = load_le<std::int64_t>(in + 56);
  head.clock_trust = static_cast<std::uint8_t>(load_le<std::uint64_t>(in + 64));
  for (std::size_t i = 0; i < entries; ++i) {
    const std::byte* at = in + kBlockHeadBytes + i * kTableEntryBytes;
    head.table.push_back({static_cast<std::uint32_t>(load_le<std::uint64_t>(at)),
                          load_le<std::uint64_t>(at + 8), load_le<std::uint64_t>(at + 16)});
  }
  return head;
}

void put_record_head(const RecordHead& head, std::byte* out) {
  store_le(out, std::uint32_t{0});
  store_le(out + 4, head.partition);
  store_le(out + 8, head.first);
  store_le(out + 16, head.schema);
  store_le(out + 20, head.count);
  store_le(out + 24, head.length);
  store_le(out + 28, std::uint32_t{0});
}

std::byte* seal_record(std::byte* at, std::uint32_t seed) {
  const std::size_t size = kRecordHeadBytes + load_le<std::uint32_t>(at + 24);
  store_le(at, crc32c({at + 4, size - 4}, seed));
  return at + size;
}

std::optional<RecordHead> decode_record(ByteSpan bytes, std::uint32_t seed, ByteSpan& payload) {
  if (bytes.size() < kRecordHeadBytes) return std::nullopt;
  const std::byte* in = bytes.data();
  RecordHead head;
  head.partition = load_le<std::uint32_t>(in + 4);
  head.first = load_le<std::uint64_t>(in + 8);
  head.schema = load_le<std::uint32_t>(in + 16);
  head.count = load_le<std::uint32_t>(in + 20);
  head.length = load_le<std::uint32_t>(in + 24);
  if (head.length > bytes.size() - kRecordHeadBytes) return std::nullopt;
  payload = bytes.subspan(kRecordHeadBytes, head.length);
  const ByteSpan covered = bytes.subspan(4, kRecordHeadBytes - 4 + head.length);
  if (crc32c(covered, seed) != load_le<std::uint32_t>(in)) return std::nullopt;
  return head;
}

}  // namespace edgecore::wal
