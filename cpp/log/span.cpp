#include "log/span.hpp"

namespace edgecore {

Result<SealedRows> decode_sealed(const Pack& pack, const PackBlock& block,
                                 const Catalogue& catalogue) {
  const CatalogueEntry* entry = catalogue.find(block.schema);
  if (entry == nullptr || entry->schema == nullptr)
    return Status::incompatible("schema " + std::to_string(block.schema) +
                                " of the log is not attached");
  EDGECORE_ASSIGN(const BlockHeader header, read_block_header(pack.bytes_of(block)));
  const BlockIdentity& identity = header.identity;
  if (identity.store != pack.index.store || identity.partition != block.partition ||
      identity.first != block.first || header.count != block.count)
    return Status::corrupt("a pack's block is another than its index says");
  EDGECORE_ASSIGN(DecodedBlock decoded, decode_block(pack.bytes_of(block), entry->schema));
  if (decoded.arrivals.empty()) return Status::corrupt("a pack's block says nothing of positions");
  return SealedRows{std::move(decoded.canonical), std::move(decoded.arrivals)};
}

namespace {

bool holds(const PackBlock& block, const Wanted& wanted) {
  return wanted.partitions.contains(block.partition) &&
         block.first + block.count - 1 > wanted.sequence_after;
}

}  // namespace

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
Status SpanVisit::open(Lane& lane, std::vector<LossRange>* losses) {
  while (!lane.open && lane.at < lane.blocks.size()) {
    const auto& [pack, block] = lane.blocks[lane.at++];
    auto rows = decode_sealed(*pack, *block, catalogue_);
    if (!rows.is_ok() && rows.status().outcome() != Outcome::kCorrupt) return rows.status();
    if (!rows.is_ok()) {
      if (losses != nullptr)
        add_loss(*losses, {block->partition, block->first, block->first + block->count - 1,
                           LossRange::kLost});
      continue;
    }
    lane.rows = std::move(rows).value();
    lane.schema = catalogue_.find(block->schema)->schema;
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
  EDGECORE_ASSIGN(const std::size_t size, rows_size(*lane.schema, rest, arrival.rows));
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

Status SpanVisit::run(const RecordVisitor& visit, std::vector<LossRange>* losses) {
  for (;;) {
    Lane* first = nullptr;
    for (auto& [partition, lane] : lanes_) {
      EDGECORE_TRY(open(lane, losses));
      if (lane.open && (first == nullptr || lane.position() < first->position())) first = &lane;
    }
    if (first == nullptr) return Status::ok();
    EDGECORE_ASSIGN(const bool go_on, step(*first, visit));
    if (!go_on) return Status::ok();
  }
}

}  // namespace edgecore
