// BLAKE3's compression function over lanes, and the kernels. All give the same bits as the
// portable one; which serve is decided once, by what the processor has.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace edgecore {

constexpr std::size_t kBlake3BlockBytes = 64;
constexpr std::size_t kBlake3LanesMax = 16;
constexpr std::array<std::uint32_t, 8> kBlake3Initial = {
    0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19};

// The message permutation applied 0 to 6 times: word indices of each round (spec, table 2).
constexpr auto kBlake3Schedule = [] {
  constexpr std::uint8_t kPermutation[16] = {2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8};
  std::array<std::array<std::uint8_t, 16>, 7> rounds{};
  for (std::uint8_t i = 0; i < 16; ++i) rounds[0][i] = i;
  for (std::size_t r = 1; r < 7; ++r)
    for (std::size_t i = 0; i < 16; ++i) rounds[r][i] = rounds[r - 1][kPermutation[i]];
  return rounds;
}();

// One compression in each of `width` lanes. `values` are the chaining values, word by word:
// word w of lane i is at [w * width + i], 64-byte aligned. Each lane has a block of its own; the
// counter of lane i is counter + i * step.
struct Blake3Step {
  const std::byte* const* blocks;
  std::uint64_t counter;
  std::uint32_t step;  // 0 or 1
  std::uint32_t length;
  std::uint32_t flags;
};

struct Blake3Kernel {
  std::size_t width;
  void (*compress)(std::uint32_t* values, const Blake3Step& step);
};

const Blake3Kernel* blake3_sse41_kernel();   // nullptr where the processor has it not
const Blake3Kernel* blake3_avx2_kernel();    // nullptr where the processor has it not
const Blake3Kernel* blake3_avx512_kernel();  // nullptr where the processor has it not
const Blake3Kernel* blake3_neon_kernel();    // nullptr where the processor is not ARM64

// The kernels that serve together, the widest first; a null ends them. Work of few lanes goes to
// the narrowest that takes it at once.
struct Blake3Isa {
  const char* name;
  std::array<const Blake3Kernel*, 4> kernels;
};

// What this processor can run: the best first, "portable" last.
std::span<const Blake3Isa> blake3_isas();

}  // namespace edgecore
