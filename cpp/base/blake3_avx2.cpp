// BLAKE3 on x86-64 processors with AVX2: eight lanes.
#include "base/blake3_kernel.hpp"

#if defined(__x86_64__)

#include <immintrin.h>

#define EDGECORE_BLAKE3_ISA __attribute__((target("avx2")))

namespace edgecore {
namespace {

using Lanes = __m256i;

EDGECORE_BLAKE3_ISA inline Lanes load(const std::uint32_t* from) {
  return _mm256_load_si256(reinterpret_cast<const Lanes*>(from));
}
EDGECORE_BLAKE3_ISA inline void store(std::uint32_t* to, Lanes value) {
  _mm256_store_si256(reinterpret_cast<Lanes*>(to), value);
}
EDGECORE_BLAKE3_ISA inline Lanes fill(std::uint32_t word) {
  return _mm256_set1_epi32(static_cast<int>(word));
}
EDGECORE_BLAKE3_ISA inline Lanes add(Lanes a, Lanes b) {
  return _mm256_add_epi32(a, b);
}
EDGECORE_BLAKE3_ISA inline Lanes exclusive(Lanes a, Lanes b) {
  return _mm256_xor_si256(a, b);
}
template <int kBits>
EDGECORE_BLAKE3_ISA inline Lanes rotate(Lanes x) {
  if constexpr (kBits == 16)
    return _mm256_shuffle_epi8(
        x, _mm256_set_epi8(13, 12, 15, 14, 9, 8, 11, 10, 5, 4, 7, 6, 1, 0, 3, 2,  //
                           13, 12, 15, 14, 9, 8, 11, 10, 5, 4, 7, 6, 1, 0, 3, 2));
  else if constexpr (kBits == 8)
    return _mm256_shuffle_epi8(
        x, _mm256_set_epi8(12, 15, 14, 13, 8, 11, 10, 9, 4, 7, 6, 5, 0, 3, 2, 1,  //
                           12, 15, 14, 13, 8, 11, 10, 9, 4, 7, 6, 5, 0, 3, 2, 1));
  else
    return _mm256_or_si256(_mm256_srli_epi32(x, kBits), _mm256_slli_epi32(x, 32 - kBits));
}

// Words of eight blocks, each gathered over the lanes: two squares of 8 x 8.
EDGECORE_BLAKE3_ISA inline __attribute__((always_inline)) void message(
    const std::byte* const* blocks, Lanes* m) {
#pragma GCC unroll 2
  for (std::size_t part = 0; part < 2; ++part) {
    Lanes row[8], pair[8], quad[8];
#pragma GCC unroll 8
    for (std::size_t i = 0; i < 8; ++i)
      row[i] = _mm256_loadu_si256(reinterpret_cast<const Lanes*>(blocks[i] + 32 * part));
#pragma GCC unroll 4
    for (std::size_t i = 0; i < 8; i += 2) {
      pair[i] = _mm256_unpacklo_epi32(row[i], row[i + 1]);
      pair[i + 1] = _mm256_unpackhi_epi32(row[i], row[i + 1]);
    }
#pragma GCC unroll 2
    for (std::size_t i = 0; i < 8; i += 4) {
      quad[i] = _mm256_unpacklo_epi64(pair[i], pair[i + 2]);
      quad[i + 1] = _mm256_unpackhi_epi64(pair[i], pair[i + 2]);
      quad[i + 2] = _mm256_unpacklo_epi64(pair[i + 1], pair[i + 3]);
      quad[i + 3] = _mm256_unpackhi_epi64(pair[i + 1], pair[i + 3]);
    }
#pragma GCC unroll 4
    for (std::size_t i = 0; i < 4; ++i) {
      m[8 * part + i] = _mm256_permute2x128_si256(quad[i], quad[i + 4], 0x20);
      m[8 * part + i + 4] = _mm256_permute2x128_si256(quad[i], quad[i + 4], 0x31);
    }
  }
}

}  // namespace
}  // namespace edgecore

#include "base/blake3_lanes.hpp"

namespace edgecore {

const Blake3Kernel* blake3_avx2_kernel() {
  static constexpr Blake3Kernel kKernel{8, &compress_lanes};
  return __builtin_cpu_supports("avx2") != 0 ? &kKernel : nullptr;
}

}  // namespace edgecore

#else

namespace edgecore {
const Blake3Kernel* blake3_avx2_kernel() {
  return nullptr;
}
}  // namespace edgecore

#endif
