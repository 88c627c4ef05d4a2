// The rounds of BLAKE3 over the registers of one kernel. A kernel's file defines, before it
// includes this one,
//   EDGECORE_BLAKE3_ISA  the target attribute of its functions
//   Lanes                a register of 32-bit words, one per lane
//   add, exclusive, rotate<n>, fill, load, store, message
// and gets compress_lanes().
#pragma once

#include "base/blake3_kernel.hpp"

#define EDGECORE_BLAKE3_INLINE EDGECORE_BLAKE3_ISA inline __attribute__((always_inline))

#if defined(__clang__)
#define EDGECORE_BLAKE3_UNROLLED _Pragma("clang loop unroll(full)")
#else
#define EDGECORE_BLAKE3_UNROLLED _Pragma("GCC unroll 16")
#endif

namespace edgecore {
namespace {

EDGECORE_BLAKE3_INLINE void mix(Lanes& a, Lanes& b, Lanes& c, Lanes& d, Lanes x, Lanes y) {
  a = add(add(a, b), x);
  d = rotate<16>(exclusive(d, a));
  c = add(c, d);
  b = rotate<12>(exclusive(b, c));
  a = add(add(a, b), y);
  d = rotate<8>(exclusive(d, a));
  c = add(c, d);
  b = rotate<7>(exclusive(b, c));
}

EDGECORE_BLAKE3_ISA void compress_lanes(std::uint32_t* values, const Blake3Step& step) {
  constexpr std::size_t kWidth = sizeof(Lanes) / sizeof(std::uint32_t);
  alignas(64) std::uint32_t counters[2][kWidth];
  for (std::size_t i = 0; i < kWidth; ++i) {
    const std::uint64_t counter = step.counter + i * step.step;
    counters[0][i] = static_cast<std::uint32_t>(counter);
    counters[1][i] = static_cast<std::uint32_t>(counter >> 32);
  }
  Lanes m[16], v[16];
  message(step.blocks, m);
  EDGECORE_BLAKE3_UNROLLED
  for (std::size_t i = 0; i < 8; ++i) v[i] = load(values + i * kWidth);
  EDGECORE_BLAKE3_UNROLLED
  for (std::size_t i = 0; i < 4; ++i) v[8 + i] = fill(kBlake3Initial[i]);
  v[12] = load(counters[0]);
  v[13] = load(counters[1]);
  v[14] = fill(step.length);
  v[15] = fill(step.flags);
  EDGECORE_BLAKE3_UNROLLED
  for (std::size_t r = 0; r < 7; ++r) {
    const auto& s = kBlake3Schedule[r];
    mix(v[0], v[4], v[8], v[12], m[s[0]], m[s[1]]);
    mix(v[1], v[5], v[9], v[13], m[s[2]], m[s[3]]);
    mix(v[2], v[6], v[10], v[14], m[s[4]], m[s[5]]);
    mix(v[3], v[7], v[11], v[15], m[s[6]], m[s[7]]);
    mix(v[0], v[5], v[10], v[15], m[s[8]], m[s[9]]);
    mix(v[1], v[6], v[11], v[12], m[s[10]], m[s[11]]);
    mix(v[2], v[7], v[8], v[13], m[s[12]], m[s[13]]);
    mix(v[3], v[4], v[9], v[14], m[s[14]], m[s[15]]);
  }
  EDGECORE_BLAKE3_UNROLLED
  for (std::size_t i = 0; i < 8; ++i) store(values + i * kWidth, exclusive(v[i], v[i + 8]));
}

}  // namespace
}  // namespace edgecore
