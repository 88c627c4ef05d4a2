// The pool of freed segment files that new segments take over.
//
// A cut leaves a file under its old name or its name in the pool; whether the segment is the log's,
// `contents` says, whatever its file is called. A file is taken over only when its name in the pool
// is durable, and is a segment only when, with a durable header and first block, it has its new
// name.
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

}  // namespace edgecore
