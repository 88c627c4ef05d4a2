// Integer streams: every column of a block is a few vectors of 64-bit integers, some counts and
// some bytes, and a coding is a way to write these. `fast` (stream.cpp) writes bit-packed frames,
// `dense` (dense.cpp) an adaptive binary range code. docs/formats/column-block.md
//
// A source is given the bytes of one column, which may be hostile: every take is bounded by what
// the caller asks for, and false means the bytes are malformed.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/bytes.hpp"

namespace edgecore {

enum class Coding : std::uint8_t { kFast = 1, kDense = 2 };

using Integers = std::vector<std::int64_t>;

class StreamSink {
 public:
  virtual ~StreamSink() = default;
  virtual void put_count(std::uint64_t count) = 0;
  virtual void put_integers(std::span<const std::int64_t> values) = 0;
  virtual void put_bytes(ByteSpan bytes) = 0;
  virtual Bytes finish() = 0;  // once, at the end
};

class StreamSource {
 public:
  virtual ~StreamSource() = default;
  [[nodiscard]] virtual bool take_count(std::uint64_t& out) = 0;
  // Fills `out`, whose size is the number of integers.
  [[nodiscard]] virtual bool take_integers(std::span<std::int64_t> out) = 0;
  // Adds `count` bytes to `out`; the caller has bounded the count.
  [[nodiscard]] virtual bool take_bytes(std::size_t count, Bytes& out) = 0;
  [[nodiscard]] virtual bool at_end() const = 0;
};

std::unique_ptr<StreamSink> make_sink(Coding coding);
// The bytes must outlive the source.
std::unique_ptr<StreamSource> make_source(Coding coding, ByteSpan bytes);

// Arithmetic of streams is modulo 2^64, so that any difference has an inverse.
constexpr std::int64_t wrap_add(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}
constexpr std::int64_t wrap_sub(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) - static_cast<std::uint64_t>(b));
}
constexpr std::int64_t wrap_mul(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
}
constexpr std::uint64_t zigzag(std::int64_t value) {
  return (static_cast<std::uint64_t>(value) << 1) ^ static_cast<std::uint64_t>(value >> 63);
}
constexpr std::int64_t unzigzag(std::uint64_t value) {
  return static_cast<std::int64_t>((value >> 1) ^ (~(value & 1) + 1));
}

// LEB128: 7 bits a byte, the lowest first, at most 10 bytes.
void put_varint(Bytes& out, std::uint64_t value);
[[nodiscard]] bool take_varint(ByteReader& reader, std::uint64_t& out);

// The greatest common divisor of the differences to the first value: 0 when all are equal, 1 when
// a difference leaves 63 bits.
std::uint64_t common_step(std::span<const std::int64_t> values);

}  // namespace edgecore
