#include "artifacts/store.hpp"

#include <algorithm>

#include "artifacts/staging.hpp"

namespace edgecore::artifacts {
namespace {

constexpr std::size_t kHexDigits = 2 * sizeof(Digest);

std::string short_name(const Digest& digest) {
  return "object " + to_hex(ByteSpan(digest).first(8)) + "...";
}

// The digest that a file of objects/ is named by, if it is ours.
std::optional<Digest> digest_of(std::string_view name) {
  if (name.size() < kHexDigits) return std::nullopt;
  Digest digest{};
  for (std::size_t i = 0; i < kHexDigits; ++i) {
    const char c = name[i];
    int nibble = 0;
    if (c >= '0' && c <= '9')
      nibble = c - '0';
    else if (c >= 'a' && c <= 'f')
      nibble = c - 'a' + 10;
    else
      return std::nullopt;
    digest[i / 2] = static_cast<std::byte>((std::to_integer<int>(digest[i / 2]) << 4) | nibble);
  }
  return digest;
}

}  // namespace

Result<std::shared_ptr<ArtifactStore>> ArtifactStore::open(std::shared_ptr<Fs> fs,
                                                           std::string directory,
                                                           std::uint64_t quota_bytes) {
  std::shared_ptr<ArtifactStore> store(new ArtifactStore(fs, directory, quota_bytes));
  EDGECORE_TRY(fs->make_directories(store->directory_));
  EDGECORE_ASSIGN(store->lock_, fs->lock(join_path(directory, "lock")));
  EDGECORE_TRY(store->scan());
  EDGECORE_ASSIGN(store->journal_, Journal::open(fs, join_path(directory, "journal")));
  return store;
}

std::string ArtifactStore::path_of(const Digest& digest, std::string_view suffix) const {
  return join_path(directory_, to_hex(digest) + std::string(suffix));
}

// ------------------------------------------------------------------ what an open finds

Status ArtifactStore::scan() {
  EDGECORE_ASSIGN(const std::vector<std::string> names, fs_->list(directory_));
  // Sorted: an object comes before its .part, a .part before its .progress.
  for (const std::string& name : names) {
    const std::optional<Digest> digest = digest_of(name);
    if (!digest) continue;  // not ours, not ours to remove
    EDGECORE_TRY(scan_object(name, *digest));
  }
  return fs_->sync_directory(directory_);
}

Status ArtifactStore::scan_object(const std::string& name, const Digest& digest) {
  const std::string path = join_path(directory_, name);
  const std::string_view suffix = std::string_view(name).substr(kHexDigits);
  if (suffix.empty()) {
    EDGECORE_ASSIGN(auto file, fs_->open(path, OpenMode::kRead));
    EDGECORE_ASSIGN(objects_[digest], file->size());
    return Status::ok();
  }
  if (suffix == ".part" && !objects_.contains(digest)) return scan_staging(digest);
  const bool keep = suffix == ".progress" && stagings_.contains(digest);
  const bool ours =
      suffix == ".part" || suffix == ".progress" || suffix == ".new" || suffix == ".progress.new";
  return keep || !ours ? Status::ok() : fs_->remove(path);
}

Status ArtifactStore::scan_staging(const Digest& digest) {
  const std::string path = path_of(digest, ".progress");
  EDGECORE_ASSIGN(const bool present, fs_->exists(path));
  if (present) {
    EDGECORE_ASSIGN(auto file, fs_->open(path, OpenMode::kRead));
    Bytes header(kProgressHeaderBytes);
    EDGECORE_ASSIGN(const std::size_t got, file->read_at(0, header));
    const auto length = progress_length(ByteSpan(header).first(got), digest);
    if (length.is_ok()) {
      stagings_[digest] = length.value();
      return Status::ok();
    }
  }
  return fs_->remove(path_of(digest, ".part"));
}

// ------------------------------------------------------------------ checks

std::uint64_t ArtifactStore::used() const {
  std::uint64_t total = 0;
  for (const auto& [digest, length] : objects_) total += length;
  for (const auto& [digest, length] : stagings_) total += length;
  return total;
}

Status ArtifactStore::check_room(std::uint64_t length, std::uint64_t to_write) const {
  if (length > kObjectBytesMax)
    return Status::exhausted("object: " + std::to_string(length) + " bytes, at most " +
                             std::to_string(kObjectBytesMax) + " are allowed");
  const std::uint64_t in_use = used();
  if (in_use > quota_ || length > quota_ - in_use)
    return Status::exhausted("artifact quota: " + std::to_string(length) + " bytes needed, " +
                             std::to_string(in_use) + " of " + std::to_string(quota_) +
                             " in use; collect unused objects or raise the quota");
  EDGECORE_ASSIGN(const std::uint64_t available, fs_->free_bytes(directory_));
  if (available < to_write + kSpareBytes)
    return Status::exhausted("artifact disk: " + std::to_string(to_write) + " bytes needed, " +
                             std::to_string(available) + " free; make room");
  return Status::ok();
}

Status ArtifactStore::check_file(const std::string& path, const Digest& digest) const {
  EDGECORE_ASSIGN(auto file, fs_->open(path, OpenMode::kRead));
  EDGECORE_ASSIGN(const std::uint64_t size, file->size());
  Blake3 hash;
  Bytes piece(static_cast<std::size_t>(std::min<std::uint64_t>(size, kPieceBytes)));
  for (std::uint64_t at = 0; at < size; at += piece.size()) {
    EDGECORE_ASSIGN(const std::size_t got, file->read_at(at, piece));
    hash.update(ByteSpan(piece).first(got));
    if (got < piece.size()) break;
  }
  if (hash.finish() != digest)
    return Status::corrupt(short_name(digest) + ": the bytes on disk have another digest");
  return Status::ok();
}

Status ArtifactStore::check_object(const Digest& digest) const {
  if (!objects_.contains(digest))
    return Status::unavailable(short_name(digest) + ": not held; stage it");
  return check_file(path_of(digest), digest);
}

Status ArtifactStore::check_release(const Release& release) const {
  EDGECORE_TRY(journal_->usable());
  EDGECORE_TRY(fs_->sync_directory(directory_));
  for (const Digest& object : release.objects) EDGECORE_TRY(check_object(object));
  return Status::ok();
}

// ------------------------------------------------------------------ objects

bool ArtifactStore::has(const Digest& digest) const {
  const std::lock_guard guard(mutex_);
  return objects_.contains(digest);
}

std::vector<ObjectInfo> ArtifactStore::objects() const {
  const std::lock_guard guard(mutex_);
  std::vector<ObjectInfo> all;
  for (const auto& [digest, length] : objects_) all.push_back({digest, length});
  return all;
}

std::uint64_t ArtifactStore::used_bytes() const {
  const std::lock_guard guard(mutex_);
  return used();
}

Status ArtifactStore::verify(const Digest& digest) {
  const std::lock_guard guard(mutex_);
  return check_object(digest);
}

Result<Bytes> ArtifactStore::get(const Digest& digest) {
  const std::lock_guard guard(mutex_);
  if (!objects_.contains(digest)) return check_object(digest);
  EDGECORE_ASSIGN(Bytes bytes, read_file(*fs_, path_of(digest), kObjectBytesMax));
  if (blake3(bytes) != digest)
    return Status::corrupt(short_name(digest) + ": the bytes on disk have another digest");
  return bytes;
}

Status ArtifactStore::forget(const Digest& digest) {
  EDGECORE_TRY(fs_->remove(path_of(digest)));
  objects_.erase(digest);
  return fs_->sync_directory(directory_);
}

// Gives a checked file of objects/ its final name.
Status ArtifactStore::settle(const Digest& digest, std::uint64_t length, std::string_view suffix) {
  EDGECORE_TRY(fs_->rename(path_of(digest, suffix), path_of(digest)));
  EDGECORE_TRY(fs_->sync_directory(directory_));
  objects_[digest] = length;
  return Status::ok();
}

Result<Digest> ArtifactStore::put(ByteSpan object) {
  const Digest digest = blake3(object);
  const std::lock_guard guard(mutex_);
  if (objects_.contains(digest)) {
    const Status status = check_object(digest);
    if (status.is_ok()) return digest;
    if (status.outcome() != Outcome::kCorrupt) return status;
    EDGECORE_TRY(forget(digest));
  }
  EDGECORE_TRY(check_room(object.size(), object.size()));
  const std::string path = path_of(digest, ".new");
  const auto write = [&]() -> Status {
    EDGECORE_ASSIGN(auto file, fs_->open(path, OpenMode::kCreate));
    EDGECORE_TRY(file->truncate(0));
    EDGECORE_TRY(file->write_at(0, object));
    EDGECORE_TRY(file->sync());
    file.reset();
    return check_file(path, digest);
  };
  const Status written = write();
  if (!written.is_ok()) {
    static_cast<void>(fs_->remove(path));  // best effort; open removes it too
    return written;
  }
  EDGECORE_TRY(settle(digest, object.size(), ".new"));
  return digest;
}

Result<std::unique_ptr<Staging>> ArtifactStore::stage(const Digest& digest, std::uint64_t length) {
  std::unique_ptr<Staging> staging;  // destroyed after the guard: its destructor takes the mutex
  const std::lock_guard guard(mutex_);
  if (open_stagings_.contains(digest))
    return Status::invalid(short_name(digest) + ": is being staged already");
  staging.reset(new Staging(shared_from_this(), digest, length));
  if (objects_.contains(digest)) {
    const Status status = check_object(digest);
    if (!status.is_ok() && status.outcome() != Outcome::kCorrupt) return status;
    if (status.is_ok()) {
      if (objects_.at(digest) != length)
        return Status::invalid(short_name(digest) + ": is " + std::to_string(objects_.at(digest)) +
                               " bytes long, not " + std::to_string(length));
      staging->complete_ = true;
      return staging;
    }
    EDGECORE_TRY(forget(digest));
  }
  const auto claimed = stagings_.find(digest);
  if (claimed == stagings_.end() || claimed->second != length)
    EDGECORE_TRY(check_room(length, length));
  stagings_[digest] = length;
  EDGECORE_TRY(staging->open_files());
  open_stagings_.insert(digest);
  return staging;
}

Result<std::size_t> ArtifactStore::gc(const std::set<Digest>& keep) {
  const std::lock_guard guard(mutex_);
  EDGECORE_TRY(journal_->usable());
  std::set<Digest> named = keep;
  const JournalState& state = journal_->state();
  for (const auto* release : {&state.active, &state.previous, &state.candidate}) {
    if (!*release) continue;
    named.insert((*release)->digest);
    named.insert((*release)->objects.begin(), (*release)->objects.end());
  }
  std::size_t removed = 0;
  for (auto at = objects_.begin(); at != objects_.end();) {
    if (named.contains(at->first)) {
      ++at;
      continue;
    }
    EDGECORE_TRY(fs_->remove(path_of(at->first)));
    at = objects_.erase(at);
    ++removed;
  }
  for (auto at = stagings_.begin(); at != stagings_.end();) {
    if (named.contains(at->first) || open_stagings_.contains(at->first)) {
      ++at;
      continue;
    }
    EDGECORE_TRY(fs_->remove(path_of(at->first, ".progress")));
    EDGECORE_TRY(fs_->remove(path_of(at->first, ".part")));
    at = stagings_.erase(at);
    ++removed;
  }
  if (removed != 0) EDGECORE_TRY(fs_->sync_directory(directory_));
  return removed;
}

// ------------------------------------------------------------------ the release that runs

JournalState ArtifactStore::state() const {
  const std::lock_guard guard(mutex_);
  return journal_->state();
}

Status ArtifactStore::save(Result<JournalState> next) {
  if (!next.is_ok()) return next.status();
  return journal_->save(next.value());
}

Status ArtifactStore::stage_release(Release release) {
  const std::lock_guard guard(mutex_);
  Result<JournalState> next = after_stage(journal_->state(), std::move(release));
  if (next.is_ok()) EDGECORE_TRY(check_release(*next->candidate));
  return save(std::move(next));
}

Status ArtifactStore::begin_trial() {
  const std::lock_guard guard(mutex_);
  Result<JournalState> next = after_begin_trial(journal_->state());
  if (next.is_ok()) EDGECORE_TRY(check_release(*next->candidate));
  return save(std::move(next));
}

Status ArtifactStore::activate() {
  const std::lock_guard guard(mutex_);
  Result<JournalState> next = after_activate(journal_->state());
  if (next.is_ok()) EDGECORE_TRY(check_release(*next->active));
  return save(std::move(next));
}

Status ArtifactStore::mark_stable() {
  const std::lock_guard guard(mutex_);
  return save(after_mark_stable(journal_->state()));
}

Status ArtifactStore::roll_back(std::string_view reason, const std::optional<Digest>& which) {
  const std::lock_guard guard(mutex_);
  const JournalState& state = journal_->state();
  std::string why(reason);
  bool whole = true;
  if (rolls_back_active(state, which) && state.previous) {
    const Status status = check_release(*state.previous);
    whole = status.is_ok();
    // A damaged or lost object will not come back by waiting; a disk that does not answer may.
    const auto held = [&](const Digest& object) { return objects_.contains(object); };
    const bool lost = !std::ranges::all_of(state.previous->objects, held);
    if (!whole && status.outcome() != Outcome::kCorrupt && !lost) return status;
    if (!whole) why = "the previous release is damaged too; " + why;
  }
  return save(after_roll_back(state, why, which, whole));
}

}  // namespace edgecore::artifacts
