// BLAKE3 on x86-64 processors with SSE4.1: four lanes.
#include "base/blake3_kernel.hpp"

#if defined(__x86_64__)

#include <immintrin.h>

#define EDGECORE_BLAKE3_ISA __attribute__((target("sse4.1")))

namespace edgecore {
namespace {

using Lanes = __m128i;

EDGECORE_BLAKE3_ISA inline Lanes load(const std::uint32_t* from) {
  return _mm_load_si128(reinterpret_cast<const Lanes*>(from));
}
EDGECORE_BLAKE3_ISA inline void store(std::uint32_t* to, Lanes value) {
  _mm_store_si128(reinterpret_cast<Lanes*>(to), value);
}
EDGECORE_BLAKE3_ISA inline Lanes fill(std::uint32_t word) {
  return _mm_set1_epi32(static_cast<int>(word));
}
EDGECORE_BLAKE3_ISA inline Lanes add(Lanes a, Lanes b) {
  return _mm_add_epi32(a, b);
}
EDGECORE_BLAKE3_ISA inline Lanes exclusive(Lanes a, Lanes b) {
  return _mm_xor_si128(a, b);
}
template <int kBits>
EDGECORE_BLAKE3_ISA inline Lanes rotate(Lanes x) {
  if constexpr (kBits == 16)
    return _mm_shuffle_epi8(x, _mm_set_epi8(13, 12, 15, 14, 9, 8, 11, 10, 5, 4, 7, 6, 1, 0, 3, 2));
  else if constexpr (kBits == 8)
    return _mm_shuffle_epi8(x, _mm_set_epi8(12, 15, 14, 13, 8, 11, 10, 9, 4, 7, 6, 5, 0, 3, 2, 1));
  else
    return _mm_or_si128(_mm_srli_epi32(x, kBits), _mm_slli_epi32(x, 32 - kBits));
}

// Words of four blocks, each gathered over the lanes: four squares of 4 x 4.
EDGECORE_BLAKE3_ISA inline __attribute__((always_inline)) void message(
    const std::byte* const* blocks, Lanes* m) {
#pragma GCC unroll 4
  for (std::size_t part = 0; part < 4; ++part) {
    Lanes row[4];
#pragma GCC unroll 4
    for (std::size_t i = 0; i < 4; ++i)
      row[i] = _mm_loadu_si128(reinterpret_cast<const Lanes*>(blocks[i] + 16 * part));
    const Lanes a = _mm_unpacklo_epi32(row[0], row[1]), b = _mm_unpackhi_epi32(row[0], row[1]);
    const Lanes c = _mm_unpacklo_epi32(row[2], row[3]), d = _mm_unpackhi_epi32(row[2], row[3]);
    m[4 * part] = _mm_unpacklo_epi64(a, c);
    m[4 * part + 1] = _mm_unpackhi_epi64(a, c);
    m[4 * part + 2] = _mm_unpacklo_epi64(b, d);
    m[4 * part + 3] = _mm_unpackhi_epi64(b, d);
  }
}

}  // namespace
}  // namespace edgecore

#include "base/blake3_lanes.hpp"

namespace edgecore {

const Blake3Kernel* blake3_sse41_kernel() {
  static constexpr Blake3Kernel kKernel{4, &compress_lanes};
  return __builtin_cpu_supports("sse4.1") != 0 ? &kKernel : nullptr;
}

}  // namespace edgecore

#else

namespace edgecore {
const Blake3Kernel* blake3_sse41_kernel() {
  return nullptr;
}
}  // namespace edgecore

#endif
