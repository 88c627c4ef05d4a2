// MemoryFs as a file system: what its callers see, what becomes volatile, what a sync promises.
#include <algorithm>

#include "base/fs_memory_disk.hpp"

namespace edgecore {
namespace {

constexpr std::uint64_t kPageBytes = 4096;
constexpr std::uint64_t kSizeStepsMax = 8;

Status missing(const std::string& path) {
  return Status::unavailable(path + ": no such file or directory");
}

class MemoryFile final : public File {
 public:
  MemoryFile(std::shared_ptr<MemoryFs::Disk> disk, std::uint64_t inode, std::string path,
             bool writable)
      : disk_(std::move(disk)), inode_(inode), path_(std::move(path)), writable_(writable) {}

  Result<std::size_t> read_at(std::uint64_t offset, std::span<std::byte> out) override {
    const std::lock_guard guard(disk_->mutex);
    EDGECORE_TRY(disk_->begin(Operation::kRead, path_));
    const Bytes& bytes = *disk_->inodes.at(inode_).seen;
    if (offset >= bytes.size()) return std::size_t{0};
    const std::size_t count = std::min(out.size(), bytes.size() - static_cast<std::size_t>(offset));
    std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(offset), count, out.begin());
    return count;
  }

  Status write_at(std::uint64_t offset, ByteSpan bytes) override {
    const std::lock_guard guard(disk_->mutex);
    FaultEffect effect = FaultEffect::kIoError;
    EDGECORE_TRY(may_write(Operation::kWrite, &effect));
    if (effect != FaultEffect::kShortWrite) return disk_->write(inode_, path_, offset, bytes);
    EDGECORE_TRY(disk_->write(inode_, path_, offset, bytes.first(bytes.size() / 2)));
    return Status::unavailable(path_ + ": write: injected short write");
  }

  Status write_durable(std::uint64_t offset, ByteSpan bytes) override {
    std::unique_lock guard(disk_->mutex);
    if (!goes_direct(offset, bytes.size())) {
      guard.unlock();
      return File::write_durable(offset, bytes);
    }
    FaultEffect effect = FaultEffect::kIoError;
    const bool had_power = !disk_->cut;
    const Status status = may_write(Operation::kWriteDurable, &effect);
    if (status.outcome() == Outcome::kUnavailable && had_power) {
      // Power or device failed in its midst: any of its sectors may be there, none is promised.
      write_losable(offset, bytes, true);
      return status;
    }
    EDGECORE_TRY(status);
    if (effect == FaultEffect::kShortWrite) {
      write_losable(offset, bytes.first(bytes.size() / 2), true);
      return Status::unavailable(path_ + ": write: injected short write");
    }
    write_losable(offset, bytes, false);
    if (effect != FaultEffect::kLyingSync) disk_->promise(inode_, offset, offset + bytes.size());
    return Status::ok();
  }

  Status sync() override {
    const std::lock_guard guard(disk_->mutex);
    FaultEffect effect = FaultEffect::kIoError;
    const auto own = [this](const MemoryUnit& unit) {
      return unit.inode == inode_ && !unit.is_name();
    };
    const Status status = disk_->begin(Operation::kSync, path_, &effect);
    if (!status.is_ok()) {
      if (!disk_->cut) disk_->give_up(own);
      return status;
    }
    if (effect == FaultEffect::kLyingSync) return Status::ok();
    disk_->commit(own);
    if (disk_->options.model == DiskModel::kExt4)
      disk_->commit([](const MemoryUnit& unit) { return unit.is_name(); });
    return Status::ok();
  }

  Result<std::uint64_t> size() override {
    const std::lock_guard guard(disk_->mutex);
    EDGECORE_TRY(disk_->begin(Operation::kList, path_));
    return std::uint64_t{disk_->inodes.at(inode_).seen->size()};
  }

  Status truncate(std::uint64_t size) override {
    const std::lock_guard guard(disk_->mutex);
    EDGECORE_TRY(may_write(Operation::kTruncate));
    return disk_->resize(inode_, path_, size);
  }

  Status fill_zeros(std::uint64_t size) override {
    const std::lock_guard guard(disk_->mutex);
    EDGECORE_TRY(may_write(Operation::kFillZeros));
    if (size <= disk_->inodes.at(inode_).seen->size()) return Status::ok();
    return disk_->resize(inode_, path_, size);
  }

 private:
  Status may_write(Operation operation, FaultEffect* effect = nullptr) {
    if (!writable_) return Status::invalid(path_ + ": write: opened for reading");
    return disk_->begin(operation, path_, effect);
  }

