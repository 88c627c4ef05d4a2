// MemoryFs as an adversary: power cuts, faults, and the legal states that a cut can leave.
#include <algorithm>

#include "base/blake3.hpp"
#include "base/fs_memory_disk.hpp"

namespace edgecore {
namespace {

constexpr std::size_t kExhaustiveUnitsMax = 10;

std::uint64_t next_random(std::uint64_t& state) {  // SplitMix64 (Steele, Lea, Flood 2014)
  std::uint64_t z = (state += 0x9E3779B97F4A7C15u);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// Loses more until the choice is one that the model allows.
void make_legal(const MemoryFs::Disk& disk, std::vector<bool>& kept) {
  if (disk.options.model == DiskModel::kPosix) return;
  bool names_go_on = true;
  for (std::size_t i = 0; i < disk.units.size(); ++i) {
    const MemoryUnit& unit = disk.units[i];
    if (unit.is_name()) {
      names_go_on = names_go_on && kept[i];
      kept[i] = names_go_on;
    } else if (unit.kind == UnitKind::kSize && kept[i]) {
      // Data below the new size and above the durable one: all of it, or not this size.
      const std::uint64_t durable = disk.inodes.at(unit.inode).durable->size();
      for (std::size_t j = 0; j < disk.units.size(); ++j) {
        const MemoryUnit& data = disk.units[j];
        if (data.kind != UnitKind::kSector || data.inode != unit.inode || kept[j]) continue;
        if (data.offset + disk.options.sector_size > durable && data.offset < unit.offset)
          kept[i] = false;
      }
    }
  }
}

Digest fingerprint(const MemoryImage& image, const MemoryFs::Disk& disk) {
  Blake3 hash;
  const auto number = [&](std::uint64_t value) {
    hash.update(std::as_bytes(std::span(&value, 1)));
  };
  for (const auto& [path, inode] : image.names) {
    number(path.size());
    hash.update(as_byte_span(path));
    const Bytes& content = image.inodes.contains(inode) ? *image.inodes.at(inode).durable
                                                        : *disk.inodes.at(inode).durable;
    number(content.size());
    if (image.inodes.contains(inode))
      hash.update(content);
    else
      number(inode);  // untouched: the same bytes in every image
  }
  return hash.finish();
}

MemoryImage image_of(const MemoryFs::Disk& disk, const std::vector<bool>& kept) {
  MemoryImage image;
  image.names = disk.durable_names;
  for (const MemoryUnit& unit : disk.units)
    if (!unit.is_name()) image.inodes[unit.inode].durable = disk.inodes.at(unit.inode).durable;
  for (std::size_t i = 0; i < disk.units.size(); ++i)
    if (kept[i]) image.apply(disk.units[i]);
  image.settle();
  return image;
}

std::shared_ptr<MemoryFs::Disk> disk_of(const MemoryImage& image, const MemoryFs::Disk& disk) {
  auto made = std::make_shared<MemoryFs::Disk>(disk.options);
  made->directories = disk.directories;
  made->names = made->durable_names = image.names;
  made->inode_next = disk.inode_next;
  for (const auto& [path, inode] : image.names) {
    const auto touched = image.inodes.find(inode);
    const SharedBytes& bytes =
        touched != image.inodes.end() ? touched->second.durable : disk.inodes.at(inode).durable;
    made->inodes[inode] = {bytes, bytes};
  }
  return made;
}

// Every choice while that is few; else the structured ones and random ones, in a seeded order.
std::vector<std::vector<bool>> choices(std::size_t units, std::size_t limit, std::uint64_t seed) {
  std::vector<std::vector<bool>> all;
  if (units <= kExhaustiveUnitsMax) {
    for (std::size_t mask = 0; mask < std::size_t{1} << units; ++mask) {
      std::vector<bool> kept(units);
      for (std::size_t i = 0; i < units; ++i) kept[i] = ((mask >> i) & 1) != 0;
      all.push_back(std::move(kept));
    }
    return all;
  }
  all.emplace_back(units, false);
  all.emplace_back(units, true);
  const std::size_t shapes = std::max<std::size_t>(limit, 8);
  for (std::size_t n = 0; n < shapes; ++n) {
    const std::size_t at = static_cast<std::size_t>(next_random(seed) % units);
    std::vector<bool> kept(units);
    const std::size_t shape = n % 5;
    for (std::size_t i = 0; i < units; ++i) {
      const bool by_shape[] = {i != at, i == at, i < at, i >= at, (next_random(seed) & 1) != 0};
      kept[i] = by_shape[shape];
    }
    all.push_back(std::move(kept));
  }
  return all;
}

}  // namespace

void MemoryImage::apply(const MemoryUnit& unit) {
  switch (unit.kind) {
    case UnitKind::kLink:
      names[unit.path] = unit.inode;
      return;
    case UnitKind::kUnlink:
      names.erase(unit.path);
      return;
    case UnitKind::kMove:
      names.erase(unit.path);
      names[unit.to] = unit.inode;
      return;
    case UnitKind::kSector: {
      SharedBytes& durable = inodes.at(unit.inode).durable;
      sizes.try_emplace(unit.inode, durable->size());
      Bytes& bytes = writable(durable);
      const auto at = static_cast<std::size_t>(unit.offset);
      if (bytes.size() < at + unit.content.size()) bytes.resize(at + unit.content.size());
      std::copy(unit.content.begin(), unit.content.end(),
                bytes.begin() + static_cast<std::ptrdiff_t>(at));
      return;
    }
    case UnitKind::kSize: {
      Bytes& bytes = writable(inodes.at(unit.inode).durable);
      const auto size = static_cast<std::size_t>(unit.offset);
      const auto before = sizes.try_emplace(unit.inode, bytes.size()).first->second;
      if (unit.offset < before)  // what is cut off reads as zeros if the file grows again
        for (std::size_t i = size; i < bytes.size(); ++i) bytes[i] = std::byte{0};
      sizes[unit.inode] = unit.offset;
      return;
    }
  }
}

void MemoryImage::settle() {
  for (const auto& [inode, size] : sizes)
    writable(inodes.at(inode).durable).resize(static_cast<std::size_t>(size));
}

std::uint64_t MemoryFs::operations() const {
  const std::lock_guard guard(disk_->mutex);
  return disk_->operation_count;
}

void MemoryFs::cut_power_at(std::uint64_t operation) {
  const std::lock_guard guard(disk_->mutex);
  disk_->cut_at = disk_->operation_count + std::max<std::uint64_t>(operation, 1);
}

bool MemoryFs::power_is_cut() const {
  const std::lock_guard guard(disk_->mutex);
  return disk_->cut;
}

std::size_t MemoryFs::inject(Fault fault) {
  const std::lock_guard guard(disk_->mutex);
  disk_->faults.push_back({.fault = std::move(fault)});
  return disk_->faults.size() - 1;
}

std::uint64_t MemoryFs::fired(std::size_t fault) const {
  const std::lock_guard guard(disk_->mutex);
  return fault < disk_->faults.size() ? disk_->faults[fault].fired : 0;
}

void MemoryFs::clear_faults() {
  const std::lock_guard guard(disk_->mutex);
  for (auto& armed : disk_->faults) armed.live = false;
}

void MemoryFs::set_capacity(std::uint64_t bytes) {
  const std::lock_guard guard(disk_->mutex);
  disk_->options.capacity = bytes;
}

std::size_t MemoryFs::pending_units() const {
  const std::lock_guard guard(disk_->mutex);
  return disk_->units.size();
}

std::shared_ptr<MemoryFs> MemoryFs::crash(const std::vector<bool>& kept) const {
  const std::lock_guard guard(disk_->mutex);
  std::vector<bool> choice = kept;
  choice.resize(disk_->units.size());
  make_legal(*disk_, choice);
  return std::shared_ptr<MemoryFs>(new MemoryFs(disk_of(image_of(*disk_, choice), *disk_)));
}

std::shared_ptr<MemoryFs> MemoryFs::crash(std::uint64_t seed) const {
  std::vector<bool> kept(pending_units());
  for (std::size_t i = 0; i < kept.size(); ++i) kept[i] = (next_random(seed) & 1) != 0;
  return crash(kept);
}

std::vector<std::shared_ptr<MemoryFs>> MemoryFs::crash_states(std::size_t limit,
                                                              std::uint64_t seed) const {
  const std::lock_guard guard(disk_->mutex);
  std::vector<std::shared_ptr<MemoryFs>> states;
  std::set<Digest> known;
  for (std::vector<bool>& kept : choices(disk_->units.size(), limit, seed)) {
    if (states.size() >= limit) break;
    make_legal(*disk_, kept);
    const MemoryImage image = image_of(*disk_, kept);
    if (!known.insert(fingerprint(image, *disk_)).second) continue;
    states.push_back(std::shared_ptr<MemoryFs>(new MemoryFs(disk_of(image, *disk_))));
  }
  return states;
}

}  // namespace edgecore
