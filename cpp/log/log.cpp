#include "log/log.hpp"

#include <algorithm>

namespace edgecore {
namespace {

constexpr std::size_t kPendingBytesWrite = 256 * 1024;
constexpr std::size_t kPendingBytesMax = 8u << 20;
constexpr std::int64_t kProcessFlushNs = 1'000'000'000;

// Partition 0 says which stream and schema stand behind the others.
constexpr const char* kCatalogueStream = "edgecore.schemas";

}  // namespace

void Log::Pending::add(const Pending& later) {
  if (empty()) first_position = later.first_position;
  bytes.insert(bytes.end(), later.bytes.begin(), later.bytes.end());
  rows += later.rows;
  records += later.records;
  for (const auto& [partition, next] : later.touched) touched[partition] = next;
}

void Log::Pending::clear() {
  bytes.clear();
  rows = records = 0;
  touched.clear();
}

Log::Log(std::shared_ptr<Fs> fs, std::string directory, LogOptions options,
         std::shared_ptr<Clock> clock)
    : fs_(std::move(fs)),
      directory_(std::move(directory)),
      options_(std::move(options)),
      clock_(std::move(clock)) {}

Result<std::unique_ptr<Log>> Log::open(std::shared_ptr<Fs> fs, std::string directory,
                                       LogOptions options, std::shared_ptr<Clock> clock) {
  std::unique_ptr<Log> log(new Log(fs, directory, options, clock));
  if (!options.read_only) {
    EDGECORE_TRY(fs->make_directories(directory));
    EDGECORE_ASSIGN(log->lock_, fs->lock(join_path(directory, "LOCK")));
  }
  Status status = log->recover();
  // Beside a writer a segment may be released between its name and its bytes.
  for (int again = 0; again < 3 && options.read_only && !status.is_ok(); ++again) {
    log.reset(new Log(fs, directory, options, clock));
    status = log->recover();
  }
  EDGECORE_TRY(status);
  if (options.flusher_thread && !options.read_only)
    log->flusher_ = std::thread([raw = log.get()] { raw->run_flusher(); });
  return log;
}

Log::~Log() {
  stop_flusher();
}

void Log::stop_flusher() {
  if (!flusher_.joinable()) return;
  {
    const std::lock_guard guard(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  flusher_.join();
}

std::vector<CatalogueEntry> Log::catalogue() const {
  const std::lock_guard guard(mutex_);
  return catalogue_.entries;
}

Result<std::uint32_t> Log::register_schema(const SchemaPtr& schema) {
  if (options_.read_only) return Status::invalid("the log is open for reading");
  const std::lock_guard commit_guard(commit_mutex_);
  std::uint32_t partition = 0, partitions = 1, number = 0;
  bool have_partition = false;
  for (CatalogueEntry& entry : catalogue_.entries) {
    if (entry.fingerprint == schema->fingerprint) {
      const std::lock_guard guard(mutex_);
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
  written_.next.try_emplace(partition, 1);
  synced_.next.try_emplace(partition, 1);
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

// With mutex_ held, after an append.
void Log::set_deadline(Tier tier) {
  const Durability& durability = options_.durability[static_cast<std::size_t>(tier)];
  std::int64_t wait = kProcessFlushNs;
  if (durability.level == Durability::kGroup)
    wait = pending_.bytes.size() >= durability.group_bytes ? 0 : durability.group_ns;
  if (deadline_ns_ != INT64_MAX && wait >= deadline_wait_ns_) return;
  const std::int64_t due = clock_->monotonic_ns() + wait;
  if (due >= deadline_ns_) return;
  deadline_ns_ = due;
  deadline_wait_ns_ = wait;
  if (options_.flusher_thread) work_.notify_one();
}

Result<Appended> Log::append(const RowBatch& rows) {
  for (;;) {
    EDGECORE_ASSIGN(const Taken taken, take(rows));
    if (taken.commit) EDGECORE_TRY(settle(taken));
    if (!taken.reserve) return taken.done;
    EDGECORE_TRY(reserve(rows));
  }
}

Result<Log::Taken> Log::take(const RowBatch& rows) {
  const SchemaPtr& schema = rows.schema();
  if (rows.count() == 0) return Status::invalid("append: no rows");
  if (options_.read_only) return Status::invalid("the log is open for reading");
  const Durability::Level level = options_.durability[static_cast<std::size_t>(schema->tier)].level;
  const std::lock_guard guard(mutex_);
  if (closed_) return Status::invalid("the log is closed");
  const CatalogueEntry* entry = catalogue_.find(schema);
  if (entry == nullptr)
    return Status::invalid("append: stream " + schema->stream + " is not registered");
  if ((refused_ >> entry->tier & 1) != 0)
    return Status::exhausted("append: the quota of stream " + schema->stream +
                             " is full; free space, or let its tier drop rows");
  const std::size_t before = pending_.bytes.size();
  if (before > kPendingBytesMax)
    return failure_.is_ok() ? Status::exhausted("log: too much waits to be written") : failure_;
  std::uint64_t& next = next_[entry->partition];
  Taken taken;
  taken.reserve = next + rows.count() > reserved_[entry->partition] + 1;
  if (taken.reserve) return taken;
  wal::RecordHead head{entry->partition, entry->number, next,
                       static_cast<std::uint32_t>(rows.count()), 0};
  pending_.bytes.resize(before + wal::kRecordHeadBytes);
  encode_rows(rows, 0, rows.count(), pending_.bytes);
  taken.bytes = pending_.bytes.size() - before;
  head.length = static_cast<std::uint32_t>(taken.bytes - wal::kRecordHeadBytes);
  wal::put_record_head(head, pending_.bytes.data() + before);
  taken.done = {entry->partition, next, head.count, next_position_};
  if (pending_.records == 0) pending_.first_position = next_position_;
  next += head.count;
  next_position_ += head.count;
  pending_.rows += head.count;
  ++pending_.records;
  pending_.touched[entry->partition] = next;
  set_deadline(schema->tier);
  taken.durable = level == Durability::kSync;
  taken.commit =
      taken.durable || level == Durability::kKernel || pending_.bytes.size() >= kPendingBytesWrite;
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

Result<std::int64_t> Log::poll(std::int64_t now_ns) {
  {
    const std::lock_guard guard(mutex_);
    if (deadline_ns_ > now_ns) return deadline_ns_;
  }
  EDGECORE_TRY(commit_due());
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
  if (!flusher_.joinable()) return commit(true);
  std::unique_lock lock(mutex_);
  deadline_ns_ = deadline_wait_ns_ = 0;
  failure_ = Status::ok();  // what is waited for is the next commit
  work_.notify_all();
  durable_changed_.wait(
      lock, [&] { return durable_position_ >= position || stopping_ || !failure_.is_ok(); });
  if (durable_position_ >= position) return Status::ok();
  return failure_.is_ok() ? Status::unavailable("the log was closed meanwhile") : failure_;
}

Status Log::close() {
  stop_flusher();
  {
    const std::lock_guard guard(mutex_);
    if (closed_ || options_.read_only) return Status::ok();
  }
  // Nothing was appended in this open: nothing of it is on disk.
  if (segment_ != nullptr) EDGECORE_TRY(commit(true, true));
  const std::lock_guard commit_guard(commit_mutex_);
  if (segment_ != nullptr) EDGECORE_TRY(write_mark(true));
  segment_.reset();
  mark_file_.reset();
  lock_.reset();
  const std::lock_guard guard(mutex_);
  closed_ = true;
  return Status::ok();
}

void Log::run_flusher() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const std::int64_t now = clock_->monotonic_ns();
    if (deadline_ns_ <= now) {
      lock.unlock();
      const Status status = commit_due();
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

std::uint64_t Log::data_bytes() const {
  const std::lock_guard guard(mutex_);
  std::uint64_t total = 0;
  for (const SegmentInfo& segment : segments_)
    total += segment.end - std::min(segment.end, wal::kHeaderBytes);
  for (const PackEntry& pack : contents_->packs) total += pack.bytes;
  return total;
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

std::vector<SegmentInfo> Log::segments() const {
  const std::lock_guard guard(mutex_);
  return segments_;
}

Result<LogReader::Source> Log::source_now() const {
  const std::lock_guard guard(mutex_);
  return LogReader::Source{segments_, catalogue_, contents_, keys_};
}

LogReader Log::reader() const {
  LogReader::Renew renew = [this] { return source_now(); };
  if (options_.read_only)
    renew = [fs = fs_, directory = directory_, options = options_, clock = clock_,
             known = catalogue()]() -> Result<LogReader::Source> {
      EDGECORE_ASSIGN(const auto again, open(fs, directory, options, clock));
      for (const CatalogueEntry& entry : known)
        if (entry.schema != nullptr) static_cast<void>(again->attach_schema(entry.schema));
      return again->source_now();
    };
  const std::lock_guard guard(mutex_);
  return {fs_,
          directory_,
          {segments_, catalogue_, contents_, keys_},
          std::move(renew),
          next_position_ - 1};
}

}  // namespace edgecore
