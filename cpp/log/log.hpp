// The append-only event log of a device: one write-ahead log for all partitions of a store.
//
// Invariants
// - A sequence of a partition names one content for ever: numbers are handed out only below a
//   reservation that is on stable storage, and after a crash those that may have been are burnt.
//   Positions are dense: a row that was never durable leaves its position to another.
// - A block is durable before durable_position() covers it; every durability promise is made in
//   Log::promise, nowhere else.
// - A segment is never continued. Every open that appends begins a new one (new salt, new epoch),
//   whose header seals the one before at its end of data.
//
// What each cut leaves behind (docs/formats/segment.md): an incomplete block, which ends the data;
// a segment without an intact header, which never was one and is replaced; a durable mark that is
// older than the truth, which only makes more of the tail "uncertain". Recovery writes nothing
// until the first commit, so it may itself be cut anywhere.
//
// - A row is in a segment or in a pack: the side file `contents` says which files are the log's,
// and
//   one write to one of its two slots moves rows from the one to the other, or lets them go.
//
// Thread-safe. mutex_ is never held across I/O; commit_mutex_ makes one committer.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

#include "base/clock.hpp"
#include "base/fs.hpp"
#include "columns/stream.hpp"
#include "log/format.hpp"
#include "log/pack.hpp"
#include "log/reader.hpp"
#include "log/stale.hpp"

namespace edgecore {

struct Durability {
  enum Level : std::uint8_t { kProcess, kKernel, kGroup, kSync };
  Level level = kGroup;
  std::int64_t group_ns = 50'000'000;
  std::uint32_t group_bytes = 32 * 1024;
};

// What stays when it is acknowledged: the newest rows, for those who read history. All limits that
// are set must let a segment go; while none is, everything stays.
struct LogKeep {
  std::optional<std::uint64_t> bytes;  // of blocks, as data_bytes() counts
  std::optional<std::uint64_t> rows;
  std::optional<std::int64_t> ns;  // by the hybrid clock
  bool limited() const { return bytes || rows || ns; }
};

// What a tier may take of the disk, and what gives way when it is more.
struct TierQuota {
  enum Full : std::uint8_t {
    kRefuse,      // appends, until there is room again
    kDropOldest,  // packs, also what nobody has acknowledged
    kDropNewest,  // what is sealed from then on
    kThin,        // from half of the quota on one block in `thin` is sealed; then as kDropOldest
  };
  std::optional<std::uint64_t> bytes;  // of packs
  std::optional<std::int64_t> ttl_ns;  // packs whose newest row came longer ago go
  Full full = kRefuse;
  std::uint32_t thin = 10;
};

struct LogOptions {
  bool read_only = false;
  bool flusher_thread = false;
  std::uint64_t segment_bytes = 1u << 20;
  std::array<Durability, 5> durability{};  // by tier
  StoreId store{};                         // taken when the log is new
  std::uint64_t epoch = 0;                 // random, of this open
  std::uint64_t salt = 0;                  // random, of this open
  LogKeep keep;
  std::array<TierQuota, 5> quotas{};  // by tier
  // Tiers in order of worth: the last of them gives way first.
  std::array<std::uint8_t, 5> priority{0, 1, 2, 3, 4};
  std::optional<std::uint64_t> bytes_max;  // of all files of the log
  // Encrypts what is written from here on, and opens what was. A log with encrypted segments needs
  // it to be written to, or scanned.
  std::shared_ptr<Cipher> cipher;
};

// One sealing: the oldest segments that hold this much become packs.
struct SealRequest {
  std::size_t segments_kept = 2;  // the newest stay, two at least
  std::uint64_t bytes = 4u << 20;
  Coding coding = Coding::kFast;
  std::uint32_t announced = 0;  // as for Log::release
};

struct Sealed {
  std::uint64_t rows = 0;
  std::uint64_t packs = 0;
  std::uint64_t bytes = 0;                                 // of the packs
  std::uint64_t segments = 0;                              // that were freed
  explicit operator bool() const { return segments > 0; }  // whether there was something to seal
};

// What making room has cost.
struct Room {
  std::uint64_t bytes = 0;    // freed
  std::uint64_t acked = 0;    // rows that were acknowledged
  std::uint64_t dropped = 0;  // and rows that were not: edgecore.losses has to tell of them
};

struct Appended {
  std::uint32_t partition = 0;
  std::uint64_t first = 0;
  std::uint32_t count = 0;
  std::uint64_t position = 0;  // of the first row
};

class PackWriter;

class Log {
 public:
  static Result<std::unique_ptr<Log>> open(std::shared_ptr<Fs> fs, std::string directory,
                                           LogOptions options, std::shared_ptr<Clock> clock);
  ~Log();  // as a crash would leave it; close() ends in order
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  const StoreId& store() const { return store_; }
  std::uint64_t epoch() const { return options_.epoch; }
  const RecoveryReport& recovery() const { return recovery_; }

