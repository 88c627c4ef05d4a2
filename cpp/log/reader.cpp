#include "log/reader.hpp"

#include <algorithm>

#include "base/crc32c.hpp"
#include "log/sealed.hpp"

namespace edgecore {
namespace {

constexpr std::uint32_t kCatalogueMagic = 0x54434345;  // "ECCT"
constexpr std::uint64_t kCatalogueBytesMax = 64u << 20;

using Table = std::map<std::uint32_t, wal::TableEntry>;

// Adds a range to the losses, joining it with the one before.
void lose(std::vector<LossRange>& losses, const LossRange& lost) {
  if (lost.first > lost.last) return;
  for (LossRange& range : losses)
    if (range.partition == lost.partition && range.reason == lost.reason &&
        range.last + 1 == lost.first) {
      range.last = lost.last;
      return;
    }
  losses.push_back(lost);
}

// One walk over the blocks of one segment.
class Walker {
 public:
  Walker(ByteSpan bytes, const wal::SegmentHeader& header, std::uint64_t limit,
         std::uint64_t durable, const RecordVisitor& visit, std::uint64_t after,
         const SegmentKey& key, SegmentWalk& walk)
      : bytes_(bytes.first(std::min<std::uint64_t>(limit, bytes.size()))),
        header_(header),
        seed_(wal::salted(header.salt)),
        proven_(durable),
        visit_(visit),
        after_(after),
        key_(key),
        walk_(walk) {}

  void run() {
    std::uint64_t at = wal::round_up(wal::kHeaderBytes, header_.sector);
    while (at < bytes_.size() && go_on_) {
      const auto head = wal::decode_block_head(bytes_.subspan(at), header_.salt);
      if (!head) {
        const std::uint64_t later = skip_damage(at);
        if (later == at) break;
        at = later;
        continue;
      }
      // A block that does not go on where the last one ended was written before an error.
      if (head->first_position < walk_.next_position) break;
      const ByteSpan block = bytes_.subspan(at, head->length);
      const std::uint64_t end = head->first_position + head->rows;
      if (proven_ + 1 < end && !records_intact(block, *head) && !durable(at, end)) break;
      if (end > after_ + 1)
        take(at, block, *head);
      else
        step_over(*head);
      if (!walk_.status.is_ok()) break;
      at += wal::round_up(head->length, header_.sector);
      walk_.end = std::min<std::uint64_t>(at, bytes_.size());
    }
  }

 private:
  // Where the next intact block begins, if the rows before it were durable; else `at`.
  std::uint64_t skip_damage(std::uint64_t at) {
    const std::uint64_t later = find_block(at + header_.sector);
    if (later >= bytes_.size()) return at;
    const auto head = wal::decode_block_head(bytes_.subspan(later), header_.salt);
    return durable(at, head->first_position) ? later : at;
  }

  std::uint64_t find_block(std::uint64_t from) const {
    for (std::uint64_t at = from; at < bytes_.size(); at += header_.sector)
      if (wal::decode_block_head(bytes_.subspan(at), header_.salt)) return at;
    return bytes_.size();
  }

  // Whether all rows below `position` were durable, by the marks that stand behind `at`.
  bool durable(std::uint64_t at, std::uint64_t position) {
    if (!searched_) {
      searched_ = true;
      std::uint64_t next = find_block(at + header_.sector);
      while (next < bytes_.size()) {
        const auto head = wal::decode_block_head(bytes_.subspan(next), header_.salt);
        proven_ = std::max(proven_, head->durable_before);
        next = find_block(next + wal::round_up(head->length, header_.sector));
      }
    }
    return proven_ + 1 >= position;
  }

  bool sealed(const wal::BlockHead& head) const {
    return wal::is_sealed(header_) && head.records > 0;
  }

  bool records_intact(ByteSpan block, const wal::BlockHead& head) const {
    if (sealed(head)) return wal::span_intact(block, head, seed_);
    std::size_t at = head.head_bytes();
    for (std::uint32_t i = 0; i < head.records; ++i) {
      ByteSpan payload;
      const auto record = wal::decode_record(block.subspan(at), seed_, payload);
      if (!record) return false;
      at += wal::kRecordHeadBytes + record->length;
    }
    return true;
  }

  // Whether the block's records are to be gone through: in the clear, or none when they can't be
  // read. Else they have been accounted for.
  bool open(std::uint64_t offset, ByteSpan block, const wal::BlockHead& head, ByteSpan& records) {
    records = block.subspan(head.head_bytes());
    const std::uint64_t missing = head.first_position - walk_.next_position;
    exact_ = exact_ || missing > 0;
    if (wal::is_sealed(header_) && key_.key == nullptr) walk_.unopened.missing += missing;
    if (!sealed(head)) return true;
    if (!wal::span_intact(block, head, seed_)) {
      records = {};
      return true;
    }
    if (key_.gone) {
      reason_ = *key_.gone;
      records = {};
      return true;
    }
    if (key_.key == nullptr || (!visit_ && !exact_)) {
      walk_.unopened.add({head.rows, head.records, records.size() - wal::kSealedExtraBytes, 0});
      step_over(head);
      return false;
    }
    Status status = wal::open_records(*key_.key, header_, offset, head, block, opened_);
    records = opened_;
    if (status.outcome() == Outcome::kUntrusted)
      records = {};
    else
      walk_.status = std::move(status);
    return walk_.status.is_ok();
  }

