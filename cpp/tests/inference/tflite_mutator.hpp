// Changes well-formed .tflite files where it hurts: dimensions, scales, indices, options, types,
// offsets and vtables are found by walking the file as a reader does, and set to what a reader may
// have forgotten, alone or in step with each other.
#pragma once

#include <algorithm>
#include <bit>
#include <limits>
#include <random>
#include <vector>

#include "base/bytes.hpp"

namespace edgecore::inference::testing {

class Mutator {
 public:
  // `file` is well-formed.
  explicit Mutator(Bytes file) : good_(std::move(file)) { walk(); }

  // A file of one to three changes.
  Bytes mutant(std::mt19937& random) const {
    Bytes out = good_;
    for (auto changes = 1 + random() % 3 * (random() % 2); changes > 0; --changes)
      change(out, random);
    if (random() % 64 == 0) out.resize(random() % out.size());
    return out;
  }

 private:
  enum class Kind {
    kDimension,
    kCount,
    kByte,
    kIndex,
    kScale,
    kZero,
    kOption,
    kOffset,
    kVtable,
    kCode,
    kConstant,
    kLast
  };
  struct Slot {
    Kind kind;
    std::size_t at;
    std::size_t count;  // bytes of a constant
  };

  template <typename T>
  T get(std::size_t at) const {
    return load_le<T>(good_.data() + at);
  }
  void note(Kind kind, std::size_t at, std::size_t count = 0) {
    if (at != 0) slots_[static_cast<std::size_t>(kind)].push_back({kind, at, count});
  }
  std::size_t follow(std::size_t at) const { return at == 0 ? 0 : at + get<std::uint32_t>(at); }
  std::size_t vtable(std::size_t table) const {
    return static_cast<std::size_t>(static_cast<std::int64_t>(table) - get<std::int32_t>(table));
  }
  std::size_t fields(std::size_t table) const { return get<std::uint16_t>(vtable(table)) / 2 - 2; }
  // Where a field's value lies; 0: nowhere.
  std::size_t field(std::size_t table, std::size_t number) const {
    if (table == 0 || number >= fields(table)) return 0;
    const auto offset = get<std::uint16_t>(vtable(table) + 4 + 2 * number);
    return offset == 0 ? 0 : table + offset;
  }
  std::size_t child(std::size_t table, std::size_t number) {
    const std::size_t at = field(table, number);
    note(Kind::kOffset, at);
    const std::size_t to = follow(at);
    return to;
  }
  // Notes the elements of a vector, `width` bytes each.
  void note_vector(std::size_t table, std::size_t number, Kind kind, std::size_t width) {
    const std::size_t at = child(table, number);
    if (at == 0) return;
    note(Kind::kCount, at);
    for (std::size_t i = 0; i < get<std::uint32_t>(at); ++i) note(kind, at + 4 + i * width);
  }
  template <typename Visit>
  void each(std::size_t table, std::size_t number, Visit visit) {
    const std::size_t at = child(table, number);
    if (at == 0) return;
    note(Kind::kCount, at);
    for (std::size_t i = 0; i < get<std::uint32_t>(at); ++i) {
      note(Kind::kOffset, at + 4 + 4 * i);
      const std::size_t to = follow(at + 4 + 4 * i);
      for (std::size_t one = 0; one < fields(to); ++one)
        note(Kind::kVtable, vtable(to) + 4 + 2 * one);
      visit(to);
    }
  }

  void walk() {
    slots_.resize(static_cast<std::size_t>(Kind::kLast));
    const std::size_t model = get<std::uint32_t>(0);
    note(Kind::kIndex, field(model, 0));
    each(model, 1, [&](std::size_t code) {
      note(Kind::kByte, field(code, 0));
      note(Kind::kCode, field(code, 3));
      note(Kind::kIndex, field(code, 2));
    });
    each(model, 4, [&](std::size_t buffer) {
      const std::size_t at = child(buffer, 0);
      if (at == 0) return;
      note(Kind::kCount, at);
      if (get<std::uint32_t>(at) > 0) note(Kind::kConstant, at + 4, get<std::uint32_t>(at));
    });
    each(model, 2, [&](std::size_t graph) { walk_graph(graph); });
  }
  void walk_graph(std::size_t graph) {
    note_vector(graph, 1, Kind::kIndex, 4);
    note_vector(graph, 2, Kind::kIndex, 4);
    each(graph, 0, [&](std::size_t tensor) {
      note_vector(tensor, 0, Kind::kDimension, 4);
      note(Kind::kByte, field(tensor, 1));
      note(Kind::kIndex, field(tensor, 2));
      const std::size_t quantisation = child(tensor, 4);
      if (quantisation == 0) return;
      note_vector(quantisation, 2, Kind::kScale, 4);
      note_vector(quantisation, 3, Kind::kZero, 8);
      note(Kind::kIndex, field(quantisation, 6));
    });
    each(graph, 3, [&](std::size_t op) {
      note(Kind::kIndex, field(op, 0));
      note_vector(op, 1, Kind::kIndex, 4);
      note_vector(op, 2, Kind::kIndex, 4);
      note(Kind::kByte, field(op, 3));
      const std::size_t options = child(op, 4);
      for (std::size_t i = 0; options != 0 && i < fields(options); ++i)
        note(Kind::kOption, field(options, i));
    });
  }

