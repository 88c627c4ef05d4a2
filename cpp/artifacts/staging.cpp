#include "artifacts/staging.hpp"

#include <algorithm>

#include "base/crc32c.hpp"

namespace edgecore::artifacts {
namespace {

constexpr std::uint32_t kMagic = 0x50534345;  // "ECSP"
constexpr std::uint16_t kVersion = 1;
constexpr std::size_t kEntryBytes = 8;  // CRC-32C, and its complement: zeros are no entry
constexpr std::size_t kChunksPerSync = 64;

Bytes encode_header(const Digest& digest, std::uint64_t length) {
  Bytes header;
  ByteWriter out(header);
  out.put(kMagic);
  out.put(kVersion);
  out.put(std::uint16_t{0});
  out.put(static_cast<std::uint32_t>(kChunkBytes));
  out.put(std::uint32_t{0});  // required features
  out.put(length);
  out.put_bytes(digest);
  out.put_zeros(kProgressHeaderBytes - 4 - header.size());
  out.put(crc32c(header));
  return header;
}

std::uint64_t encode_entry(std::uint32_t crc) {
  return std::uint64_t{crc} | (std::uint64_t{~crc} << 32);
}

std::size_t chunk_count(std::uint64_t length) {
  return static_cast<std::size_t>((length + kChunkBytes - 1) / kChunkBytes);
}

}  // namespace

Result<std::uint64_t> progress_length(ByteSpan header, const Digest& digest) {
  std::uint64_t length = 0;
  const Status corrupt = Status::corrupt("staging progress: a damaged header");
  if (header.size() != kProgressHeaderBytes) return corrupt;
  length = load_le<std::uint64_t>(header.data() + 16);
  // Every other byte is known, so one comparison checks them all.
  if (!std::ranges::equal(header, encode_header(digest, length)) || length > kObjectBytesMax)
    return corrupt;
  return length;
}

Staging::Staging(std::shared_ptr<ArtifactStore> store, const Digest& digest, std::uint64_t length)
    : store_(std::move(store)), digest_(digest), length_(length) {}

Staging::~Staging() {
  const std::lock_guard guard(store_->mutex_);
  if (part_) store_->open_stagings_.erase(digest_);
}

// ------------------------------------------------------------------ begin and resume

Status Staging::open_files() {
  held_.assign(chunk_count(length_), false);
  Status status = load_progress();
  if (status.outcome() == Outcome::kCorrupt) {  // or not there: nothing was received
    held_.assign(chunk_count(length_), false);
    status = create_files();
  }
  if (!status.is_ok()) part_.reset();
  return status;
}

Status Staging::load_progress() {
  const std::string part_path = store_->path_of(digest_, ".part");
  const std::string progress_path = store_->path_of(digest_, ".progress");
  EDGECORE_ASSIGN(const bool has_part, store_->fs_->exists(part_path));
  EDGECORE_ASSIGN(const bool has_progress, store_->fs_->exists(progress_path));
  if (!has_part || !has_progress) return Status::corrupt("staging: not begun");
  const std::size_t size = kProgressHeaderBytes + held_.size() * kEntryBytes;
  EDGECORE_ASSIGN(const Bytes progress, read_file(*store_->fs_, progress_path, size));
  if (progress.size() != size) return Status::corrupt("staging progress: cut short");
  EDGECORE_ASSIGN(const std::uint64_t length,
                  progress_length(ByteSpan(progress).first(kProgressHeaderBytes), digest_));
  if (length != length_) return Status::corrupt("staging progress: of another length");
  EDGECORE_ASSIGN(part_, store_->fs_->open(part_path, OpenMode::kReadWrite));
  EDGECORE_ASSIGN(progress_, store_->fs_->open(progress_path, OpenMode::kReadWrite));
  Bytes chunk(kChunkBytes);
  for (std::size_t i = 0; i < held_.size(); ++i) {
    const auto entry =
        load_le<std::uint64_t>(progress.data() + kProgressHeaderBytes + i * kEntryBytes);
    if (entry != encode_entry(static_cast<std::uint32_t>(entry))) continue;
    const auto bytes = std::span(chunk).first(static_cast<std::size_t>(chunk_size(i)));
    EDGECORE_ASSIGN(const std::size_t got, part_->read_at(i * kChunkBytes, bytes));
    held_[i] = got == bytes.size() && crc32c(bytes) == static_cast<std::uint32_t>(entry);
  }
  return Status::ok();
}

Status Staging::create_files() {
  const std::string path = store_->path_of(digest_, ".part");
  EDGECORE_ASSIGN(part_, store_->fs_->open(path, OpenMode::kCreate));
  EDGECORE_TRY(part_->truncate(0));
  // The full size is durable first: what is written again after a failed sync changes no size, so
  // it can't lack the sync of one.
  EDGECORE_TRY(part_->truncate(length_));
  EDGECORE_TRY(part_->sync());
  Bytes progress = encode_header(digest_, length_);
  progress.resize(kProgressHeaderBytes + held_.size() * kEntryBytes);
  const std::string progress_path = store_->path_of(digest_, ".progress");
  // Its directory sync makes the name of the .part durable as well.
  EDGECORE_TRY(write_file_atomic(*store_->fs_, progress_path, progress));
  EDGECORE_ASSIGN(progress_, store_->fs_->open(progress_path, OpenMode::kReadWrite));
  return Status::ok();
}

// ------------------------------------------------------------------ progress

std::uint64_t Staging::chunk_size(std::size_t index) const {
  return std::min(kChunkBytes, length_ - index * kChunkBytes);
}

std::uint64_t Staging::received() const {
  const std::lock_guard guard(store_->mutex_);
  if (complete_) return length_;
  const auto gap = std::ranges::find(held_, false);
  return std::min<std::uint64_t>(length_,
                                 static_cast<std::uint64_t>(gap - held_.begin()) * kChunkBytes);
}

std::vector<Range> Staging::missing() const {
  const std::lock_guard guard(store_->mutex_);
  std::vector<Range> ranges;
  for (std::size_t i = 0; i < held_.size() && !complete_; ++i) {
    if (held_[i]) continue;
    const std::uint64_t offset = i * kChunkBytes;
    if (!ranges.empty() && ranges.back().offset + ranges.back().length == offset)
      ranges.back().length += chunk_size(i);
    else
      ranges.push_back({offset, chunk_size(i)});
  }
  return ranges;
}

Status Staging::fail(const Status& status) {
  failed_ = true;
  return status;
}

Status Staging::write(std::uint64_t offset, ByteSpan bytes) {
  const std::lock_guard guard(store_->mutex_);
  if (offset > length_ || bytes.size() > length_ - offset)
    return Status::invalid("staging: bytes " + std::to_string(offset) + " to " +
                           std::to_string(offset + bytes.size()) + " of " +
                           std::to_string(length_));
  if (complete_) return Status::ok();
  if (failed_ || !part_) return Status::unavailable("staging: ended or failed; stage again");
  while (!bytes.empty()) {
    const auto index = static_cast<std::size_t>(offset / kChunkBytes);
    const std::uint64_t room = chunk_size(index) - offset % kChunkBytes;
    const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(room, bytes.size()));
    if (!held_[index]) EDGECORE_TRY(write_piece(offset, bytes.first(count)));
    offset += count;
    bytes = bytes.subspan(count);
    if (fresh_.size() >= kChunksPerSync) EDGECORE_TRY(checkpoint());
  }
  return fresh_.empty() ? Status::ok() : checkpoint();
}

