#include "base/blake3.hpp"

#include <algorithm>

namespace edgecore {
namespace {

using Words8 = std::array<std::uint32_t, 8>;

constexpr Words8 kInitial = {0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
                             0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19};
constexpr std::size_t kBlockBytes = 64;
constexpr std::uint8_t kBlocksPerChunk = 16;

enum Flag : std::uint32_t { kChunkStart = 1, kChunkEnd = 2, kParent = 4, kRoot = 8 };

// The message permutation applied 0 to 6 times: word indices of each round (spec, table 2).
constexpr auto kSchedule = [] {
  constexpr std::uint8_t kPermutation[16] = {2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8};
  std::array<std::array<std::uint8_t, 16>, 7> rounds{};
  for (std::uint8_t i = 0; i < 16; ++i) rounds[0][i] = i;
  for (std::size_t r = 1; r < 7; ++r)
    for (std::size_t i = 0; i < 16; ++i) rounds[r][i] = rounds[r - 1][kPermutation[i]];
  return rounds;
}();

void mix(std::uint32_t& a, std::uint32_t& b, std::uint32_t& c, std::uint32_t& d, std::uint32_t x,
         std::uint32_t y) {
  a += b + x;
  d = std::rotr(d ^ a, 16);
  c += d;
  b = std::rotr(b ^ c, 12);
  a += b + y;
  d = std::rotr(d ^ a, 8);
  c += d;
  b = std::rotr(b ^ c, 7);
}

// The compression function; the first eight words of its output are the chaining value.
Words8 compress(const Words8& value, const std::byte* block, std::uint32_t length,
                std::uint64_t counter, std::uint32_t flags) {
  std::uint32_t m[16];
  for (std::size_t i = 0; i < 16; ++i) m[i] = load_le<std::uint32_t>(block + 4 * i);
  std::uint32_t v[16] = {value[0],
                         value[1],
                         value[2],
                         value[3],
                         value[4],
                         value[5],
                         value[6],
                         value[7],
                         kInitial[0],
                         kInitial[1],
                         kInitial[2],
                         kInitial[3],
                         static_cast<std::uint32_t>(counter),
                         static_cast<std::uint32_t>(counter >> 32),
                         length,
                         flags};
  for (const auto& s : kSchedule) {
    mix(v[0], v[4], v[8], v[12], m[s[0]], m[s[1]]);
    mix(v[1], v[5], v[9], v[13], m[s[2]], m[s[3]]);
    mix(v[2], v[6], v[10], v[14], m[s[4]], m[s[5]]);
    mix(v[3], v[7], v[11], v[15], m[s[6]], m[s[7]]);
    mix(v[0], v[5], v[10], v[15], m[s[8]], m[s[9]]);
    mix(v[1], v[6], v[11], v[12], m[s[10]], m[s[11]]);
    mix(v[2], v[7], v[8], v[13], m[s[12]], m[s[13]]);
    mix(v[3], v[4], v[9], v[14], m[s[14]], m[s[15]]);
  }
  Words8 out;
  for (std::size_t i = 0; i < 8; ++i) out[i] = v[i] ^ v[i + 8];
  return out;
}

Words8 compress_parent(const Words8& left, const Words8& right, std::uint32_t flags) {
  std::array<std::byte, kBlockBytes> block;
  for (std::size_t i = 0; i < 8; ++i) {
    store_le(block.data() + 4 * i, left[i]);
    store_le(block.data() + 32 + 4 * i, right[i]);
  }
  return compress(kInitial, block.data(), kBlockBytes, 0, kParent | flags);
}

}  // namespace

Blake3::Blake3() : chunk_value_(kInitial) {
  block_.fill(std::byte{0});
}

void Blake3::update(ByteSpan bytes) {
  while (!bytes.empty()) {
    // A full block is compressed only when more input follows: the last one carries end flags.
    if (block_length_ == kBlockBytes) {
      const bool last = blocks_compressed_ == kBlocksPerChunk - 1;
      const std::uint32_t flags =
          (blocks_compressed_ == 0 ? kChunkStart : 0u) | (last ? kChunkEnd : 0u);
      chunk_value_ = compress(chunk_value_, block_.data(), kBlockBytes, chunk_counter_, flags);
      block_length_ = 0;
      ++blocks_compressed_;
      if (last) {
        // Merge finished subtrees: one for every trailing zero of the number of chunks.
        Words8 value = chunk_value_;
        ++chunk_counter_;
        for (std::uint64_t n = chunk_counter_; (n & 1) == 0; n >>= 1)
          value = compress_parent(stack_[--stack_length_], value, 0);
        stack_[stack_length_++] = value;
        chunk_value_ = kInitial;
        blocks_compressed_ = 0;
      }
    }
    const std::size_t take = std::min(kBlockBytes - block_length_, bytes.size());
    std::memcpy(block_.data() + block_length_, bytes.data(), take);
    block_length_ = static_cast<std::uint8_t>(block_length_ + take);
    bytes = bytes.subspan(take);
  }
}

Digest Blake3::finish() const {
  std::array<std::byte, kBlockBytes> block{};
  std::memcpy(block.data(), block_.data(), block_length_);
  const std::uint32_t flags = (blocks_compressed_ == 0 ? kChunkStart : 0u) | kChunkEnd;
  const bool single = stack_length_ == 0;
  Words8 value = compress(chunk_value_, block.data(), block_length_, chunk_counter_,
                          flags | (single ? kRoot : 0u));
  for (std::size_t i = stack_length_; i-- > 0;)
    value = compress_parent(stack_[i], value, i == 0 ? kRoot : 0u);
  Digest digest;
  for (std::size_t i = 0; i < 8; ++i) store_le(digest.data() + 4 * i, value[i]);
  return digest;
}

Digest blake3(ByteSpan bytes) {
  Blake3 hasher;
  hasher.update(bytes);
  return hasher.finish();
}

std::string to_hex(ByteSpan bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const std::byte b : bytes) {
    out.push_back(kDigits[static_cast<unsigned>(b) >> 4]);
    out.push_back(kDigits[static_cast<unsigned>(b) & 15]);
  }
  return out;
}

}  // namespace edgecore