  // The catalogue: number -> partition, tier, stream and canonical schema. register_schema gives
  // the partition of (stream, tier), interning both; a known fingerprint is not written again.
  Result<std::uint32_t> register_schema(const SchemaPtr& schema);
  // Gives a catalogued number its typed form, so that its rows can be decoded.
  Status attach_schema(const SchemaPtr& schema);
  std::vector<CatalogueEntry> catalogue() const;

  // Appends the rows of a registered schema, all or nothing. Durability by the tier's level.
  Result<Appended> append(const RowBatch& rows);
  // The same in steps, for callers that hold a lock of their own: `take` numbers the rows and does
  // no I/O, unless `reserve` is asked for first; `settle`, needed when `commit`, brings them where
  // their tier's level wants them.
  struct Taken {
    Appended done;
    std::size_t bytes = 0;
    bool reserve = false;  // nothing was taken: call reserve() and take again
    bool commit = false;
    bool durable = false;
  };
  Result<Taken> take(const RowBatch& rows);
  Status reserve(const RowBatch& rows);
  Status settle(const Taken& taken);
  // Commits what is due; returns the monotonic time of the next deadline (INT64_MAX: none).
  Result<std::int64_t> poll(std::int64_t now_ns);
  Status flush();  // pending rows to the operating system
  Status sync();   // and to stable storage, with the durable mark
  Status wait_durable(std::uint64_t position);
  Status close();

  std::uint64_t position() const;          // of the last row appended; 0 = none
  std::uint64_t durable_position() const;  // of the last row on stable storage
  // Bytes of the packs and of the blocks in all segments, padding included; not the zeros made
  // beforehand.
  std::uint64_t data_bytes() const;
  std::uint64_t next_sequence(std::uint32_t partition) const;

  // Moves the rows of the oldest segments into packs of column blocks, one tier each, and frees the
  // segments. Rows stay what and where they are for every reader, also those whose schema is not
  // attached. A cut leaves the rows in the segments or in the packs, never in both or in neither.
  Result<Sealed> seal(const SealRequest& request);
  // Ranges found lost on the way that edgecore.losses may not tell of yet; told() ends that.
  std::vector<LossRange> untold() const;
  void told(const std::vector<LossRange>& ranges);

  // Frees packs, the oldest of each tier first, and behind the last pack the oldest segments, whose
  // rows are all at or below `acked`, by partition, that no limit of `keep` wants and that end at
  // or below position `upto`. Returns how many rows went. Needs no space; a row that went is
  // accounted for by released(), not by a loss.
  using Sequences = std::map<std::uint32_t, std::uint64_t>;
  // `announced`: how many schemas, by number, the log's own rows have named; announced() remembers
  // it when those rows are gone.
  Result<std::uint64_t> release(const Sequences& acked, std::uint64_t upto = UINT64_MAX,
                                std::uint32_t announced = 0);
  // Brings the log within its quotas, and frees `wanted` bytes more if a policy lets it: packs that
  // have expired (when `expire`), then the lowest tiers' first, acknowledged ones before others.
  // Tiers that may not drop refuse appends while there is too much. Needs no space.
  Result<Room> make_room(const Sequences& acked, std::uint64_t wanted, bool expire);
  std::uint64_t disk_bytes();  // of all files of the log, zeros made beforehand included

  std::uint32_t announced() const;
  std::uint64_t segment_position() const;  // of the first row that is not sealed
  std::uint64_t first_position() const;    // of the first row kept, or of the next when none is
  Sequences released() const;              // the last sequence released, by partition
  void set_clock_trust(std::uint8_t trust) { clock_trust_ = trust; }

  const KeyRing& keys() const { return *keys_; }
  // Destroys the keys of a tier's packs whose rows came before a day (key_period). They can't be
  // read again, and stay accounted for. Invalid when some are stored in the clear.
  Status purge(std::uint32_t tier, std::uint64_t period);
  // What was purged and has not been released since.
  Result<std::vector<LossRange>> purged() const;
  // Begins a new segment, so that all rows before can be sealed.
  Status rotate();
  std::vector<SegmentInfo> segments() const;

  // Reads what has reached the operating system (read-only logs: what is intact). A reader is a
  // snapshot; it needs no lock and may outlive later appends.
  LogReader reader() const;

