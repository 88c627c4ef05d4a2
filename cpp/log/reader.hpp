// Reading a write-ahead log: the walk over blocks and records that recovery, scans and verification
// share. Nothing here writes.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>

#include "base/fs.hpp"
#include "log/contents.hpp"
#include "log/format.hpp"
#include "log/keys.hpp"

namespace edgecore {

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
  // One that the catalogue has. Incompatible when there is none.
  Result<const CatalogueEntry*> named(std::uint32_t number) const;
  // One whose rows can be decoded. Incompatible when its schema is not attached.
  Result<const CatalogueEntry*> attached(std::uint32_t number) const;
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

struct Pack;
struct PackBlock;

// One intact record, in order of position. `payload` borrows until the next step.
struct RecordView {
  wal::RecordHead head;
  std::uint64_t position = 0;
  std::uint64_t hlc = 0;
  std::uint64_t epoch = 0;
  std::uint8_t clock_trust = 0;
  ByteSpan payload;
};

// How a reader meets what is encrypted in a segment or pack. Without a key they are checked, not
// visited; a walk that visits nothing opens them only to tell what a damaged block before them
// held.
struct SegmentKey {
  std::shared_ptr<CipherKey> key;
  std::optional<LossRange::Reason> gone;  // nobody has the key any more, and why
};

// Of encrypted records that were checked by their checksums alone.
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
// stepped over: their records are neither checked nor visited. Encrypted records that `key` does
// not open, though they are intact, were made by somebody else: they are damage too.
SegmentWalk walk_segment(ByteSpan bytes, const wal::SegmentHeader& header, std::uint64_t limit,
                         std::uint64_t durable,
                         const std::map<std::uint32_t, wal::TableEntry>& expected,
                         const RecordVisitor& visit, std::uint64_t after = 0,
                         const SegmentKey& key = {});

// What a reader looks for; it may be given more.
struct Wanted {
  std::set<std::uint32_t> partitions;
  std::uint64_t sequence_after = 0;  // in each of them
  // Event times, the last one included. What is sealed is told by its indexes; segments by no one.
  std::int64_t time_min = INT64_MIN;
  std::int64_t time_max = INT64_MAX;
  // Rows of several partitions in order of position, where blocks would have each one's in order.
  bool by_position = false;

  bool holds_times(std::int64_t first, std::int64_t last) const {
    return first <= time_max && last >= time_min;
  }
};

// A snapshot of the log, in parts: what was sealed, the oldest first, then the segments. A caller
// goes on from part to part by position:
//   for (std::uint64_t at = after; at < reader.position_max();) at = visit_part(at, ...);
// What is released meanwhile is passed over; what is sealed meanwhile is found where it went.
class LogReader {
 public:
  struct Source {
    std::vector<SegmentInfo> segments;
    Catalogue catalogue;
    std::shared_ptr<const wal::Contents> contents;
    std::shared_ptr<const KeyRing> keys;
  };
  // The log as it is now.
  using Renew = std::function<Result<Source>()>;

  LogReader(std::shared_ptr<Fs> fs, std::string directory, Source source, Renew renew,
            std::uint64_t position_max)
      : fs_(std::move(fs)),
        directory_(std::move(directory)),
        source_(std::move(source)),
        renew_(std::move(renew)),
        position_max_(position_max) {}

