// Binary range code and the adaptive probabilities that feed it. Integers only, so that every
// machine gives the same bytes. Probabilities are those of a one, in 1/65536.
//
// Method: carry-less binary arithmetic coding; predictions of several contexts are mixed in the
// logistic domain by weights that learn online (M. Mahoney, "Adaptive weighing of context models
// for lossless data compression", 2005).
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "base/bytes.hpp"

namespace edgecore {

// Both sides have the same face: code(bit, p) gives the bit, which a decoder ignores as argument.
class RangeEncoder {
 public:
  static constexpr bool kDecodes = false;
  unsigned code(unsigned bit, std::uint32_t one) {
    const std::uint32_t middle = split(low_, high_, one);
    if (bit != 0)
      high_ = middle;
    else
      low_ = middle + 1;
    for (; ((low_ ^ high_) >> 24) == 0; low_ <<= 8, high_ = (high_ << 8) | 0xff)
      out_.push_back(static_cast<std::byte>(high_ >> 24));
    return bit;
  }
  // Bits without a model: beside the code, from the end of the bytes backwards.
  std::uint64_t raw(std::uint64_t value, unsigned bits) {
    for (unsigned left = bits; left-- > 0;) {
      held_ = static_cast<std::uint8_t>((held_ << 1) | ((value >> left) & 1));
      if (++held_bits_ % 8 == 0) tail_.push_back(static_cast<std::byte>(held_));
    }
    return value;
  }
  // The fewest bytes that lie in the last interval whatever follows them, then the raw bits.
  Bytes finish() {
    for (unsigned kept = 0; kept <= 4; ++kept) {
      const std::uint64_t below = (std::uint64_t{1} << (32 - 8 * kept)) - 1;
      const std::uint64_t value = (low_ + below) & ~below;
      if (value + below > high_) continue;
      for (unsigned i = 0; i < kept; ++i)
        out_.push_back(static_cast<std::byte>(value >> (24 - 8 * i)));
      break;
    }
    if (held_bits_ % 8 != 0) tail_.push_back(static_cast<std::byte>(held_ << (8 - held_bits_ % 8)));
    out_.insert(out_.end(), tail_.rbegin(), tail_.rend());
    return std::move(out_);
  }

  static std::uint32_t split(std::uint32_t low, std::uint32_t high, std::uint32_t one) {
    return low + static_cast<std::uint32_t>((std::uint64_t{high - low} * one) >> 16);
  }

 private:
  std::uint32_t low_ = 0;
  std::uint32_t high_ = 0xffffffffu;
  Bytes out_;
  Bytes tail_;
  std::uint8_t held_ = 0;
  std::size_t held_bits_ = 0;
};

// Behind the last byte it reads zeros; overrun() says when more were read than an encoder leaves.
class RangeDecoder {
 public:
  static constexpr bool kDecodes = true;
  explicit RangeDecoder(ByteSpan bytes) : bytes_(bytes) {
    for (int i = 0; i < 4; ++i) value_ = (value_ << 8) | next();
  }
  unsigned code(unsigned /*bit*/, std::uint32_t one) {
    const std::uint32_t middle = RangeEncoder::split(low_, high_, one);
    const unsigned bit = value_ <= middle;
    if (bit != 0)
      high_ = middle;
    else
      low_ = middle + 1;
    for (; ((low_ ^ high_) >> 24) == 0; low_ <<= 8, high_ = (high_ << 8) | 0xff)
      value_ = (value_ << 8) | next();
    return bit;
  }
  std::uint64_t raw(std::uint64_t /*value*/, unsigned bits) {
    std::uint64_t out = 0;
    while (bits > 0) {
      if (held_bits_ == 0) {
        held_ =
            tail_ < bytes_.size() ? static_cast<unsigned>(bytes_[bytes_.size() - 1 - tail_]) : 0;
        ++tail_;
        held_bits_ = 8;
      }
      const unsigned part = std::min(bits, held_bits_);
      held_bits_ -= part;
      out = (out << part) | ((held_ >> held_bits_) & ((1u << part) - 1));
      bits -= part;
    }
    return out;
  }
  bool overrun() const { return at_ + tail_ > bytes_.size() + 4; }
  bool at_end() const { return at_ + tail_ >= bytes_.size() && !overrun(); }

 private:
  std::uint32_t next() {
    const std::size_t at = at_++;
    return at < bytes_.size() ? static_cast<std::uint32_t>(bytes_[at]) : 0;
  }

  ByteSpan bytes_;
  std::size_t at_ = 0;
  std::size_t tail_ = 0;  // bytes of raw bits taken
  unsigned held_ = 0;
  unsigned held_bits_ = 0;
  std::uint32_t low_ = 0;
  std::uint32_t high_ = 0xffffffffu;
  std::uint32_t value_ = 0;
};

// The logistic function and its inverse, between 1/256 of a natural-log odds and a probability.
inline constexpr int kOddsMax = 12 * 256 - 1;
int odds_of(std::uint32_t one);
std::uint32_t one_of(int odds);

// A probability that averages what it has seen, then forgets at a fixed rate.
struct Adaptive {
  static constexpr std::uint8_t kMemory = 60;
  std::uint16_t one = 32768;
  std::uint8_t seen = 0;

  void learn(unsigned bit) {
    const int target = bit != 0 ? 65535 : 0;
    one = static_cast<std::uint16_t>(one + (target - one) * 2 / (2 * seen + 3));
    if (seen < kMemory) ++seen;
  }
  template <typename Coder>
  unsigned code(Coder& coder, unsigned bit) {
    bit = coder.code(bit, clamped(one));
    learn(bit);
    return bit;
  }
  static std::uint32_t clamped(std::uint32_t one) { return std::clamp(one, 16u, 65520u); }
};

// Mixes the contexts' probabilities of one bit. Weights are in 1/65536.
template <std::size_t N>
class Mixer {
 public:
  Mixer() { weights_.fill(static_cast<std::int32_t>(65536 * 13 / (10 * N))); }
  template <typename Coder>
  unsigned code(Coder& coder, unsigned bit, const std::array<Adaptive*, N>& contexts) {
    std::array<int, N> odds;
    std::int64_t sum = 0;
    for (std::size_t i = 0; i < N; ++i) {
      odds[i] = odds_of(contexts[i]->one);
      sum += std::int64_t{weights_[i]} * odds[i];
    }
    const std::uint32_t one =
        one_of(static_cast<int>(std::clamp<std::int64_t>(sum >> 16, -kOddsMax, kOddsMax)));
    bit = coder.code(bit, Adaptive::clamped(one));
    const int error = (bit != 0 ? 65535 : 0) - static_cast<int>(one);
    for (std::size_t i = 0; i < N; ++i) {
      const int step = (odds[i] * (error >> 4)) >> 10;
      weights_[i] = std::clamp(weights_[i] + step, -(1 << 20), 1 << 20);
      contexts[i]->learn(bit);
    }
    return bit;
  }

 private:
  std::array<std::int32_t, N> weights_;
};

}  // namespace edgecore