  // Sequences that the block's table accounts for and no intact record holds are lost.
  void take(std::uint64_t offset, ByteSpan block, const wal::BlockHead& head) {
    ByteSpan records;
    reason_ = LossRange::kLost;
    if (!open(offset, block, head, records)) return;
    std::size_t at = 0;
    std::uint64_t position = head.first_position;
    for (std::uint32_t i = 0; i < head.records; ++i) {
      RecordView view;
      const auto record = wal::decode_record(records.subspan(at), seed_, view.payload);
      if (!record) break;  // its length can't be trusted, so neither can what follows in the block
      account(record->partition, record->first);
      walk_.table[record->partition].next = record->first + record->count;
      view.head = *record;
      view.position = position;
      view.hlc = head.hlc;
      view.epoch = head.epoch;
      view.clock_trust = head.clock_trust;
      if (go_on_ && visit_) go_on_ = visit_(view);
      position += record->count;
      at += wal::kRecordHeadBytes + record->length;
    }
    take_table(head);
    step_behind(head);
  }

  void step_over(const wal::BlockHead& head) {
    for (const wal::TableEntry& entry : head.table) walk_.table[entry.partition] = entry;
    step_behind(head);
  }

  void step_behind(const wal::BlockHead& head) {
    walk_.next_position = head.first_position + head.rows;
    walk_.durable_before = std::max(walk_.durable_before, head.durable_before);
    walk_.hlc = std::max(walk_.hlc, head.hlc);
    walk_.closed = (head.flags & wal::kClosing) != 0;
    ++walk_.blocks;
  }

  void take_table(const wal::BlockHead& head) {
    for (std::size_t i = 0; i < head.table.size(); ++i) {
      const wal::TableEntry& entry = head.table[i];
      account(entry.partition, entry.next);
      walk_.table[entry.partition] = entry;
      const bool goes_on =
          i + 1 < head.table.size() && head.table[i + 1].partition == entry.partition;
      if ((head.flags & wal::kOpening) == 0 || !goes_on) continue;
      walk_.burnt.push_back(
          {entry.partition, entry.next, entry.reserved_through, LossRange::kBurnt});
      walk_.table[entry.partition].next = entry.reserved_through + 1;
    }
  }

  // The partition is at `next` now: what lies between was not read.
  void account(std::uint32_t partition, std::uint64_t next) {
    const auto found = walk_.table.find(partition);
    if (found == walk_.table.end()) {
      // A segment's first block may be the first that is known of a partition.
      const std::uint64_t from = walk_.blocks == 0 ? next : 1;
      walk_.table[partition] = {partition, from, 0};
      lose(walk_.losses, {partition, from, next - 1, reason_});
      return;
    }
    lose(walk_.losses, {partition, found->second.next, next - 1, reason_});
  }