 private:
  struct Pending {
    Bytes bytes;  // records, back to back
    std::uint64_t first_position = 0;
    std::uint32_t rows = 0;
    std::uint32_t records = 0;
    std::map<std::uint32_t, std::uint64_t> touched;  // partition -> next
    bool empty() const { return records == 0; }
    void add(const Pending& later);
    void clear();  // keeps the buffer
  };

  using Table = std::map<std::uint32_t, wal::TableEntry>;
  using Nexts = std::map<std::uint32_t, std::uint64_t>;

  Log(std::shared_ptr<Fs> fs, std::string directory, LogOptions options,
      std::shared_ptr<Clock> clock);

  // recovery.cpp
  Status recover();
  Status read_segments();
  Status read_segment(const std::string& name);
  bool holds_pack(const std::string& name) const;
  Status recover_tail();
  Status burn_unreadable_segments();
  Result<Table> table_before();
  void end_at(const SegmentWalk& walk);
  void burn(const SegmentWalk& walk);
  Status read_mark();

  // release.cpp; all with commit_mutex_ held
  bool may_release(std::size_t index, const Sequences& acked, std::uint64_t upto) const;
  bool may_release(const PackEntry& pack, std::uint64_t bytes_behind, const Sequences& acked,
                   std::uint64_t upto);
  bool unwanted(std::uint64_t last, std::uint64_t hlc, std::uint64_t bytes_behind,
                std::uint64_t upto) const;
  std::uint64_t release_packs(wal::Contents& next, const Sequences& acked, std::uint64_t upto);
  const std::vector<PackRange>& ranges_of(const PackEntry& pack);
  std::uint64_t segment_bytes(std::size_t from) const;

  // room.cpp; with seal_mutex_ and commit_mutex_ held
  struct Making;
  bool give_way(Making& making, std::uint32_t tier, bool also_unacked);
  bool drop_oldest(Making& making, std::uint32_t tier, LossRange::Reason reason);
  std::uint64_t file_bytes() const;
  void expire(Making& making);
  void sacrifice(Making& making, std::uint64_t wanted);
  void refuse(const wal::Contents& contents);
  std::optional<LossRange::Reason> refusal(const wal::Contents& contents, std::uint32_t tier);

  // log_contents.cpp; all but the first three with commit_mutex_ held
  Status read_contents();
  Result<bool> all_there(const wal::Contents& contents) const;
  Result<wal::Contents> rebuild_contents() const;
  Status open_contents(const wal::Contents& next);
  Status write_contents(const wal::Contents& next);
  void adopt_contents(wal::Contents next, std::size_t segments);
  void remove_packs(const std::vector<PackEntry>& before, const std::vector<PackEntry>& after);

  // seal.cpp, with seal_mutex_ held
  std::vector<SegmentInfo> segments_to_seal(const SealRequest& request) const;
  Status seal_segments(const std::vector<SegmentInfo>& segments, PackWriter& writer) const;
  Status write_pack(const PackEntry& entry, ByteSpan file);

  // log_keys.cpp; all but check_keys, pack_key and encrypt_pack with commit_mutex_ held
  Status check_keys() const;
  std::set<std::uint32_t> keys_in_use() const;
  Status open_keys();
  Status key_segment(wal::SegmentHeader& header);
  Result<KeyRing::Made> pack_key(const KeyUse& use);
  Status encrypt_pack(PackIndex& index, Bytes& blocks);
  void forget_keys();

  // pool.cpp; all but the last two with commit_mutex_ held
  void free_files(const std::vector<SegmentInfo>& freed);
  std::unique_ptr<File> take_pooled(const wal::SegmentHeader& header, std::string& path);
  Result<std::unique_ptr<File>> take_over(const std::string& path,
                                          const wal::SegmentHeader& header);
  void note_stale(const wal::SegmentHeader& header, ByteSpan bytes);
  void note_pooled(const std::string& path);
  bool tail_is_stale(const wal::SegmentHeader& header, ByteSpan bytes, std::uint64_t from) const;

  Result<LogReader::Source> source_now() const;

