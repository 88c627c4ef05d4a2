// Letting go of what every consumer has acknowledged: packs, the oldest of each tier first, and
// behind the last pack whole segments.
//
// A cut leaves the contents of before or after; a file that they do not name is none of the log's.
#include <algorithm>
#include <set>

#include "log/log.hpp"

namespace edgecore {

std::uint64_t Log::first_position() const {
  const std::lock_guard guard(mutex_);
  return contents_->first_position();
}

std::uint64_t Log::segment_position() const {
  const std::lock_guard guard(mutex_);
  return contents_->position;
}

std::map<std::uint32_t, std::uint64_t> Log::released() const {
  const std::lock_guard guard(mutex_);
  std::map<std::uint32_t, std::uint64_t> out;
  for (const auto& [partition, kept] : contents_->kept)
    if (kept.first > 1) out[partition] = kept.first - 1;
  return out;
}

std::uint32_t Log::announced() const {
  const std::lock_guard guard(mutex_);
  return contents_->announced;
}

Result<std::uint64_t> Log::release(const Sequences& acked, std::uint64_t upto,
                                   std::uint32_t announced) {
  if (options_.read_only) return Status::invalid("the log is open for reading");
  if (!options_.keep.limited()) return std::uint64_t{0};
  const std::lock_guard seal_guard(seal_mutex_);
  const std::lock_guard commit_guard(commit_mutex_);
  wal::Contents next = *contents_;
  std::uint64_t rows = release_packs(next, acked, upto);
  // The last two stay: the end is judged by what stands before it.
  std::size_t count = 0;
  while (next.packs.empty() && count + 2 < segments_.size() && may_release(count, acked, upto))
    ++count;
  if (count > 0) {
    const SegmentInfo& first = segments_[count];
    rows += first.header.base_position - next.position;
    next.segment = first.header.number;
    next.position = first.header.base_position;
    for (const auto& [partition, start] : first.starts) {
      const auto ended = first.ended.find(partition);
      const std::uint64_t kept = ended == first.ended.end() ? start : ended->second;
      next.kept[partition] = {kept, kept};
    }
  }
  if (count == 0 && next.packs.size() == contents_->packs.size()) return std::uint64_t{0};
  next.announced = std::max(next.announced, announced);
  ++next.generation;
  EDGECORE_TRY(write_contents(next));
  adopt_contents(std::move(next), count);
  return rows;
}

std::uint64_t Log::segment_bytes(std::size_t from) const {
  std::uint64_t bytes = 0;
  for (std::size_t i = from; i < segments_.size(); ++i)
    bytes += segments_[i].end - std::min(segments_[i].end, wal::kHeaderBytes);
  return bytes;
}

// Whether no limit wants rows that end at position `last` and are as old as `hlc`.
bool Log::unwanted(std::uint64_t last, std::uint64_t hlc, std::uint64_t bytes_behind,
                   std::uint64_t upto) const {
  const LogKeep& keep = options_.keep;
  if (last > upto || (keep.rows && written_.position - last < *keep.rows)) return false;
  const auto came_ns = static_cast<std::int64_t>(hlc >> 16) * 1'000'000;
  if (keep.ns && clock_->wall_ns() - came_ns < *keep.ns) return false;
  return !keep.bytes || bytes_behind >= *keep.bytes;
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
  return unwanted(next.header.base_position - 1, next.hlc, segment_bytes(index + 1), upto);
}

bool Log::may_release(const PackEntry& pack, std::uint64_t bytes_behind, const Sequences& acked,
                      std::uint64_t upto) {
  if (!unwanted(pack.end - 1, pack.hlc, bytes_behind, upto)) return false;
  const auto& ranges = ranges_of(pack);
  return std::all_of(ranges.begin(), ranges.end(), [&](const PackRange& range) {
    const auto mark = acked.find(range.partition);
    return range.end <= 1 || (mark != acked.end() && mark->second >= range.end - 1);
  });
}

// What a pack accounts for. Of one that can't be read: everything of its tier that was ever sealed,
// so that it goes when all that is acknowledged.
const std::vector<PackRange>& Log::ranges_of(const PackEntry& pack) {
  const auto found = ranges_.find(pack.number);
  if (found != ranges_.end()) return found->second;
  std::vector<PackRange> ranges;
  const auto bytes = read_file(*fs_, pack_path(directory_, pack.number), UINT32_MAX);
  auto index = bytes.is_ok() ? decode_pack(bytes.value()) : Result<PackIndex>(bytes.status());
  if (index.is_ok()) {
    ranges = std::move(index.value().ranges);
  } else {
    for (const CatalogueEntry& entry : catalogue_.entries) {
      const auto kept = contents_->kept.find(entry.partition);
      if (entry.tier == pack.tier && kept != contents_->kept.end())
        ranges.push_back({entry.partition, kept->second.first, kept->second.segment});
    }
  }
  return ranges_[pack.number] = std::move(ranges);
}

std::uint64_t Log::release_packs(wal::Contents& next, const Sequences& acked, std::uint64_t upto) {
  std::uint64_t rows = 0, behind = segment_bytes(0);
  for (const PackEntry& pack : next.packs) behind += pack.bytes;
  std::set<std::uint32_t> held;  // tiers of which a pack stays
  std::vector<PackEntry> stay;
  for (const PackEntry& pack : next.packs) {
    behind -= pack.bytes;
    if (held.contains(pack.tier) || !may_release(pack, behind, acked, upto)) {
      held.insert(pack.tier);
      stay.push_back(pack);
      continue;
    }
    rows += pack.rows;
    for (const PackRange& range : ranges_of(pack)) {
      wal::Kept& kept = next.kept[range.partition];
      kept.first = std::max(kept.first, range.end);
    }
  }
  next.packs = std::move(stay);
  return rows;
}

}  // namespace edgecore
