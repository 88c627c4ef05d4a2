// BLAKE3 on x86-64 processors with AVX-512: sixteen lanes.
#include "base/blake3_kernel.hpp"

#if defined(__x86_64__)

#include <immintrin.h>

#define EDGECORE_BLAKE3_ISA __attribute__((target("avx512f")))

namespace edgecore {
namespace {

using Lanes = __m512i;

EDGECORE_BLAKE3_ISA inline Lanes load(const std::uint32_t* from) {
  return _mm512_load_si512(from);
}
EDGECORE_BLAKE3_ISA inline void store(std::uint32_t* to, Lanes value) {
  _mm512_store_si512(to, value);
}
EDGECORE_BLAKE3_ISA inline Lanes fill(std::uint32_t word) {
  return _mm512_set1_epi32(static_cast<int>(word));
}
EDGECORE_BLAKE3_ISA inline Lanes add(Lanes a, Lanes b) {
  return _mm512_add_epi32(a, b);
}
EDGECORE_BLAKE3_ISA inline Lanes exclusive(Lanes a, Lanes b) {
  return _mm512_xor_si512(a, b);
}
template <int kBits>
EDGECORE_BLAKE3_ISA inline Lanes rotate(Lanes x) {
  return _mm512_maskz_ror_epi32(0xffff, x, kBits);
}

// Parts p of registers a, b become parts of one: chosen by pairs of bits.
template <int kParts>
EDGECORE_BLAKE3_ISA inline Lanes parts(Lanes a, Lanes b) {
  return _mm512_maskz_shuffle_i32x4(0xffff, a, b, kParts);
}

// Words of sixteen blocks, each gathered over the lanes: a square of 16 x 16, first within the
// 128-bit parts of a register, then the parts among the registers.
EDGECORE_BLAKE3_ISA inline __attribute__((always_inline)) void message(
    const std::byte* const* blocks, Lanes* m) {
  constexpr std::uint16_t kAll16 = 0xffff;
  constexpr std::uint8_t kAll8 = 0xff;
  Lanes pair[16], quad[16];
#pragma GCC unroll 8
  for (std::size_t i = 0; i < 16; i += 2) {
    const Lanes a = _mm512_loadu_si512(blocks[i]), b = _mm512_loadu_si512(blocks[i + 1]);
    pair[i] = _mm512_maskz_unpacklo_epi32(kAll16, a, b);
    pair[i + 1] = _mm512_maskz_unpackhi_epi32(kAll16, a, b);
  }
  // quad[4 g + w]: words w, 4 + w, 8 + w, 12 + w of blocks 4 g to 4 g + 3
#pragma GCC unroll 4
  for (std::size_t i = 0; i < 16; i += 4) {
    quad[i] = _mm512_maskz_unpacklo_epi64(kAll8, pair[i], pair[i + 2]);
    quad[i + 1] = _mm512_maskz_unpackhi_epi64(kAll8, pair[i], pair[i + 2]);
    quad[i + 2] = _mm512_maskz_unpacklo_epi64(kAll8, pair[i + 1], pair[i + 3]);
    quad[i + 3] = _mm512_maskz_unpackhi_epi64(kAll8, pair[i + 1], pair[i + 3]);
  }
#pragma GCC unroll 4
  for (std::size_t w = 0; w < 4; ++w) {
    const Lanes a = parts<0x44>(quad[w], quad[4 + w]), b = parts<0xee>(quad[w], quad[4 + w]);
    const Lanes c = parts<0x44>(quad[8 + w], quad[12 + w]);
    const Lanes d = parts<0xee>(quad[8 + w], quad[12 + w]);
    m[w] = parts<0x88>(a, c);
    m[4 + w] = parts<0xdd>(a, c);
    m[8 + w] = parts<0x88>(b, d);
    m[12 + w] = parts<0xdd>(b, d);
  }
}

}  // namespace
}  // namespace edgecore

#include "base/blake3_lanes.hpp"

namespace edgecore {

const Blake3Kernel* blake3_avx512_kernel() {
  static constexpr Blake3Kernel kKernel{16, &compress_lanes};
  return __builtin_cpu_supports("avx512f") != 0 ? &kKernel : nullptr;
}

}  // namespace edgecore

#else

namespace edgecore {
const Blake3Kernel* blake3_avx512_kernel() {
  return nullptr;
}
}  // namespace edgecore

#endif
