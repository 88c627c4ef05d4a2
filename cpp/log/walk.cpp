#include <algorithm>

#include "log/encryption.hpp"
#include "log/reader.hpp"

namespace edgecore {
namespace {

// How often its size may be run through in search of a block's intact end: rows that look like
// records would have it read without end.
constexpr std::uint64_t kRestChecks = 16;

using Table = std::map<std::uint32_t, wal::TableEntry>;

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

  bool encrypted(const wal::BlockHead& head) const {
    return wal::is_encrypted(header_) && head.records > 0;
  }

  bool records_intact(ByteSpan block, const wal::BlockHead& head) const {
    if (encrypted(head)) return wal::span_intact(block, head, seed_);
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
    if (wal::is_encrypted(header_) && key_.key == nullptr) walk_.unopened.missing += missing;
    if (!encrypted(head)) return true;
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
      const std::uint64_t extra =
          kSpanExtraBytes + std::uint64_t{head.records} * wal::kRecordHeadBytes;
      walk_.unopened.add({head.rows, head.records,
                          records.size() - std::min<std::uint64_t>(extra, records.size()), 0});
      step_over(head);
      return false;
    }
    Status status = wal::decrypt_records(*key_.key, header_, offset, head, block, opened_);
    records = opened_;
    if (status.outcome() == Outcome::kUntrusted)
      records = {};
    else
      walk_.status = std::move(status);
    return walk_.status.is_ok();
  }

  // The last records of a block, up to its end.
  struct Rest {
    std::size_t at = 0;
    std::uint32_t records = 0;
    std::uint64_t rows = 0;
  };

  // A record that is not intact does not say where the next one begins. But where the block ends,
  // and how many rows that is behind its first, is known: so records behind the damage are found as
  // those that follow each other, intact, up to the end. Between two damages none is.
  std::optional<Rest> rest_behind(ByteSpan records, std::size_t damaged,
                                  const wal::BlockHead& head) const {
    std::size_t from = damaged + 1;
    std::uint64_t to_check = kRestChecks * records.size();
    while (from + wal::kRecordHeadBytes <= records.size()) {
      Rest rest{from, 0, 0};
      std::size_t at = from;
      while (at < records.size() && may_begin(records.subspan(at), head)) {
        const std::uint64_t size = load_le<std::uint32_t>(records.data() + at + 24);
        if (size > to_check) return std::nullopt;
        to_check -= size;
        ByteSpan payload;
        const auto record = wal::decode_record(records.subspan(at), seed_, payload);
        if (!record) break;
        ++rest.records;
        rest.rows += record->count;
        at += wal::kRecordHeadBytes + record->length;
      }
      if (at == records.size() && rest.rows < head.rows) return rest;
      from = at + 1;
    }
    return std::nullopt;
  }

  // Cheaper than a checksum, which from a wrong place would often run to the end of the block.
  static bool may_begin(ByteSpan bytes, const wal::BlockHead& head) {
    if (bytes.size() < wal::kRecordHeadBytes) return false;
    const auto partition = load_le<std::uint32_t>(bytes.data() + 4);
    const auto first = load_le<std::uint64_t>(bytes.data() + 8);
    const auto count = load_le<std::uint32_t>(bytes.data() + 20);
    const auto length = load_le<std::uint32_t>(bytes.data() + 24);
    if (first == 0 || count == 0 || count > head.rows ||
        length > bytes.size() - wal::kRecordHeadBytes ||
        load_le<std::uint32_t>(bytes.data() + 28) != 0)
      return false;
    return std::any_of(head.table.begin(), head.table.end(), [&](const wal::TableEntry& entry) {
      return entry.partition == partition && first < entry.next && count <= entry.next - first;
    });
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
      if (!record) {
        const auto rest = rest_behind(records, at, head);
        if (!rest || rest->records >= head.records - i) break;
        at = rest->at;
        position = head.first_position + head.rows - rest->rows;
        i = head.records - rest->records - 1;
        continue;
      }
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
      add_loss(walk_.losses, {partition, from, next - 1, reason_});
      return;
    }
    add_loss(walk_.losses, {partition, found->second.next, next - 1, reason_});
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
  Bytes opened_;        // the records of an encrypted block
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

}  // namespace edgecore