  bool goes_direct(std::uint64_t offset, std::uint64_t size) const {
    const std::uint64_t sector = disk_->options.sector_size;
    return disk_->options.direct_writes && offset % sector == 0 && size % sector == 0 &&
           offset + size <= disk_->inodes.at(inode_).seen->size();
  }

  // Inside the file, where a write can't fail.
  void write_losable(std::uint64_t offset, ByteSpan bytes, bool given_up) {
    const std::size_t before = disk_->units.size();
    static_cast<void>(disk_->write(inode_, path_, offset, bytes));
    for (std::size_t i = before; i < disk_->units.size(); ++i) disk_->units[i].given_up = given_up;
  }

  std::shared_ptr<MemoryFs::Disk> disk_;
  std::uint64_t inode_;
  std::string path_;
  bool writable_;
};

class MemoryLock final : public FileLock {
 public:
  MemoryLock(std::shared_ptr<MemoryFs::Disk> disk, std::string path)
      : disk_(std::move(disk)), path_(std::move(path)) {}
  ~MemoryLock() override {
    const std::lock_guard guard(disk_->mutex);
    disk_->locks.erase(path_);
  }

 private:
  std::shared_ptr<MemoryFs::Disk> disk_;
  std::string path_;
};

}  // namespace

// ------------------------------------------------------------------ the disk

Status MemoryFs::Disk::begin(Operation operation, const std::string& path, FaultEffect* effect) {
  const auto bit = static_cast<std::uint32_t>(operation);
  if ((bit & kMutations) != 0) {
    ++operation_count;
    if (cut_at != 0 && operation_count >= cut_at) cut = true;
  }
  if (cut) return Status::unavailable(path + ": the power is cut");
  for (Armed& armed : faults) {
    const Fault& fault = armed.fault;
    if (!armed.live || (fault.on & bit) == 0) continue;
    const bool writes = operation == Operation::kWrite || operation == Operation::kWriteDurable;
    const bool syncs = operation == Operation::kSync || operation == Operation::kWriteDurable;
    if (fault.effect == FaultEffect::kLyingSync && !syncs) continue;
    if (path.find(fault.path_contains) == std::string::npos) continue;
    if (armed.matched++ < fault.skip) continue;
    ++armed.fired;
    armed.live = fault.sticky;
    const bool acted_out =
        effect != nullptr && (fault.effect == FaultEffect::kLyingSync ||
                              (fault.effect == FaultEffect::kShortWrite && writes));
    if (acted_out) {
      *effect = fault.effect;
      return Status::ok();
    }
    if (fault.effect == FaultEffect::kNoSpace)
      return Status::exhausted(path + ": injected: no space left");
    return Status::unavailable(path + ": injected input/output error");
  }
  return Status::ok();
}

std::uint64_t MemoryFs::Disk::used_bytes() const {
  std::uint64_t total = 0;
  for (const auto& [path, inode] : names) total += inodes.at(inode).seen->size();
  return total;
}

Status MemoryFs::Disk::resize(std::uint64_t inode, const std::string& path, std::uint64_t size) {
  Bytes& seen = writable(inodes.at(inode).seen);
  const std::uint64_t old = seen.size();
  if (size > old && used_bytes() + (size - old) > options.capacity)
    return Status::exhausted(path + ": no space left");
  const auto unit = [&](std::uint64_t to) {
    units.push_back({.kind = UnitKind::kSize,
                     .inode = inode,
                     .offset = to,
                     .content = {},
                     .path = {},
                     .to = {}});
  };
  seen.resize(static_cast<std::size_t>(size));
  if (size > old) {  // a growing file may be met at any page; a long growth at its middle
    const std::uint64_t pages = (size - old) / kPageBytes;
    const std::uint64_t step = pages <= kSizeStepsMax ? kPageBytes : (pages / 2) * kPageBytes;
    for (std::uint64_t at = (old / kPageBytes) * kPageBytes + step; at < size; at += step) unit(at);
  }
  if (size != old) unit(size);
  return Status::ok();
}

Status MemoryFs::Disk::write(std::uint64_t inode, const std::string& path, std::uint64_t offset,
                             ByteSpan bytes) {
  if (bytes.empty()) return Status::ok();
  const std::uint64_t end = offset + bytes.size();
  if (end > inodes.at(inode).seen->size()) EDGECORE_TRY(resize(inode, path, end));
  Bytes& seen = writable(inodes.at(inode).seen);
  std::copy(bytes.begin(), bytes.end(), seen.begin() + static_cast<std::ptrdiff_t>(offset));
  const std::uint64_t sector = options.sector_size;
  for (std::uint64_t at = offset / sector * sector; at < end; at += sector) {
    const auto from = seen.begin() + static_cast<std::ptrdiff_t>(at);
    const auto count = std::min<std::uint64_t>(sector, seen.size() - at);
    units.push_back({.kind = UnitKind::kSector,
                     .inode = inode,
                     .offset = at,
                     .content = Bytes(from, from + static_cast<std::ptrdiff_t>(count)),
                     .path = {},
                     .to = {}});
  }
  return Status::ok();
}

