// Reading a write-ahead log: the walk over blocks and records that recovery, scans and verification
// share. Nothing here writes.
#pragma once

#include <functional>
#include <map>
#include <memory>

#include "base/fs.hpp"
#include "log/format.hpp"
#include "log/keys.hpp"
#include "log/released.hpp"

namespace edgecore {

// A span of sequences that will never be read, and why.
struct LossRange {
  enum Reason : std::uint8_t { kLost = 0, kBurnt = 1, kUncertain = 2, kPurged = 5 };
  std::uint32_t partition = 0;
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  Reason reason = kLost;
};

struct RecoveryReport {
  bool clean = true;              // the log was closed in order, or is new
  bool tail_uncertain = false;    // non-blank bytes behind the end of data, above the last mark
  std::uint64_t missing = 0;      // positions that the mark calls durable, behind the end of data
  std::vector<LossRange> ranges;  // found by this open
  std::vector<LossRange> burnt;   // by earlier ones, as the segments' opening blocks say
  std::uint64_t segments = 0;
};

struct CatalogueEntry {
  std::uint32_t number = 0;
  std::uint32_t partition = 0;
  std::uint8_t tier = 0;
  std::string stream;
  Digest fingerprint{};
  Bytes canonical;
  SchemaPtr schema;  // null until attached
};

struct Catalogue {
  std::vector<CatalogueEntry> entries;
  Bytes to_bytes() const;
  static Result<Catalogue> from_bytes(ByteSpan bytes);
  const CatalogueEntry* find(std::uint32_t number) const;
  // By identity, else by fingerprint.
  const CatalogueEntry* find(const SchemaPtr& schema) const;
};

struct SegmentInfo {
  wal::SegmentHeader header;
  std::string path;
  std::uint64_t end = wal::kHeaderBytes;  // of its data
  // From its first block: partition -> the first sequence that may stand in it. Empty: not known.
  std::map<std::uint32_t, std::uint64_t> starts;
  // Where the numbers stood that a crash has burnt before its first block, if it opens a log.
  std::map<std::uint32_t, std::uint64_t> ended;
  std::uint64_t hlc = 0;  // of its first block
};

// One intact record, in order of position. `payload` borrows until the next step.
struct RecordView {
  wal::RecordHead head;
  std::uint64_t position = 0;
  std::uint64_t hlc = 0;
  std::uint64_t epoch = 0;
  std::uint8_t clock_trust = 0;
  ByteSpan payload;
};

// How a walk meets the records of a sealed segment. Without a key they are checked, not visited;
// a walk that visits nothing opens them only to tell what a damaged block before them held.
struct SegmentKey {
  std::shared_ptr<CipherKey> key;
  std::optional<LossRange::Reason> gone;  // nobody has the key any more, and why
};

// Of sealed records that were checked by their checksums alone.
struct Unopened {
  std::uint64_t rows = 0;
  std::uint64_t records = 0;
  std::uint64_t bytes = 0;
  std::uint64_t missing = 0;  // rows of damaged blocks; which ones, only the key would tell
  void add(const Unopened& more) {
    rows += more.rows;
    records += more.records;
    bytes += more.bytes;
    missing += more.missing;
  }
};

// What a walk over one segment found.
struct SegmentWalk {
  Status status;  // of the cipher; when it is bad the walk ended before the block
  std::uint64_t end = wal::kHeaderBytes;  // end of the last intact block
  std::uint64_t next_position = 1;
  std::uint64_t durable_before = 0;  // the highest mark carried by a block
  std::uint64_t hlc = 0;
  std::uint32_t blocks = 0;
  bool closed = false;       // the last block is a closing one
  bool behind_blank = true;  // nothing but zeros behind the end
  std::map<std::uint32_t, wal::TableEntry> table;
  std::vector<LossRange> losses;  // to damage
  std::vector<LossRange> burnt;   // as its opening block says
  Unopened unopened;
};

using RecordVisitor = std::function<bool(const RecordView&)>;  // false stops

// Walks `bytes` (a whole segment, header included) up to `limit`. A block that is not intact, but
// whose rows were durable (`durable` or the mark of any later block reaches past them), is damage:
// it is skipped and its rows are lost. Any other is torn: the data ends before it. `expected` is
// the next sequence per partition before the segment. Blocks that hold nothing above `after` are
// stepped over: their records are neither checked nor visited. Sealed records that `key` does not
// open, though they are intact, were made by somebody else: they are damage too.
SegmentWalk walk_segment(ByteSpan bytes, const wal::SegmentHeader& header, std::uint64_t limit,
                         std::uint64_t durable,
                         const std::map<std::uint32_t, wal::TableEntry>& expected,
                         const RecordVisitor& visit, std::uint64_t after = 0,
                         const SegmentKey& key = {});

class LogReader {
 public:
  LogReader(std::shared_ptr<Fs> fs, std::vector<SegmentInfo> segments, Catalogue catalogue,
            std::uint64_t position_max, std::string directory, wal::Released released,
            std::shared_ptr<const KeyRing> keys = nullptr)
      : fs_(std::move(fs)),
        segments_(std::move(segments)),
        catalogue_(std::move(catalogue)),
        position_max_(position_max),
        directory_(std::move(directory)),
        released_(std::move(released)),
        keys_(std::move(keys)) {}

  // Visits intact records that hold positions above `after`, in order, from the first position that
  // is kept. Losses found are added to `losses` when given; what is released is none, also when
  // that happens meanwhile: it is passed over. Sealed records whose keys can't be had are an error,
  // or, when `unopened` is given, checked and counted there.
  Status visit(std::uint64_t after, const RecordVisitor& visit,
               std::vector<LossRange>* losses = nullptr, Unopened* unopened = nullptr) const;
  // The same for one segment, 0 to segments() - 1; nothing when it holds none above `after`.
  // A caller that stops between segments goes on with the next one, and may give each the same
  // buffer.
  Status visit_segment(std::size_t index, std::uint64_t after, const RecordVisitor& visit,
                       Bytes& buffer) const;
  // Whether a segment can hold sequences above `after` of a partition, by what its first block and
  // the next one's say.
  bool may_hold(std::size_t index, std::uint32_t partition, std::uint64_t after) const;
  std::size_t segments() const { return segments_.size(); }
  std::uint64_t base_position(std::size_t index) const {
    return segments_[index].header.base_position;
  }
  const Catalogue& catalogue() const { return catalogue_; }
  std::uint64_t position_max() const { return position_max_; }
  std::uint64_t first_position() const { return released_.position; }  // that is kept

 private:
  // A segment's bytes up to its end; nullopt when it was released since this reader was made. The
  // buffer only grows, so that it is filled without being cleared first.
  Result<std::optional<ByteSpan>> load(const SegmentInfo& segment, Bytes& buffer) const;
  bool released_since(const SegmentInfo& segment) const;
  Result<SegmentKey> key_of(const SegmentInfo& segment) const;

  std::shared_ptr<Fs> fs_;
  std::vector<SegmentInfo> segments_;
  Catalogue catalogue_;
  std::uint64_t position_max_;
  std::string directory_;
  wal::Released released_;
  std::shared_ptr<const KeyRing> keys_;
};

}  // namespace edgecore
