// Names to numbers, for entities: an open-addressing table of what is stored elsewhere once.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace edgecore::features {

// Names are short: a call to compare them costs more than the comparison.
inline bool same_name(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  if (a.size() > 8) return std::memcmp(a.data(), b.data(), a.size()) == 0;
  std::size_t at = 0;
  while (at < a.size() && a[at] == b[at]) ++at;
  return at == a.size();
}

// Numbers names from 0 in order of first appearance.
class Names {
 public:
  static constexpr std::uint32_t kNone = 0xffffffffu;

  std::uint32_t find(std::string_view name) const {
    if (last_ < names_.size() && same_name(names_[last_], name)) return last_;
    if (slots_.empty()) return kNone;
    return slots_[slot_of(name)];
  }
  // `name` must not be present.
  std::uint32_t add(std::string_view name) {
    if (!free_.empty()) {
      const std::uint32_t id = free_.back();
      free_.pop_back();
      slots_[slot_of(name)] = id;
      names_[id] = name;
      return id;
    }
    if ((names_.size() + 1) * 2 > slots_.size()) rehash();
    const auto id = static_cast<std::uint32_t>(names_.size());
    slots_[slot_of(name)] = id;
    names_.emplace_back(name);
    return id;
  }
  // Forgets a name; its number may be given to another.
  void remove(std::uint32_t id) {
    const std::size_t mask = slots_.size() - 1;
    std::size_t hole = slot_of(names_[id]);
    // Later ones of the same run move up, or they would not be found behind the hole.
    for (std::size_t at = (hole + 1) & mask; slots_[at] != kNone; at = (at + 1) & mask) {
      const std::size_t home = static_cast<std::size_t>(hash(names_[slots_[at]])) & mask;
      if (((at - home) & mask) < ((at - hole) & mask)) continue;
      slots_[hole] = slots_[at];
      hole = at;
    }
    slots_[hole] = kNone;
    names_[id] = {};
    free_.push_back(id);
    if (last_ == id) last_ = kNone;
  }
  // The name was used and probably comes again.
  void remember(std::uint32_t id) { last_ = id; }
  std::uint32_t size() const { return static_cast<std::uint32_t>(names_.size()); }  // numbers given
  std::size_t count() const { return names_.size() - free_.size(); }
  const std::string& name(std::uint32_t id) const { return names_[id]; }

 private:
  static std::uint64_t hash(std::string_view name) {
    std::uint64_t h = 0x9e3779b97f4a7c15u ^ name.size();
    const char* at = name.data();
    std::size_t left = name.size();
    while (left > 0) {
      std::uint64_t word = 0;
      const std::size_t take = left < 8 ? left : 8;
      std::memcpy(&word, at, take);
      h = (h ^ word) * 0xd6e8feb86659fd93u;
      h ^= h >> 32;
      at += take;
      left -= take;
    }
    return h;
  }
  // Where the name is, or the free slot where it belongs.
  std::size_t slot_of(std::string_view name) const {
    const std::size_t mask = slots_.size() - 1;
    std::size_t at = static_cast<std::size_t>(hash(name)) & mask;
    while (slots_[at] != kNone && names_[slots_[at]] != name) at = (at + 1) & mask;
    return at;
  }
  void rehash() {
    slots_.assign(slots_.empty() ? 16 : slots_.size() * 2, kNone);
    for (std::uint32_t id = 0; id < names_.size(); ++id) slots_[slot_of(names_[id])] = id;
  }

  std::vector<std::string> names_;
  std::vector<std::uint32_t> free_;   // numbers whose names were removed
  std::vector<std::uint32_t> slots_;  // a power of two
  std::uint32_t last_ = 0;
};

}  // namespace edgecore::features
