#include "log/pack_writer.hpp"

#include <algorithm>

#include "log/encryption.hpp"
#include "log/keys.hpp"
#include "log/rows_block.hpp"

namespace edgecore {
namespace {

constexpr std::size_t kIndexGrowth = 512;  // by one more block, in both copies and the trailer
constexpr std::size_t kBlockRowBytes = 128 * 1024;  // of canonical rows: a block is cut behind it

}  // namespace

PackWriter::PackWriter(Common common, const Catalogue& catalogue,
                       std::map<std::uint32_t, std::uint64_t> next, Sink sink, Refusal refusal)
    : common_(std::move(common)),
      catalogue_(catalogue),
      next_(std::move(next)),
      sink_(std::move(sink)),
      refusal_(std::move(refusal)) {}

Result<std::uint32_t> PackWriter::tier_of(std::uint32_t partition) const {
  for (const CatalogueEntry& entry : catalogue_.entries)
    if (entry.partition == partition) return std::uint32_t{entry.tier};
  return Status::corrupt("partition " + std::to_string(partition) + " is not in the catalogue");
}

Status PackWriter::add(const RecordView& record) {
  const std::uint32_t partition = record.head.partition;
  EDGECORE_ASSIGN(const CatalogueEntry* entry, catalogue_.named(record.head.schema));
  if (common_.encrypt) EDGECORE_TRY(begin_period(entry->tier, record.hlc));
  Run& run = runs_[partition];
  const std::uint64_t next =
      run.count > 0 ? run.first + run.count : next_.try_emplace(partition, 1).first->second;
  if (record.head.first < next)
    return Status::corrupt("partition " + std::to_string(partition) + ": sequence " +
                           std::to_string(record.head.first) + " stands twice in the log");
  EDGECORE_TRY(skip(partition, record.head.first, LossRange::kLost));
  if (run.count > 0 && (run.entry != entry || run.epoch != record.epoch))
    EDGECORE_TRY(cut_block(partition, run));
  if (entry->schema == nullptr) {
    run.entry = entry;
    run.epoch = record.epoch;
    return take_record(partition, run, record);
  }
  ByteSpan rows = record.payload;
  for (std::uint32_t done = 0; done < record.head.count;) {
    const std::uint32_t count = std::min(record.head.count - done, kPackBlockRows - run.count);
    EDGECORE_ASSIGN(const std::size_t size, rows_size(*entry->schema, rows, count));
    run.entry = entry;
    run.epoch = record.epoch;
    take_rows(run, record, done, count, rows.first(size));
    rows = rows.subspan(size);
    done += count;
    if (run.count >= kPackBlockRows || run.rows.size() >= kBlockRowBytes)
      EDGECORE_TRY(cut_block(partition, run));
  }
  return Status::ok();
}

void PackWriter::take_rows(Run& run, const RecordView& record, std::uint64_t skip,
                           std::uint32_t count, ByteSpan rows) {
  if (run.count == 0) run.first = record.head.first + skip;
  run.count += count;
  run.rows.insert(run.rows.end(), rows.begin(), rows.end());
  add_arrival(run.arrivals, {count, record.position + skip, record.hlc, record.clock_trust});
}

// Whole: where it could be cut only its schema would tell.
Status PackWriter::take_record(std::uint32_t partition, Run& run, const RecordView& record) {
  if (run.count == 0) run.first = record.head.first;
  run.count += record.head.count;
  run.rows.insert(run.rows.end(), record.payload.begin(), record.payload.end());
  run.arrivals.push_back({record.head.count, record.position, record.hlc, record.clock_trust});
  run.sizes.push_back(static_cast<std::uint32_t>(record.payload.size()));
  if (run.count < kPackBlockRows && run.rows.size() < kBlockRowBytes) return Status::ok();
  return cut_block(partition, run);
}

std::size_t PackWriter::gaps() const {
  std::size_t count = 0;
  for (const auto& [tier, pack] : open_) count += pack.index.gaps.size();
  return count;
}

void PackWriter::account(Open& pack, std::uint32_t partition, std::uint64_t end) {
  std::uint64_t& next = next_.try_emplace(partition, 1).first->second;
  for (PackRange& range : pack.index.ranges)
    if (range.partition == partition) {
      range.end = next = end;
      return;
    }
  pack.index.ranges.push_back({partition, next, end});
  next = end;
}

Status PackWriter::skip(std::uint32_t partition, std::uint64_t next, LossRange::Reason reason) {
  Run& run = runs_[partition];
  if (run.count > 0 && next <= run.first + run.count) return Status::ok();
  EDGECORE_TRY(cut_block(partition, run));
  const std::uint64_t from = next_.try_emplace(partition, 1).first->second;
  if (next <= from) return Status::ok();
  EDGECORE_ASSIGN(const std::uint32_t tier, tier_of(partition));
  Open& pack = open_[tier];
  add_loss(pack.index.gaps, {partition, from, next - 1, reason});
  account(pack, partition, next);
  return Status::ok();
}

Status PackWriter::cut_block(std::uint32_t partition, Run& run) {
  if (run.count == 0) return Status::ok();
  const std::uint32_t tier = run.entry->tier;
  if (const auto reason = refusal_(tier, gaps())) {
    Open& pack = open_[tier];
    add_loss(pack.index.gaps, {partition, run.first, run.first + run.count - 1, *reason});
    account(pack, partition, run.first + run.count);
  } else {
    EDGECORE_TRY(add_block(partition, run));
  }
  run.count = 0;
  run.rows.clear();
  run.arrivals.clear();
  run.sizes.clear();
  return Status::ok();
}

Result<Bytes> PackWriter::make_block(Run& run, PackBlock& made) const {
  if (run.entry->schema == nullptr) {
    made.time_min = INT64_MIN;
    made.time_max = INT64_MAX;
    return encode_rows_block(made, {std::move(run.rows), run.arrivals, run.sizes});
  }
  RowBatch rows(run.entry->schema);
  EDGECORE_TRY(decode_rows(run.rows, run.count, rows));
  made.time_min = made.time_max = rows.time_ns(0);
  for (std::size_t row = 1; row < rows.count(); ++row) {
    made.time_min = std::min(made.time_min, rows.time_ns(row));
    made.time_max = std::max(made.time_max, rows.time_ns(row));
  }
  const BlockIdentity identity{common_.index.store, made.partition, made.first};
  return encode_block(identity, rows, run.arrivals, common_.coding);
}

Status PackWriter::add_block(std::uint32_t partition, Run& run) {
  PackBlock made;
  made.partition = partition;
  made.schema = run.entry->number;
  made.first = run.first;
  made.count = run.count;
  made.epoch = run.epoch;
  made.position_first = run.arrivals.front().position;
  made.position_last = run.arrivals.back().position + run.arrivals.back().rows - 1;
  made.hlc = run.arrivals.back().hlc;
  EDGECORE_ASSIGN(const Bytes block, make_block(run, made));
  made.length = static_cast<std::uint32_t>(block.size());
  const std::uint32_t tier = run.entry->tier;
  const Open& before = open_[tier];
  const std::size_t extra =
      common_.encrypt ? (before.index.blocks.size() + 1) * kSpanExtraBytes : 0;
  const std::size_t size =
      2 * before.index.encoded_bytes() + before.blocks.size() + block.size() + extra;
  const bool full = size + kIndexGrowth > kPackBytesMax ||
                    before.index.blocks.size() >= wal::kUntoldMax;  // each may be a range, dropped
  if (before.begun() && full) EDGECORE_TRY(cut_pack(tier));
  Open& pack = open_[tier];
  pack.index.has_rows |= run.entry->schema == nullptr;
  pack.index.blocks.push_back(made);
  pack.blocks.insert(pack.blocks.end(), block.begin(), block.end());
  account(pack, partition, run.first + run.count);
  return Status::ok();
}

Status PackWriter::cut_pack(std::uint32_t tier) {
  Open pack = std::move(open_[tier]);
  open_[tier] = {};
  if (!pack.begun()) return Status::ok();
  PackIndex index = common_.index;
  ++common_.index.number;
  index.tier = static_cast<std::uint16_t>(tier);
  index.has_rows = pack.index.has_rows;
  index.blocks = std::move(pack.index.blocks);
  index.ranges = std::move(pack.index.ranges);
  index.gaps = std::move(pack.index.gaps);
  if (common_.encrypt && !index.blocks.empty()) EDGECORE_TRY(common_.encrypt(index, pack.blocks));
  const Bytes file = encode_pack(index, pack.blocks);
  return sink_(index.entry(file.size()), index, file);
}

// Rows under one key are of one period, so that its end is the end of these rows alone.
Status PackWriter::begin_period(std::uint32_t tier, std::uint64_t hlc) {
  const std::uint64_t period = key_period(hlc);
  const auto [known, first] = periods_.try_emplace(tier, period);
  if (first || known->second == period) return Status::ok();
  known->second = period;
  for (auto& [partition, run] : runs_)
    if (run.count > 0 && run.entry->tier == tier) EDGECORE_TRY(cut_block(partition, run));
  return cut_pack(tier);
}

Status PackWriter::finish() {
  for (auto& [partition, run] : runs_) EDGECORE_TRY(cut_block(partition, run));
  std::vector<std::uint32_t> tiers;
  for (const auto& [tier, pack] : open_) tiers.push_back(tier);
  for (const std::uint32_t tier : tiers) EDGECORE_TRY(cut_pack(tier));
  return Status::ok();
}

}  // namespace edgecore
