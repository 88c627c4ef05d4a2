// The state of a MemoryFs; seen by its two source files (operations, crashes) and nobody else.
#pragma once

#include "base/fs_memory.hpp"

namespace edgecore {

using SharedBytes = std::shared_ptr<Bytes>;  // copied when written while shared with an image

struct MemoryInode {
  SharedBytes seen = std::make_shared<Bytes>();     // what readers get
  SharedBytes durable = std::make_shared<Bytes>();  // what every crash image starts from
};

enum class UnitKind : std::uint8_t { kSector, kSize, kLink, kUnlink, kMove };

// One thing that a power cut keeps or loses whole.
struct MemoryUnit {
  UnitKind kind{};
  std::uint64_t inode = 0;
  std::uint64_t offset = 0;  // kSector: its start. kSize: the new size
  Bytes content;             // kSector: the whole sector as it then was
  std::string path;          // kLink, kUnlink, kMove: the name that changes
  std::string to;            // kMove: its new name, in the same directory
  bool given_up = false;     // by a failed sync: may survive, but no later sync promises it
  bool is_name() const { return kind >= UnitKind::kLink; }
};

// Names and contents that units are applied to. Blocks may lie beyond the size: a size that is
// lost hides them.
struct MemoryImage {
  std::map<std::string, std::uint64_t> names;
  std::map<std::uint64_t, MemoryInode> inodes;
  std::map<std::uint64_t, std::uint64_t> sizes;  // of inodes touched; else the durable size
  void apply(const MemoryUnit& unit);
  void settle();  // cut or extend touched contents to their sizes
};

struct MemoryFs::Disk {
  explicit Disk(MemoryFsOptions o) : options(o), directories{".", "/"} {}

  MemoryFsOptions options;
  mutable std::mutex mutex;
  std::set<std::string> directories;
  std::map<std::string, std::uint64_t> names;  // as seen
  std::map<std::string, std::uint64_t> durable_names;
  std::map<std::uint64_t, MemoryInode> inodes;
  std::vector<MemoryUnit> units;
  std::uint64_t inode_next = 1;
  std::set<std::string> locks;

  std::uint64_t operation_count = 0;
  std::uint64_t cut_at = 0;  // 0: never
  bool cut = false;
  struct Armed {
    Fault fault;
    std::uint64_t matched = 0;
    std::uint64_t fired = 0;
    bool live = true;
  };
  std::vector<Armed> faults;

  // Counts the operation, meets power cut and faults. `effect` is set when the caller must act
  // out a short write or a lying sync itself.
  Status begin(Operation operation, const std::string& path, FaultEffect* effect = nullptr);
  std::uint64_t used_bytes() const;
  Status resize(std::uint64_t inode, const std::string& path, std::uint64_t size);
  Status write(std::uint64_t inode, const std::string& path, std::uint64_t offset, ByteSpan bytes);
  // [offset, end) as it is seen becomes durable, whole sectors inside the file; nothing else does.
  void promise(std::uint64_t inode, std::uint64_t offset, std::uint64_t end);
  void commit(const std::function<bool(const MemoryUnit&)>& chosen);
  void give_up(const std::function<bool(const MemoryUnit&)>& chosen);
};

inline Bytes& writable(SharedBytes& bytes) {
  if (bytes.use_count() > 1) bytes = std::make_shared<Bytes>(*bytes);
  return *bytes;
}

}  // namespace edgecore