void MemoryFs::Disk::promise(std::uint64_t inode, std::uint64_t offset, std::uint64_t end) {
  const auto at = [](auto& bytes, std::uint64_t position) {
    return bytes.begin() + static_cast<std::ptrdiff_t>(position);
  };
  const Bytes& seen = *inodes.at(inode).seen;
  Bytes& durable = writable(inodes.at(inode).durable);
  // The size that is needed came after all smaller ones: they cut off what stood behind them.
  for (const MemoryUnit& unit : units)
    if (unit.inode == inode && unit.kind == UnitKind::kSize && unit.offset < durable.size() &&
        unit.offset < end)
      std::fill(at(durable, unit.offset), durable.end(), std::byte{0});
  if (durable.size() < end) durable.resize(static_cast<std::size_t>(end));
  std::copy(at(seen, offset), at(seen, end), at(durable, offset));
  // What is older can't undo it.
  std::erase_if(units, [&](const MemoryUnit& unit) {
    if (unit.inode != inode || unit.is_name()) return false;
    if (unit.kind == UnitKind::kSize) return unit.offset < end;
    return unit.offset >= offset && unit.offset < end;
  });
}

void MemoryFs::Disk::commit(const std::function<bool(const MemoryUnit&)>& chosen) {
  MemoryImage image;
  image.names = durable_names;
  std::vector<MemoryUnit> rest;
  std::set<std::pair<std::uint64_t, std::uint64_t>> promised;  // (inode, sector offset)
  std::set<std::uint64_t> resized;
  for (const MemoryUnit& unit : units) {
    if (unit.given_up || !chosen(unit)) continue;
    if (!unit.is_name() && !image.inodes.contains(unit.inode)) {
      MemoryInode& inode = image.inodes[unit.inode];
      inode.durable = inodes.at(unit.inode).durable;
    }
    image.apply(unit);
    if (unit.kind == UnitKind::kSector) promised.insert({unit.inode, unit.offset});
    if (unit.kind == UnitKind::kSize) resized.insert(unit.inode);
  }
  image.settle();
  durable_names = image.names;
  for (auto& [id, inode] : image.inodes) inodes.at(id).durable = inode.durable;
  for (MemoryUnit& unit : units) {
    if (!unit.given_up && chosen(unit)) continue;
    // A promised newer state can't be undone by an older write that was given up.
    if (unit.kind == UnitKind::kSector && promised.contains({unit.inode, unit.offset})) continue;
    if (unit.kind == UnitKind::kSize && resized.contains(unit.inode)) continue;
    rest.push_back(std::move(unit));
  }
  units = std::move(rest);
}

void MemoryFs::Disk::give_up(const std::function<bool(const MemoryUnit&)>& chosen) {
  for (MemoryUnit& unit : units)
    if (chosen(unit)) unit.given_up = true;
}

// ------------------------------------------------------------------ the seam

MemoryFs::MemoryFs(MemoryFsOptions options) : disk_(std::make_shared<Disk>(options)) {}
MemoryFs::MemoryFs(std::shared_ptr<Disk> disk) : disk_(std::move(disk)) {}
MemoryFs::~MemoryFs() = default;

Result<std::unique_ptr<File>> MemoryFs::open(const std::string& path, OpenMode mode) {
  const std::lock_guard guard(disk_->mutex);
  const auto found = disk_->names.find(path);
  const bool present = found != disk_->names.end();
  const bool creates = mode == OpenMode::kCreate || mode == OpenMode::kCreateNew;
  EDGECORE_TRY(disk_->begin(!present && creates ? Operation::kCreate : Operation::kOpen, path));
  if (disk_->directories.contains(path)) return Status::invalid(path + ": is a directory");
  if (present && mode == OpenMode::kCreateNew) return Status::invalid(path + ": exists");
  if (!present && !creates) return missing(path);
  if (!present && !disk_->directories.contains(parent_path(path))) return missing(path);
  std::uint64_t inode = present ? found->second : 0;
  if (!present) {
    inode = disk_->inode_next++;
    disk_->inodes[inode] = {};
    disk_->names[path] = inode;
    disk_->units.push_back({.kind = UnitKind::kLink,
                            .inode = inode,
                            .offset = 0,
                            .content = {},
                            .path = path,
                            .to = {}});
  }
  return std::unique_ptr<File>(
      std::make_unique<MemoryFile>(disk_, inode, path, mode != OpenMode::kRead));
}