// Bytes of one chunk that is not held.
Status Staging::write_piece(std::uint64_t offset, ByteSpan bytes) {
  const auto index = static_cast<std::size_t>(offset / kChunkBytes);
  const std::uint64_t within = offset % kChunkBytes;
  if (within == 0)
    partial_ = Partial{.index = index};
  else if (!partial_ || partial_->index != index || partial_->filled != within)
    return Status::invalid("staging: the chunk at " + std::to_string(offset - within) +
                           " is written in order from its start");
  const Status status = part_->write_at(offset, bytes);
  if (!status.is_ok()) {
    partial_.reset();  // any prefix may be there: begin the chunk again
    return status;
  }
  partial_->filled += bytes.size();
  partial_->crc = crc32c(bytes, partial_->crc);
  if (partial_->filled == chunk_size(index)) {
    fresh_.push_back({index, partial_->crc});
    partial_.reset();
  }
  return Status::ok();
}

Status Staging::checkpoint() {
  Status status = part_->sync();
  if (!status.is_ok()) return fail(status);
  for (std::size_t from = 0; from < fresh_.size();) {
    const std::size_t first = fresh_[from].index;
    Bytes entries;  // of neighbours, in one write
    for (; from < fresh_.size() && fresh_[from].index == first + entries.size() / kEntryBytes;
         ++from)
      ByteWriter(entries).put(encode_entry(fresh_[from].crc));
    status = progress_->write_at(kProgressHeaderBytes + first * kEntryBytes, entries);
    if (!status.is_ok()) return fail(status);
  }
  status = progress_->sync();
  if (!status.is_ok()) return fail(status);
  for (const Fresh& chunk : fresh_) held_[chunk.index] = true;
  fresh_.clear();
  return Status::ok();
}

// ------------------------------------------------------------------ the end

Status Staging::finish() {
  const std::lock_guard guard(store_->mutex_);
  if (complete_) return Status::ok();
  if (failed_ || !part_) return Status::unavailable("staging: ended or failed; stage again");
  const auto gaps = std::ranges::count(held_, false);
  if (gaps != 0)
    return Status::invalid("staging: " + std::to_string(gaps) + " of " +
                           std::to_string(held_.size()) + " chunks are missing");
  const Status whole = store_->check_file(store_->path_of(digest_, ".part"), digest_);
  if (whole.outcome() == Outcome::kCorrupt) discard();
  EDGECORE_TRY(whole);
  const Status settled = store_->settle(digest_, length_, ".part");
  if (!settled.is_ok()) return fail(settled);
  store_->stagings_.erase(digest_);
  store_->open_stagings_.erase(digest_);
  part_.reset();
  progress_.reset();
  static_cast<void>(store_->fs_->remove(store_->path_of(digest_, ".progress")));  // or open does
  complete_ = true;
  return Status::ok();
}

// What was sent is not what was promised: none of it can be trusted to be a part of it.
void Staging::discard() {
  part_.reset();
  progress_.reset();
  static_cast<void>(store_->fs_->remove(store_->path_of(digest_, ".progress")));
  static_cast<void>(store_->fs_->remove(store_->path_of(digest_, ".part")));
  store_->stagings_.erase(digest_);
  store_->open_stagings_.erase(digest_);
}

}  // namespace edgecore::artifacts