  ByteSpan bytes_;
  const wal::SegmentHeader& header_;
  std::uint32_t seed_;
  std::uint64_t proven_;
  bool searched_ = false;
  const RecordVisitor& visit_;
  std::uint64_t after_;
  const SegmentKey& key_;
  SegmentWalk& walk_;
  Bytes opened_;        // the records of a sealed block
  bool exact_ = false;  // rows are missing before: which ones, the records that follow tell
  LossRange::Reason reason_ = LossRange::kLost;
  bool go_on_ = true;
};

}  // namespace

SegmentWalk walk_segment(ByteSpan bytes, const wal::SegmentHeader& header, std::uint64_t limit,
                         std::uint64_t durable, const Table& expected, const RecordVisitor& visit,
                         std::uint64_t after, const SegmentKey& key) {
  SegmentWalk walk;
  walk.next_position = header.base_position;
  walk.table = expected;
  Walker(bytes, header, limit, durable, visit, after, key, walk).run();
  const ByteSpan behind = bytes.subspan(std::min<std::uint64_t>(walk.end, bytes.size()));
  walk.behind_blank =
      std::all_of(behind.begin(), behind.end(), [](std::byte b) { return b == std::byte{0}; });
  return walk;
}

Result<std::optional<ByteSpan>> LogReader::load(const SegmentInfo& segment, Bytes& buffer) const {
  const auto file = fs_->open(segment.path, OpenMode::kRead);
  if (!file.is_ok()) {
    if (released_since(segment)) return std::optional<ByteSpan>();
    return file.status();
  }
  EDGECORE_ASSIGN(const std::uint64_t size, file.value()->size());
  const std::uint64_t wanted = std::min(size, segment.end);
  if (wanted > UINT32_MAX) return Status::exhausted(segment.path + ": too large to be read");
  if (buffer.size() < wanted) buffer.resize(wanted);
  EDGECORE_ASSIGN(const std::size_t got, file.value()->read_at(0, std::span(buffer).first(wanted)));
  // A file that is taken over loses its header before anything else of it changes.
  Bytes page(wal::kHeaderBytes);
  EDGECORE_ASSIGN(const std::size_t head, file.value()->read_at(0, page));
  const auto header = wal::decode_header(ByteSpan(page).first(head));
  const bool same = header.is_ok() && header->number == segment.header.number &&
                    header->salt == segment.header.salt;
  if (!same && released_since(segment)) return std::optional<ByteSpan>();
  return std::optional<ByteSpan>(ByteSpan(buffer).first(got));
}

// A key of which the file says nothing is lost, and with it what it has sealed.
Result<SegmentKey> LogReader::key_of(const SegmentInfo& segment) const {
  SegmentKey key;
  if (!wal::is_sealed(segment.header)) return key;
  if (keys_ == nullptr) return Status::unavailable(segment.path + ": is sealed");
  const KeyRing::State state = keys_->state(segment.header.key);
  if (state == KeyRing::State::kDestroyed) key.gone = LossRange::kPurged;
  if (state == KeyRing::State::kUnknown && keys_->present()) key.gone = LossRange::kLost;
  if (key.gone) return key;
  EDGECORE_ASSIGN(key.key, keys_->find(segment.header.key));
  return key;
}

bool LogReader::released_since(const SegmentInfo& segment) const {
  const auto bytes =
      read_file(*fs_, join_path(directory_, "released"), 4 * wal::kReleasedSlotBytes);
  if (!bytes.is_ok()) return false;
  const auto now = wal::decode_released(bytes.value());
  return now && segment.header.number < now->segment;
}

Status LogReader::visit(std::uint64_t after, const RecordVisitor& visit,
                        std::vector<LossRange>* losses, Unopened* unopened) const {
  Table table;
  Bytes buffer;
  for (const CatalogueEntry& entry : catalogue_.entries) table[entry.partition] = {entry.partition};
  for (const auto& [partition, start] : released_.starts) table[partition] = {partition, start, 0};
  bool known = true;  // whether `table` is what stood before the segment
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    const SegmentInfo& segment = segments_[i];
    const bool last = i + 1 == segments_.size();
    if (!last && segments_[i + 1].header.base_position <= after + 1 && losses == nullptr) continue;
    // First of all: a key is forgotten only after its segment was released.
    const auto key = key_of(segment);
    EDGECORE_ASSIGN(const auto bytes, load(segment, buffer));
    if (!bytes) {
      known = false;
      continue;
    }
    if (!key.is_ok() && unopened == nullptr) return key.status();
    bool stopped = false;
    const auto step = [&](const RecordView& record) {
      stopped = record.position > position_max_;
      if (!stopped && record.position + record.head.count > after + 1) stopped = !visit(record);
      return !stopped;
    };
    const SegmentWalk walk =
        walk_segment(*bytes, segment.header, segment.end, UINT64_MAX - 1, known ? table : Table(),
                     step, losses == nullptr ? after : 0, key.is_ok() ? key.value() : SegmentKey());
    EDGECORE_TRY(walk.status);
    if (unopened != nullptr) unopened->add(walk.unopened);
    if (losses != nullptr && known)
      losses->insert(losses->end(), walk.losses.begin(), walk.losses.end());
    table = walk.table;
    known = true;
    if (stopped) break;
  }
  return Status::ok();
}

Status LogReader::visit_segment(std::size_t index, std::uint64_t after, const RecordVisitor& visit,
                                Bytes& buffer) const {
  const SegmentInfo& segment = segments_[index];
  if (index + 1 < segments_.size() && segments_[index + 1].header.base_position <= after + 1)
    return Status::ok();
  const auto key = key_of(segment);
  EDGECORE_ASSIGN(const auto bytes, load(segment, buffer));
  if (!bytes) return Status::ok();
  EDGECORE_TRY(key.status());
  const auto step = [&](const RecordView& record) {
    if (record.position > position_max_) return false;
    if (record.position + record.head.count <= after + 1) return true;
    return visit(record);
  };
  return walk_segment(*bytes, segment.header, segment.end, UINT64_MAX - 1, {}, step, after,
                      key.value())
      .status;
}

bool LogReader::may_hold(std::size_t index, std::uint32_t partition, std::uint64_t after) const {
  if (index + 1 == segments_.size()) return true;
  const auto& starts = segments_[index].starts;
  const auto& ends = segments_[index + 1].starts;
  if (ends.empty()) return true;
  const auto end = ends.find(partition);
  if (end == ends.end()) return false;  // not known yet when the segment ended
  if (end->second <= after + 1) return false;
  const auto start = starts.find(partition);
  return starts.empty() || end->second != (start == starts.end() ? 1 : start->second);
}

const CatalogueEntry* Catalogue::find(std::uint32_t number) const {
  for (const CatalogueEntry& entry : entries)
    if (entry.number == number) return &entry;
  return nullptr;
}

const CatalogueEntry* Catalogue::find(const SchemaPtr& schema) const {
  for (const CatalogueEntry& entry : entries)
    if (entry.schema == schema) return &entry;
  for (const CatalogueEntry& entry : entries)
    if (entry.fingerprint == schema->fingerprint) return &entry;
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
