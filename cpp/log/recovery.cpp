// Opening a log: what is on disk, where the data ends, what can't be read. Writes nothing.
#include <algorithm>

#include "base/crc32c.hpp"
#include "log/log.hpp"

namespace edgecore {
namespace {

constexpr std::uint32_t kMarkMagic = 0x4B4D4345;  // "ECMK"
constexpr std::size_t kMarkBytes = 44;            // with its checksum
constexpr std::uint64_t kSlotBytes = 4096;
constexpr std::uint64_t kCatalogueBytesMax = 64u << 20;

// Whether a block stands here with all its records.
bool first_block_intact(ByteSpan bytes, std::uint64_t salt) {
  const auto head = wal::decode_block_head(bytes, salt);
  if (!head) return false;
  std::size_t at = head->head_bytes();
  for (std::uint32_t i = 0; i < head->records; ++i) {
    ByteSpan payload;
    const auto record = wal::decode_record(bytes.subspan(at, head->length - at), salt, payload);
    if (!record) return false;
    at += wal::kRecordHeadBytes + record->length;
  }
  return true;
}

}  // namespace

Status Log::recover() {
  store_ = options_.store;
  EDGECORE_ASSIGN(const bool there, fs_->exists(directory_));
  if (!there) return Status::unavailable(directory_ + ": no log here");
  const std::string catalogue = join_path(directory_, "catalogue");
  EDGECORE_ASSIGN(const bool have_catalogue, fs_->exists(catalogue));
  if (have_catalogue) {
    EDGECORE_ASSIGN(const Bytes bytes, read_file(*fs_, catalogue, kCatalogueBytesMax));
    EDGECORE_ASSIGN(catalogue_, Catalogue::from_bytes(bytes));
  }
  EDGECORE_TRY(read_segments());
  for (const CatalogueEntry& entry : catalogue_.entries) {
    next_.try_emplace(entry.partition, 1);
    committed_next_.try_emplace(entry.partition, 1);
  }
  read_mark();
  if (!segments_.empty()) EDGECORE_TRY(recover_tail());
  return Status::ok();
}

Status Log::read_segments() {
  EDGECORE_ASSIGN(const auto names, fs_->list(directory_));
  std::size_t damaged = 0;
  for (const std::string& name : names) {
    if (!name.starts_with("wal-") || !name.ends_with(".seg")) continue;
    const std::string path = join_path(directory_, name);
    EDGECORE_ASSIGN(auto file, fs_->open(path, OpenMode::kRead));
    Bytes head(wal::kHeaderBytes);
    EDGECORE_ASSIGN(const std::size_t got, file->read_at(0, head));
    head.resize(got);
    EDGECORE_ASSIGN(const std::uint64_t size, file->size());
    auto header = wal::decode_header(head);
    if (!header.is_ok()) {
      if (header.status().outcome() == Outcome::kIncompatible) return header.status();
      ++damaged;
      continue;
    }
    // The successor's header says where this segment ends; the last one is walked.
    if (!segments_.empty()) {
      SegmentInfo& before = segments_.back();
      if (before.header.number == header->previous) before.end = header->previous_end;
      if (before.header.store != header->store)
        return Status::corrupt(path + ": a segment of another store");
    }
    segments_.push_back({header.value(), path, size});
    store_ = header->store;
  }
  recovery_.segments = segments_.size();
  if (segments_.empty() && damaged > 1)
    return Status::corrupt(directory_ + ": no segment has an intact header");
  return Status::ok();
}

// What stood before the last segment. Its first block is a checkpoint that says so itself; only
// when that is damaged is the segment before it read.
Result<std::map<std::uint32_t, wal::TableEntry>> Log::table_before(ByteSpan last_bytes) const {
  std::map<std::uint32_t, wal::TableEntry> table;
  const wal::SegmentHeader& last = segments_.back().header;
  const std::uint64_t first = wal::round_up(wal::kHeaderBytes, last.sector);
  if (last_bytes.size() < first || first_block_intact(last_bytes.subspan(first), last.salt))
    return table;
  if (segments_.size() > 1) {
    const SegmentInfo& before = segments_[segments_.size() - 2];
    EDGECORE_ASSIGN(const Bytes bytes, read_file(*fs_, before.path, UINT32_MAX));
    return walk_segment(bytes, before.header, before.end, UINT64_MAX - 1, {}, nullptr).table;
  }
  for (const CatalogueEntry& entry : catalogue_.entries)
    table[entry.partition] = {entry.partition, 1, 0};
  return table;
}

Status Log::recover_tail() {
  SegmentInfo& last = segments_.back();
  EDGECORE_ASSIGN(const Bytes bytes, read_file(*fs_, last.path, UINT32_MAX));
  EDGECORE_ASSIGN(const auto expected, table_before(bytes));
  const SegmentWalk walk =
      walk_segment(bytes, last.header, bytes.size(), durable_position_, expected, nullptr);
  last.end = std::max(walk.end, wal::round_up(wal::kHeaderBytes, last.header.sector));
  next_position_ = walk.next_position;
  written_position_ = next_position_ - 1;
  hlc_ = walk.hlc;
  recovery_.clean = walk.closed && walk.losses.empty();
  recovery_.tail_uncertain = !walk.closed && !walk.behind_blank;
  recovery_.ranges = walk.losses;
  for (const auto& [partition, entry] : walk.table) {
    std::uint64_t next = entry.next;
    if (!walk.closed && entry.reserved_through >= next) {
      recovery_.ranges.push_back({partition, next, entry.reserved_through, LossRange::kBurnt});
      next = entry.reserved_through + 1;
    }
    next_[partition] = std::max(next_[partition], next);
    committed_next_[partition] = next_[partition];
  }
  // What was read back may stand in the page cache alone (a killed process syncs nothing), so it
  // is made durable before it is called so.
  if (!options_.read_only) {
    EDGECORE_ASSIGN(auto file, fs_->open(last.path, OpenMode::kReadWrite));
    EDGECORE_TRY(file->sync());
  }
  promise(written_position_);
  return Status::ok();
}

// Two slots, written in turn, each in a sector of its own: a torn write costs the newer one only.
Status Log::write_mark(bool clean) {
  const std::uint64_t position = durable_position();
  if (position == marked_position_ && clean == marked_clean_) return Status::ok();
  if (mark_file_ == nullptr) {
    EDGECORE_ASSIGN(mark_file_, fs_->open(join_path(directory_, "mark"), OpenMode::kCreate));
    EDGECORE_TRY(mark_file_->fill_zeros(2 * kSlotBytes));
    EDGECORE_TRY(fs_->sync_directory(directory_));
  }
  Bytes slot;
  ByteWriter writer(slot);
  writer.put(kMarkMagic);
  writer.put(wal::kVersion);
  writer.put(static_cast<std::uint16_t>(clean));
  writer.put(++mark_generation_);
  writer.put(options_.epoch);
  writer.put(position);
  writer.put(segments_.empty() ? std::uint64_t{0} : segments_.back().header.number);
  writer.put(crc32c(slot));
  EDGECORE_TRY(mark_file_->write_at((mark_generation_ % 2) * kSlotBytes, slot));
  EDGECORE_TRY(mark_file_->sync());
  marked_position_ = position;
  marked_clean_ = clean;
  return Status::ok();
}

void Log::read_mark() {
  const auto bytes = read_file(*fs_, join_path(directory_, "mark"), 1u << 20);
  if (!bytes.is_ok()) return;  // an older truth is only less sure of the tail
  for (const std::uint64_t at : {std::uint64_t{0}, kSlotBytes}) {
    if (bytes->size() < at + kMarkBytes) continue;
    const std::byte* slot = bytes->data() + at;
    if (load_le<std::uint32_t>(slot) != kMarkMagic ||
        crc32c({slot, kMarkBytes - 4}) != load_le<std::uint32_t>(slot + kMarkBytes - 4))
      continue;
    const auto generation = load_le<std::uint64_t>(slot + 8);
    if (generation <= mark_generation_) continue;
    mark_generation_ = generation;
    durable_position_ = load_le<std::uint64_t>(slot + 24);
  }
}

}  // namespace edgecore
