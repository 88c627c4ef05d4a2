// Sealing: the rows of the oldest segments go into packs, and their files to the pool.
//
// What each cut leaves: pack files that `contents` does not name, which the next open removes; or,
// once the slot is durable, packs that are the log's and segment files that are not, which it finds
// too. Nothing of a segment is touched before that. When the slot's write fails, it is not known
// which of the two a crash would find: the packs stay as well, and their numbers are not used
// again.
#include <algorithm>

#include "log/log.hpp"
#include "log/pack_writer.hpp"

namespace edgecore {

std::vector<LossRange> Log::untold() const {
  const std::lock_guard guard(mutex_);
  return contents_->untold;
}

// Takes effect on disk with the next write of the contents; until then a crash only brings back
// what is told a second time.
void Log::told(const std::vector<LossRange>& ranges) {
  const std::lock_guard seal_guard(seal_mutex_);
  const std::lock_guard commit_guard(commit_mutex_);
  wal::Contents next = *contents_;
  std::erase_if(next.untold, [&](const LossRange& range) {
    return std::find(ranges.begin(), ranges.end(), range) != ranges.end();
  });
  const std::lock_guard guard(mutex_);
  contents_ = std::make_shared<const wal::Contents>(std::move(next));
}

std::vector<SegmentInfo> Log::segments_to_seal(const SealRequest& request) const {
  const std::lock_guard guard(mutex_);
  const std::size_t kept = std::max<std::size_t>(request.segments_kept, 2);
  std::size_t count = 0;
  std::uint64_t bytes = 0;
  const auto rows = [&] { return segments_[count].header.base_position - contents_->position; };
  while (count + kept < segments_.size() && (bytes < request.bytes || rows() == 0))
    bytes += segments_[count++].end;
  if (count > 0 && rows() == 0) count = 0;  // a pack is of a range of positions
  const auto end = segments_.begin() + static_cast<std::ptrdiff_t>(count + (count > 0 ? 1 : 0));
  return {segments_.begin(), end};
}

Result<Sealed> Log::seal(const SealRequest& request) {
  if (options_.read_only) return Status::invalid("the log is open for reading");
  const std::lock_guard seal_guard(seal_mutex_);
  const std::vector<SegmentInfo> segments = segments_to_seal(request);
  Sealed done;
  if (segments.empty()) return done;
  wal::Contents next;
  Catalogue catalogue;
  {
    const std::lock_guard guard(mutex_);
    next = *contents_;
    catalogue = catalogue_;
  }
  PackWriter::Common common;
  common.coding = request.coding;
  common.index.store = store_;
  common.index.epoch = options_.epoch;
  common.index.number = next_pack_;
  common.index.base = next.position;
  common.index.end = segments.back().header.base_position;
  if (options_.cipher != nullptr)
    common.encrypt = [this](PackIndex& index, Bytes& blocks) {
      return encrypt_pack(index, blocks);
    };
  std::map<std::uint32_t, std::uint64_t> starts;
  for (const auto& [partition, kept] : next.kept) starts[partition] = kept.segment;
  PackWriter writer(
      common, catalogue, std::move(starts),
      [&](const PackEntry& entry, const PackIndex& index, ByteSpan file) -> Status {
        next_pack_ = entry.number + 1;
        EDGECORE_TRY(write_pack(entry, file));
        next.packs.push_back(entry);
        for (const LossRange& gap : index.gaps)
          if (gap.reason != LossRange::kBurnt) add_loss(next.untold, gap);
        done.rows += entry.rows;
        done.bytes += entry.bytes;
        ++done.packs;
        return Status::ok();
      },
      // What could not be told of does not give way yet.
      [&](std::uint32_t tier, std::size_t gaps) {
        return next.untold.size() + gaps < wal::kUntoldMax ? refusal(next, tier) : std::nullopt;
      });
  const std::size_t orphans = orphans_.size();
  Status status = seal_segments(segments, writer);
  if (status.is_ok() && next.untold.size() > wal::kUntoldLimit)
    status = Status::exhausted("too many losses that edgecore.losses does not tell of yet");
  if (status.is_ok() && done.packs > 0) status = fs_->sync_directory(directory_);
  if (!status.is_ok()) {
    for (; orphans_.size() > orphans; orphans_.pop_back())
      static_cast<void>(fs_->remove(orphans_.back()));
    return status;
  }
  for (const auto& [partition, start] : writer.next()) next.kept[partition].segment = start;
  next.segment = segments.back().header.number;
  next.position = common.index.end;
  next.next_pack = next_pack_;
  next.announced = std::max(next.announced, request.announced);
  done.segments = segments.size() - 1;
  const std::lock_guard commit_guard(commit_mutex_);
  next.generation = contents_->generation + 1;
  EDGECORE_TRY(write_contents(next));
  orphans_.resize(orphans);
  adopt_contents(std::move(next), done.segments);
  return done;
}

// The last of `segments` is not sealed: its first block says how the others end.
Status Log::seal_segments(const std::vector<SegmentInfo>& segments, PackWriter& writer) const {
  LossRange::Reason reason = LossRange::kLost;  // of what the segment before has lost
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const SegmentInfo& segment = segments[i];
    const bool behind = i + 1 == segments.size();
    for (const auto& [partition, start] : segment.starts) {
      const auto ended = segment.ended.find(partition);
      EDGECORE_TRY(
          writer.skip(partition, ended == segment.ended.end() ? start : ended->second, reason));
      if (!behind) EDGECORE_TRY(writer.skip(partition, start, LossRange::kBurnt));
    }
    if (behind) break;
    EDGECORE_ASSIGN(const Bytes bytes, read_file(*fs_, segment.path, UINT32_MAX));
    EDGECORE_ASSIGN(const SegmentKey key, key_of(keys_.get(), segment.header.key, segment.path));
    Status status;
    const auto add = [&](const RecordView& record) {
      status = writer.add(record);
      return status.is_ok();
    };
    const SegmentWalk walk =
        walk_segment(bytes, segment.header, segment.end, UINT64_MAX - 1, {}, add, 0, key);
    EDGECORE_TRY(status);
    EDGECORE_TRY(walk.status);
    reason = key.gone.value_or(LossRange::kLost);
  }
  return writer.finish();
}

Status Log::write_pack(const PackEntry& entry, ByteSpan file) {
  const std::string path = pack_path(directory_, entry.number);
  orphans_.push_back(path);
  EDGECORE_TRY(fs_->remove(path));
  EDGECORE_ASSIGN(auto out, fs_->open(path, OpenMode::kCreateNew));
  EDGECORE_TRY(out->write_at(0, file));
  return out->sync();
}

}  // namespace edgecore
