// The one seam to storage. Everything that must survive a power cut is written through an Fs: the
// log, chunks, activation journals, cursors, trust state, in C++ and (bound) in Python.
//
// Contract, the weakest that POSIX disks give:
// - a write is volatile until File::sync returns Ok; before that any subset of its sectors may
//   survive a crash, in any order;
// - File::write_durable that returns Ok promises its own range, and nothing of other writes;
// - a name (create, rename, remove) is volatile until sync_directory of its parent returns Ok;
// - a failed sync means that the unsynced data may be lost for good: it is never retried on the
//   same File. A failed write_durable is a failed sync of its range.
// `PosixFs` is the operating system; `MemoryFs` (fs_memory.hpp) models all of the above, loses any
// legal subset at a crash, and injects faults.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "base/status.hpp"

namespace edgecore {

enum class OpenMode : std::uint8_t {
  kRead,       // must exist
  kReadWrite,  // must exist
  kCreate,     // read-write; made if absent, kept if present
  kCreateNew,  // read-write; Invalid if present
};

// One open file. Offsets and lengths in bytes. Thread-safe for disjoint ranges.
class File {
 public:
  virtual ~File() = default;
  // Reads up to out.size() bytes; fewer only at the end of the file.
  virtual Result<std::size_t> read_at(std::uint64_t offset, std::span<std::byte> out) = 0;
  // Writes all of `bytes` or returns an error (then any prefix may have been written).
  virtual Status write_at(std::uint64_t offset, ByteSpan bytes) = 0;
  virtual Status sync() = 0;  // fdatasync: data and the size needed to read it back
  // write_at, and on Ok exactly this range is on stable storage, with the size needed to read it
  // back. This form syncs the whole file; a file system may have a way that leaves the rest alone
  // and writes no more than the range (whole sectors, inside the file).
  virtual Status write_durable(std::uint64_t offset, ByteSpan bytes);
  virtual Result<std::uint64_t> size() = 0;
  virtual Status truncate(std::uint64_t size) = 0;
  // Extends the file with zeros really written in 4 KiB pieces, so that later overwrites change
  // no metadata (see docs/formats/segment.md).
  virtual Status fill_zeros(std::uint64_t size) = 0;
};

// Held while in existence; released by destruction or process death.
class FileLock {
 public:
  virtual ~FileLock() = default;
};

class Fs {
 public:
  virtual ~Fs() = default;
  virtual Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) = 0;
  virtual Status rename(const std::string& from, const std::string& to) = 0;  // replaces `to`
  virtual Status remove(const std::string& path) = 0;                         // Ok if absent
  virtual Result<bool> exists(const std::string& path) = 0;
  virtual Result<std::vector<std::string>> list(const std::string& directory) = 0;  // sorted names
  virtual Status make_directories(const std::string& directory) = 0;  // with parents; durable
  virtual Status sync_directory(const std::string& directory) = 0;
  // Exclusive advisory lock on `path` (made if absent); Unavailable when another holder has it.
  virtual Result<std::unique_ptr<FileLock>> lock(const std::string& path) = 0;
  virtual Result<std::uint64_t> free_bytes(const std::string& directory) = 0;
  virtual std::uint32_t sector_size() const = 0;  // the unit that a device writes whole: 512, 4096
};

// Whole-file helpers over any Fs. `buffer`, given, is used again.
Result<Bytes> read_file(Fs& fs, const std::string& path, std::uint64_t size_max, Bytes buffer = {});
// Crash-safe replacement: temporary file, sync, rename, directory sync. After a cut at any point
// `path` holds the old bytes or the new ones.
Status write_file_atomic(Fs& fs, const std::string& path, ByteSpan bytes);

std::string join_path(const std::string& directory, const std::string& name);
std::string parent_path(const std::string& path);

std::shared_ptr<Fs> make_posix_fs();

}  // namespace edgecore
