#include "log/rows_block.hpp"

#include "base/crc32c.hpp"

namespace edgecore {
namespace {

constexpr std::uint32_t kMagic = 0x57524345;  // "ECRW"
constexpr std::uint16_t kVersion = 1;
constexpr std::size_t kRecordBytes = 25;

}  // namespace

Bytes encode_rows_block(const PackBlock& place, const SealedRows& rows) {
  Bytes out;
  ByteWriter writer(out);
  writer.put(kMagic);
  writer.put(kVersion);
  writer.put(std::uint16_t{0});
  writer.put(place.partition);
  writer.put(place.first);
  writer.put(place.count);
  writer.put(static_cast<std::uint32_t>(rows.arrivals.size()));
  for (std::size_t i = 0; i < rows.arrivals.size(); ++i) {
    const Arrival& arrival = rows.arrivals[i];
    writer.put(arrival.rows);
    writer.put(rows.sizes[i]);
    writer.put(arrival.position);
    writer.put(arrival.hlc);
    writer.put(arrival.clock_trust);
  }
  writer.put_bytes(rows.canonical);
  writer.put(crc32c(out));
  return out;
}

bool is_rows_block(ByteSpan block) {
  return block.size() >= sizeof kMagic && load_le<std::uint32_t>(block.data()) == kMagic;
}

Result<SealedRows> decode_rows_block(ByteSpan block, const PackBlock& place) {
  const Status damaged = Status::corrupt("a pack's block of rows is damaged");
  if (block.size() < 4 || !is_rows_block(block) ||
      crc32c(block.first(block.size() - 4)) !=
          load_le<std::uint32_t>(block.data() + block.size() - 4))
    return damaged;
  ByteReader reader(block.first(block.size() - 4));
  std::uint32_t magic = 0, partition = 0, count = 0, records = 0;
  std::uint16_t version = 0, zero = 0;
  std::uint64_t first = 0;
  if (!reader.take(magic) || !reader.take(version) || !reader.take(zero) ||
      !reader.take(partition) || !reader.take(first) || !reader.take(count) ||
      !reader.take(records))
    return damaged;
  if (version != kVersion)
    return Status::incompatible("a pack's block of rows: version " + std::to_string(version) +
                                " is not known to this build");
  if (partition != place.partition || first != place.first || count != place.count)
    return Status::corrupt("a pack's block is another than its index says");
  if (records == 0 || records > reader.remaining() / kRecordBytes) return damaged;
  SealedRows out;
  std::uint64_t rows = 0, bytes = 0;
  for (std::uint32_t i = 0; i < records; ++i) {
    Arrival arrival;
    std::uint32_t size = 0;
    if (!reader.take(arrival.rows) || !reader.take(size) || !reader.take(arrival.position) ||
        !reader.take(arrival.hlc) || !reader.take(arrival.clock_trust) || arrival.rows == 0)
      return damaged;
    rows += arrival.rows;
    bytes += size;
    out.arrivals.push_back(arrival);
    out.sizes.push_back(size);
  }
  ByteSpan canonical;
  if (rows != count || bytes != reader.remaining() ||
      !reader.take_bytes(reader.remaining(), canonical))
    return damaged;
  out.canonical.assign(canonical.begin(), canonical.end());
  return out;
}

}  // namespace edgecore
