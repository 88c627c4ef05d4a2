// Sorts the records of a sealing by tier and partition, and makes packs of them: blocks whose
// boundaries are cut here, once, and an account of every sequence between.
#pragma once

#include <functional>

#include "columns/block.hpp"
#include "log/pack.hpp"
#include "log/reader.hpp"

namespace edgecore {

class PackWriter {
 public:
  // What the packs have in common; blocks, ranges and gaps are left empty. Its number is the first
  // pack's, the others follow.
  struct Common {
    PackIndex index;
    Coding coding = Coding::kFast;
    // Given: encrypts the blocks of a pack whose index is otherwise complete.
    std::function<Status(PackIndex&, Bytes& blocks)> encrypt;
  };
  using Sink = std::function<Status(const PackEntry&, const PackIndex&, ByteSpan file)>;
  // Asked before a block is made: why its rows are not kept, if they are not. `gaps`: how many the
  // packs that are not finished yet have.
  using Refusal =
      std::function<std::optional<LossRange::Reason>(std::uint32_t tier, std::size_t gaps)>;

  PackWriter(Common common, const Catalogue& catalogue, std::map<std::uint32_t, std::uint64_t> next,
             Sink sink, Refusal refusal);

  // In order of position. Rows of a schema that is not attached are kept as they are.
  Status add(const RecordView& record);
  // The partition goes on at `next`; sequences before it that no record brought are gone.
  Status skip(std::uint32_t partition, std::uint64_t next, LossRange::Reason reason);
  // The last packs.
  Status finish();

  // By partition, the first sequence that is not accounted for yet.
  const std::map<std::uint32_t, std::uint64_t>& next() const { return next_; }
  std::uint64_t next_number() const { return common_.index.number; }

 private:
  // Rows of one partition that wait to become a block.
  struct Run {
    const CatalogueEntry* entry = nullptr;
    std::uint64_t epoch = 0;
    std::uint64_t first = 0;
    std::uint32_t count = 0;
    Bytes rows;
    std::vector<Arrival> arrivals;
    std::vector<std::uint32_t> sizes;  // of records, when the schema is not attached
  };
  struct Open {  // the pack of a tier
    PackIndex index;
    Bytes blocks;
    bool begun() const { return !index.ranges.empty(); }
  };

  void take_rows(Run& run, const RecordView& record, std::uint64_t skip, std::uint32_t count,
                 ByteSpan rows);
  Status take_record(std::uint32_t partition, Run& run, const RecordView& record);
  std::size_t gaps() const;
  Status cut_block(std::uint32_t partition, Run& run);
  Status cut_pack(std::uint32_t tier);
  Status add_block(std::uint32_t partition, Run& run);
  Result<Bytes> make_block(Run& run, PackBlock& made) const;
  Status begin_period(std::uint32_t tier, std::uint64_t hlc);
  void account(Open& pack, std::uint32_t partition, std::uint64_t end);
  Result<std::uint32_t> tier_of(std::uint32_t partition) const;

  Common common_;
  const Catalogue& catalogue_;
  std::map<std::uint32_t, std::uint64_t> next_;
  Sink sink_;
  Refusal refusal_;
  std::map<std::uint32_t, Run> runs_;               // by partition
  std::map<std::uint32_t, Open> open_;              // by tier
  std::map<std::uint32_t, std::uint64_t> periods_;  // of the keys of their rows, by tier
};

}  // namespace edgecore
