// Sums over any range of a series' events, in a logarithm of the range's length and without a
// cursor: events lie in blocks of 64, blocks in blocks of 64 again, and each has its sum. What
// windows that hop, follow sessions or hold values are answered from.
//
// Sums are exact, so that neither the blocks nor the order in which they are taken show in an
// answer. They are made when a range is asked for, once per block; an event that comes late takes
// away those from its place on.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

#include "features/sliding.hpp"

namespace edgecore::features {

// `Sum` begins as the sum of nothing and has merge(const Sum&).
template <typename Sum>
class Blocks {
 public:
  void clear() { *this = Blocks(); }
  // Every index goes down by `shift`.
  void shift(std::uint32_t shift) { base_ += shift; }
  // An event took index `at`; later ones moved up by one.
  void change(std::uint32_t at) {
    for (std::size_t k = 0; k < kLevels; ++k)
      while (!levels_[k].sums.empty() && levels_[k].next() > (base_ + at) >> bits(k))
        levels_[k].sums.pop_back();
  }
  // Events before `upto` are about to go.
  void forget(std::uint32_t upto) {
    for (std::size_t k = 0; k < kLevels; ++k)
      for (Level& level = levels_[k];
           !level.sums.empty() && level.first < (base_ + upto) >> bits(k); ++level.first)
        level.sums.pop_front();
  }

  // The sum of the events [begin, end); one(at, sum) adds that of index `at`. `oldest`: the first
  // index there is.
  template <typename One>
  Sum sum(std::uint32_t oldest, std::uint32_t begin, std::uint32_t end, const One& one) {
    extend(oldest, end, one);
    Sum out;
    std::uint64_t low = base_ + begin;
    std::uint64_t high = base_ + end;
    for (; low < high && low % kFan != 0; ++low) one(index(low), out);
    for (; low < high && high % kFan != 0; --high) one(index(high - 1), out);
    for (std::size_t k = 0; low < high; ++k) {
      low /= kFan;
      high /= kFan;
      const bool top = k + 1 == kLevels;
      for (; low < high && (top || low % kFan != 0); ++low) out.merge(levels_[k].at(low));
      for (; low < high && high % kFan != 0; --high) out.merge(levels_[k].at(high - 1));
    }
    return out;
  }

  // The last of the events [begin, end) for which is(at) holds; it can't for any event of a block
  // whose sum may(sum) denies.
  template <typename One, typename Is, typename May>
  std::optional<std::uint32_t> last(std::uint32_t oldest, std::uint32_t begin, std::uint32_t end,
                                    const One& one, const Is& is, const May& may) {
    extend(oldest, end, one);
    const std::uint64_t low = base_ + begin;
    std::uint64_t high = base_ + end;
    while (high > low) {
      std::size_t k = kLevels;
      while (k > 0 && !can_skip(k - 1, low, high, may)) --k;
      if (k > 0) {
        high -= std::uint64_t{1} << bits(k - 1);
        continue;
      }
      --high;
      if (is(index(high))) return index(high);
    }
    return std::nullopt;
  }

  std::size_t memory_bytes() const {
    std::size_t total = 0;
    for (const Level& level : levels_) total += level.sums.memory_bytes();
    return total;
  }

 private:
  static constexpr std::uint64_t kFan = 64;
  static constexpr std::size_t kLevels = 3;  // a block of the last one: 2^18 events
  static constexpr unsigned bits(std::size_t level) {
    return 6 * (static_cast<unsigned>(level) + 1);
  }

  // Events are numbered from the first there ever was, so that pruning moves no block.
  struct Level {
    Sliding<Sum> sums;
    std::uint64_t first = 0;  // the block of sums.front()
    std::uint64_t next() const { return first + sums.size(); }
    const Sum& at(std::uint64_t block) const {
      return sums[sums.begin() + static_cast<std::uint32_t>(block - first)];
    }
  };

  std::uint32_t index(std::uint64_t number) const {
    return static_cast<std::uint32_t>(number - base_);
  }

  // Makes the sums of all blocks that are whole before index `end`. One that lost events is made of
  // the rest; no range has it as a whole.
  template <typename One>
  void extend(std::uint32_t oldest, std::uint32_t end, const One& one) {
    for (std::size_t k = 0; k < kLevels; ++k) {
      Level& level = levels_[k];
      const std::uint64_t whole = (base_ + end) >> bits(k);
      const std::uint64_t begin = (base_ + oldest) >> bits(k);
      if (level.next() < begin) {
        level.sums.clear();
        level.first = begin;
      }
      for (std::uint64_t block = level.next(); block < whole; ++block) {
        Sum sum;
        const std::uint64_t upto = (block + 1) * kFan;
        if (k == 0) {
          for (auto at = std::max(block * kFan, base_ + oldest); at < upto; ++at)
            one(index(at), sum);
        } else {
          const Level& below = levels_[k - 1];
          for (auto at = std::max(block * kFan, below.first); at < upto; ++at)
            sum.merge(below.at(at));
        }
        level.sums.push_back(sum);
      }
    }
  }

  // Whether a block of the level ends at `high`, begins at or after `low`, and is denied.
  template <typename May>
  bool can_skip(std::size_t k, std::uint64_t low, std::uint64_t high, const May& may) const {
    const std::uint64_t size = std::uint64_t{1} << bits(k);
    return high % size == 0 && high - low >= size && !may(levels_[k].at(high / size - 1));
  }

  std::uint64_t base_ = 0;  // the number of index 0
  std::array<Level, kLevels> levels_;
};

}  // namespace edgecore::features
