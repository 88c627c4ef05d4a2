// The Fs seam in memory: a disk that can lose everything it is allowed to lose. It keeps, beside
// what a reader sees, what is durable and an ordered list of volatile units (one sector of one
// write, one change of size, one directory operation). A crash image is the durable state plus a
// legal subset of the units, applied in order. A direct write is durable when it is done; cut or
// failed in its midst it leaves any subset of its own sectors.
//
// Two models of what is legal:
// - kPosix: any subset. Only File::sync and sync_directory promise anything.
// - kExt4 (data=ordered, without auto_da_alloc): directory operations survive as a prefix, and
//   are committed by any successful sync; a file's new size survives only with the data below it.
// Sectors are never torn. Removed files that nobody can name are dropped from crash images.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>

#include "base/fs.hpp"

namespace edgecore {

enum class DiskModel : std::uint8_t { kPosix, kExt4 };

// Bits, so that a fault can name a set.
enum class Operation : std::uint32_t {
  kCreate = 1u << 0,  // an open that makes the file
  kWrite = 1u << 1,
  kSync = 1u << 2,
  kTruncate = 1u << 3,
  kFillZeros = 1u << 4,
  kRename = 1u << 5,
  kRemove = 1u << 6,
  kMakeDirectories = 1u << 7,
  kSyncDirectory = 1u << 8,
  kOpen = 1u << 9,  // of an existing file
  kRead = 1u << 10,
  kList = 1u << 11,  // list, exists, size, free_bytes
  kLock = 1u << 12,
  kWriteDurable = 1u << 13,  // a direct one; any other is a write and a sync
};
inline constexpr std::uint32_t kMutations = 0x21ff;  // what operations() counts
inline constexpr std::uint32_t kAllOperations = 0x3fff;

enum class FaultEffect : std::uint8_t {
  kIoError,     // Unavailable; a failed sync also gives up the unsynced data for good, a failed
                // durable write its own, of which any part may be there
  kNoSpace,     // Exhausted
  kShortWrite,  // the first half is written, then Unavailable (on another operation: kIoError)
  kLyingSync,   // reports Ok and makes nothing durable (fires on syncs and durable writes only)
};

struct Fault {
  FaultEffect effect = FaultEffect::kIoError;
  std::uint32_t on = kMutations;  // bits of Operation
  std::string path_contains;      // empty: any path
  std::uint64_t skip = 0;         // matching operations let through first
  bool sticky = false;            // one operation, or every later one
};

struct MemoryFsOptions {
  std::uint32_t sector_size = 512;
  DiskModel model = DiskModel::kPosix;
  std::uint64_t capacity = std::uint64_t{1} << 40;  // bytes of file content
  // Durable writes of whole sectors inside a file are one operation, as past a page cache.
  bool direct_writes = false;
};

// Thread-safe. Files and locks keep the disk alive.
class MemoryFs final : public Fs {
 public:
  explicit MemoryFs(MemoryFsOptions options = {});
  ~MemoryFs() override;

  Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) override;
  Status rename(const std::string& from, const std::string& to) override;
  Status remove(const std::string& path) override;
  Result<bool> exists(const std::string& path) override;
  Result<std::vector<std::string>> list(const std::string& directory) override;
  Status make_directories(const std::string& directory) override;
  Status sync_directory(const std::string& directory) override;
  Result<std::unique_ptr<FileLock>> lock(const std::string& path) override;
  Result<std::uint64_t> free_bytes(const std::string& directory) override;
  std::uint32_t sector_size() const override;

  // Mutating operations begun so far.
  std::uint64_t operations() const;
  // The power fails just before the operation-th mutation (1 is the first from now): it and every
  // later call of any kind is Unavailable. Cutting before each of n + 1 operations meets every
  // state, since a half-done operation is a subset of its units; a direct write, which leaves no
  // units when it is done, is cut in its midst.
  void cut_power_at(std::uint64_t operation);
  bool power_is_cut() const;
  // Returns the fault's number; a test asserts that fired() is not 0.
  std::size_t inject(Fault fault);
  std::uint64_t fired(std::size_t fault) const;
  void clear_faults();
  void set_capacity(std::uint64_t bytes);

  std::size_t pending_units() const;
  // What a power cut now may leave: each unit kept or lost as told (made legal for the model by
  // losing more), or by chance. Images have no faults, no locks, nothing pending.
  std::shared_ptr<MemoryFs> crash(const std::vector<bool>& kept) const;
  std::shared_ptr<MemoryFs> crash(std::uint64_t seed) const;
  // Distinct legal images, at most `limit`: all of them while pending_units() <= 10, else none,
  // all, leave-one-out, singles, prefixes, suffixes and random ones in a seeded order.
  std::vector<std::shared_ptr<MemoryFs>> crash_states(std::size_t limit, std::uint64_t seed) const;

  struct Disk;  // fs_memory_disk.hpp

 private:
  explicit MemoryFs(std::shared_ptr<Disk> disk);
  std::shared_ptr<Disk> disk_;
};

}  // namespace edgecore
