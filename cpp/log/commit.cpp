// The one committer: pending rows into blocks, blocks into segments, segments to stable storage.
#include <algorithm>
#include <utility>

#include "base/crc32c.hpp"
#include "log/encryption.hpp"
#include "log/log.hpp"
#include "log/mark.hpp"

namespace edgecore {
namespace {

constexpr std::uint64_t kReserveRows = 1u << 16;  // sequences a crash may burn per partition
constexpr std::int64_t kMarkIdleNs = 1'000'000'000;
constexpr std::size_t kRetainedBytesMax = 1u << 20;  // a sync is due when more is not synced
constexpr std::size_t kBufferBytesKept = 1u << 19;
// Blocks from this size on change the file's size with little cost, and zeros would double it.
constexpr std::uint64_t kGrownBlockBytes = 64 * 1024;

std::uint64_t data_start(const wal::SegmentHeader& header) {
  return wal::round_up(wal::kHeaderBytes, header.sector);
}

}  // namespace

std::uint64_t Log::next_hlc() {
  const std::int64_t ms = std::max<std::int64_t>(clock_->wall_ns(), 0) / 1'000'000;
  hlc_ = std::max(hlc_ + 1, static_cast<std::uint64_t>(ms) << 16);
  return hlc_;
}

Status Log::commit(bool durable, bool closing) {
  const std::lock_guard commit_guard(commit_mutex_);
  const Status status = commit_locked(durable, closing);
  const std::lock_guard guard(mutex_);
  failure_ = status;
  return status;
}

// At a deadline: rows that wait, or in idle times the mark.
Status Log::commit_due() {
  EDGECORE_TRY(commit(true));
  const std::lock_guard commit_guard(commit_mutex_);
  {
    const std::lock_guard guard(mutex_);
    if (!pending_.empty() || clock_->monotonic_ns() < deadline_ns_) return Status::ok();
    deadline_ns_ = deadline_wait_ns_ = INT64_MAX;
  }
  return write_mark(false);
}

Status Log::commit_locked(bool durable, bool closing) {
  Pending block;
  std::int64_t deadline = INT64_MAX;
  durable = durable || retained_.bytes.size() >= kRetainedBytesMax;
  {
    const std::lock_guard guard(mutex_);
    std::swap(block, pending_);
    pending_.bytes.swap(spare_);
    // Rows that come from here on set a deadline of their own; until then the last one stands.
    if (durable) {
      std::swap(deadline, deadline_ns_);
      deadline_wait_ns_ = INT64_MAX;
    }
  }
  const bool waited = !block.empty();
  const bool settles = durable && (waited || closing || unsynced());
  Status status;
  if (waited || closing) status = write_block(block, durable, closing);
  const bool written = status.is_ok();
  if (written && durable) status = settle_written();
  if (written && closing && status.is_ok() && !ends_closed_) status = write_closing();
  const std::lock_guard guard(mutex_);
  if (!written) {
    block.add(pending_);
    std::swap(block, pending_);
  }
  if (!status.is_ok())
    deadline_ns_ = std::min(deadline_ns_, deadline);
  else if (settles)
    deadline_ns_ = std::min(deadline_ns_, clock_->monotonic_ns() + kMarkIdleNs);
  else if (durable && !waited)
    deadline_ns_ = std::min(deadline_ns_, deadline);
  return status;
}

// After a failed sync the closing block stands in the segment that was left.
Status Log::write_closing() {
  Pending nothing;
  EDGECORE_TRY(write_block(nothing, true, true));
  return settle_written();
}

// A number may be handed out once a block on stable storage reserves it.
Status Log::reserve(const RowBatch& rows) {
  const std::lock_guard commit_guard(commit_mutex_);
  reserve_rows_ = std::max<std::uint64_t>(kReserveRows, 2 * rows.count());
  Status status;
  if (segment_ == nullptr) {
    status = begin_segment(0);
  } else {
    status = commit_locked(true, false);
    Pending nothing;
    if (status.is_ok()) status = write_block(nothing, true, false);
    if (status.is_ok()) status = settle_written();
  }
  reserve_rows_ = 0;
  return status;
}

Status Log::rotate() {
  if (options_.read_only) return Status::invalid("the log is open for reading");
  const std::lock_guard commit_guard(commit_mutex_);
  EDGECORE_TRY(commit_locked(true, false));
  if (segment_ != nullptr) {
    full_ = true;
    EDGECORE_TRY(write_mark(false));
  }
  return begin_segment(0);
}

// The block into a sound segment with room for it. A durable one goes to stable storage by itself
// when nothing older waits for a sync; if that fails, it is written again in a new segment.
Status Log::write_block(Pending& block, bool durable, bool closing) {
  EDGECORE_TRY(make_room(block));
  Status status = put_block(block, durable, closing);
  if (broken_ && durable) {
    EDGECORE_TRY(make_room(block));
    status = put_block(block, durable, closing);
  }
  EDGECORE_TRY(status);
  if (!unsynced())
    recycle(block.bytes);
  else
    keep(block);
  return status;
}

Status Log::make_room(const Pending& block) {
  const std::uint64_t size = wal::kBlockHeadBytes + written_.next.size() * wal::kTableEntryBytes +
                             (options_.cipher ? kSpanExtraBytes : 0) + block.bytes.size();
  if (broken_) EDGECORE_TRY(rewrite_retained());
  for (;;) {
    if (segment_ == nullptr) {
      EDGECORE_TRY(begin_segment(size));
      continue;
    }
    const SegmentInfo& current = segments_.back();
    if (!full_ &&
        current.end + wal::round_up(size, current.header.sector) <= current.header.capacity)
      return Status::ok();
    // It is synced before the next one begins, so that a mark never skips a segment.
    if (!unsynced() || sync_segment().is_ok()) {
      full_ = true;  // from here on the next one's header may say where this one ends
      EDGECORE_TRY(write_mark(false));
      EDGECORE_TRY(begin_segment(size));
    } else {
      EDGECORE_TRY(rewrite_retained());
    }
  }
}

// A usual block is copied, so that both buffers are used again: a fresh one costs a page fault per
// 4 KiB.
void Log::keep(Pending& block) {
  if (block.empty()) return;
  if (retained_.empty() && block.bytes.size() > kBufferBytesKept) {
    retained_ = std::move(block);
  } else {
    retained_.add(block);
    recycle(block.bytes);
  }
}

void Log::recycle(Bytes& bytes) {
  if (bytes.capacity() <= spare_.capacity() || bytes.capacity() > kBufferBytesKept) return;
  spare_ = std::move(bytes);
  spare_.clear();
}

wal::BlockHead Log::head_of(const Pending& block, bool checkpoint, bool closing) {
  wal::BlockHead head;
  head.flags = static_cast<std::uint16_t>((checkpoint ? wal::kCheckpoint : 0) |
                                          (closing ? wal::kClosing : 0));
  head.epoch = options_.epoch;
  head.first_position = block.empty() ? written_.position + 1 : block.first_position;
  head.rows = block.rows;
  head.records = block.records;
  head.durable_before = durable_position();
  head.hlc = next_hlc();
  head.monotonic_ns = clock_->monotonic_ns();
  head.clock_trust = clock_trust_;
  Nexts every;
  if (checkpoint) {
    every = written_.next;
    for (const auto& [partition, next] : block.touched) every[partition] = next;
  }
  const Nexts& nexts = checkpoint ? every : block.touched;
  head.table.reserve(nexts.size());
  for (const auto& [partition, next] : nexts) {
    const std::uint64_t wanted = next - 1 + std::max(kReserveRows, reserve_rows_);
    const std::uint64_t through = std::max(written_.reserved[partition], wanted);
    head.table.push_back({partition, next, closing ? next - 1 : through});
  }
  return head;
}

// The checkpoint that a segment begins with. The first one of an open also says which numbers the
// crash before it has burnt.
Result<Bytes> Log::first_block(const wal::SegmentHeader& header) {
  wal::BlockHead head = head_of({}, true, false);
  if (segment_ == nullptr) {
    head.flags |= wal::kOpening;
    std::vector<wal::TableEntry> table;
    for (const wal::TableEntry& entry : head.table) {
      const auto ended = ended_.find(entry.partition);
      if (ended != ended_.end()) table.push_back({entry.partition, ended->second, entry.next - 1});
      table.push_back(entry);
    }
    head.table = std::move(table);
  }
  for (const wal::TableEntry& entry : head.table)
    written_.reserved[entry.partition] = entry.reserved_through;
  Bytes out;
  EDGECORE_TRY(encode_block(head, {}, header, data_start(header), out));
  return out;
}

Status Log::encode_block(wal::BlockHead& head, const Pending& block, const wal::SegmentHeader& into,
                         std::uint64_t offset, Bytes& bytes) const {
  const bool encrypted = wal::is_encrypted(into) && !block.empty();
  head.length = static_cast<std::uint32_t>(head.head_bytes() + block.bytes.size() +
                                           (encrypted ? kSpanExtraBytes : 0));
  bytes.resize(wal::round_up(head.length, into.sector));
  std::memset(bytes.data() + head.length, 0, bytes.size() - head.length);
  wal::encode_block_head(head, into.salt, bytes.data());
  std::byte* at = bytes.data() + head.head_bytes() + (encrypted ? kSpanCrcBytes : 0);
  if (!block.bytes.empty()) std::memcpy(at, block.bytes.data(), block.bytes.size());
  const std::uint32_t seed = wal::salted(into.salt);
  for (std::uint32_t i = 0; i < block.records; ++i) at = wal::seal_record(at, seed);
  if (!encrypted) return Status::ok();
  return wal::encrypt_records(*segment_key_.key, into, offset, head,
                              std::span(bytes).first(head.length));
}

Status Log::put_block(const Pending& block, bool durable, bool closing) {
  SegmentInfo& current = segments_.back();
  const bool checkpoint = closing || block.empty();
  wal::BlockHead head = head_of(block, checkpoint, closing);
  // An offset is given to one block alone: when this fails, nothing encrypted there gets out.
  EDGECORE_TRY(encode_block(head, block, current.header, current.end, block_));
  const std::size_t size = block_.size();
  const bool alone = durable && !unsynced();
  const Status status = alone ? segment_->write_durable(current.end, block_)
                              : segment_->write_at(current.end, block_);
  if (block_.capacity() > kBufferBytesKept) block_ = Bytes();
  if (!status.is_ok()) {
    broken_ = true;
    return status;
  }
  {
    const std::lock_guard guard(mutex_);
    current.end += size;
  }
  for (const wal::TableEntry& entry : head.table) {
    written_.next[entry.partition] = entry.next;
    written_.reserved[entry.partition] = entry.reserved_through;
  }
  written_.position = head.first_position + head.rows - 1;
  written_.end = current.end;
  ends_closed_ = closing;
  marked_clean_ = false;
  if (alone) note_synced();
  return Status::ok();
}

// A file with its header and its first block on stable storage; only then it is the log's segment.
Status Log::begin_segment(std::uint64_t bytes_needed) {
  EDGECORE_TRY(open_mark());
  EDGECORE_TRY(open_contents(*contents_));
  SegmentInfo next;
  next.header.sector = std::max<std::uint32_t>(512, fs_->sector_size());
  next.header.store = store_;
  next.header.epoch = options_.epoch;
  next.header.number = number_ + 1;
  next.header.salt = options_.salt + next.header.number * 0x9E3779B97F4A7C15ull;
  next.header.base_position = written_.position + 1;
  next.header.previous = segments_.empty() ? 0 : segments_.back().header.number;
  next.header.previous_end = segments_.empty() ? 0 : segments_.back().end;
  EDGECORE_TRY(key_segment(next.header));
  Bytes start = wal::encode_header(next.header);
  start.resize(data_start(next.header));
  EDGECORE_ASSIGN(const Bytes first, first_block(next.header));
  next.hlc = hlc_;
  next.ended = ended_;
  next.end = start.size() + first.size();
  // For what is written again, and for the block that made the last segment too small.
  const std::uint64_t unit = std::max<std::uint64_t>(4096, next.header.sector);
  const std::uint64_t again = retained_.bytes.size() + first.size();
  const std::uint64_t room = wal::round_up(next.end, unit) + wal::round_up(bytes_needed, unit) +
                             wal::round_up(again, unit) + unit;
  next.header.capacity = std::max(options_.segment_bytes, room);
  const Bytes header = wal::encode_header(next.header);
  std::copy(header.begin(), header.end(), start.begin());
  start.insert(start.end(), first.begin(), first.end());
  next.path = segment_path(directory_, next.header.number);
  next.starts = written_.next;
  std::string made_as = next.path;
  std::unique_ptr<File> file = take_pooled(next.header, made_as);
  Status status;
  if (file == nullptr) {
    // A file of that name is the unfinished work of a crash: without a durable header it is none.
    made_as = next.path;
    EDGECORE_TRY(fs_->remove(next.path));
    EDGECORE_ASSIGN(file, fs_->open(next.path, OpenMode::kCreateNew));
    if (bytes_needed < kGrownBlockBytes) status = file->fill_zeros(next.header.capacity);
  }
  if (status.is_ok()) status = file->write_at(0, start);
  if (status.is_ok()) status = file->sync();
  if (status.is_ok() && made_as != next.path) status = fs_->rename(made_as, next.path);
  if (status.is_ok()) status = fs_->sync_directory(directory_);
  if (!status.is_ok()) {
    file.reset();
    static_cast<void>(fs_->remove(made_as));
    static_cast<void>(fs_->remove(next.path));
    return status;
  }
  segment_ = std::move(file);
  segment_key_ = std::exchange(next_key_, {});
  number_ = next.header.number;
  ended_.clear();
  broken_ = full_ = ends_closed_ = false;
  written_.end = next.end;
  synced_ = written_;
  const std::lock_guard guard(mutex_);
  reserved_ = synced_.reserved;
  segments_.push_back(std::move(next));
  return Status::ok();
}

// After an error the old segment counts up to its last good sync; what came later is written
// again in a new one. The descriptor with the error is never synced a second time.
Status Log::rewrite_retained() {
  broken_ = true;
  written_ = synced_;
  {
    const std::lock_guard guard(mutex_);
    segments_.back().end = synced_.end;
  }
  EDGECORE_TRY(begin_segment(wal::kBlockHeadBytes + written_.next.size() * wal::kTableEntryBytes));
  if (retained_.empty()) return Status::ok();
  const Status status = put_block(retained_, false, false);
  broken_ = broken_ || !status.is_ok();  // also when it could not be encrypted: they stand nowhere
  EDGECORE_TRY(status);
  return sync_segment();
}

// Whether something is written, or was and must be again, that is not on stable storage.
bool Log::unsynced() const {
  return !retained_.empty() || written_.end != synced_.end;
}

Status Log::settle_written() {
  if (!unsynced() || (!broken_ && sync_segment().is_ok())) return Status::ok();
  return rewrite_retained();
}

Status Log::sync_segment() {
  const Status status = segment_->sync();
  if (status.is_ok())
    note_synced();
  else
    broken_ = true;
  return status;
}

// All that was written is on stable storage.
void Log::note_synced() {
  synced_ = written_;
  retained_.clear();
  if (retained_.bytes.capacity() > 2 * kRetainedBytesMax) retained_ = {};
  {
    const std::lock_guard guard(mutex_);
    reserved_ = synced_.reserved;
  }
  promise(written_.position);
}

// The one place where a durability promise is made.
void Log::promise(std::uint64_t position) {
  {
    const std::lock_guard guard(mutex_);
    durable_position_ = std::max(durable_position_, position);
  }
  durable_changed_.notify_all();
}

// Made whole before anything is promised, so that marks need no space later. One without a mark is
// made anew: a size whose sync has failed may never become durable.
Status Log::open_mark() {
  if (mark_file_ != nullptr) return Status::ok();
  const std::string path = join_path(directory_, "mark");
  if (mark_generation_ == 0) EDGECORE_TRY(fs_->remove(path));
  EDGECORE_ASSIGN(auto file, fs_->open(path, OpenMode::kCreate));
  EDGECORE_TRY(file->fill_zeros(2 * wal::kMarkSlotBytes));
  EDGECORE_TRY(file->sync());
  mark_file_ = std::move(file);
  return Status::ok();
}

Status Log::write_mark(bool clean) {
  const std::uint64_t position = durable_position();
  if (segment_ == nullptr || (position == marked_position_ && clean == marked_clean_))
    return Status::ok();
  EDGECORE_TRY(open_mark());
  const wal::Mark mark{++mark_generation_, options_.epoch, position, number_, clean};
  const std::uint64_t at = mark.generation % 2 * wal::kMarkSlotBytes;
  Status status = mark_file_->write_at(at, wal::encode_mark(mark));
  if (status.is_ok()) status = mark_file_->sync();
  if (!status.is_ok()) {
    mark_file_.reset();  // its descriptor is not synced again
    return status;
  }
  marked_position_ = position;
  marked_clean_ = clean;
  return Status::ok();
}

}  // namespace edgecore