Status MemoryFs::rename(const std::string& from, const std::string& to) {
  const std::lock_guard guard(disk_->mutex);
  EDGECORE_TRY(disk_->begin(Operation::kRename, from));
  const auto found = disk_->names.find(from);
  if (found == disk_->names.end()) return missing(from);
  if (!disk_->directories.contains(parent_path(to))) return missing(to);
  const std::uint64_t inode = found->second;
  disk_->names.erase(found);
  disk_->names[to] = inode;
  const auto unit = [&](UnitKind kind, const std::string& path, const std::string& target) {
    disk_->units.push_back(
        {.kind = kind, .inode = inode, .offset = 0, .content = {}, .path = path, .to = target});
  };
  if (parent_path(from) == parent_path(to)) {
    unit(UnitKind::kMove, from, to);
  } else {  // two directories, two blocks: a cut may leave both names or neither
    unit(UnitKind::kLink, to, {});
    unit(UnitKind::kUnlink, from, {});
  }
  return Status::ok();
}

Status MemoryFs::remove(const std::string& path) {
  const std::lock_guard guard(disk_->mutex);
  EDGECORE_TRY(disk_->begin(Operation::kRemove, path));
  if (disk_->directories.contains(path)) return Status::invalid(path + ": is a directory");
  const auto found = disk_->names.find(path);
  if (found == disk_->names.end()) return Status::ok();
  disk_->units.push_back({.kind = UnitKind::kUnlink,
                          .inode = found->second,
                          .offset = 0,
                          .content = {},
                          .path = path,
                          .to = {}});
  disk_->names.erase(found);
  return Status::ok();
}

Result<bool> MemoryFs::exists(const std::string& path) {
  const std::lock_guard guard(disk_->mutex);
  EDGECORE_TRY(disk_->begin(Operation::kList, path));
  return disk_->names.contains(path) || disk_->directories.contains(path);
}

Result<std::vector<std::string>> MemoryFs::list(const std::string& directory) {
  const std::lock_guard guard(disk_->mutex);
  EDGECORE_TRY(disk_->begin(Operation::kList, directory));
  if (!disk_->directories.contains(directory)) return missing(directory);
  std::vector<std::string> names;
  const auto add = [&](const std::string& path) {
    if (path != directory && path != "." && parent_path(path) == directory)
      names.push_back(path.substr(path.rfind('/') + 1));
  };
  for (const auto& [path, inode] : disk_->names) add(path);
  for (const auto& path : disk_->directories) add(path);
  std::sort(names.begin(), names.end());
  return names;
}

Status MemoryFs::make_directories(const std::string& directory) {
  const std::lock_guard guard(disk_->mutex);
  EDGECORE_TRY(disk_->begin(Operation::kMakeDirectories, directory));
  for (std::string at = directory; !disk_->directories.contains(at); at = parent_path(at)) {
    if (disk_->names.contains(at)) return Status::invalid(at + ": is a file");
    disk_->directories.insert(at);
  }
  return Status::ok();
}

Status MemoryFs::sync_directory(const std::string& directory) {
  const std::lock_guard guard(disk_->mutex);
  EDGECORE_TRY(disk_->begin(Operation::kSyncDirectory, directory));
  if (!disk_->directories.contains(directory)) return missing(directory);
  const bool all = disk_->options.model == DiskModel::kExt4;
  disk_->commit([&](const MemoryUnit& unit) {
    return unit.is_name() && (all || parent_path(unit.path) == directory);
  });
  return Status::ok();
}

Result<std::unique_ptr<FileLock>> MemoryFs::lock(const std::string& path) {
  const std::lock_guard guard(disk_->mutex);
  EDGECORE_TRY(disk_->begin(Operation::kLock, path));
  if (!disk_->directories.contains(parent_path(path))) return missing(path);
  if (!disk_->locks.insert(path).second)
    return Status::unavailable(path + ": another process holds it");
  return std::unique_ptr<FileLock>(std::make_unique<MemoryLock>(disk_, path));
}

Result<std::uint64_t> MemoryFs::free_bytes(const std::string& directory) {
  const std::lock_guard guard(disk_->mutex);
  EDGECORE_TRY(disk_->begin(Operation::kList, directory));
  const std::uint64_t used = disk_->used_bytes();
  return used >= disk_->options.capacity ? std::uint64_t{0} : disk_->options.capacity - used;
}

std::uint32_t MemoryFs::sector_size() const {
  return disk_->options.sector_size;
}

}  // namespace edgecore
