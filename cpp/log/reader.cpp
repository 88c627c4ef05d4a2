#include "log/reader.hpp"

#include <algorithm>

#include "base/crc32c.hpp"

namespace edgecore {
namespace {

constexpr std::uint32_t kCatalogueMagic = 0x54434345;  // "ECCT"
constexpr std::uint64_t kCatalogueBytesMax = 64u << 20;

using Table = std::map<std::uint32_t, wal::TableEntry>;

// Adds [first, last] of a partition to the losses, joining it with the one before.
void lose(std::vector<LossRange>& losses, std::uint32_t partition, std::uint64_t first,
          std::uint64_t last) {
  if (first > last) return;
  for (LossRange& range : losses)
    if (range.partition == partition && range.last + 1 == first) {
      range.last = last;
      return;
    }
  losses.push_back({partition, first, last, LossRange::kLost});
}

std::uint64_t next_of(const Table& table, std::uint32_t partition) {
  const auto found = table.find(partition);
  return found == table.end() ? 1 : found->second.next;
}

// After a crash the next segment begins behind what was reserved: that gap is burnt, not lost.
void skip_burnt(const wal::BlockHead& head, Table& table) {
  for (const wal::TableEntry& entry : head.table) {
    const auto found = table.find(entry.partition);
    if (found != table.end() && found->second.reserved_through >= found->second.next &&
        entry.next > found->second.reserved_through)
      found->second.next = found->second.reserved_through + 1;
  }
}

// The records of one block whose head is intact. Sequences that the block's table accounts for
// and no intact record holds are lost.
bool walk_records(ByteSpan block, const wal::BlockHead& head, std::uint64_t salt, SegmentWalk& walk,
                  const RecordVisitor& visit) {
  std::size_t at = head.head_bytes();
  std::uint64_t position = head.first_position;
  bool go_on = true;
  for (std::uint32_t i = 0; i < head.records; ++i) {
    RecordView view;
    const auto record = wal::decode_record(block.subspan(at), salt, view.payload);
    if (!record) break;  // the length can't be trusted, so neither can what follows in this block
    // A segment's first block may be the first that is known of a partition.
    if (walk.blocks == 0 && !walk.table.contains(record->partition))
      walk.table[record->partition].next = record->first;
    wal::TableEntry& entry = walk.table[record->partition];
    entry.partition = record->partition;
    lose(walk.losses, record->partition, entry.next, record->first - 1);
    entry.next = record->first + record->count;
    view.head = *record;
    view.position = position;
    view.hlc = head.hlc;
    view.epoch = head.epoch;
    view.clock_trust = head.clock_trust;
    if (go_on && visit) go_on = visit(view);
    position += record->count;
    at += wal::kRecordHeadBytes + record->length;
  }
  for (const wal::TableEntry& entry : head.table) {
    const bool first_known = walk.blocks == 0 && !walk.table.contains(entry.partition);
    const std::uint64_t seen = first_known ? entry.next : next_of(walk.table, entry.partition);
    lose(walk.losses, entry.partition, seen, entry.next - 1);
    walk.table[entry.partition] = entry;
  }
  return go_on;
}

// The next intact block at or behind `from`, or the limit.
std::uint64_t find_block(ByteSpan bytes, const wal::SegmentHeader& header, std::uint64_t from,
                         std::uint64_t limit) {
  for (std::uint64_t at = from; at < limit; at += header.sector)
    if (wal::decode_block_head(bytes.subspan(at, limit - at), header.salt)) return at;
  return limit;
}

}  // namespace

SegmentWalk walk_segment(ByteSpan bytes, const wal::SegmentHeader& header, std::uint64_t limit,
                         std::uint64_t durable, const Table& expected, const RecordVisitor& visit) {
  SegmentWalk walk;
  walk.next_position = header.base_position;
  walk.table = expected;
  limit = std::min<std::uint64_t>(limit, bytes.size());
  std::uint64_t at = wal::round_up(wal::kHeaderBytes, header.sector);
  bool go_on = true;
  while (at < limit && go_on) {
    auto head = wal::decode_block_head(bytes.subspan(at, limit - at), header.salt);
    if (!head) {
      const std::uint64_t later = find_block(bytes, header, at + header.sector, limit);
      if (later >= limit) break;
      head = wal::decode_block_head(bytes.subspan(later, limit - later), header.salt);
      // Only a mark that covers the damage shows that it was data; else this is a torn tail.
      if (std::max(head->durable_before, durable) + 1 < head->first_position) break;
      at = later;
    }
    // A block that does not go on where the last one ended is a stale one of this segment.
    if (head->first_position < walk.next_position) break;
    if (walk.blocks == 0) skip_burnt(*head, walk.table);
    const bool closing = (head->flags & wal::kClosing) != 0;
    go_on = walk_records(bytes.subspan(at, head->length), *head, header.salt, walk, visit);
    walk.next_position = head->first_position + head->rows;
    walk.durable_before = std::max(walk.durable_before, head->durable_before);
    walk.hlc = std::max(walk.hlc, head->hlc);
    walk.closed = closing;
    ++walk.blocks;
    at += wal::round_up(head->length, header.sector);
    walk.end = std::min<std::uint64_t>(at, limit);
  }
  const ByteSpan behind = bytes.subspan(std::min<std::uint64_t>(walk.end, bytes.size()));
  walk.behind_blank =
      std::all_of(behind.begin(), behind.end(), [](std::byte b) { return b == std::byte{0}; });
  return walk;
}

Status LogReader::visit(std::uint64_t after, const RecordVisitor& visit,
                        std::vector<LossRange>* losses) const {
  Table table;
  bool known = false;  // whether `table` is what stood before the segment
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    const SegmentInfo& segment = segments_[i];
    const bool last = i + 1 == segments_.size();
    if (!last && segments_[i + 1].header.base_position <= after + 1 && losses == nullptr) continue;
    EDGECORE_ASSIGN(const Bytes bytes, read_file(*fs_, segment.path, UINT32_MAX));
    bool stopped = false;
    const auto step = [&](const RecordView& record) {
      if (record.position > position_max_) return false;
      if (record.position + record.head.count <= after + 1) return true;
      stopped = !visit(record);
      return !stopped;
    };
    const SegmentWalk walk =
        walk_segment(bytes, segment.header, segment.end, UINT64_MAX - 1, table, step);
    if (losses != nullptr && (known || i == 0))
      losses->insert(losses->end(), walk.losses.begin(), walk.losses.end());
    table = walk.table;
    known = true;
    if (stopped) break;
  }
  return Status::ok();
}

