#include "log/span.hpp"

#include "log/encryption.hpp"
#include "log/rows_block.hpp"

namespace edgecore {

Result<ByteSpan> open_block(const Pack& pack, const PackBlock& block, Bytes& opened) {
  const ByteSpan bytes = pack.bytes_of(block);
  if (pack.index.key == 0) return bytes;
  if (pack.key.gone) return Status::corrupt("a pack's key was destroyed, or is damaged");
  if (pack.key.key == nullptr) return Status::unavailable("a pack's key is not there");
  EDGECORE_ASSIGN(opened, decrypt_block(*pack.key.key, pack.index, block, bytes));
  return ByteSpan(opened);
}

Result<SealedRows> decode_sealed(const Pack& pack, const PackBlock& block,
                                 const Catalogue& catalogue) {
  Bytes opened;
  EDGECORE_ASSIGN(const ByteSpan bytes, open_block(pack, block, opened));
  if (is_rows_block(bytes)) return decode_rows_block(bytes, block);
  EDGECORE_ASSIGN(const CatalogueEntry* entry, catalogue.attached(block.schema));
  EDGECORE_ASSIGN(const BlockHeader header, read_block_header(bytes));
  const BlockIdentity& identity = header.identity;
  if (identity.store != pack.index.store || identity.partition != block.partition ||
      identity.first != block.first || header.count != block.count)
    return Status::corrupt("a pack's block is another than its index says");
  EDGECORE_ASSIGN(DecodedBlock decoded, decode_block(bytes, entry->schema));
  if (decoded.arrivals.empty()) return Status::corrupt("a pack's block says nothing of positions");
  return SealedRows{std::move(decoded.canonical), std::move(decoded.arrivals), {}};
}

bool holds(const PackBlock& block, const Wanted& wanted) {
  return wanted.partitions.contains(block.partition) &&
         block.first + block.count - 1 > wanted.sequence_after &&
         wanted.holds_times(block.time_min, block.time_max);
}

SpanVisit::SpanVisit(const std::vector<Pack>& packs, const Catalogue& catalogue,
                     std::uint64_t after, const Wanted* wanted)
    : catalogue_(catalogue) {
  for (const Pack& pack : packs)
    for (const PackBlock& block : pack.index.blocks) {
      if (block.position_last <= after) continue;
      if (wanted != nullptr && !holds(block, *wanted)) continue;
      lanes_[block.partition].blocks.push_back({&pack, &block});
    }
}

// The lane's next block that can be read, if there is one.
Status SpanVisit::open(Lane& lane, std::vector<LossRange>* losses, Unopened* unopened) {
  while (!lane.open && lane.at < lane.blocks.size()) {
    const auto& [pack, block] = lane.blocks[lane.at++];
    const auto lose = [&, &block = block](LossRange::Reason reason) {
      if (losses != nullptr)
        add_loss(*losses,
                 {block->partition, block->first, block->first + block->count - 1, reason});
    };
    if (pack->index.key != 0 && pack->key.key == nullptr) {
      const ByteSpan span = pack->bytes_of(*block);
      if (!block_intact(span))
        lose(LossRange::kLost);
      else if (pack->key.gone)
        lose(*pack->key.gone);
      else if (unopened != nullptr)
        unopened->add({block->count, 1, span.size() - kSpanExtraBytes, 0});
      continue;
    }
    auto rows = decode_sealed(*pack, *block, catalogue_);
    const Outcome outcome = rows.status().outcome();
    if (outcome == Outcome::kCorrupt || outcome == Outcome::kUntrusted) {
      lose(LossRange::kLost);
      continue;
    }
    EDGECORE_TRY(rows.status());
    lane.rows = std::move(rows).value();
    const CatalogueEntry* entry = catalogue_.find(block->schema);
    lane.schema = entry == nullptr ? nullptr : entry->schema;
    lane.arrival = lane.offset = 0;
    lane.first = block->first;
    lane.open = true;
  }
  return Status::ok();
}

// One record: the rows that one append has brought.
Result<bool> SpanVisit::step(Lane& lane, const RecordVisitor& visit) {
  const auto& [pack, block] = lane.blocks[lane.at - 1];
  const Arrival& arrival = lane.rows.arrivals[lane.arrival];
  const ByteSpan rest = ByteSpan(lane.rows.canonical).subspan(lane.offset);
  Result<std::size_t> told = lane.rows.sizes.empty()
                                 ? rows_size(*lane.schema, rest, arrival.rows)
                                 : Result<std::size_t>(lane.rows.sizes[lane.arrival]);
  EDGECORE_ASSIGN(const std::size_t size, std::move(told));
  RecordView view;
  view.head = {block->partition, block->schema, lane.first, arrival.rows,
               static_cast<std::uint32_t>(size)};
  view.position = arrival.position;
  view.hlc = arrival.hlc;
  view.epoch = block->epoch;
  view.clock_trust = arrival.clock_trust;
  view.payload = rest.first(size);
  const bool go_on = visit(view);
  lane.first += arrival.rows;
  lane.offset += size;
  lane.open = ++lane.arrival < lane.rows.arrivals.size();
  return go_on;
}

Status SpanVisit::run(const RecordVisitor& visit, std::vector<LossRange>* losses,
                      Unopened* unopened) {
  for (;;) {
    Lane* first = nullptr;
    for (auto& [partition, lane] : lanes_) {
      EDGECORE_TRY(open(lane, losses, unopened));
      if (lane.open && (first == nullptr || lane.position() < first->position())) first = &lane;
    }
    if (first == nullptr) return Status::ok();
    EDGECORE_ASSIGN(const bool go_on, step(*first, visit));
    if (!go_on) return Status::ok();
  }
}

}  // namespace edgecore
