#include "log/stale.hpp"

#include <algorithm>

#include "base/crc32c.hpp"

namespace edgecore::wal {
namespace {

constexpr std::uint32_t kStaleMagic = 0x54534345;  // "ECST"
constexpr std::size_t kStaleHeadBytes = 28;
constexpr std::size_t kCrcBytes = 4;

bool blank(ByteSpan bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

}  // namespace

Bytes encode_stale(const SegmentHeader& header, ByteSpan file) {
  Bytes slot;
  ByteWriter writer(slot);
  writer.put(kStaleMagic);
  writer.put(kVersion);
  writer.put(std::uint16_t{0});
  writer.put(header.number);
  writer.put(header.salt);
  writer.put(static_cast<std::uint32_t>((file.size() + header.sector - 1) / header.sector));
  for (std::size_t at = 0; at < file.size(); at += header.sector)
    writer.put(crc32c(file.subspan(at, std::min<std::size_t>(header.sector, file.size() - at))));
  writer.put(crc32c(slot));
  return slot;
}

std::uint64_t stale_slot_bytes(const SegmentHeader& header) {
  const std::uint64_t sectors = round_up(header.capacity, header.sector) / header.sector;
  return round_up(kStaleHeadBytes + sectors * sizeof(std::uint32_t) + kCrcBytes, 4096);
}

std::uint64_t stale_slot_at(const SegmentHeader& header) {
  return header.number % 2 * stale_slot_bytes(header);
}

bool only_stale(ByteSpan slot, const SegmentHeader& header, ByteSpan segment, std::uint64_t from) {
  if (slot.size() < kStaleHeadBytes + kCrcBytes ||
      load_le<std::uint32_t>(slot.data()) != kStaleMagic ||
      load_le<std::uint16_t>(slot.data() + 4) != kVersion ||
      load_le<std::uint64_t>(slot.data() + 8) != header.number ||
      load_le<std::uint64_t>(slot.data() + 16) != header.salt)
    return false;
  const std::size_t sectors = load_le<std::uint32_t>(slot.data() + 24);
  const std::size_t end = kStaleHeadBytes + sectors * sizeof(std::uint32_t);
  if (sectors > slot.size() || slot.size() < end + kCrcBytes ||
      crc32c(slot.first(end)) != load_le<std::uint32_t>(slot.data() + end))
    return false;
  for (std::size_t at = from / header.sector * header.sector; at < segment.size();
       at += header.sector) {
    const ByteSpan sector =
        segment.subspan(at, std::min<std::size_t>(header.sector, segment.size() - at));
    if (blank(sector)) continue;
    const std::size_t number = at / header.sector;
    if (number >= sectors ||
        crc32c(sector) != load_le<std::uint32_t>(slot.data() + kStaleHeadBytes + number * 4))
      return false;
  }
  return true;
}

}  // namespace edgecore::wal
