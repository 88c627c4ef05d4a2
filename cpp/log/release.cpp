// Releasing the oldest segments, and the pool of their files that new segments take over.
//
// A cut leaves: the released slot of before or after, so that a segment is the log's or it is not,
// whatever its file is called; a file under its old name or its name in the pool. A file is taken
// over only when its name in the pool is durable, and is a segment only when, with a durable header
// and first block, it has its new name.
#include <algorithm>
#include <cstdio>

#include "log/log.hpp"

namespace edgecore {
namespace {

constexpr std::size_t kPoolFilesMax = 4;

std::string pool_name(std::uint64_t number) {
  char name[32];
  std::snprintf(name, sizeof name, "pool-%016llx.seg", static_cast<unsigned long long>(number));
  return name;
}

}  // namespace

std::uint64_t Log::first_position() const {
  const std::lock_guard guard(mutex_);
  return released_.position;
}

std::map<std::uint32_t, std::uint64_t> Log::released() const {
  const std::lock_guard guard(mutex_);
  std::map<std::uint32_t, std::uint64_t> out;
  for (const auto& [partition, start] : released_.starts)
    if (start > 1) out[partition] = start - 1;
  return out;
}

std::uint32_t Log::announced() const {
  const std::lock_guard guard(mutex_);
  return released_.announced;
}

Result<std::uint64_t> Log::release(const Sequences& acked, std::uint64_t upto,
                                   std::uint32_t announced) {
  if (options_.read_only) return Status::invalid("the log is open for reading");
  if (!options_.keep.limited()) return std::uint64_t{0};
  const std::lock_guard commit_guard(commit_mutex_);
  // The last two stay: the end is judged by what stands before it.
  std::size_t count = 0;
  while (count + 2 < segments_.size() && may_release(count, acked, upto)) ++count;
  if (count == 0) return std::uint64_t{0};
  const SegmentInfo& first = segments_[count];
  wal::Released next{released_.generation + 1, first.header.number, first.header.base_position,
                     std::max(released_.announced, announced), first.starts};
  for (const auto& [partition, ended] : first.ended) next.starts[partition] = ended;
  EDGECORE_TRY(write_released(next));
  const std::uint64_t rows = next.position - released_.position;
  std::vector<SegmentInfo> freed;
  {
    const std::lock_guard guard(mutex_);
    const auto end = segments_.begin() + static_cast<std::ptrdiff_t>(count);
    freed.assign(segments_.begin(), end);
    segments_.erase(segments_.begin(), end);
    released_ = std::move(next);
  }
  free_files(freed);
  forget_keys(freed);
  return rows;
}

// Whether all rows of a segment are acknowledged, and the policy wants none of them.
bool Log::may_release(std::size_t index, const Sequences& acked, std::uint64_t upto) const {
  const SegmentInfo& next = segments_[index + 1];
  if (next.starts.empty()) return false;  // what stands in the segment is not known for certain
  for (const auto& [partition, start] : next.starts) {
    const auto ended = next.ended.find(partition);
    const std::uint64_t last = (ended == next.ended.end() ? start : ended->second) - 1;
    const auto mark = acked.find(partition);
    if (last > 0 && (mark == acked.end() || mark->second < last)) return false;
  }
  const std::uint64_t last = next.header.base_position - 1;
  if (last > upto) return false;
  const LogKeep& keep = options_.keep;
  if (keep.rows && written_.position - last < *keep.rows) return false;
  if (keep.ns) {
    const auto began_ns = static_cast<std::int64_t>(next.hlc >> 16) * 1'000'000;
    if (clock_->wall_ns() - began_ns < *keep.ns) return false;
  }
  if (!keep.bytes) return true;
  std::uint64_t bytes = 0;
  for (std::size_t i = index + 1; i < segments_.size(); ++i)
    bytes += segments_[i].end - std::min(segments_[i].end, wal::kHeaderBytes);
  return bytes >= *keep.bytes;
}

// Made whole before it is first needed, so that a release needs no space.
Status Log::open_released() {
  if (released_file_ != nullptr) return Status::ok();
  const std::string path = join_path(directory_, "released");
  EDGECORE_ASSIGN(auto file, fs_->open(path, OpenMode::kCreate));
  Status status = file->fill_zeros(2 * wal::kReleasedSlotBytes);
  if (status.is_ok()) status = file->sync();
  if (status.is_ok()) status = fs_->sync_directory(directory_);
  if (status.is_ok())
    released_file_ = std::move(file);
  else if (released_.generation == 0)  // a size whose sync has failed may never become durable
    static_cast<void>(fs_->remove(path));
  return status;
}

Status Log::write_released(const wal::Released& next) {
  EDGECORE_TRY(open_released());
  const std::uint64_t at = next.generation % 2 * wal::kReleasedSlotBytes;
  Status status = released_file_->write_at(at, wal::encode_released(next));
  if (status.is_ok()) status = released_file_->sync();
  if (!status.is_ok()) released_file_.reset();  // its descriptor is not synced again
  return status;
}

// What fails here leaves a file that the next open finds.
void Log::free_files(const std::vector<SegmentInfo>& freed) {
  std::vector<std::string> pooled;
  for (const SegmentInfo& segment : freed) {
    const std::string name = join_path(directory_, pool_name(segment.header.number));
    const bool fits = segment.header.capacity <= options_.segment_bytes &&
                      pool_.size() + pooled.size() < kPoolFilesMax;
    if (fits && fs_->rename(segment.path, name).is_ok())
      pooled.push_back(name);
    else
      static_cast<void>(fs_->remove(segment.path));
  }
  if (!pooled.empty() && fs_->sync_directory(directory_).is_ok())
    pool_.insert(pool_.end(), pooled.begin(), pooled.end());
}

// What fails here leaves keys of no file, which the next open forgets.
void Log::forget_keys(const std::vector<SegmentInfo>& freed) {
  std::set<std::uint32_t> ids;
  for (const SegmentInfo& segment : freed)
    if (segment.header.key != 0) ids.insert(segment.header.key);
  static_cast<void>(keys_->forget(ids));
}

void Log::note_pooled(const std::string& path) {
  if (pool_.size() < kPoolFilesMax)
    pool_.push_back(path);
  else
    leftovers_.push_back(path);
}

// The file of a new segment; `path` becomes its present name. Null when the pool has none that
// serves.
std::unique_ptr<File> Log::take_pooled(const wal::SegmentHeader& header, std::string& path) {
  for (const std::string& leftover : leftovers_) static_cast<void>(fs_->remove(leftover));
  leftovers_.clear();
  while (!pool_.empty()) {
    path = pool_.front();
    pool_.pop_front();
    auto file = take_over(path, header);
    if (file.is_ok()) return std::move(file).value();
    static_cast<void>(fs_->remove(path));
  }
  return nullptr;
}

Result<std::unique_ptr<File>> Log::take_over(const std::string& path,
                                             const wal::SegmentHeader& header) {
  EDGECORE_ASSIGN(auto file, fs_->open(path, OpenMode::kReadWrite));
  EDGECORE_ASSIGN(const std::uint64_t size, file->size());
  if (size < 2 * wal::kHeaderBytes || size > header.capacity)
    return Status::invalid(path + ": not of this log's segment size");
  // First of all the header goes: a reader that finds it changed knows that the rows are not its.
  EDGECORE_TRY(file->write_at(0, Bytes(wal::kHeaderBytes)));
  Bytes bytes(static_cast<std::size_t>(size));
  EDGECORE_ASSIGN(const std::size_t got, file->read_at(0, bytes));
  if (got != size) return Status::unavailable(path + ": read: too short");
  const std::uint64_t start = wal::round_up(wal::kHeaderBytes, header.sector);
  for (std::uint64_t at = start; at < size; at += header.sector)
    if (wal::decode_block_head(ByteSpan(bytes).subspan(at), header.salt))
      return Status::invalid(path + ": holds bytes that the new salt would let pass");
  note_stale(header, bytes);
  EDGECORE_TRY(file->fill_zeros(header.capacity));
  return file;
}

// Without it the end of the segment counts as uncertain after a crash, nothing more.
void Log::note_stale(const wal::SegmentHeader& header, ByteSpan bytes) {
  const auto write = [&]() -> Status {
    EDGECORE_ASSIGN(auto file, fs_->open(join_path(directory_, "stale"), OpenMode::kCreate));
    EDGECORE_TRY(file->fill_zeros(2 * wal::stale_slot_bytes(header)));
    EDGECORE_TRY(file->write_at(wal::stale_slot_at(header), wal::encode_stale(header, bytes)));
    return file->sync();
  };
  static_cast<void>(write());
}

bool Log::tail_is_stale(const wal::SegmentHeader& header, ByteSpan bytes,
                        std::uint64_t from) const {
  const auto file = fs_->open(join_path(directory_, "stale"), OpenMode::kRead);
  if (!file.is_ok()) return false;
  Bytes slot(static_cast<std::size_t>(
      std::min<std::uint64_t>(wal::stale_slot_bytes(header), 2 * bytes.size() + 4096)));
  const auto got = file.value()->read_at(wal::stale_slot_at(header), slot);
  if (!got.is_ok()) return false;
  return wal::only_stale(ByteSpan(slot).first(got.value()), header, bytes, from);
}

void Log::read_released() {
  const auto bytes =
      read_file(*fs_, join_path(directory_, "released"), 4 * wal::kReleasedSlotBytes);
  if (!bytes.is_ok()) return;
  auto found = wal::decode_released(bytes.value());
  if (found) released_ = std::move(*found);
}

}  // namespace edgecore
