#include "log/reader.hpp"

#include <algorithm>
#include <cstdio>

#include "log/encryption.hpp"
#include "log/rows_block.hpp"
#include "log/span.hpp"

namespace edgecore {
namespace {

constexpr std::uint64_t kPackFileBytesMax = 64u << 20;  // one block of the largest rows, and more
constexpr int kRenewalsMax = 16;  // of one part: a writer that seals faster than this is none

std::size_t partitions_in(const std::vector<Pack>& packs, const Wanted& wanted) {
  std::set<std::uint32_t> found;
  for (const Pack& pack : packs)
    for (const PackBlock& block : pack.index.blocks)
      if (holds(block, wanted)) found.insert(block.partition);
  return found.size();
}

}  // namespace

std::string contents_path(const std::string& directory) {
  return join_path(directory, "contents");
}

std::string pack_path(const std::string& directory, std::uint64_t number) {
  char name[32];
  std::snprintf(name, sizeof name, "pack-%016llx.blk", static_cast<unsigned long long>(number));
  return join_path(directory, name);
}

std::string segment_path(const std::string& directory, std::uint64_t number) {
  char name[32];
  std::snprintf(name, sizeof name, "wal-%016llx.seg", static_cast<unsigned long long>(number));
  return join_path(directory, name);
}

Result<SegmentKey> key_of(const KeyRing* keys, std::uint32_t id, const std::string& path) {
  SegmentKey key;
  if (id == 0) return key;
  if (keys == nullptr) return Status::unavailable(path + ": is encrypted");
  const KeyRing::State state = keys->state(id);
  if (state == KeyRing::State::kDestroyed) key.gone = LossRange::kPurged;
  if (state == KeyRing::State::kUnknown && keys->present()) key.gone = LossRange::kLost;
  if (key.gone) return key;
  EDGECORE_ASSIGN(key.key, keys->find(id));
  return key;
}

// The first pack of the first sealing that reaches `position`.
std::size_t LogReader::pack_at(std::uint64_t position) const {
  const auto& packs = source_.contents->packs;
  const auto found =
      std::find_if(packs.begin(), packs.end(), [&](const auto& p) { return p.end > position; });
  return static_cast<std::size_t>(found - packs.begin());
}

// Behind the packs of the same sealing.
std::size_t LogReader::span_end(std::size_t first) const {
  const auto& packs = source_.contents->packs;
  std::size_t end = first;
  while (end < packs.size() && packs[end].base == packs[first].base) ++end;
  return end;
}

// The last segment that begins at or below `position`, or the first.
std::size_t LogReader::segment_at(std::uint64_t position) const {
  const auto& all = source_.segments;
  const auto behind = std::find_if(all.begin(), all.end(), [&](const auto& segment) {
    return segment.header.base_position > position;
  });
  return behind == all.begin() ? 0 : static_cast<std::size_t>(behind - all.begin()) - 1;
}

std::uint64_t LogReader::part_base(std::uint64_t position) const {
  const auto& packs = source_.contents->packs;
  const std::size_t pack = pack_at(position);
  if (pack < packs.size()) return packs[pack].base;
  return source_.segments.empty() ? 1 : source_.segments[segment_at(position)].header.base_position;
}

// A file that is read while its log goes on: whether it is still the log's, the slots say.
std::optional<wal::Contents> LogReader::contents_now() const {
  const auto bytes = read_file(*fs_, contents_path(directory_), wal::kContentsBytesMax);
  return bytes.is_ok() ? wal::decode_contents(bytes.value()) : std::nullopt;
}

bool LogReader::is_current(const SegmentInfo& segment) const {
  const auto now = contents_now();
  return !now || segment.header.number >= now->segment;
}

Result<std::optional<ByteSpan>> LogReader::load(const SegmentInfo& segment, Bytes& buffer) const {
  const auto file = fs_->open(segment.path, OpenMode::kRead);
  if (!file.is_ok()) {
    if (!is_current(segment)) return std::optional<ByteSpan>();
    return file.status();
  }
  EDGECORE_ASSIGN(const std::uint64_t size, file.value()->size());
  const std::uint64_t wanted = std::min(size, segment.end);
  if (wanted > UINT32_MAX) return Status::exhausted(segment.path + ": too large to be read");
  if (buffer.size() < wanted) buffer.resize(wanted);
  EDGECORE_ASSIGN(const std::size_t got, file.value()->read_at(0, std::span(buffer).first(wanted)));
  // A file that is taken over loses its header before anything else of it changes.
  Bytes page(wal::kHeaderBytes);
  EDGECORE_ASSIGN(const std::size_t head, file.value()->read_at(0, page));
  const auto header = wal::decode_header(ByteSpan(page).first(head));
  const bool same = header.is_ok() && header->number == segment.header.number &&
                    header->salt == segment.header.salt;
  if (!same && !is_current(segment)) return std::optional<ByteSpan>();
  return std::optional<ByteSpan>(ByteSpan(buffer).first(got));
}

// By what the segment's first block and the next one's say.
bool LogReader::may_hold(std::size_t segment, const Wanted* wanted) const {
  if (wanted == nullptr || segment + 1 == source_.segments.size()) return true;
  const auto& starts = source_.segments[segment].starts;
  const auto& ends = source_.segments[segment + 1].starts;
  if (starts.empty() || ends.empty()) return true;
  return std::any_of(wanted->partitions.begin(), wanted->partitions.end(),
                     [&](std::uint32_t partition) {
                       const auto end = ends.find(partition);
                       if (end == ends.end()) return false;  // not known yet when the segment ended
                       if (end->second <= wanted->sequence_after + 1) return false;
                       const auto start = starts.find(partition);
                       return end->second != (start == starts.end() ? 1 : start->second);
                     });
}

std::set<std::uint32_t> LogReader::tiers_of(const Wanted* wanted) const {
  std::set<std::uint32_t> tiers;
  for (const CatalogueEntry& entry : source_.catalogue.entries)
    if (wanted == nullptr || wanted->partitions.contains(entry.partition)) tiers.insert(entry.tier);
  return tiers;
}

std::uint64_t LogReader::rows_max(const Wanted& wanted) const {
  const auto tiers = tiers_of(&wanted);
  const wal::Contents& contents = *source_.contents;
  std::uint64_t rows = position_max_ - std::min(position_max_, contents.position - 1);
  for (const PackEntry& pack : contents.packs) rows += tiers.contains(pack.tier) ? pack.rows : 0;
  return rows;
}

// Packs that can't be read are left out: what they held is lost. `packs` stays incomplete, with
// Unavailable, when one is the log's no more.
Status LogReader::load_span(std::size_t first, std::size_t end, const Wanted* wanted,
                            bool without_keys, std::vector<Pack>& packs) const {
  const auto tiers = tiers_of(wanted);
  // Buffers of the packs before are used again: a fresh one costs a page fault per 4 KiB.
  std::vector<Pack> before;
  before.swap(packs);
  for (std::size_t i = first; i < end; ++i) {
    const PackEntry& entry = source_.contents->packs[i];
    if (!tiers.contains(entry.tier)) continue;
    if (wanted != nullptr && !wanted->holds_times(entry.time_min, entry.time_max)) continue;
    Bytes buffer;
    if (!before.empty()) {
      buffer = std::move(before.back().file);
      before.pop_back();
    }
    const std::string path = pack_path(directory_, entry.number);
    auto bytes = read_file(*fs_, path, kPackFileBytesMax, std::move(buffer));
    if (!bytes.is_ok()) {
      const auto now = contents_now();
      const bool there =
          !now || std::any_of(now->packs.begin(), now->packs.end(),
                              [&](const auto& p) { return p.number == entry.number; });
      if (!there) return Status::unavailable("a pack was released meanwhile");
      if (bytes.status().outcome() != Outcome::kUnavailable) return bytes.status();
      continue;
    }
    auto index = decode_pack(bytes.value());
    if (!index.is_ok() && index.status().outcome() == Outcome::kIncompatible) return index.status();
    if (!index.is_ok() || index->number != entry.number) continue;
    auto key = key_of(source_.keys.get(), index->key, path);
    if (!key.is_ok() && !without_keys) return key.status();
    packs.push_back({std::move(index).value(), std::move(bytes).value(),
                     key.is_ok() ? std::move(key).value() : SegmentKey()});
  }
  return Status::ok();
}

// What the packs say of the sequences in and between them.
void LogReader::take_account(const std::vector<Pack>& packs, Account& account) const {
  for (const Pack& pack : packs) {
    for (const PackRange& range : pack.index.ranges) {
      wal::TableEntry& entry = account.table[range.partition];
      entry.partition = range.partition;
      if (account.losses != nullptr)
        add_loss(*account.losses, {range.partition, entry.next, range.first - 1, LossRange::kLost});
      entry.next = std::max(entry.next, range.end);
    }
    for (const LossRange& gap : pack.index.gaps)
      if (account.losses != nullptr && gap.reason == LossRange::kLost)
        add_loss(*account.losses, gap);
  }
}

Result<std::uint64_t> LogReader::visit_span(std::size_t first, std::uint64_t after,
                                            const Wanted* wanted, const RecordVisitor& visit,
                                            Account* account) {
  std::vector<Pack> packs;
  const bool without_keys = account != nullptr && account->unopened != nullptr;
  EDGECORE_TRY(load_span(first, span_end(first), wanted, without_keys, packs));
  if (account != nullptr) take_account(packs, *account);
  SpanVisit span(packs, source_.catalogue, after, wanted);
  EDGECORE_TRY(span.run(visit, account == nullptr ? nullptr : account->losses,
                        account == nullptr ? nullptr : account->unopened));
  return source_.contents->packs[first].end - 1;
}

Result<std::uint64_t> LogReader::visit_segment(std::size_t index, std::uint64_t after,
                                               const Wanted* wanted, const RecordVisitor& visit,
                                               Bytes& buffer, Account* account) {
  const auto& all = source_.segments;
  const SegmentInfo& segment = all[index];
  const bool last = index + 1 == all.size();
  const std::uint64_t through = last ? UINT64_MAX : all[index + 1].header.base_position - 1;
  if (account == nullptr && !may_hold(index, wanted)) return through;
  // First of all: a key is forgotten only after its segment is the log's no more.
  const auto key = key_of(source_.keys.get(), segment.header.key, segment.path);
  EDGECORE_ASSIGN(const auto bytes, load(segment, buffer));
  const bool keyless = key.is_ok() && key->gone == LossRange::kLost;
  if (!bytes || (keyless && !is_current(segment)))
    return Status::unavailable("a segment was released or sealed meanwhile");
  if (!key.is_ok() && (account == nullptr || account->unopened == nullptr)) return key.status();
  const SegmentWalk walk =
      walk_segment(*bytes, segment.header, segment.end, UINT64_MAX - 1,
                   account == nullptr ? Table() : account->table, visit,
                   account == nullptr ? after : 0, key.is_ok() ? key.value() : SegmentKey());
  EDGECORE_TRY(walk.status);
  if (account == nullptr) return through;
  if (account->unopened != nullptr) account->unopened->add(walk.unopened);
  if (account->losses != nullptr)
    for (const LossRange& range : walk.losses) add_loss(*account->losses, range);
  account->table = walk.table;
  return through;
}

// One attempt at the next part, by the log as it was when this snapshot was made.
Result<std::uint64_t> LogReader::visit_next(std::uint64_t after, const Wanted* wanted,
                                            const RecordVisitor& visit, Bytes& buffer,
                                            Account* account) {
  const std::size_t pack = pack_at(after + 1);
  if (pack < source_.contents->packs.size()) return visit_span(pack, after, wanted, visit, account);
  const auto& all = source_.segments;
  if (all.empty()) return UINT64_MAX;
  const std::size_t last = segment_at(after + 1);
  // Segments without a row begin where this one does; an opening of theirs may have burnt numbers.
  std::size_t index = last;
  while (account != nullptr && index > 0 &&
         all[index - 1].header.base_position == all[last].header.base_position)
    --index;
  for (; index < last; ++index)
    EDGECORE_TRY(visit_segment(index, after, wanted, visit, buffer, account).status());
  return visit_segment(last, after, wanted, visit, buffer, account);
}

Result<bool> LogReader::moved(const Status& status) {
  if (status.outcome() != Outcome::kUnavailable) return false;
  const auto now = contents_now();
  if (!now || now->generation == source_.contents->generation) return false;
  EDGECORE_ASSIGN(source_, renew_());
  return true;
}

Result<std::uint64_t> LogReader::visit_part(std::uint64_t after, const Wanted* wanted,
                                            const RecordVisitor& visit, Bytes& buffer) {
  const auto step = [&](const RecordView& record) {
    if (record.position > position_max_) return false;
    if (record.position + record.head.count <= after + 1) return true;
    return visit(record);
  };
  for (int i = 0; i < kRenewalsMax; ++i) {
    auto through = visit_next(after, wanted, step, buffer, nullptr);
    if (through.is_ok()) return through;
    EDGECORE_ASSIGN(const bool again, moved(through.status()));
    if (!again) return through;
  }
  return Status::unavailable(directory_ + ": it changes faster than it is read");
}

Status LogReader::visit(std::uint64_t after, const RecordVisitor& visit,
                        std::vector<LossRange>* losses, Unopened* unopened) {
  Bytes buffer;
  bool stopped = false;
  const auto step = [&](const RecordView& record) {
    stopped = record.position > position_max_;
    if (!stopped && record.position + record.head.count > after + 1) stopped = !visit(record);
    return !stopped;
  };
  if (losses == nullptr && unopened == nullptr) {
    for (std::uint64_t at = after; at < position_max_ && !stopped;) {
      EDGECORE_ASSIGN(at, visit_part(at, nullptr, step, buffer));
    }
    return Status::ok();
  }
  Account account{losses, unopened, {}};
  for (const CatalogueEntry& entry : source_.catalogue.entries)
    account.table[entry.partition] = {entry.partition};
  const auto pass_released = [&] {
    for (const auto& [partition, kept] : source_.contents->kept) {
      wal::TableEntry& entry = account.table[partition];
      entry = {partition, std::max(entry.next, kept.first), 0};
    }
  };
  pass_released();
  for (std::uint64_t at = 0; at < UINT64_MAX && !stopped;) {
    auto through = visit_next(at, nullptr, step, buffer, &account);
    if (through.is_ok()) {
      at = through.value();
      continue;
    }
    EDGECORE_ASSIGN(const bool again, moved(through.status()));
    if (!again) return through.status();
    pass_released();
  }
  return Status::ok();
}

Result<bool> LogReader::is_whole(const std::string& stream) {
  Wanted wanted;
  for (const CatalogueEntry& entry : source_.catalogue.entries)
    if (entry.stream == stream) wanted.partitions.insert(entry.partition);
  const wal::Contents& contents = *source_.contents;
  for (const auto& [partition, kept] : contents.kept)
    if (kept.first > 1 && wanted.partitions.contains(partition)) return false;
  std::vector<Pack> packs;
  EDGECORE_TRY(load_span(0, contents.packs.size(), &wanted, true, packs));
  return std::all_of(packs.begin(), packs.end(), [&](const Pack& pack) {
    const bool gone =
        pack.key.gone && std::any_of(pack.index.blocks.begin(), pack.index.blocks.end(),
                                     [&](const auto& block) { return holds(block, wanted); });
    return !gone &&
           std::all_of(pack.index.gaps.begin(), pack.index.gaps.end(), [&](const LossRange& gap) {
             return gap.reason == LossRange::kBurnt || !wanted.partitions.contains(gap.partition);
           });
  });
}

Status LogReader::visit_blocks(std::uint64_t after, std::uint64_t until, const Wanted& wanted,
                               const BlockVisitor& block, const EntryVisitor& record) {
  until = std::min(until, position_max_);
  Bytes buffer;
  std::vector<Pack> packs;
  bool go_on = true;
  const auto watched = [&](const auto& visit) {
    return [&](const auto&... arguments) -> Result<bool> {
      auto done = visit(arguments...);
      go_on = !done.is_ok() || done.value();
      return done;
    };
  };
  for (std::uint64_t at = after; at < until && go_on;) {
    EDGECORE_ASSIGN(
        at, visit_part_blocks(at, until, wanted, watched(block), watched(record), packs, buffer));
  }
  return Status::ok();
}

Result<std::uint64_t> LogReader::visit_part_blocks(std::uint64_t after, std::uint64_t until,
                                                   const Wanted& wanted, const BlockVisitor& block,
                                                   const EntryVisitor& record,
                                                   std::vector<Pack>& packs, Bytes& buffer) {
  until = std::min(until, position_max_);
  for (;;) {
    const std::size_t pack = pack_at(after + 1);
    if (pack == source_.contents->packs.size()) break;
    const Status loaded = load_span(pack, span_end(pack), &wanted, false, packs);
    if (loaded.is_ok()) {
      const std::uint64_t through = source_.contents->packs[pack].end - 1;
      EDGECORE_TRY(visit_blocks_of(packs, after, until, wanted, block, record));
      return through;
    }
    EDGECORE_ASSIGN(const bool again, moved(loaded));
    if (!again) return loaded;
  }
  Status status;
  const auto step = [&](const RecordView& view) {
    if (view.position > until) return false;
    if (!wanted.partitions.contains(view.head.partition)) return true;
    const auto entry = source_.catalogue.named(view.head.schema);
    auto done = entry.is_ok() ? record(*entry.value(), view) : Result<bool>(entry.status());
    status = done.status();
    return done.is_ok() && done.value();
  };
  EDGECORE_ASSIGN(const std::uint64_t through, visit_part(after, &wanted, step, buffer));
  EDGECORE_TRY(status);
  return through;
}

Status LogReader::visit_blocks_of(const std::vector<Pack>& packs, std::uint64_t after,
                                  std::uint64_t until, const Wanted& wanted,
                                  const BlockVisitor& block, const EntryVisitor& record) const {
  Result<bool> done = true;
  const auto step = [&](const RecordView& view) {
    if (view.position + view.head.count <= after + 1) return true;
    if (view.position > until) return false;
    const auto entry = source_.catalogue.named(view.head.schema);
    done = entry.is_ok() ? record(*entry.value(), view) : Result<bool>(entry.status());
    return done.is_ok() && done.value();
  };
  if (wanted.by_position && partitions_in(packs, wanted) > 1) {
    EDGECORE_TRY(SpanVisit(packs, source_.catalogue, after, &wanted).run(step, nullptr));
    return done.status();
  }
  Bytes opened;
  for (const Pack& pack : packs) {
    if (pack.key.gone) continue;  // what it has encrypted can't be read by anyone
    for (const PackBlock& item : pack.index.blocks) {
      if (!holds(item, wanted) || item.position_last <= after || item.position_first > until)
        continue;
      EDGECORE_ASSIGN(const CatalogueEntry* entry, source_.catalogue.named(item.schema));
      const auto bytes = open_block(pack, item, opened);
      const bool rows = bytes.is_ok() && is_rows_block(bytes.value());
      if (!rows && item.position_first > after && item.position_last <= until) {
        done = bytes.is_ok() ? block(*entry, item, bytes.value()) : Result<bool>(bytes.status());
        // What can't be read is passed over, as in a scan.
        const Outcome outcome = done.status().outcome();
        if (outcome == Outcome::kCorrupt || outcome == Outcome::kUntrusted) done = true;
      } else {
        EDGECORE_TRY(SpanVisit(pack, item, source_.catalogue).run(step, nullptr));
      }
      if (!done.is_ok() || !done.value()) return done.status();
    }
  }
  return Status::ok();
}

}  // namespace edgecore
