// Opening a log: what is on disk, where the data ends, what can't be read. Writes nothing.
#include <algorithm>
#include <charconv>

#include "log/encryption.hpp"
#include "log/log.hpp"
#include "log/mark.hpp"

namespace edgecore {
namespace {

constexpr std::uint64_t kCatalogueBytesMax = 64u << 20;
constexpr std::size_t kFirstBlockBytesMax = 256 * 1024;
constexpr std::uint64_t kRowBytesMin = 20;            // time, empty source, source sequence
constexpr std::uint64_t kReservedRowsMax = 1u << 20;  // that a lost block can have reserved

std::uint64_t number_of(const std::string& name) {
  std::uint64_t number = 0;
  const std::size_t start = std::string("wal-").size();
  std::from_chars(name.data() + start, name.data() + name.size(), number, 16);
  return number;
}

// The head of the first block, and the file's header.
struct Start {
  Result<wal::SegmentHeader> header;
  std::optional<wal::BlockHead> block;
};

Result<Start> read_start(File& file) {
  Bytes bytes(2 * wal::kHeaderBytes);
  EDGECORE_ASSIGN(const std::size_t got, file.read_at(0, bytes));
  bytes.resize(got);
  Start start{
      wal::decode_header(ByteSpan(bytes).first(std::min(got, std::size_t{wal::kHeaderBytes}))),
      std::nullopt};
  if (!start.header.is_ok()) return start;
  const std::uint64_t at = wal::round_up(wal::kHeaderBytes, start.header->sector);
  // A page holds the first block of most logs; many partitions make it larger.
  for (const std::size_t size : {std::size_t{4096}, kFirstBlockBytesMax}) {
    bytes.resize(size);
    EDGECORE_ASSIGN(const std::size_t more, file.read_at(at, bytes));
    start.block = wal::decode_block_head(ByteSpan(bytes).first(more), start.header->salt);
    if (start.block) break;
  }
  return start;
}

std::vector<LossRange> burnt_by(const wal::BlockHead& head) {
  std::vector<LossRange> out;
  if ((head.flags & wal::kOpening) == 0) return out;
  for (std::size_t i = 0; i + 1 < head.table.size(); ++i) {
    const wal::TableEntry& entry = head.table[i];
    if (entry.partition == head.table[i + 1].partition)
      out.push_back({entry.partition, entry.next, entry.reserved_through, LossRange::kBurnt});
  }
  return out;
}

}  // namespace

Status Log::recover() {
  store_ = options_.store;
  EDGECORE_ASSIGN(const bool there, fs_->exists(directory_));
  if (!there) return Status::unavailable(directory_ + ": no log here");
  const std::string catalogue = join_path(directory_, "catalogue");
  EDGECORE_ASSIGN(const bool have_catalogue, fs_->exists(catalogue));
  if (have_catalogue) {
    EDGECORE_ASSIGN(const Bytes bytes, read_file(*fs_, catalogue, kCatalogueBytesMax));
    EDGECORE_ASSIGN(catalogue_, Catalogue::from_bytes(bytes));
  }
  EDGECORE_TRY(read_contents());
  EDGECORE_TRY(read_segments());
  EDGECORE_ASSIGN(keys_, KeyRing::open(fs_, directory_, store_, options_.cipher));
  if (!options_.read_only) EDGECORE_TRY(check_keys());
  for (const CatalogueEntry& entry : catalogue_.entries) written_.next[entry.partition] = 1;
  for (const auto& [partition, kept] : contents_->kept) written_.next[partition] = kept.segment;
  written_.position = contents_->position - 1;
  EDGECORE_TRY(read_mark());
  if (segments_.empty())
    end_at({});
  else
    EDGECORE_TRY(recover_tail());
  EDGECORE_TRY(burn_unreadable_segments());
  recovery_.clean = recovery_.clean && !rebuilt_;
  next_ = written_.next;
  next_position_ = written_.position + 1;
  synced_ = written_;
  return Status::ok();
}

Status Log::read_segments() {
  EDGECORE_ASSIGN(const auto names, fs_->list(directory_));
  number_ = std::max<std::uint64_t>(contents_->segment, 1) - 1;
  for (const std::string& name : names) {
    if (name.starts_with("pack-") && !holds_pack(name))
      leftovers_.push_back(join_path(directory_, name));
    if (!name.ends_with(".seg")) continue;
    if (name.starts_with("pool-")) note_pooled(join_path(directory_, name));
    if (!name.starts_with("wal-")) continue;
    if (number_of(name) < contents_->segment)
      leftovers_.push_back(join_path(directory_, name));
    else
      EDGECORE_TRY(read_segment(name));
  }
  recovery_.segments = segments_.size();
  if (!options_.read_only) return Status::ok();
  // Beside a writer rows may have moved between the contents and the names.
  const auto generation = contents_->generation;
  EDGECORE_TRY(read_contents());
  return generation == contents_->generation
             ? Status::ok()
             : Status::unavailable(directory_ + ": it changes faster than it is opened");
}

bool Log::holds_pack(const std::string& name) const {
  const auto& packs = contents_->packs;
  return std::any_of(packs.begin(), packs.end(), [&](const PackEntry& pack) {
    return pack_path(directory_, pack.number) == join_path(directory_, name);
  });
}

Status Log::read_segment(const std::string& name) {
  const std::string path = join_path(directory_, name);
  EDGECORE_ASSIGN(auto file, fs_->open(path, OpenMode::kRead));
  EDGECORE_ASSIGN(const std::uint64_t size, file->size());
  EDGECORE_ASSIGN(const Start start, read_start(*file));
  if (!start.header.is_ok()) {
    if (start.header.status().outcome() == Outcome::kIncompatible) return start.header.status();
    unreadable_.push_back({number_of(name), path});
    return Status::ok();
  }
  const wal::SegmentHeader& header = start.header.value();
  // The successor's header says where this segment ends; the last one is walked.
  if (!segments_.empty()) {
    SegmentInfo& before = segments_.back();
    if (before.header.number == header.previous) before.end = header.previous_end;
    if (before.header.store != header.store)
      return Status::corrupt(path + ": a segment of another store");
  }
  const std::uint64_t base_min = segments_.empty() ? 1 : segments_.back().header.base_position;
  if (header.number != number_of(name) || header.base_position < base_min)
    return Status::corrupt(path + ": holds segment " + std::to_string(header.number) +
                           ", which does not belong there; was it copied or renamed?");
  SegmentInfo info{header, path, size, {}, {}, 0};
  if (start.block) {
    info.hlc = start.block->hlc;
    for (const wal::TableEntry& entry : start.block->table)
      info.starts[entry.partition] = entry.next;
    const auto burnt = burnt_by(*start.block);
    for (const LossRange& range : burnt) info.ended[range.partition] = range.first;
    recovery_.burnt.insert(recovery_.burnt.end(), burnt.begin(), burnt.end());
  }
  segments_.push_back(std::move(info));
  store_ = header.store;
  number_ = header.number;
  return Status::ok();
}

// What stood before the last segment. Its first block is a checkpoint that says so itself; only
// when that is damaged is the segment before it read.
Result<Log::Table> Log::table_before() {
  Table table;
  if (!segments_.back().starts.empty()) return table;
  if (segments_.size() > 1) {
    const SegmentInfo& before = segments_[segments_.size() - 2];
    EDGECORE_ASSIGN(const Bytes bytes, read_file(*fs_, before.path, UINT32_MAX));
    SegmentWalk walk = walk_segment(bytes, before.header, before.end, UINT64_MAX - 1, {}, nullptr);
    hlc_ = walk.hlc;
    return std::move(walk.table);
  }
  for (const CatalogueEntry& entry : catalogue_.entries)
    table[entry.partition] = {entry.partition, 1, 0};
  for (const auto& [partition, kept] : contents_->kept)
    table[partition] = {partition, kept.segment, 0};
  return table;
}

Status Log::recover_tail() {
  SegmentInfo& last = segments_.back();
  EDGECORE_ASSIGN(const Bytes bytes, read_file(*fs_, last.path, UINT32_MAX));
  EDGECORE_ASSIGN(const auto expected, table_before());
  SegmentKey key;
  if (wal::is_encrypted(last.header) && keys_->has_cipher()) {
    auto found = keys_->find(last.header.key);  // if not, it is checked without
    if (found.is_ok()) key.key = std::move(found).value();
  }
  const SegmentWalk walk =
      walk_segment(bytes, last.header, bytes.size(), durable_position_, expected, nullptr, 0, key);
  EDGECORE_TRY(walk.status);
  last.end = std::max(walk.end, wal::round_up(wal::kHeaderBytes, last.header.sector));
  written_.position = walk.next_position - 1;
  recovery_.clean = walk.closed && walk.losses.empty();
  recovery_.tail_uncertain =
      !walk.closed && !walk.behind_blank && !tail_is_stale(last.header, bytes, walk.end);
  recovery_.ranges.insert(recovery_.ranges.end(), walk.losses.begin(), walk.losses.end());
  hlc_ = std::max(hlc_, walk.hlc);
  end_at(walk);
  if (options_.read_only) return Status::ok();
  // What was read back may stand in the page cache alone (a killed process syncs nothing), so it
  // is made durable before it is called so.
  EDGECORE_ASSIGN(auto file, fs_->open(last.path, OpenMode::kReadWrite));
  EDGECORE_TRY(file->sync());
  promise(written_.position);
  return Status::ok();
}

// Where the walk ends, the log does. Rows that were durable, as the mark says, may have stood
// behind: whose they were is not known, so they are told as a number of positions.
void Log::end_at(const SegmentWalk& walk) {
  if (durable_position_ > written_.position) {
    recovery_.missing = durable_position_ - written_.position;
    recovery_.tail_uncertain = true;
    recovery_.clean = false;
  }
  burn(walk);
  if (options_.read_only)
    durable_position_ =
        std::min(written_.position, std::max(durable_position_, walk.durable_before));
  else
    written_.position = std::max(written_.position, durable_position_);
}

// Numbers that may have been handed out are never handed out again. Behind an uncertain end, any
// partition may have had all the rows that are missing, and a reservation behind them.
void Log::burn(const SegmentWalk& walk) {
  for (const auto& [partition, entry] : walk.table) written_.next[partition] = entry.next;
  const bool lost = recovery_.missing > 0;
  for (auto& [partition, next] : written_.next) {
    const auto known = walk.table.find(partition);
    std::uint64_t through = next - 1;
    if (!walk.closed && known != walk.table.end())
      through = std::max(through, known->second.reserved_through);
    if (recovery_.tail_uncertain)
      through = std::max(through, next - 1 + recovery_.missing + kReservedRowsMax);
    if (through < next) continue;
    ended_[partition] = next;
    if (!options_.read_only)  // a reader ends nothing
      recovery_.ranges.push_back(
          {partition, next, through, lost ? LossRange::kUncertain : LossRange::kBurnt});
    next = through + 1;
  }
}

// A segment file behind the last good one, without an intact header. When nothing stands in it but
// what a segment begins with, it is the unfinished work of a crash, and replaced. Otherwise its
// rows are lost, as many as it can hold at most; the file stays.
Status Log::burn_unreadable_segments() {
  for (const auto& [number, path] : unreadable_) {
    if (number <= number_) continue;
    EDGECORE_ASSIGN(const Bytes bytes, read_file(*fs_, path, UINT32_MAX));
    const std::size_t start =
        2 * wal::kHeaderBytes + 2 * catalogue_.entries.size() * wal::kTableEntryBytes;
    const std::size_t begin = std::min(bytes.size(), wal::round_up(start, 4096));
    if (std::all_of(bytes.begin() + static_cast<std::ptrdiff_t>(begin), bytes.end(),
                    [](std::byte b) { return b == std::byte{0}; }))
      continue;
    const std::uint64_t rows_max = bytes.size() / kRowBytesMin;
    for (auto& [partition, next] : written_.next) {
      ended_.try_emplace(partition, next);
      recovery_.ranges.push_back({partition, next, next + rows_max - 1, LossRange::kUncertain});
      next += rows_max;
    }
    written_.position += rows_max;
    promise(written_.position);
    recovery_.clean = false;
    recovery_.tail_uncertain = true;
    number_ = number;
  }
  return Status::ok();
}

// Without a mark the tail is only less sure. A disk error is not taken for its absence: marks would
// be numbered from the start again.
Status Log::read_mark() {
  const std::string path = join_path(directory_, "mark");
  EDGECORE_ASSIGN(const bool there, fs_->exists(path));
  if (!there) return Status::ok();
  const auto bytes = read_file(*fs_, path, 1u << 20);
  if (!bytes.is_ok())
    return bytes.status().outcome() == Outcome::kCorrupt ? Status::ok() : bytes.status();
  const auto mark = wal::decode_marks(bytes.value());
  if (!mark) return Status::ok();
  mark_generation_ = mark->generation;
  durable_position_ = mark->position;
  return Status::ok();
}

}  // namespace edgecore