Status LogReader::visit_segment(std::size_t index, std::uint64_t after,
                                const RecordVisitor& visit) const {
  const SegmentInfo& segment = segments_[index];
  if (index + 1 < segments_.size() && segments_[index + 1].header.base_position <= after + 1)
    return Status::ok();
  EDGECORE_ASSIGN(const Bytes bytes, read_file(*fs_, segment.path, UINT32_MAX));
  static_cast<void>(walk_segment(bytes, segment.header, segment.end, UINT64_MAX - 1, {},
                                 [&](const RecordView& record) {
                                   if (record.position > position_max_) return false;
                                   if (record.position + record.head.count <= after + 1)
                                     return true;
                                   return visit(record);
                                 }));
  return Status::ok();
}

const CatalogueEntry* Catalogue::find(std::uint32_t number) const {
  for (const CatalogueEntry& entry : entries)
    if (entry.number == number) return &entry;
  return nullptr;
}

Bytes Catalogue::to_bytes() const {
  Bytes out;
  ByteWriter writer(out);
  writer.put(kCatalogueMagic);
  writer.put(wal::kVersion);
  writer.put(std::uint16_t{0});
  writer.put(static_cast<std::uint32_t>(entries.size()));
  for (const CatalogueEntry& entry : entries) {
    writer.put(entry.number);
    writer.put(entry.partition);
    writer.put(static_cast<std::uint32_t>(entry.tier));
    writer.put(static_cast<std::uint32_t>(entry.stream.size()));
    writer.put_text(entry.stream);
    writer.put(static_cast<std::uint32_t>(entry.canonical.size()));
    writer.put_bytes(entry.canonical);
  }
  writer.put(crc32c(out));
  return out;
}

Result<Catalogue> Catalogue::from_bytes(ByteSpan bytes) {
  const Status damaged = Status::corrupt("log catalogue is damaged");
  if (bytes.size() < 16 || bytes.size() > kCatalogueBytesMax ||
      crc32c(bytes.first(bytes.size() - 4)) !=
          load_le<std::uint32_t>(bytes.data() + bytes.size() - 4))
    return damaged;
  ByteReader reader(bytes.first(bytes.size() - 4));
  std::uint32_t magic = 0, count = 0;
  std::uint16_t version = 0, zero = 0;
  if (!reader.take(magic) || !reader.take(version) || !reader.take(zero) || !reader.take(count) ||
      magic != kCatalogueMagic)
    return damaged;
  if (version != wal::kVersion) return Status::incompatible("log catalogue: version not known");
  Catalogue out;
  for (std::uint32_t i = 0; i < count; ++i) {
    CatalogueEntry entry;
    std::uint32_t tier = 0, length = 0;
    ByteSpan stream, canonical;
    if (!reader.take(entry.number) || !reader.take(entry.partition) || !reader.take(tier) ||
        tier > 4 || !reader.take(length) || !reader.take_bytes(length, stream) ||
        !reader.take(length) || !reader.take_bytes(length, canonical))
      return damaged;
    entry.tier = static_cast<std::uint8_t>(tier);
    entry.stream = std::string(as_text(stream));
    entry.canonical.assign(canonical.begin(), canonical.end());
    entry.fingerprint = blake3(canonical);
    out.entries.push_back(std::move(entry));
  }
  if (reader.remaining() != 0) return damaged;
  return out;
}

}  // namespace edgecore
