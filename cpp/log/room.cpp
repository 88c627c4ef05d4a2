// Quotas: what gives way when there is too much, and in which order.
//
// A drop is written down before it is done: the slot of `contents` that no longer names a pack also
// names the sequences that went with it unacknowledged, until edgecore.losses tells of them. Both
// need no space.
#include <algorithm>

#include "log/log.hpp"

namespace edgecore {
namespace {

constexpr std::uint32_t kTiers = 5;
// Rows whose clock was not set (before 2020) are of no known age, and don't expire.
constexpr std::int64_t kClockSetNs = 1'577'836'800'000'000'000;
// What the critical tier has to itself, as a part of the whole.
constexpr std::uint64_t kReserveShare = 8;

std::uint64_t bytes_of(const wal::Contents& contents, std::uint32_t tier) {
  std::uint64_t bytes = 0;
  for (const PackEntry& pack : contents.packs) bytes += pack.tier == tier ? pack.bytes : 0;
  return bytes;
}

// Whether a tier gives away what nobody has acknowledged.
bool drops(const TierQuota& quota) {
  return quota.full == TierQuota::kDropOldest || quota.full == TierQuota::kThin;
}

}  // namespace

struct Log::Making {
  const Sequences& acked;
  wal::Contents next;
  Room room;

  std::vector<PackEntry>::iterator oldest(std::uint32_t tier) {
    return std::find_if(next.packs.begin(), next.packs.end(),
                        [&](const PackEntry& pack) { return pack.tier == tier; });
  }
  std::uint64_t acked_to(std::uint32_t partition) const {
    const auto mark = acked.find(partition);
    return mark == acked.end() ? 0 : mark->second;
  }
};

std::uint64_t Log::disk_bytes() {
  const std::lock_guard commit_guard(commit_mutex_);
  return file_bytes();
}

std::uint64_t Log::file_bytes() const {
  const std::lock_guard guard(mutex_);
  std::uint64_t bytes = 2 * contents_slot_;
  for (const SegmentInfo& segment : segments_) bytes += segment.header.capacity;
  for (const PackEntry& pack : contents_->packs) bytes += pack.bytes;
  return bytes + pool_.size() * options_.segment_bytes;
}

Result<Room> Log::make_room(const Sequences& acked, std::uint64_t wanted, bool expire_now) {
  if (options_.read_only) return Status::invalid("the log is open for reading");
  const std::lock_guard seal_guard(seal_mutex_);
  const std::lock_guard commit_guard(commit_mutex_);
  Making making{acked, *contents_, {}};
  if (expire_now) expire(making);
  for (std::uint32_t tier = 0; tier < kTiers; ++tier) {
    const auto& bytes = options_.quotas[tier].bytes;
    while (bytes && bytes_of(making.next, tier) > *bytes)
      if (!give_way(making, tier, drops(options_.quotas[tier]))) break;
  }
  sacrifice(making, wanted);
  if (making.next.packs.size() != contents_->packs.size()) {
    ++making.next.generation;
    EDGECORE_TRY(write_contents(making.next));
    adopt_contents(std::move(making.next), 0);
  }
  refuse(*contents_);
  return making.room;
}

// The oldest pack of a tier goes, if all its rows are acknowledged or others may go too.
bool Log::give_way(Making& making, std::uint32_t tier, bool also_unacked) {
  const auto pack = making.oldest(tier);
  if (pack == making.next.packs.end()) return false;
  const auto& ranges = ranges_of(*pack);
  const bool acknowledged = std::all_of(ranges.begin(), ranges.end(), [&](const PackRange& range) {
    return range.end <= making.acked_to(range.partition) + 1;
  });
  return (acknowledged || also_unacked) && drop_oldest(making, tier, LossRange::kDropped);
}

// The oldest pack of a tier goes. False when there is none, or no room to say so.
bool Log::drop_oldest(Making& making, std::uint32_t tier, LossRange::Reason reason) {
  const auto pack = making.oldest(tier);
  if (pack == making.next.packs.end()) return false;
  const auto bytes = read_file(*fs_, pack_path(directory_, pack->number), UINT32_MAX);
  const auto index = bytes.is_ok() ? decode_pack(bytes.value()) : Result<PackIndex>(bytes.status());
  std::vector<LossRange> lost;
  std::uint64_t dropped = 0;
  const auto lose = [&](std::uint32_t partition, std::uint64_t first, std::uint64_t end) {
    first = std::max(first, making.acked_to(partition) + 1);
    if (first >= end) return;
    lost.push_back({partition, first, end - 1, reason});
    dropped += end - first;
  };
  if (index.is_ok()) {
    for (const PackBlock& block : index->blocks)
      lose(block.partition, block.first, block.first + block.count);
  } else {
    for (const PackRange& range : ranges_of(*pack)) lose(range.partition, range.first, range.end);
  }
  std::vector<LossRange> untold = making.next.untold;
  for (const LossRange& range : lost) add_loss(untold, range);
  if (untold.size() > wal::kUntoldMax) return false;
  making.next.untold = std::move(untold);
  for (const PackRange& range : ranges_of(*pack)) {
    wal::Kept& kept = making.next.kept[range.partition];
    kept.first = std::max(kept.first, range.end);
  }
  making.room.bytes += pack->bytes;
  making.room.dropped += dropped;
  making.room.acked += pack->rows - std::min<std::uint64_t>(dropped, pack->rows);
  making.next.packs.erase(pack);
  return true;
}

void Log::expire(Making& making) {
  const std::int64_t now = clock_->wall_ns();
  for (std::uint32_t tier = 0; tier < kTiers; ++tier) {
    const auto& ttl = options_.quotas[tier].ttl_ns;
    while (ttl) {
      const auto pack = making.oldest(tier);
      if (pack == making.next.packs.end()) break;
      const auto came = static_cast<std::int64_t>(pack->hlc >> 16) * 1'000'000;
      if ((came != 0 && came < kClockSetNs) || now - came <= *ttl ||
          !drop_oldest(making, tier, LossRange::kExpired))
        break;
    }
  }
}

// Frees `wanted` bytes, and what is beyond the share of all tiers: from the least worth up first
// what is acknowledged, then what its policy gives away. A log without quotas gives nothing.
void Log::sacrifice(Making& making, std::uint64_t wanted) {
  const auto& quotas = options_.quotas;
  const bool any = options_.bytes_max || std::any_of(quotas.begin(), quotas.end(), [](auto& q) {
                     return q.bytes || q.ttl_ns || q.full != TierQuota::kRefuse;
                   });
  if (!any) return;
  const std::uint64_t whole = options_.bytes_max.value_or(UINT64_MAX);
  const std::uint64_t limit = whole - whole / kReserveShare;
  const std::uint64_t freed = making.room.bytes;
  // First files that hold nothing; one waits for the next segment.
  for (; pool_.size() > 1 && file_bytes() - freed > limit; pool_.pop_back())
    static_cast<void>(fs_->remove(pool_.back()));
  const std::uint64_t size = file_bytes();
  for (const bool also_unacked : {false, true})
    for (std::size_t rank = kTiers; rank-- > 0;) {
      const std::uint32_t tier = options_.priority[rank];
      if (also_unacked && !drops(quotas[tier])) continue;
      while (making.room.bytes < freed + wanted || size - making.room.bytes > limit)
        if (!give_way(making, tier, also_unacked)) break;
    }
}

// Which tiers may not append now. The critical one has what is left of the whole to itself.
void Log::refuse(const wal::Contents& contents) {
  const std::uint64_t size = file_bytes();
  const std::uint64_t whole = options_.bytes_max.value_or(UINT64_MAX);
  unsigned refused = 0;
  for (std::uint32_t tier = 0; tier < kTiers; ++tier) {
    const TierQuota& quota = options_.quotas[tier];
    if (quota.full != TierQuota::kRefuse) continue;
    const std::uint64_t limit =
        tier == 0 || !options_.bytes_max ? whole : whole - whole / kReserveShare;
    if (size > limit || (quota.bytes && bytes_of(contents, tier) > *quota.bytes))
      refused |= 1u << tier;
  }
  refused_ = static_cast<std::uint8_t>(refused);
}

// Why rows of a tier are not sealed, by what has been sealed so far.
std::optional<LossRange::Reason> Log::refusal(const wal::Contents& contents, std::uint32_t tier) {
  const TierQuota& quota = options_.quotas[tier];
  if (quota.full != TierQuota::kDropNewest && quota.full != TierQuota::kThin) return std::nullopt;
  const std::uint64_t bytes = bytes_of(contents, tier);
  const std::uint64_t limit = quota.bytes.value_or(options_.bytes_max.value_or(UINT64_MAX));
  if (quota.full == TierQuota::kDropNewest)
    return bytes >= limit ? std::optional(LossRange::kDropped) : std::nullopt;
  if (bytes < limit / 2) return std::nullopt;
  return thinned_++ % quota.thin == 0 ? std::nullopt : std::optional(LossRange::kThinned);
}

}  // namespace edgecore
