#include "log/contents.hpp"

#include <algorithm>

#include "base/crc32c.hpp"

namespace edgecore {

void add_loss(std::vector<LossRange>& losses, const LossRange& range) {
  if (range.first > range.last) return;
  for (LossRange& known : losses)
    if (known.partition == range.partition && known.reason == range.reason &&
        known.last + 1 == range.first) {
      known.last = range.last;
      return;
    }
  losses.push_back(range);
}

void put_loss(ByteWriter& writer, const LossRange& range) {
  writer.put(range.partition);
  writer.put(range.first);
  writer.put(range.last);
  writer.put(std::uint32_t{range.reason});
}

bool take_loss(ByteReader& reader, LossRange& range) {
  std::uint32_t reason = 0;
  const bool taken = reader.take(range.partition) && reader.take(range.first) &&
                     reader.take(range.last) && reader.take(reason) && reason < kLossReasons &&
                     range.first <= range.last;
  range.reason = static_cast<LossRange::Reason>(reason);
  return taken;
}

namespace wal {
namespace {

constexpr std::uint32_t kMagic = 0x434C4345;  // "ECLC"
constexpr std::size_t kHeadBytes = 56;
constexpr std::size_t kKeptBytes = 20;
constexpr std::size_t kPackBytes = 64;
constexpr std::size_t kCrcBytes = 4;

std::size_t bytes_of(std::size_t kept, std::size_t packs, std::size_t untold) {
  return kHeadBytes + kept * kKeptBytes + packs * kPackBytes + untold * kLossBytes + kCrcBytes;
}

bool take(ByteReader& reader, PackEntry& pack) {
  return reader.take(pack.number) && reader.take(pack.base) && reader.take(pack.end) &&
         reader.take(pack.tier) && reader.take(pack.rows) && reader.take(pack.bytes) &&
         reader.take(pack.key) && reader.take(pack.hlc) && reader.take(pack.time_min) &&
         reader.take(pack.time_max) && pack.tier <= 4 && pack.base < pack.end;
}

// Packs of one sealing cover the same positions; sealings follow each other up to the segments.
bool in_order(const Contents& contents) {
  std::uint64_t number = 0, base = 1, end = 1;
  for (const PackEntry& pack : contents.packs) {
    const bool same = pack.base == base && pack.end == end;
    if (pack.number <= number || (!same && pack.base < end)) return false;
    number = pack.number;
    base = pack.base;
    end = pack.end;
  }
  return end <= contents.position && number < contents.next_pack;
}

std::optional<Contents> decode_slot(ByteSpan slot) {
  if (slot.size() < kHeadBytes + kCrcBytes || load_le<std::uint32_t>(slot.data()) != kMagic ||
      load_le<std::uint16_t>(slot.data() + 4) != kVersion)
    return std::nullopt;
  ByteReader reader(slot.subspan(8));
  Contents out;
  std::uint32_t kept = 0, packs = 0, untold = 0;
  if (!reader.take(out.generation) || !reader.take(out.segment) || !reader.take(out.position) ||
      !reader.take(out.next_pack) || !reader.take(out.announced) || !reader.take(kept) ||
      !reader.take(packs) || !reader.take(untold) || kept > kPartitionsMax || packs > kPacksMax ||
      untold > kUntoldLimit)
    return std::nullopt;
  const std::size_t size = bytes_of(kept, packs, untold);
  if (slot.size() < size || crc32c(slot.first(size - kCrcBytes)) !=
                                load_le<std::uint32_t>(slot.data() + size - kCrcBytes))
    return std::nullopt;
  for (std::uint32_t i = 0; i < kept; ++i) {
    std::uint32_t partition = 0;
    Kept entry;
    if (!reader.take(partition) || !reader.take(entry.first) || !reader.take(entry.segment))
      return std::nullopt;
    out.kept[partition] = entry;
  }
  out.packs.resize(packs);
  for (PackEntry& pack : out.packs)
    if (!take(reader, pack)) return std::nullopt;
  out.untold.resize(untold);
  for (LossRange& range : out.untold)
    if (!take_loss(reader, range)) return std::nullopt;
  if (!in_order(out)) return std::nullopt;
  return out;
}

}  // namespace

Bytes encode_contents(const Contents& contents) {
  Bytes slot;
  ByteWriter writer(slot);
  writer.put(kMagic);
  writer.put(kVersion);
  writer.put(std::uint16_t{0});
  writer.put(contents.generation);
  writer.put(contents.segment);
  writer.put(contents.position);
  writer.put(contents.next_pack);
  writer.put(contents.announced);
  writer.put(static_cast<std::uint32_t>(contents.kept.size()));
  writer.put(static_cast<std::uint32_t>(contents.packs.size()));
  writer.put(static_cast<std::uint32_t>(contents.untold.size()));
  for (const auto& [partition, kept] : contents.kept) {
    writer.put(partition);
    writer.put(kept.first);
    writer.put(kept.segment);
  }
  for (const PackEntry& pack : contents.packs) {
    writer.put(pack.number);
    writer.put(pack.base);
    writer.put(pack.end);
    writer.put(pack.tier);
    writer.put(pack.rows);
    writer.put(pack.bytes);
    writer.put(pack.key);
    writer.put(pack.hlc);
    writer.put(pack.time_min);
    writer.put(pack.time_max);
  }
  for (const LossRange& range : contents.untold) put_loss(writer, range);
  writer.put(crc32c(slot));
  return slot;
}

// A release takes packs out, names partitions, and may leave a range untold for each.
std::size_t contents_room(const Contents& contents, std::size_t partitions) {
  return bytes_of(std::max(contents.kept.size(), partitions), contents.packs.size(),
                  std::max<std::size_t>(contents.untold.size(), kUntoldMax));
}

std::optional<Contents> decode_contents(ByteSpan file) {
  std::optional<Contents> newest;
  for (std::size_t at = 0; at < file.size(); at += kContentsSlotUnit) {
    auto found = decode_slot(file.subspan(at));
    if (found && (!newest || found->generation > newest->generation)) newest = std::move(found);
  }
  return newest;
}

bool contents_whole(ByteSpan file) {
  const std::size_t slot = file.size() / 2;
  return slot != 0 && slot % kContentsSlotUnit == 0 && decode_slot(file.first(slot)) &&
         decode_slot(file.subspan(slot));
}

}  // namespace wal
}  // namespace edgecore