  // commit.cpp; all of these with commit_mutex_ held
  Status commit_locked(bool durable, bool closing);
  Status write_block(Pending& block, bool durable, bool closing);
  Status make_room(const Pending& block);
  void keep(Pending& block);
  void recycle(Bytes& bytes);
  Status write_closing();
  Status put_block(const Pending& block, bool durable, bool closing);
  Status encode_block(wal::BlockHead& head, const Pending& block, const wal::SegmentHeader& into,
                      std::uint64_t offset, Bytes& out) const;
  wal::BlockHead head_of(const Pending& block, bool checkpoint, bool closing);
  Result<Bytes> first_block(const wal::SegmentHeader& header);
  Status begin_segment(std::uint64_t bytes_needed);
  bool unsynced() const;
  Status settle_written();
  Status sync_segment();
  void note_synced();
  Status rewrite_retained();
  void promise(std::uint64_t position);
  Status open_mark();
  Status write_mark(bool clean);
  std::uint64_t next_hlc();

  Status commit(bool durable, bool closing = false);
  Status commit_due();
  void run_flusher();
  void stop_flusher();
  void set_deadline(Tier tier);
  bool take_back(const Taken& taken);

  std::shared_ptr<Fs> fs_;
  std::string directory_;
  LogOptions options_;
  std::shared_ptr<Clock> clock_;
  std::unique_ptr<FileLock> lock_;
  StoreId store_{};
  RecoveryReport recovery_;
  Catalogue catalogue_;
  std::shared_ptr<KeyRing> keys_;
  std::atomic<std::uint8_t> clock_trust_{0};
  std::atomic<std::uint8_t> refused_{0};  // tiers that may not append, a bit each

  mutable std::mutex mutex_;  // guards the members down to commit_mutex_
  Pending pending_;
  Nexts next_;
  Nexts reserved_;  // through which sequence numbers may be handed out
  std::uint64_t next_position_ = 1;
  std::uint64_t durable_position_ = 0;
  std::int64_t deadline_ns_ = INT64_MAX;
  // The wait that set the deadline, when an append did: a later append that may wait as long can't
  // make it sooner, and need not look at the clock.
  std::int64_t deadline_wait_ns_ = INT64_MAX;
  std::vector<SegmentInfo> segments_;
  std::shared_ptr<const wal::Contents> contents_ = std::make_shared<wal::Contents>();
  Status failure_;  // of the last commit
  std::condition_variable durable_changed_;
  std::condition_variable work_;
  bool stopping_ = false;
  bool closed_ = false;

  std::mutex seal_mutex_;  // one sealing or release at a time; taken before commit_mutex_
  std::uint64_t next_pack_ = 1;
  bool rebuilt_ = false;              // the contents, from the log's files
  std::uint64_t thinned_ = 0;         // blocks of which all but one in k were let go
  std::vector<std::string> orphans_;  // packs of sealings that did not come to their end

  std::mutex commit_mutex_;  // guards the members below; taken before mutex_
  std::unique_ptr<File> segment_;
  std::unique_ptr<File> mark_file_;
  std::unique_ptr<File> contents_file_;
  std::uint64_t contents_slot_ = 0;                         // bytes of each of its two slots
  std::map<std::uint64_t, std::vector<PackRange>> ranges_;  // of packs, by number, as far as read
  std::deque<std::string> pool_;                            // files to take over, the oldest first
  std::vector<std::string> leftovers_;  // files to remove: a crash came before that
  // What the blocks written so far say, and what those on stable storage say.
  struct Written {
    Nexts next;
    Nexts reserved;
    std::uint64_t position = 0;
    std::uint64_t end = 0;  // of the segment's data
  };
  Written written_;
  Written synced_;
  Nexts ended_;               // before the first segment of this open: where burnt numbers begin
  std::uint64_t number_ = 0;  // of the last segment file, readable or not
  std::vector<std::pair<std::uint64_t, std::string>> unreadable_;  // segment files, by number
  // Written since the last sync, kept to be written again should that sync fail.
  Pending retained_;
  Bytes block_;  // buffers that are used again: the block being written, the next pending rows
  Bytes spare_;
  KeyRing::Made segment_key_;  // of the segment that is written; none: it is not encrypted
  KeyRing::Made next_key_;     // of the next one: it has encrypted nothing yet
  std::map<std::uint32_t, std::pair<KeyUse, KeyRing::Made>> pack_keys_;  // by tier, of this open
  bool keys_opened_ = false;  // those of no file are forgotten
  bool broken_ = false;       // the segment had an error: it is sealed at synced_.end and left
  bool full_ = false;         // the segment was left, but no next one could be begun yet
  bool ends_closed_ = false;  // its last block is a closing one
  std::uint64_t reserve_rows_ = 0;
  std::uint64_t marked_position_ = 0;
  std::uint64_t mark_generation_ = 0;
  bool marked_clean_ = false;
  std::uint64_t hlc_ = 0;
  std::thread flusher_;
};

}  // namespace edgecore
