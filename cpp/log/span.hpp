// Reading what one sealing has made: its packs of all tiers, as the records that they were, in
// order of position. One decoded block per partition is in memory at a time.
#pragma once

#include <set>

#include "columns/block.hpp"
#include "log/pack.hpp"
#include "log/reader.hpp"

namespace edgecore {

// A pack file, read whole.
struct Pack {
  PackIndex index;
  Bytes file;
  SegmentKey key;  // of its blocks, if they are encrypted and it can be had
  ByteSpan bytes_of(const PackBlock& block) const {
    return ByteSpan(file).subspan(block.offset, block.length);
  }
};

// The column block in the clear; `opened` holds it when it was encrypted.
Result<ByteSpan> open_block(const Pack& pack, const PackBlock& block, Bytes& opened);

// What a block holds as records have it.
struct SealedRows {
  Bytes canonical;
  std::vector<Arrival> arrivals;
  // Of a block of rows (rows_block.hpp): the bytes of each arrival's. Empty: the schema tells.
  std::vector<std::uint32_t> sizes;
};
// Corrupt when the block is not what its index says, Untrusted when its key did not seal it,
// Incompatible when a column block's schema is not attached.
Result<SealedRows> decode_sealed(const Pack& pack, const PackBlock& block,
                                 const Catalogue& catalogue);

// Whether a block has what is looked for.
bool holds(const PackBlock& block, const Wanted& wanted);

class SpanVisit {
 public:
  // Of the packs' blocks, those that hold positions above `after`, and that are wanted.
  SpanVisit(const std::vector<Pack>& packs, const Catalogue& catalogue, std::uint64_t after,
            const Wanted* wanted);

  // Of one block.
  SpanVisit(const Pack& pack, const PackBlock& block, const Catalogue& catalogue)
      : catalogue_(catalogue) {
    lanes_[block.partition].blocks.push_back({&pack, &block});
  }

  // Visits the records in order of position. A block that can't be read is passed over: its
  // sequences are added to `losses` when given. Without its key it is checked, and added to
  // `unopened`. Incompatible when a schema is not attached.
  Status run(const RecordVisitor& visit, std::vector<LossRange>* losses,
             Unopened* unopened = nullptr);

 private:
  struct Lane {  // the blocks of one partition
    std::vector<std::pair<const Pack*, const PackBlock*>> blocks;
    std::size_t at = 0;
    SealedRows rows;
    SchemaPtr schema;
    std::size_t arrival = 0;
    std::size_t offset = 0;   // of the arrival's rows
    std::uint64_t first = 0;  // its first sequence
    bool open = false;

    std::uint64_t position() const { return rows.arrivals[arrival].position; }
  };

  Status open(Lane& lane, std::vector<LossRange>* losses, Unopened* unopened);
  Result<bool> step(Lane& lane, const RecordVisitor& visit);

  const Catalogue& catalogue_;
  std::map<std::uint32_t, Lane> lanes_;
};

}  // namespace edgecore
