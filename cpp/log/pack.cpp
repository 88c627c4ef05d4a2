#include "log/pack.hpp"

#include <algorithm>

#include "base/crc32c.hpp"

namespace edgecore {
namespace {

constexpr std::uint32_t kMagic = 0x4B504345;     // "ECPK"
constexpr std::uint32_t kEndMagic = 0x45504345;  // "ECPE"
constexpr std::uint16_t kVersion = 1;
constexpr std::size_t kHeadBytes = 104;
constexpr std::size_t kBlockBytes = 76;
constexpr std::size_t kRangeBytes = 20;
constexpr std::size_t kCrcBytes = 4;
constexpr std::size_t kTrailerBytes = 8;

void put_index(const PackIndex& index, Bytes& out) {
  const std::size_t begin = out.size();
  ByteWriter writer(out);
  writer.put(kMagic);
  writer.put(kVersion);
  writer.put(index.tier);
  writer.put((index.cipher == 0 ? 0 : kPackEncryptedFeature) |
             (index.has_rows ? kPackRowsFeature : 0));  // required features
  writer.put(std::uint32_t{0});                         // optional features
  writer.put_bytes(index.store);
  writer.put(index.epoch);
  writer.put(index.cipher);
  writer.put(std::uint16_t{0});
  writer.put(index.key);
  writer.put_bytes(index.policy);
  writer.put(index.number);
  writer.put(index.base);
  writer.put(index.end);
  writer.put(static_cast<std::uint32_t>(index.blocks.size()));
  writer.put(static_cast<std::uint32_t>(index.ranges.size()));
  writer.put(static_cast<std::uint32_t>(index.gaps.size()));
  writer.put(std::uint32_t{0});
  for (const PackBlock& block : index.blocks) {
    writer.put(block.partition);
    writer.put(block.schema);
    writer.put(block.first);
    writer.put(block.count);
    writer.put(block.offset);
    writer.put(block.length);
    writer.put(block.epoch);
    writer.put(block.position_first);
    writer.put(block.position_last);
    writer.put(block.hlc);
    writer.put(block.time_min);
    writer.put(block.time_max);
  }
  for (const PackRange& range : index.ranges) {
    writer.put(range.partition);
    writer.put(range.first);
    writer.put(range.end);
  }
  for (const LossRange& gap : index.gaps) put_loss(writer, gap);
  writer.put(crc32c(ByteSpan(out).subspan(begin)));
}

bool take(ByteReader& reader, std::size_t file_bytes, PackBlock& block) {
  return reader.take(block.partition) && reader.take(block.schema) && reader.take(block.first) &&
         reader.take(block.count) && reader.take(block.offset) && reader.take(block.length) &&
         reader.take(block.epoch) && reader.take(block.position_first) &&
         reader.take(block.position_last) && reader.take(block.hlc) &&
         reader.take(block.time_min) && reader.take(block.time_max) && block.count > 0 &&
         block.first > 0 && block.first <= UINT64_MAX - block.count &&
         block.position_first <= block.position_last && block.offset <= file_bytes &&
         block.length <= file_bytes - block.offset;
}

bool take(ByteReader& reader, PackRange& range) {
  return reader.take(range.partition) && reader.take(range.first) && reader.take(range.end) &&
         range.first <= range.end;
}

bool take(ByteReader& reader, LossRange& gap) {
  return take_loss(reader, gap);
}

template <typename T, typename... Rest>
bool take_all(ByteReader& reader, std::size_t count, std::vector<T>& out, Rest... rest) {
  out.resize(count);
  return std::all_of(out.begin(), out.end(), [&](T& item) { return take(reader, rest..., item); });
}

// Corrupt unless an intact index begins at `at`.
Result<PackIndex> take_index(ByteSpan file, std::size_t at) {
  const Status damaged = Status::corrupt("a pack's index is damaged");
  ByteReader reader(file.subspan(std::min(at, file.size())));
  PackIndex out;
  std::uint32_t magic = 0, required = 0, optional = 0, blocks = 0, ranges = 0, gaps = 0, zero = 0;
  std::uint16_t version = 0, zero16 = 0;
  ByteSpan store, policy;
  if (!reader.take(magic) || magic != kMagic || !reader.take(version) || !reader.take(out.tier) ||
      !reader.take(required) || !reader.take(optional) ||
      !reader.take_bytes(out.store.size(), store) || !reader.take(out.epoch) ||
      !reader.take(out.cipher) || !reader.take(zero16) || !reader.take(out.key) ||
      !reader.take_bytes(out.policy.size(), policy) || !reader.take(out.number) ||
      !reader.take(out.base) || !reader.take(out.end) || !reader.take(blocks) ||
      !reader.take(ranges) || !reader.take(gaps) || !reader.take(zero))
    return damaged;
  const std::uint64_t body = std::uint64_t{blocks} * kBlockBytes +
                             std::uint64_t{ranges} * kRangeBytes + std::uint64_t{gaps} * kLossBytes;
  if (reader.remaining() < body + kCrcBytes) return damaged;
  const auto size = static_cast<std::size_t>(kHeadBytes + body);
  if (crc32c(file.subspan(at, size)) != load_le<std::uint32_t>(file.data() + at + size))
    return damaged;
  if (version != kVersion || (required & ~(kPackEncryptedFeature | kPackRowsFeature)) != 0 ||
      out.cipher > kAes256Gcm)
    return Status::incompatible("a pack of version " + std::to_string(version) +
                                " or with a feature that this build does not know");
  const bool encrypted = (required & kPackEncryptedFeature) != 0;
  out.has_rows = (required & kPackRowsFeature) != 0;
  if (encrypted != (out.cipher != kPlain) || encrypted != (out.key != 0)) return damaged;
  std::copy(store.begin(), store.end(), out.store.begin());
  std::copy(policy.begin(), policy.end(), out.policy.begin());
  if (out.tier > 4 || out.base >= out.end || !take_all(reader, blocks, out.blocks, file.size()) ||
      !take_all(reader, ranges, out.ranges) || !take_all(reader, gaps, out.gaps))
    return damaged;
  return out;
}

}  // namespace

std::size_t PackIndex::encoded_bytes() const {
  return kHeadBytes + blocks.size() * kBlockBytes + ranges.size() * kRangeBytes +
         gaps.size() * kLossBytes + kCrcBytes;
}

PackEntry PackIndex::entry(std::size_t file_bytes) const {
  PackEntry out{number, base, end, tier, 0, static_cast<std::uint32_t>(file_bytes), key, 0, 0, 0};
  bool any = false;
  for (const PackBlock& block : blocks) {
    out.rows += block.count;
    out.hlc = std::max(out.hlc, block.hlc);
    out.time_min = any ? std::min(out.time_min, block.time_min) : block.time_min;
    out.time_max = any ? std::max(out.time_max, block.time_max) : block.time_max;
    any = true;
  }
  return out;
}

Bytes encode_pack(PackIndex& index, ByteSpan blocks) {
  std::size_t at = index.encoded_bytes();
  for (PackBlock& block : index.blocks) {
    block.offset = static_cast<std::uint32_t>(at);
    at += block.length;
  }
  Bytes out;
  out.reserve(2 * index.encoded_bytes() + blocks.size() + kTrailerBytes);
  put_index(index, out);
  const std::size_t length = out.size();
  out.insert(out.end(), blocks.begin(), blocks.end());
  out.insert(out.end(), out.begin(), out.begin() + static_cast<std::ptrdiff_t>(length));
  ByteWriter writer(out);
  writer.put(static_cast<std::uint32_t>(length));
  writer.put(kEndMagic);
  return out;
}

Result<PackIndex> decode_pack(ByteSpan file) {
  auto front = take_index(file, 0);
  if (front.is_ok() || front.status().outcome() == Outcome::kIncompatible) return front;
  if (file.size() < kTrailerBytes) return front;
  const std::byte* trailer = file.data() + file.size() - kTrailerBytes;
  const std::size_t length = load_le<std::uint32_t>(trailer);
  if (load_le<std::uint32_t>(trailer + 4) != kEndMagic || length > file.size() - kTrailerBytes)
    return front;
  return take_index(file, file.size() - kTrailerBytes - length);
}

}  // namespace edgecore
