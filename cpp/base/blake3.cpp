#include "base/blake3.hpp"

#include <algorithm>

#include "base/blake3_kernel.hpp"
#include "base/status.hpp"

namespace edgecore {
namespace {

using Words8 = std::array<std::uint32_t, 8>;

constexpr std::size_t kBlockBytes = kBlake3BlockBytes;
constexpr std::uint8_t kBlocksPerChunk = 16;
constexpr std::size_t kChunkBytes = kBlocksPerChunk * kBlockBytes;
constexpr std::size_t kValueBytes = sizeof(Words8);
constexpr std::size_t kSubtreeChunks = 64;  // hashed together: enough to fill the lanes of parents

enum Flag : std::uint32_t { kChunkStart = 1, kChunkEnd = 2, kParent = 4, kRoot = 8 };

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
                         kBlake3Initial[0],
                         kBlake3Initial[1],
                         kBlake3Initial[2],
                         kBlake3Initial[3],
                         static_cast<std::uint32_t>(counter),
                         static_cast<std::uint32_t>(counter >> 32),
                         length,
                         flags};
  for (const auto& s : kBlake3Schedule) {
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

void store_value(const Words8& value, std::byte* to) {
  for (std::size_t i = 0; i < 8; ++i) store_le(to + 4 * i, value[i]);
}

Words8 compress_parent(const Words8& left, const Words8& right, std::uint32_t flags) {
  std::array<std::byte, kBlockBytes> block;
  store_value(left, block.data());
  store_value(right, block.data() + kValueBytes);
  return compress(kBlake3Initial, block.data(), kBlockBytes, 0, kParent | flags);
}

Words8 load_value(const std::byte* from) {
  Words8 value;
  for (std::size_t i = 0; i < 8; ++i) value[i] = load_le<std::uint32_t>(from + 4 * i);
  return value;
}

// Inputs of one length, back to back: chunks, pairs of values, or messages.
struct Inputs {
  const std::byte* first;
  std::size_t length;     // bytes of each, at most a chunk
  std::uint64_t counter;  // of the first; the next ones have counter + step ...
  std::uint32_t step;
  std::uint32_t flags;        // of every block
  std::uint32_t first_flags;  // also of the first block
  std::uint32_t last_flags;   // also of the last block

  std::size_t blocks() const { return std::max<std::size_t>(1, (length + 63) / kBlockBytes); }
  std::uint32_t flags_of(std::size_t block) const {
    return flags | (block == 0 ? first_flags : 0u) | (block + 1 == blocks() ? last_flags : 0u);
  }
  std::size_t length_of(std::size_t block) const {
    return std::min(kBlockBytes, length - block * kBlockBytes);
  }
};

const Blake3Kernel* kernel_for(const Blake3Isa& isa, std::size_t count) {
  const Blake3Kernel* found = nullptr;
  for (const Blake3Kernel* kernel : isa.kernels) {
    if (kernel == nullptr || (found != nullptr && count > kernel->width)) break;
    found = kernel;
  }
  return count > 1 ? found : nullptr;
}

// Copies less than a block, in words: a call for a few bytes would cost more than they do.
void copy_short(std::byte* to, const std::byte* from, std::size_t length) {
  std::size_t at = 0;
  for (; at + 4 <= length; at += 4) std::memcpy(to + at, from + at, 4);
  for (; at < length; ++at) to[at] = from[at];
}

// The values of inputs [at, at + count), at most the kernel's width, to `out`, 32 bytes each.
void hash_lanes(const Blake3Kernel& kernel, const Inputs& in, std::size_t at, std::size_t count,
                std::byte* out) {
  const std::size_t width = kernel.width;
  alignas(64) std::uint32_t values[8 * kBlake3LanesMax];
  alignas(64) std::byte padded[kBlake3LanesMax][kBlockBytes];
  const std::byte* inputs[kBlake3LanesMax];
  // A lane without an input repeats the first; what comes out of it is not looked at.
  for (std::size_t i = 0; i < width; ++i)
    inputs[i] = in.first + (i < count ? at + i : at) * in.length;
  for (std::size_t w = 0; w < 8; ++w) std::fill_n(values + w * width, width, kBlake3Initial[w]);
  for (std::size_t block = 0; block < in.blocks(); ++block) {
    const std::size_t length = in.length_of(block);
    const std::byte* blocks[kBlake3LanesMax];
    for (std::size_t i = 0; i < width; ++i) blocks[i] = inputs[i] + block * kBlockBytes;
    if (length < kBlockBytes) {
      std::memset(padded, 0, width * kBlockBytes);
      for (std::size_t i = 0; i < width; ++i) {
        copy_short(padded[i], blocks[i], length);
        blocks[i] = padded[i];
      }
    }
    kernel.compress(values, {blocks, in.counter + at * in.step, in.step,
                             static_cast<std::uint32_t>(length), in.flags_of(block)});
  }
  for (std::size_t i = 0; i < count; ++i)
    for (std::size_t w = 0; w < 8; ++w)
      store_le(out + i * kValueBytes + 4 * w, values[w * width + i]);
}

void hash_one(const Inputs& in, std::size_t at, std::byte* out) {
  Words8 value = kBlake3Initial;
  for (std::size_t block = 0; block < in.blocks(); ++block) {
    std::byte padded[kBlockBytes] = {};
    const std::size_t length = in.length_of(block);
    if (length > 0) std::memcpy(padded, in.first + at * in.length + block * kBlockBytes, length);
    value = compress(value, padded, static_cast<std::uint32_t>(length), in.counter + at * in.step,
                     in.flags_of(block));
  }
  store_value(value, out);
}

// The values of `count` inputs, to `out`, which may be where the inputs are if they are pairs.
void hash_inputs(const Blake3Isa& isa, const Inputs& in, std::size_t count, std::byte* out) {
  for (std::size_t at = 0; at < count;) {
    const Blake3Kernel* const kernel = kernel_for(isa, count - at);
    const std::size_t taken = kernel == nullptr ? 1 : std::min(kernel->width, count - at);
    if (kernel == nullptr)
      hash_one(in, at, out + at * kValueBytes);
    else
      hash_lanes(*kernel, in, at, taken, out + at * kValueBytes);
    at += taken;
  }
}

}  // namespace

std::span<const Blake3Isa> blake3_isas() {
  static const auto found = [] {
    struct {
      std::array<Blake3Isa, 4> all{};
      std::size_t count = 0;
    } out;
    const Blake3Kernel* const sixteen = blake3_avx512_kernel();
    const Blake3Kernel* const eight = blake3_avx2_kernel();
    const Blake3Kernel* const four = blake3_sse41_kernel();
    const bool wide = eight != nullptr && four != nullptr;
    if (wide && sixteen != nullptr) out.all[out.count++] = {"avx512", {sixteen, eight, four}};
    if (wide) out.all[out.count++] = {"avx2", {eight, four}};
    if (four != nullptr) out.all[out.count++] = {"sse4.1", {four}};
    if (const Blake3Kernel* const neon = blake3_neon_kernel(); neon != nullptr)
      out.all[out.count++] = {"neon", {neon}};
    out.all[out.count++] = {"portable", {}};
    return out;
  }();
  return {found.all.data(), found.count};
}

Blake3::Blake3() : Blake3(blake3_isas().front()) {}

Blake3::Blake3(const Blake3Isa& isa) : isa_(&isa), chunk_value_(kBlake3Initial) {
  block_.fill(std::byte{0});
}

// Takes the value of a finished subtree of a power of two of chunks, which stands at a multiple of
// its size, and merges it with those it completes: one for every trailing zero of their number.
void Blake3::push(Words8 value, std::uint64_t chunks) {
  chunk_counter_ += chunks;
  for (std::uint64_t n = chunk_counter_ / chunks; (n & 1) == 0; n >>= 1)
    value = compress_parent(stack_[--stack_length_], value, 0);
  stack_[stack_length_++] = value;
}

void Blake3::compress_block() {
  const bool last = blocks_compressed_ == kBlocksPerChunk - 1;
  const std::uint32_t flags =
      (blocks_compressed_ == 0 ? kChunkStart : 0u) | (last ? kChunkEnd : 0u);
  chunk_value_ = compress(chunk_value_, block_.data(), kBlockBytes, chunk_counter_, flags);
  block_length_ = 0;
  ++blocks_compressed_;
  if (!last) return;
  push(chunk_value_, 1);
  chunk_value_ = kBlake3Initial;
  blocks_compressed_ = 0;
}

// At the start of a chunk: hashes as many whole chunks of `bytes` together as may be, and returns
// their length. Some bytes are left: the last chunk may be the root.
std::size_t Blake3::take_subtree(ByteSpan bytes) {
  if (isa_->kernels[0] == nullptr) return 0;
  std::size_t chunks = kSubtreeChunks;
  while (chunks > 1 && (chunks * kChunkBytes >= bytes.size() || chunk_counter_ % chunks != 0))
    chunks /= 2;
  if (chunks < 2) return 0;
  std::byte values[kSubtreeChunks * kValueBytes];
  hash_inputs(*isa_, {bytes.data(), kChunkBytes, chunk_counter_, 1, 0, kChunkStart, kChunkEnd},
              chunks, values);
  for (std::size_t n = chunks / 2; n > 0; n /= 2)
    hash_inputs(*isa_, {values, kBlockBytes, 0, 0, kParent, 0, 0}, n, values);
  push(load_value(values), chunks);
  return chunks * kChunkBytes;
}

void Blake3::update(ByteSpan bytes) {
  while (!bytes.empty()) {
    // A full block is compressed only when more input follows: the last one carries end flags.
    if (block_length_ == kBlockBytes) compress_block();
    std::size_t take = 0;
    if (block_length_ == 0 && blocks_compressed_ == 0) take = take_subtree(bytes);
    if (take == 0) {
      take = std::min(kBlockBytes - block_length_, bytes.size());
      std::memcpy(block_.data() + block_length_, bytes.data(), take);
      block_length_ = static_cast<std::uint8_t>(block_length_ + take);
    }
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
  store_value(value, digest.data());
  return digest;
}

Digest blake3(ByteSpan bytes) {
  Blake3 hasher;
  hasher.update(bytes);
  return hasher.finish();
}

void blake3_many(ByteSpan messages, std::size_t length, std::span<Digest> out,
                 const Blake3Isa& isa) {
  EDGECORE_ASSERT(messages.size() == length * out.size());
  if (length <= kChunkBytes) {
    if (!out.empty())
      hash_inputs(isa, {messages.data(), length, 0, 0, 0, kChunkStart, kChunkEnd | kRoot},
                  out.size(), out.data()->data());
    return;
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    Blake3 hasher(isa);
    hasher.update(messages.subspan(i * length, length));
    out[i] = hasher.finish();
  }
}

void blake3_many(ByteSpan messages, std::size_t length, std::span<Digest> out) {
  blake3_many(messages, length, out, blake3_isas().front());
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
