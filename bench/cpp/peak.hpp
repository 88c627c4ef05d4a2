// What one core multiplies at most: 8-bit multiply-adds a second out of registers alone, by
// AVX-512 VNNI and by AVX2. 0 where the processor lacks the instructions.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace edgecore::bench {

constexpr int kTrials = 40;  // the machine is shared: the best of many short ones
constexpr std::int64_t kLoops = 100'000;

template <typename F>
double best_rate(double products_per_loop, F&& loop) {
  double best = 0;
  for (int trial = 0; trial < kTrials; ++trial) {
    const auto start = std::chrono::steady_clock::now();
    loop();
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    best = std::max(best, products_per_loop * static_cast<double>(kLoops) / spent.count());
  }
  return best;
}

#if defined(__x86_64__)
// Twelve sums, so that no instruction waits for the one before. In assembly, because a compiler
// that sees through the loop shortens it.
__attribute__((target("avx512f,avx512vnni"))) inline void loop_vnni() {
  for (std::int64_t i = 0; i < kLoops; ++i)
    asm volatile(
        "vpdpbusd %%zmm30, %%zmm31, %%zmm0\n vpdpbusd %%zmm30, %%zmm31, %%zmm1\n"
        "vpdpbusd %%zmm30, %%zmm31, %%zmm2\n vpdpbusd %%zmm30, %%zmm31, %%zmm3\n"
        "vpdpbusd %%zmm30, %%zmm31, %%zmm4\n vpdpbusd %%zmm30, %%zmm31, %%zmm5\n"
        "vpdpbusd %%zmm30, %%zmm31, %%zmm6\n vpdpbusd %%zmm30, %%zmm31, %%zmm7\n"
        "vpdpbusd %%zmm30, %%zmm31, %%zmm8\n vpdpbusd %%zmm30, %%zmm31, %%zmm9\n"
        "vpdpbusd %%zmm30, %%zmm31, %%zmm10\n vpdpbusd %%zmm30, %%zmm31, %%zmm11\n" ::
            : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
              "xmm10", "xmm11");
}

// Pairs of 16 bits and their sum: AVX2 has no exact product of 8 bits.
__attribute__((target("avx2"))) inline void loop_avx2() {
  for (std::int64_t i = 0; i < kLoops; ++i)
    asm volatile(
        "vpmaddwd %%ymm14, %%ymm15, %%ymm6\n vpaddd %%ymm6, %%ymm0, %%ymm0\n"
        "vpmaddwd %%ymm14, %%ymm15, %%ymm7\n vpaddd %%ymm7, %%ymm1, %%ymm1\n"
        "vpmaddwd %%ymm14, %%ymm15, %%ymm8\n vpaddd %%ymm8, %%ymm2, %%ymm2\n"
        "vpmaddwd %%ymm14, %%ymm15, %%ymm9\n vpaddd %%ymm9, %%ymm3, %%ymm3\n"
        "vpmaddwd %%ymm14, %%ymm15, %%ymm10\n vpaddd %%ymm10, %%ymm4, %%ymm4\n"
        "vpmaddwd %%ymm14, %%ymm15, %%ymm11\n vpaddd %%ymm11, %%ymm5, %%ymm5\n" ::
            : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
              "xmm10", "xmm11");
}

inline double peak_vnni() {
  if (!__builtin_cpu_supports("avx512vnni")) return 0;
  return best_rate(12 * 64, loop_vnni);
}
inline double peak_avx2() {
  if (!__builtin_cpu_supports("avx2")) return 0;
  return best_rate(6 * 16, loop_avx2);
}
#else
inline double peak_vnni() {
  return 0;
}
inline double peak_avx2() {
  return 0;
}
#endif

}  // namespace edgecore::bench
