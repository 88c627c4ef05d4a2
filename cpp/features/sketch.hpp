// How many different values a window holds, about: a HyperLogLog of counts, which values enter and
// leave.
//
// A value's hash, by a fixed function, names one of 1,024 registers and a rank: how many zeros its
// other bits begin with, and one. Where the sketch of a stream keeps the highest rank of a
// register, this one keeps how many events have each rank, so that an event can be taken away
// again, and the highest rank is that of the events that are in. So an estimate follows from the
// set of values in the window alone, whatever their order, their number and what was there before.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace edgecore::features {

class Sketch {
 public:
  static constexpr unsigned kRegisterBits = 10;
  static constexpr std::size_t kRegisters = std::size_t{1} << kRegisterBits;
  static constexpr std::size_t kRanks = 24;  // the last one: 23 zeros or more
  // Of estimates, over values: 1.04 / sqrt(kRegisters).
  static constexpr double kStandardError = 0.0325;

  Sketch() { having_[0] = kRegisters; }
  // `count` events of one value.
  void add(std::int64_t value, std::uint32_t count);
  // One that was added.
  void remove(std::int64_t value);

  // How many pairs of register and rank some value has: there are at least so many different ones.
  std::uint32_t cells() const { return cells_; }
  // By Ertl's improved estimator (arXiv 1702.01284, algorithm 6), to the nearest integer.
  std::uint32_t estimate();

  // At most 97 KiB.
  std::size_t memory_bytes() const {
    return sizeof(Sketch) + counts_.capacity() * sizeof(std::uint32_t);
  }

 private:
  std::vector<std::uint32_t> counts_;  // of events, by rank and register; ranks that were met
  std::array<std::uint8_t, kRegisters> highest_{};  // rank of a register; 0: none
  std::array<std::uint32_t, kRanks + 1> having_{};  // registers by their highest rank
  std::uint32_t cells_ = 0, estimate_ = 0;
  bool estimated_ = false;
};

}  // namespace edgecore::features
