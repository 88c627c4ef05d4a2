// BLAKE3 (https://github.com/BLAKE3-team/BLAKE3-specs), 256-bit output: identity of content.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "base/bytes.hpp"

namespace edgecore {

using Digest = std::array<std::byte, 32>;
struct Blake3Isa;  // blake3_kernel.hpp: what it runs on; the digest is the same on all

// Incremental hashing. Fixed memory (about 2 KiB), no allocation; not thread-safe.
class Blake3 {
 public:
  Blake3();
  explicit Blake3(const Blake3Isa& isa);
  void update(ByteSpan bytes);
  Digest finish() const;  // may be called at any point; does not end the stream

 private:
  static constexpr int kDepthMax = 54;  // 2^54 chunks of 1 KiB is 2^64 bytes
  void compress_block();
  std::size_t take_subtree(ByteSpan bytes);
  void push(std::array<std::uint32_t, 8> value, std::uint64_t chunks);

  const Blake3Isa* isa_;
  std::array<std::uint32_t, 8> chunk_value_;
  std::array<std::byte, 64> block_;
  std::uint8_t block_length_ = 0;
  std::uint8_t blocks_compressed_ = 0;
  std::uint64_t chunk_counter_ = 0;
  std::array<std::array<std::uint32_t, 8>, kDepthMax + 1> stack_;
  std::uint8_t stack_length_ = 0;
};

Digest blake3(ByteSpan bytes);

// The digest of each of out.size() messages of `length` bytes, which stand back to back. Messages
// up to 1 KiB are hashed side by side.
void blake3_many(ByteSpan messages, std::size_t length, std::span<Digest> out);
void blake3_many(ByteSpan messages, std::size_t length, std::span<Digest> out,
                 const Blake3Isa& isa);

std::string to_hex(ByteSpan bytes);

}  // namespace edgecore
