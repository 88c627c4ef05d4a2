// Which keys the log's files have: made before a file is, forgotten behind it, destroyed on demand.
#include <algorithm>

#include "log/encryption.hpp"
#include "log/log.hpp"

namespace edgecore {

// A writer reads what it has; rows whose key can't be had now are not lost, so nothing is done in
// their absence.
Status Log::check_keys() const {
  std::vector<std::uint32_t> newest_first;
  for (auto segment = segments_.rbegin(); segment != segments_.rend(); ++segment)
    newest_first.push_back(segment->header.key);
  for (auto pack = contents_->packs.rbegin(); pack != contents_->packs.rend(); ++pack)
    newest_first.push_back(pack->key);
  for (const std::uint32_t id : newest_first) {
    if (id == 0) continue;
    const KeyRing::State state = keys_->state(id);
    if (state == KeyRing::State::kDestroyed) continue;
    if (state == KeyRing::State::kUnknown && keys_->present() && keys_->has_cipher()) continue;
    return keys_->find(id).status();
  }
  return Status::ok();
}

// Of files, and those that files will have.
std::set<std::uint32_t> Log::keys_in_use() const {
  std::set<std::uint32_t> out = {next_key_.id};
  for (const SegmentInfo& segment : segments_) out.insert(segment.header.key);
  for (const PackEntry& pack : contents_->packs) out.insert(pack.key);
  for (const auto& [tier, made] : pack_keys_) out.insert(made.second.id);
  out.erase(0);
  return out;
}

Status Log::open_keys() {
  if (keys_opened_) return Status::ok();
  EDGECORE_TRY(keys_->keep_only(keys_in_use()));
  keys_opened_ = true;
  return Status::ok();
}

// The key of the next segment, on stable storage before the segment is. A segment that could not be
// begun leaves it to the next attempt: nothing was encrypted with it.
Status Log::key_segment(wal::SegmentHeader& header) {
  if (options_.cipher == nullptr) return Status::ok();
  EDGECORE_TRY(open_keys());
  if (next_key_.key == nullptr) {
    EDGECORE_ASSIGN(next_key_, keys_->make({KeyUse::kSegment, 0, header.number}));
  }
  header.required_features |= wal::kEncryptedFeature;
  header.cipher = next_key_.cipher;
  header.key = next_key_.id;
  return Status::ok();
}

// The key of a tier, of this open, for the period in which a pack's newest row came.
Result<KeyRing::Made> Log::pack_key(const KeyUse& use) {
  const std::lock_guard commit_guard(commit_mutex_);
  auto& [made_for, key] = pack_keys_[use.tier];
  if (key.key != nullptr && made_for == use) return key;
  EDGECORE_TRY(open_keys());
  EDGECORE_ASSIGN(key, keys_->make(use));
  made_for = use;
  return key;
}

// A number that is tried is not tried again, so that none comes twice under a key.
Status Log::encrypt_pack(PackIndex& index, Bytes& blocks) {
  next_pack_ = index.number + 1;
  std::uint64_t hlc = 0;
  for (const PackBlock& block : index.blocks) hlc = std::max(hlc, block.hlc);
  EDGECORE_ASSIGN(const KeyRing::Made made, pack_key({KeyUse::kPack, index.tier, key_period(hlc)}));
  index.cipher = made.cipher;
  index.key = made.id;
  return encrypt_blocks(*made.key, index, blocks);
}

// Those of files that are the log's no more. What fails here leaves keys of no file, which the next
// open forgets.
void Log::forget_keys() {
  const std::set<std::uint32_t> used = keys_in_use();
  std::set<std::uint32_t> gone;
  for (const KeyEntry& entry : keys_->entries())
    if (!used.contains(entry.id)) gone.insert(entry.id);
  static_cast<void>(keys_->forget(gone));
}

Status Log::purge(std::uint32_t tier, std::uint64_t period) {
  if (options_.read_only) return Status::invalid("the log is open for reading");
  const std::lock_guard seal_guard(seal_mutex_);
  const std::lock_guard commit_guard(commit_mutex_);
  for (const PackEntry& pack : contents_->packs)
    if (pack.tier == tier && pack.key == 0 && pack.rows > 0 && key_period(pack.hlc) < period)
      return Status::invalid(pack_path(directory_, pack.number) +
                             ": was stored in the clear; no key's end makes it unreadable");
  std::set<std::uint32_t> ids;
  for (const KeyEntry& entry : keys_->entries())
    if (entry.use.kind == KeyUse::kPack && entry.use.tier == tier && entry.use.of < period)
      ids.insert(entry.id);
  const auto current = pack_keys_.find(tier);
  if (current != pack_keys_.end() && ids.contains(current->second.second.id))
    pack_keys_.erase(current);
  return keys_->destroy(ids);
}

Result<std::vector<LossRange>> Log::purged() const {
  EDGECORE_ASSIGN(const auto source, source_now());
  std::vector<LossRange> out;
  for (const PackEntry& pack : source.contents->packs) {
    if (keys_->state(pack.key) != KeyRing::State::kDestroyed) continue;
    const auto bytes = read_file(*fs_, pack_path(directory_, pack.number), UINT32_MAX);
    const auto index = bytes.is_ok() ? decode_pack(bytes.value()) : bytes.status();
    if (!index.is_ok()) continue;   // lost; verification tells
    std::vector<LossRange> ranges;  // of each pack by itself, so that they stay as they are
    for (const PackBlock& block : index->blocks)
      add_loss(ranges,
               {block.partition, block.first, block.first + block.count - 1, LossRange::kPurged});
    out.insert(out.end(), ranges.begin(), ranges.end());
  }
  return out;
}

}  // namespace edgecore
