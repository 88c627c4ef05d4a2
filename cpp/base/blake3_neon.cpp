// BLAKE3 on ARM64 processors: four lanes of NEON, which all of them have.
#include "base/blake3_kernel.hpp"

#if defined(__aarch64__)

#include <arm_neon.h>

#define EDGECORE_BLAKE3_ISA

namespace edgecore {
namespace {

using Lanes = uint32x4_t;

inline Lanes load(const std::uint32_t* from) {
  return vld1q_u32(from);
}
inline void store(std::uint32_t* to, Lanes value) {
  vst1q_u32(to, value);
}
inline Lanes fill(std::uint32_t word) {
  return vdupq_n_u32(word);
}
inline Lanes add(Lanes a, Lanes b) {
  return vaddq_u32(a, b);
}
inline Lanes exclusive(Lanes a, Lanes b) {
  return veorq_u32(a, b);
}
template <int kBits>
inline Lanes rotate(Lanes x) {
  if constexpr (kBits == 16)
    return vreinterpretq_u32_u16(vrev32q_u16(vreinterpretq_u16_u32(x)));
  else
    return vsriq_n_u32(vshlq_n_u32(x, 32 - kBits), x, kBits);
}

// Words of four blocks, each gathered over the lanes: four squares of 4 x 4.
inline __attribute__((always_inline)) void message(const std::byte* const* blocks, Lanes* m) {
#pragma GCC unroll 4
  for (std::size_t part = 0; part < 4; ++part) {
    uint64x2_t row[4];
    Lanes words[4];
#pragma GCC unroll 4
    for (std::size_t i = 0; i < 4; ++i)
      words[i] = vreinterpretq_u32_u8(
          vld1q_u8(reinterpret_cast<const std::uint8_t*>(blocks[i]) + 16 * part));
    row[0] = vreinterpretq_u64_u32(vtrn1q_u32(words[0], words[1]));  // words 0, 2
    row[1] = vreinterpretq_u64_u32(vtrn2q_u32(words[0], words[1]));  // words 1, 3
    row[2] = vreinterpretq_u64_u32(vtrn1q_u32(words[2], words[3]));
    row[3] = vreinterpretq_u64_u32(vtrn2q_u32(words[2], words[3]));
    m[4 * part] = vreinterpretq_u32_u64(vtrn1q_u64(row[0], row[2]));
    m[4 * part + 1] = vreinterpretq_u32_u64(vtrn1q_u64(row[1], row[3]));
    m[4 * part + 2] = vreinterpretq_u32_u64(vtrn2q_u64(row[0], row[2]));
    m[4 * part + 3] = vreinterpretq_u32_u64(vtrn2q_u64(row[1], row[3]));
  }
}

}  // namespace
}  // namespace edgecore

#include "base/blake3_lanes.hpp"

namespace edgecore {

const Blake3Kernel* blake3_neon_kernel() {
  static constexpr Blake3Kernel kKernel{4, &compress_lanes};
  return &kKernel;
}

}  // namespace edgecore

#else

namespace edgecore {
const Blake3Kernel* blake3_neon_kernel() {
  return nullptr;
}
}  // namespace edgecore

#endif
