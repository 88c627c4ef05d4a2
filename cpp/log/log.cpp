#include "log/log.hpp"

#include <algorithm>
#include <cstdio>

#include "base/crc32c.hpp"

namespace edgecore {
namespace {

constexpr std::uint64_t kReserveRows = 1u << 22;  // sequences a crash may burn per partition
constexpr std::size_t kPendingBytesWrite = 256 * 1024;
constexpr std::size_t kPendingBytesMax = 64u << 20;
constexpr std::int64_t kProcessFlushNs = 1'000'000'000;

// Partition 0 says which stream and schema stand behind the others.
constexpr const char* kCatalogueStream = "edgecore.schemas";

std::string segment_name(std::uint64_t number) {
  char name[32];
  std::snprintf(name, sizeof name, "wal-%016llx.seg", static_cast<unsigned long long>(number));
  return name;
}

}  // namespace

void Log::Pending::add(const Pending& later) {
  if (empty()) first_position = later.first_position;
  bytes.insert(bytes.end(), later.bytes.begin(), later.bytes.end());
  rows += later.rows;
  records += later.records;
  for (const auto& [partition, next] : later.touched) touched[partition] = next;
}

Log::Log(std::shared_ptr<Fs> fs, std::string directory, LogOptions options,
         std::shared_ptr<Clock> clock)
    : fs_(std::move(fs)),
      directory_(std::move(directory)),
      options_(options),
      clock_(std::move(clock)) {}

Result<std::unique_ptr<Log>> Log::open(std::shared_ptr<Fs> fs, std::string directory,
                                       LogOptions options, std::shared_ptr<Clock> clock) {
  std::unique_ptr<Log> log(new Log(std::move(fs), std::move(directory), options, std::move(clock)));
  if (!options.read_only) {
    EDGECORE_TRY(log->fs_->make_directories(log->directory_));
    EDGECORE_ASSIGN(log->lock_, log->fs_->lock(join_path(log->directory_, "LOCK")));
  }
  EDGECORE_TRY(log->recover());
  if (options.flusher_thread && !options.read_only)
    log->flusher_ = std::thread([raw = log.get()] { raw->run_flusher(); });
  return log;
}

Log::~Log() {
  if (flusher_.joinable()) {
    {
      const std::lock_guard guard(mutex_);
      stopping_ = true;
    }
    work_.notify_all();
    flusher_.join();
  }
}

std::uint64_t Log::next_hlc() {
  const std::int64_t ms = std::max<std::int64_t>(clock_->wall_ns(), 0) / 1'000'000;
  hlc_ = std::max(hlc_ + 1, static_cast<std::uint64_t>(ms) << 16);
  return hlc_;
}

Result<std::uint32_t> Log::register_schema(const SchemaPtr& schema) {
  if (options_.read_only) return Status::invalid("the log is open for reading");
  const std::lock_guard commit_guard(commit_mutex_);
  std::uint32_t partition = 0, partitions = 1, number = 0;
  bool have_partition = false;
  for (CatalogueEntry& entry : catalogue_.entries) {
    if (entry.fingerprint == schema->fingerprint) {
      entry.schema = schema;
      return entry.partition;
    }
    number = std::max(number, entry.number + 1);
    partitions = std::max(partitions, entry.partition + 1);
    if (entry.stream == schema->stream && entry.tier == static_cast<std::uint8_t>(schema->tier)) {
      partition = entry.partition;
      have_partition = true;
    }
  }
  if (!have_partition) partition = schema->stream == kCatalogueStream ? 0 : partitions;
  if (partition >= wal::kPartitionsMax) return Status::exhausted("log: too many partitions");
  Catalogue next = catalogue_;
  next.entries.push_back({number, partition, static_cast<std::uint8_t>(schema->tier),
                          schema->stream, schema->fingerprint, schema->canonical, schema});
  // Durable before any record can name the number.
  EDGECORE_TRY(write_file_atomic(*fs_, join_path(directory_, "catalogue"), next.to_bytes()));
  const std::lock_guard guard(mutex_);
  catalogue_ = std::move(next);
  next_.try_emplace(partition, 1);
  committed_next_.try_emplace(partition, 1);
  return partition;
}

Status Log::attach_schema(const SchemaPtr& schema) {
  const std::lock_guard guard(mutex_);
  for (CatalogueEntry& entry : catalogue_.entries)
    if (entry.fingerprint == schema->fingerprint) {
      entry.schema = schema;
      return Status::ok();
    }
  return Status::invalid("the log has no schema like that of stream " + schema->stream);
}

std::int64_t Log::due_after_append(Tier tier, std::int64_t now) const {
  const Durability& durability = options_.durability[static_cast<std::size_t>(tier)];
  if (durability.level != Durability::kGroup) return now + kProcessFlushNs;
  return pending_.bytes.size() >= durability.group_bytes ? now : now + durability.group_ns;
}

Result<Appended> Log::append(const RowBatch& rows) {
  EDGECORE_ASSIGN(const Taken taken, take(rows));
  if (taken.commit) EDGECORE_TRY(settle(taken));
  return taken.done;
}

Result<Log::Taken> Log::take(const RowBatch& rows) {
  const SchemaPtr& schema = rows.schema();
  if (rows.count() == 0) return Status::invalid("append: no rows");
  if (options_.read_only) return Status::invalid("the log is open for reading");
  const Durability::Level level = options_.durability[static_cast<std::size_t>(schema->tier)].level;
  const std::lock_guard guard(mutex_);
  const CatalogueEntry* entry = nullptr;
  for (const CatalogueEntry& candidate : catalogue_.entries)
    if (candidate.schema == schema || candidate.fingerprint == schema->fingerprint)
      entry = &candidate;
  if (entry == nullptr)
    return Status::invalid("append: stream " + schema->stream + " is not registered");
  const std::size_t before = pending_.bytes.size();
  if (before > kPendingBytesMax)
    return failure_.is_ok() ? Status::exhausted("log: too much waits to be written") : failure_;
  std::uint64_t& next = next_[entry->partition];
  wal::RecordHead head{entry->partition, entry->number, next,
                       static_cast<std::uint32_t>(rows.count()), 0};
  pending_.bytes.resize(before + wal::kRecordHeadBytes);
  encode_rows(rows, 0, rows.count(), pending_.bytes);
  Taken taken;
  taken.bytes = pending_.bytes.size() - before;
  head.length = static_cast<std::uint32_t>(taken.bytes - wal::kRecordHeadBytes);
  // The checksum waits for the salt of the segment the block will land in.
  wal::encode_record(head, 0, pending_.bytes.data() + before, {});
  taken.done = {entry->partition, next, head.count, next_position_};
  if (pending_.records == 0) pending_.first_position = next_position_;
  next += head.count;
  next_position_ += head.count;
  pending_.rows += head.count;
  ++pending_.records;
  pending_.touched[entry->partition] = next;
  const std::int64_t due = due_after_append(schema->tier, clock_->monotonic_ns());
  const bool sooner = due < deadline_ns_;
  deadline_ns_ = std::min(deadline_ns_, due);
  taken.durable = level == Durability::kSync;
  taken.commit =
      taken.durable || level == Durability::kKernel || pending_.bytes.size() >= kPendingBytesWrite;
  if (sooner && options_.flusher_thread) work_.notify_one();
  return taken;
}

Status Log::settle(const Taken& taken) {
  const Status status = commit(taken.durable);
  // A refused append leaves nothing behind, unless others have come after it.
  if (status.is_ok() || take_back(taken)) return status;
  return Status(status.outcome(), status.message() + " (rows wait in memory)");
}

bool Log::take_back(const Taken& taken) {
  const Appended& done = taken.done;
  const std::lock_guard guard(mutex_);
  if (next_position_ != done.position + done.count || pending_.rows < done.count) return false;
  next_position_ = done.position;
  next_[done.partition] = done.first;
  pending_.bytes.resize(pending_.bytes.size() - taken.bytes);
  pending_.rows -= done.count;
  --pending_.records;
  pending_.touched[done.partition] = done.first;
  if (pending_.records == 0) pending_ = {};
  return true;
}

Status Log::commit(bool durable, bool closing) {
  const std::lock_guard commit_guard(commit_mutex_);
  const Status status = commit_locked(durable, closing);
  const std::lock_guard guard(mutex_);
  failure_ = status;
  if (pending_.empty()) deadline_ns_ = INT64_MAX;
  return status;
}

Status Log::commit_locked(bool durable, bool closing) {
  Pending block;
  {
    const std::lock_guard guard(mutex_);
    std::swap(block, pending_);
  }
  if (!block.empty() || closing) {
    const Status status = write_block(block, closing);
    if (!status.is_ok()) {
      const std::lock_guard guard(mutex_);
      Pending whole = std::move(block);
      whole.add(pending_);
      pending_ = std::move(whole);
      return status;
    }
  }
  if (!durable || (retained_.empty() && !closing && !broken_)) return Status::ok();
  if (!sync_segment().is_ok()) EDGECORE_TRY(rewrite_retained());
  return Status::ok();
}

// Room for the block in a sound segment, then the block.
Status Log::write_block(const Pending& block, bool closing) {
  const std::uint64_t size =
      wal::kBlockHeadBytes +
      (committed_next_.size() + block.touched.size()) * wal::kTableEntryBytes + block.bytes.size();
  if (broken_) EDGECORE_TRY(rewrite_retained());
  bool checkpoint = segment_ == nullptr;
  if (segment_ != nullptr) {
    const SegmentInfo& current = segments_.back();
    const std::uint64_t needed = wal::round_up(size, current.header.sector);
    if (current.end + needed > current.header.capacity) {
      EDGECORE_TRY(leave_segment(size));
      checkpoint = true;
    }
  } else {
    const std::uint64_t end = segments_.empty() ? 0 : segments_.back().end;
    EDGECORE_TRY(begin_segment(size, end));
  }
  const Status status = put_block(block, checkpoint || closing, closing);
  if (status.is_ok()) retained_.add(block);
  return status;
}

// A full segment is synced before the next one begins, so that a mark never skips a segment.
Status Log::leave_segment(std::uint64_t bytes_needed) {
  if (!sync_segment().is_ok()) return rewrite_retained();
  EDGECORE_TRY(write_mark(false));
  return begin_segment(bytes_needed, segments_.back().end);
}

Status Log::put_block(const Pending& block, bool checkpoint, bool closing) {
  std::map<std::uint32_t, std::uint64_t> next = committed_next_;
  for (const auto& [partition, value] : block.touched) next[partition] = value;
  wal::BlockHead head;
  for (const auto& [partition, value] : checkpoint ? next : block.touched)
    head.table.push_back({partition, value, closing ? value - 1 : value - 1 + kReserveRows});
  head.flags = static_cast<std::uint16_t>((checkpoint ? wal::kCheckpoint : 0) |
                                          (closing ? wal::kClosing : 0));
  head.epoch = options_.epoch;
  head.first_position = block.empty() ? written_position_ + 1 : block.first_position;
  head.rows = block.rows;
  head.records = block.records;
  head.durable_before = durable_position();
  head.hlc = next_hlc();
  head.monotonic_ns = clock_->monotonic_ns();
  head.clock_trust = clock_trust_;
  head.length = static_cast<std::uint32_t>(head.head_bytes() + block.bytes.size());
  SegmentInfo& current = segments_.back();
  Bytes bytes(wal::round_up(head.length, current.header.sector));
  wal::encode_block_head(head, current.header.salt, bytes.data());
  std::byte* at = bytes.data() + head.head_bytes();
  if (!block.empty()) std::memcpy(at, block.bytes.data(), block.bytes.size());
  for (std::uint32_t i = 0; i < block.records; ++i) {
    wal::RecordHead record;
    record.partition = load_le<std::uint32_t>(at + 4);
    record.first = load_le<std::uint64_t>(at + 8);
    record.schema = load_le<std::uint32_t>(at + 16);
    record.count = load_le<std::uint32_t>(at + 20);
    record.length = load_le<std::uint32_t>(at + 24);
    wal::encode_record(record, current.header.salt, at,
                       {at + wal::kRecordHeadBytes, record.length});
    at += wal::kRecordHeadBytes + record.length;
  }
  const Status status = segment_->write_at(current.end, bytes);
  if (!status.is_ok()) {
    broken_ = true;
    return status;
  }
  {
    const std::lock_guard guard(mutex_);
    current.end += bytes.size();
  }
  committed_next_ = std::move(next);
  written_position_ = head.first_position + head.rows - 1;
  marked_clean_ = false;
  return Status::ok();
}

Status Log::begin_segment(std::uint64_t bytes_needed, std::uint64_t previous_end) {
  SegmentInfo next;
  next.header.sector = std::max<std::uint32_t>(512, fs_->sector_size());
  next.header.store = store_;
  next.header.epoch = options_.epoch;
  next.header.number = segments_.empty() ? 1 : segments_.back().header.number + 1;
  next.header.salt = options_.salt + next.header.number * 0x9E3779B97F4A7C15ull;
  next.header.base_position = retained_.empty() ? written_position_ + 1 : retained_.first_position;
  next.header.previous = segments_.empty() ? 0 : segments_.back().header.number;
  next.header.previous_end = previous_end;
  const std::uint64_t room =
      2 * wal::kHeaderBytes + wal::round_up(bytes_needed + retained_.bytes.size(), 4096);
  next.header.capacity = std::max(options_.segment_bytes, room);
  next.end = wal::round_up(wal::kHeaderBytes, next.header.sector);
  next.path = join_path(directory_, segment_name(next.header.number));
  // A file of that name is the unfinished work of a crash: without a durable header it is none.
  EDGECORE_TRY(fs_->remove(next.path));
  EDGECORE_ASSIGN(auto file, fs_->open(next.path, OpenMode::kCreateNew));
  Status status = file->fill_zeros(next.header.capacity);
  if (status.is_ok()) status = file->write_at(0, wal::encode_header(next.header));
  if (status.is_ok()) status = file->sync();
  if (status.is_ok()) status = fs_->sync_directory(directory_);
  if (!status.is_ok()) {
    file.reset();
    static_cast<void>(fs_->remove(next.path));
    return status;
  }
  segment_ = std::move(file);
  synced_end_ = next.end;
  broken_ = false;
  const std::lock_guard guard(mutex_);
  if (!segments_.empty()) segments_.back().end = previous_end;
  segments_.push_back(std::move(next));
  return Status::ok();
}

// After an error the old segment counts up to its last good sync; what came later is written
// again in a new one. The descriptor with the error is never synced a second time.
Status Log::rewrite_retained() {
  broken_ = true;
  const std::uint64_t size = retained_.bytes.size() + wal::kHeaderBytes;
  EDGECORE_TRY(begin_segment(size, synced_end_));
  if (!retained_.empty()) {
    for (auto& [partition, next] : retained_.touched) committed_next_[partition] = next;
    EDGECORE_TRY(put_block(retained_, true, false));
  }
  return sync_segment();
}

Status Log::sync_segment() {
  if (segment_ == nullptr) return Status::ok();
  const Status status = segment_->sync();
  if (!status.is_ok()) {
    broken_ = true;
    return status;
  }
  synced_end_ = segments_.back().end;
  retained_ = {};
  promise(written_position_);
  return status;
}

// The one place where a durability promise is made.
void Log::promise(std::uint64_t position) {
  {
    const std::lock_guard guard(mutex_);
    durable_position_ = std::max(durable_position_, position);
  }
  durable_changed_.notify_all();
}

Result<std::int64_t> Log::poll(std::int64_t now_ns) {
  std::int64_t due = INT64_MAX;
  {
    const std::lock_guard guard(mutex_);
    due = deadline_ns_;
  }
  if (due > now_ns) return due;
  EDGECORE_TRY(commit(true));
  const std::lock_guard guard(mutex_);
  return deadline_ns_;
}

Status Log::flush() {
  return options_.read_only ? Status::ok() : commit(false);
}

Status Log::sync() {
  if (options_.read_only) return Status::ok();
  EDGECORE_TRY(commit(true));
  const std::lock_guard commit_guard(commit_mutex_);
  return write_mark(false);
}

Status Log::wait_durable(std::uint64_t position) {
  {
    const std::lock_guard guard(mutex_);
    if (position >= next_position_) return Status::invalid("position is not appended yet");
    if (position <= durable_position_) return Status::ok();
  }
  if (!options_.flusher_thread) return commit(true);
  std::unique_lock lock(mutex_);
  deadline_ns_ = 0;
  work_.notify_all();
  durable_changed_.wait(
      lock, [&] { return durable_position_ >= position || stopping_ || !failure_.is_ok(); });
  return durable_position_ >= position ? Status::ok() : failure_;
}

Status Log::close() {
  if (flusher_.joinable()) {
    {
      const std::lock_guard guard(mutex_);
      stopping_ = true;
    }
    work_.notify_all();
    flusher_.join();
  }
  if (options_.read_only) return Status::ok();
  // Nothing was appended in this open: nothing of it is on disk.
  if (segment_ != nullptr || position() > written_position_) EDGECORE_TRY(commit(true, true));
  const std::lock_guard commit_guard(commit_mutex_);
  if (segment_ != nullptr) EDGECORE_TRY(write_mark(true));
  segment_.reset();
  mark_file_.reset();
  lock_.reset();
  return Status::ok();
}

void Log::run_flusher() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const std::int64_t now = clock_->monotonic_ns();
    if (deadline_ns_ <= now) {
      lock.unlock();
      const Status status = commit(true);
      lock.lock();
      durable_changed_.notify_all();
      // A full disk is tried again, not in a tight loop.
      if (!status.is_ok()) deadline_ns_ = clock_->monotonic_ns() + kProcessFlushNs;
      continue;
    }
    const std::int64_t wait = std::min<std::int64_t>(deadline_ns_ - now, kProcessFlushNs);
    work_.wait_for(lock, std::chrono::nanoseconds(wait));
  }
}

std::uint64_t Log::position() const {
  const std::lock_guard guard(mutex_);
  return next_position_ - 1;
}

std::uint64_t Log::durable_position() const {
  const std::lock_guard guard(mutex_);
  return durable_position_;
}

std::uint64_t Log::next_sequence(std::uint32_t partition) const {
  const std::lock_guard guard(mutex_);
  const auto found = next_.find(partition);
  return found == next_.end() ? 1 : found->second;
}

LogReader Log::reader() const {
  const std::lock_guard guard(mutex_);
  return {fs_, segments_, catalogue_, next_position_ - 1};
}

}  // namespace edgecore