  static std::uint32_t number(std::uint32_t before, std::mt19937& random) {
    static constexpr std::uint32_t kHard[] = {0,       1,       2,          3,          4,
                                              5,       16,      17,         64,         255,
                                              4096,    1 << 16, 1 << 20,    1 << 22,    1 << 24,
                                              1 << 25, 1 << 26, 0x7fffffff, 0x80000000, 0xffffffff};
    switch (random() % 4) {
      case 0:
        return before + static_cast<std::uint32_t>(random() % 5) - 2;
      case 1:
        return before * (1U << random() % 8);
      case 2:
        return static_cast<std::uint32_t>(random() % 9);
      default:
        return kHard[random() % std::size(kHard)];
    }
  }
  static float real(float before, std::mt19937& random) {
    static constexpr float kHard[] = {0.0F,
                                      -0.0F,
                                      1e-45F,
                                      1e-40F,
                                      1e-38F,
                                      1e-20F,
                                      1e20F,
                                      3e38F,
                                      1,
                                      -1,
                                      std::numeric_limits<float>::infinity(),
                                      std::numeric_limits<float>::quiet_NaN()};
    if (random() % 2 == 0) return kHard[random() % std::size(kHard)];
    const int exponent = static_cast<int>(random() % 40) - 20;
    return before * (exponent < 0 ? 1.0F / static_cast<float>(1 << -exponent)
                                  : static_cast<float>(1 << exponent));
  }

  void change(Bytes& out, std::mt19937& random) const {
    // Dimensions that are equal mean the same thing more often than not.
    if (random() % 4 == 0) return change_together(out, random);
    const auto& kind = slots_[random() % slots_.size()];
    if (kind.empty()) return change(out, random);
    const Slot& slot = kind[random() % kind.size()];
    std::byte* at = out.data() + slot.at;
    if (slot.at + 8 > out.size()) return;
    switch (slot.kind) {
      case Kind::kByte:
      case Kind::kCode:
        return change_code(out, slot, random);
      case Kind::kScale:
        return store_le(at, real(load_le<float>(at), random));
      case Kind::kZero:
        return store_le(at, static_cast<std::int64_t>(random() % 300) - 150);
      case Kind::kVtable:
        return store_le(at, static_cast<std::uint16_t>(random() % 3 == 0 ? 0 : random() % 64));
      case Kind::kOffset: {
        const Slot& other = kind[random() % kind.size()];
        const std::size_t to = random() % 8 == 0 ? random() % out.size() : follow(other.at);
        return store_le(at, static_cast<std::uint32_t>(to - slot.at));
      }
      case Kind::kOption:
        if (random() % 4 == 0) return store_le(at, real(load_le<float>(at), random));
        if (random() % 2 == 0) return store_le(at, static_cast<std::uint8_t>(random() % 6));
        return store_le(at, number(load_le<std::uint32_t>(at), random));
      case Kind::kConstant:
        for (std::size_t i = random() % 4 + 1; i > 0; --i)
          out[slot.at + random() % slot.count] = static_cast<std::byte>(random());
        return;
      default:
        return store_le(at, number(load_le<std::uint32_t>(at), random));
    }
  }

  // An operator for another, mostly one that is served; any other byte.
  static void change_code(Bytes& out, const Slot& slot, std::mt19937& random) {
    static constexpr std::uint8_t kServed[] = {0,  1,  2,  3,  4,  6,  9,  14, 17, 18,
                                               19, 20, 21, 22, 25, 28, 34, 40, 98, 114};
    const std::uint8_t to = random() % 4 == 0 ? static_cast<std::uint8_t>(random() % 128)
                                              : kServed[random() % std::size(kServed)];
    if (slot.kind == Kind::kCode)
      store_le(out.data() + slot.at, std::uint32_t{to});
    else
      store_le(out.data() + slot.at, to);
  }

  // All dimensions or all scales that have one's value take a new one.
  void change_together(Bytes& out, std::mt19937& random) const {
    const bool scales = random() % 4 == 0;
    const auto& all = slots_[static_cast<std::size_t>(scales ? Kind::kScale : Kind::kDimension)];
    if (all.empty()) return;
    const std::size_t at = all[random() % all.size()].at;
    const auto before = load_le<std::uint32_t>(out.data() + at);
    const std::uint32_t after =
        scales ? std::bit_cast<std::uint32_t>(real(std::bit_cast<float>(before), random))
               : number(before, random);
    for (const Slot& slot : all)
      if (load_le<std::uint32_t>(out.data() + slot.at) == before)
        store_le(out.data() + slot.at, after);
  }

  Bytes good_;
  std::vector<std::vector<Slot>> slots_;
};

}  // namespace edgecore::inference::testing
