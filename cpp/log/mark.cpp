#include "log/mark.hpp"

#include "base/crc32c.hpp"
#include "log/format.hpp"

namespace edgecore::wal {
namespace {

constexpr std::uint32_t kMarkMagic = 0x4B4D4345;  // "ECMK"
constexpr std::size_t kMarkBytes = 44;            // with its checksum

}  // namespace

Bytes encode_mark(const Mark& mark) {
  Bytes slot;
  ByteWriter writer(slot);
  writer.put(kMarkMagic);
  writer.put(kVersion);
  writer.put(static_cast<std::uint16_t>(mark.clean));
  writer.put(mark.generation);
  writer.put(mark.epoch);
  writer.put(mark.position);
  writer.put(mark.segment);
  writer.put(crc32c(slot));
  return slot;
}

std::optional<Mark> decode_marks(ByteSpan file) {
  std::optional<Mark> newest;
  for (const std::uint64_t at : {std::uint64_t{0}, kMarkSlotBytes}) {
    if (file.size() < at + kMarkBytes) continue;
    const std::byte* slot = file.data() + at;
    if (load_le<std::uint32_t>(slot) != kMarkMagic ||
        load_le<std::uint16_t>(slot + 4) != kVersion ||
        crc32c({slot, kMarkBytes - 4}) != load_le<std::uint32_t>(slot + kMarkBytes - 4))
      continue;
    const Mark mark{load_le<std::uint64_t>(slot + 8), load_le<std::uint64_t>(slot + 16),
                    load_le<std::uint64_t>(slot + 24), load_le<std::uint64_t>(slot + 32),
                    load_le<std::uint16_t>(slot + 6) != 0};
    if (!newest || mark.generation > newest->generation) newest = mark;
  }
  return newest;
}

}  // namespace edgecore::wal