  // Visits the intact records, in order of position, of the first part that holds positions above
  // `after`, and returns the last position of that part, or UINT64_MAX when nothing follows.
  // Records may be of any partition; those that are not `wanted`, when given, may be left out. A
  // caller may give each part the same buffer.
  Result<std::uint64_t> visit_part(std::uint64_t after, const Wanted* wanted,
                                   const RecordVisitor& visit, Bytes& buffer);
  // Visits everything above `after`. Losses to damage are added to `losses` when given; then
  // everything is read, whatever `after` is. Encrypted records whose keys can't be had are an
  // error, or, when `unopened` is given, checked and counted there.
  Status visit(std::uint64_t after, const RecordVisitor& visit,
               std::vector<LossRange>* losses = nullptr, Unopened* unopened = nullptr);
  // Column blocks of the wanted partitions whose positions are all in (after, until], whole and in
  // the clear but undecoded, and what else there is in it as records; each partition's in order,
  // and false stops. Their schemas may not be attached. Blocks that can't be read are for the
  // visitor to refuse: Corrupt from it passes over the block.
  using BlockVisitor =
      std::function<Result<bool>(const CatalogueEntry&, const PackBlock&, ByteSpan block)>;
  using EntryVisitor = std::function<Result<bool>(const CatalogueEntry&, const RecordView&)>;
  Status visit_blocks(std::uint64_t after, std::uint64_t until, const Wanted& wanted,
                      const BlockVisitor& block, const EntryVisitor& record);
  // Its first part, as visit_part: false ends that alone. Buffers may be given to the next.
  Result<std::uint64_t> visit_part_blocks(std::uint64_t after, std::uint64_t until,
                                          const Wanted& wanted, const BlockVisitor& block,
                                          const EntryVisitor& record, std::vector<Pack>& packs,
                                          Bytes& buffer);
  // Whether every row that a stream ever had before the segments is still there: none was released,
  // dropped, thinned or lost. Reads the packs of its tiers.
  Result<bool> is_whole(const std::string& stream);
  // The first position of the part that holds `position`.
  std::uint64_t part_base(std::uint64_t position) const;

  const Catalogue& catalogue() const { return source_.catalogue; }
  std::uint64_t position_max() const { return position_max_; }
  // Of the wanted partitions there are no more.
  std::uint64_t rows_max(const Wanted& wanted) const;
  std::uint64_t first_position() const { return source_.contents->first_position(); }

 private:
  using Table = std::map<std::uint32_t, wal::TableEntry>;
  struct Account {
    std::vector<LossRange>* losses;  // may be null
    Unopened* unopened;              // may be null
    Table table;                     // what stood before the part
  };

  std::size_t pack_at(std::uint64_t position) const;
  std::size_t span_end(std::size_t first) const;
  std::size_t segment_at(std::uint64_t position) const;
  Result<std::uint64_t> visit_span(std::size_t first, std::uint64_t after, const Wanted* wanted,
                                   const RecordVisitor& visit, Account* account);
  Result<std::uint64_t> visit_segment(std::size_t index, std::uint64_t after, const Wanted* wanted,
                                      const RecordVisitor& visit, Bytes& buffer, Account* account);
  Result<std::uint64_t> visit_next(std::uint64_t after, const Wanted* wanted,
                                   const RecordVisitor& visit, Bytes& buffer, Account* account);
  bool may_hold(std::size_t segment, const Wanted* wanted) const;
  Status load_span(std::size_t first, std::size_t end, const Wanted* wanted, bool without_keys,
                   std::vector<Pack>& packs) const;
  void take_account(const std::vector<Pack>& packs, Account& account) const;
  // A segment's bytes up to its end; nullopt when it is the log's no more. The buffer only grows,
  // so that it is filled without being cleared first.
  Result<std::optional<ByteSpan>> load(const SegmentInfo& segment, Bytes& buffer) const;
  bool is_current(const SegmentInfo& segment) const;
  std::optional<wal::Contents> contents_now() const;
  // Whether the log has changed since, so that what was not found may be elsewhere now; then this
  // is a snapshot of it as it is now.
  Result<bool> moved(const Status& status);
  Status visit_blocks_of(const std::vector<Pack>& packs, std::uint64_t after, std::uint64_t until,
                         const Wanted& wanted, const BlockVisitor& block,
                         const EntryVisitor& record) const;
  std::set<std::uint32_t> tiers_of(const Wanted* wanted) const;

  std::shared_ptr<Fs> fs_;
  std::string directory_;
  Source source_;
  Renew renew_;
  std::uint64_t position_max_;
};

// The key of a segment's or pack's rows, if it has one (id is not 0). A key of which the file says
// nothing is lost, and with it what it has encrypted.
Result<SegmentKey> key_of(const KeyRing* keys, std::uint32_t id, const std::string& path);

std::string contents_path(const std::string& directory);
std::string pack_path(const std::string& directory, std::uint64_t number);
std::string segment_path(const std::string& directory, std::uint64_t number);

}  // namespace edgecore
