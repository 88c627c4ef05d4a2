// The kernel of x86-64 processors with AVX2. Products are summed in pairs as 16 x 16 bits: the
// 8-bit multiply of AVX2 saturates and would not be exact.
#include "inference/layer.hpp"

#if defined(__x86_64__)

#include <immintrin.h>

#define EDGECORE_AVX2 __attribute__((target("avx2")))

namespace edgecore::inference {
namespace {

constexpr std::size_t kCell = kLanes * kStep;  // bytes of weights of one group and one step
constexpr std::size_t kParts = 4;              // registers of one group's sums

EDGECORE_AVX2 inline __m256i load(const std::int32_t* from) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(from));
}

EDGECORE_AVX2 inline void store(std::int32_t* to, __m256i value) {
  _mm256_store_si256(reinterpret_cast<__m256i*>(to), value);
}

// One step of one group: each part holds two half sums of four outputs.
EDGECORE_AVX2 inline __attribute__((always_inline)) void add_step(__m256i* total,
                                                                  const std::int8_t* weights,
                                                                  __m256i inputs) {
  EDGECORE_UNROLLED
  for (std::size_t part = 0; part < kParts; ++part) {
    const auto* from = reinterpret_cast<const __m128i*>(weights + part * kCell / kParts);
    const __m256i wide = _mm256_cvtepi8_epi16(_mm_load_si128(from));
    total[part] = _mm256_add_epi32(total[part], _mm256_madd_epi16(wide, inputs));
  }
}

// Adds the half sums, puts the outputs in order, adds the bias.
EDGECORE_AVX2 inline __attribute__((always_inline)) void finish(const __m256i* total,
                                                                const std::int32_t* bias,
                                                                std::int32_t* sums) {
  EDGECORE_UNROLLED
  for (std::size_t half = 0; half < 2; ++half) {
    const __m256i mixed = _mm256_hadd_epi32(total[2 * half], total[2 * half + 1]);
    const __m256i ordered = _mm256_permute4x64_epi64(mixed, 0xd8);
    store(sums + 8 * half, _mm256_add_epi32(ordered, load(bias + 8 * half)));
  }
}

// Sums of kGroups neighbouring groups, which share each load of inputs.
template <std::size_t kGroups>
EDGECORE_AVX2 void accumulate(const Layer& layer, const BlockOf& block, std::size_t group,
                              const Rows& rows, std::size_t row, std::int32_t* sums) {
  __m256i total[kGroups * kParts];
  EDGECORE_UNROLLED
  for (std::size_t part = 0; part < kGroups * kParts; ++part) total[part] = _mm256_setzero_si256();
  const std::int8_t* weights = block.weights + (group - block.start) * kCell;
  const std::size_t steps = rows.segments == 1 ? layer.steps : layer.steps / rows.segments;
  for (std::size_t segment = 0; segment < rows.segments; ++segment) {
    const std::int8_t* in = rows.piece(row, segment);
    for (std::size_t step = 0; step < steps; ++step) {
      std::int32_t four;
      __builtin_memcpy(&four, in + step * kStep, sizeof four);
      const __m256i inputs = _mm256_cvtepi8_epi16(_mm_set1_epi32(four));
      add_step(total, weights, inputs);
      if constexpr (kGroups == 2) add_step(total + kParts, weights + kCell, inputs);
      weights += block.count * kCell;
    }
  }
  const std::int32_t* bias = layer.bias + group * kLanes;
  finish(total, bias, sums);
  if constexpr (kGroups == 2) finish(total + kParts, bias + kLanes, sums + kLanes);
}

// An arithmetic shift of 64-bit lanes by lane, which AVX2 lacks; for values within 2^62.
EDGECORE_AVX2 inline __m256i shift_right(__m256i value, __m256i by) {
  const __m256i raise = _mm256_set1_epi64x(std::int64_t{1} << 62);
  return _mm256_sub_epi64(_mm256_srlv_epi64(_mm256_add_epi64(value, raise), by),
                          _mm256_srlv_epi64(raise, by));
}

// See requantise(). Sums, multipliers and shifts are the low halves of 64-bit lanes.
EDGECORE_AVX2 inline __m256i doubled(__m256i sum, __m256i by, __m256i shift) {
  const __m256i zero = _mm256_setzero_si256();
  // Sign-extends the shift: 0 or minus one in the high half.
  const __m256i sign = _mm256_slli_epi64(_mm256_srai_epi32(shift, 31), 32);
  const __m256i low = _mm256_srli_epi64(_mm256_slli_epi64(shift, 32), 32);
  const __m256i exponent = _mm256_or_si256(low, sign);
  const __m256i negative = _mm256_cmpgt_epi64(zero, exponent);
  const __m256i left = _mm256_andnot_si256(negative, exponent);
  const __m256i down = _mm256_and_si256(negative, _mm256_sub_epi64(zero, exponent));
  __m256i product = _mm256_mul_epi32(sum, by);
  product = _mm256_add_epi64(_mm256_sllv_epi64(product, left), _mm256_set1_epi64x(1 << 30));
  product = shift_right(product, _mm256_set1_epi64x(31));
  const __m256i below = _mm256_and_si256(_mm256_cmpgt_epi64(zero, product), negative);
  product = _mm256_add_epi64(product, below);  // minus one where the divide rounds away
  const __m256i half = _mm256_srli_epi64(_mm256_sllv_epi64(_mm256_set1_epi64x(1), down), 1);
  return shift_right(_mm256_add_epi64(product, half), down);
}

// Eight sums, requantised.
EDGECORE_AVX2 inline __m256i by_multiplier(const Layer& layer, __m256i sum, std::size_t channel) {
  const __m256i by = load(layer.multiplier + channel);
  const __m256i shift = load(layer.shift + channel);
  const __m256i even = doubled(sum, by, shift);
  const __m256i odd =
      doubled(_mm256_srli_epi64(sum, 32), _mm256_srli_epi64(by, 32), _mm256_srli_epi64(shift, 32));
  return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}

EDGECORE_AVX2 inline __m128i rounded(__m128i sum, const double* by) {
  const __m256d product = _mm256_mul_pd(_mm256_cvtepi32_pd(sum), _mm256_load_pd(by));
  const __m256d sign = _mm256_and_pd(product, _mm256_set1_pd(-0.0));
  return _mm256_cvttpd_epi32(
      _mm256_add_pd(product, _mm256_or_pd(sign, _mm256_set1_pd(kBelowHalf))));
}

EDGECORE_AVX2 inline __m256i by_real(const Layer& layer, __m256i sum, std::size_t channel) {
  const double* by = layer.real + channel;
  return _mm256_set_m128i(rounded(_mm256_extracti128_si256(sum, 1), by + 4),
                          rounded(_mm256_castsi256_si128(sum), by));
}

// Eight outputs as bytes in the low 8 of the result.
template <Rounding kRounding>
EDGECORE_AVX2 inline __m128i codes(const Layer& layer, const std::int32_t* sums,
                                   std::size_t channel) {
  __m256i code;
  if constexpr (kRounding == Rounding::kReal)
    code = by_real(layer, load(sums), channel);
  else
    code = by_multiplier(layer, load(sums), channel);
  code = _mm256_add_epi32(code, _mm256_set1_epi32(layer.zero_point));
  code = _mm256_max_epi32(code, _mm256_set1_epi32(layer.low));
  code = _mm256_min_epi32(code, _mm256_set1_epi32(layer.high));
  const __m128i words =
      _mm_packs_epi32(_mm256_castsi256_si128(code), _mm256_extracti128_si256(code, 1));
  return _mm_packs_epi16(words, words);
}

template <Rounding kRounding>
EDGECORE_AVX2 void store_group(const Layer& layer, std::size_t group, const std::int32_t* sums,
                               std::int8_t* out) {
  const std::size_t channel = group * layer.channel_stride;
  const __m128i first = codes<kRounding>(layer, sums, channel);
  const __m128i second = codes<kRounding>(layer, sums + 8, channel + 8);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out + group * kLanes),
                   _mm_unpacklo_epi64(first, second));
}

template <Rounding kRounding>
EDGECORE_AVX2 void run_row(const Layer& layer, const Rows& rows, std::size_t row) {
  std::int8_t* out = rows.out + row * rows.out_stride;
  alignas(32) std::int32_t sums[2 * kLanes];
  for (std::size_t start = 0; start < layer.groups; start += kBlock) {
    const BlockOf block(layer, start);
    std::size_t group = start;
    for (; group + 2 <= start + block.count; group += 2) {
      accumulate<2>(layer, block, group, rows, row, sums);
      store_group<kRounding>(layer, group, sums, out);
      store_group<kRounding>(layer, group + 1, sums + kLanes, out);
    }
    if (group < start + block.count) {
      accumulate<1>(layer, block, group, rows, row, sums);
      store_group<kRounding>(layer, group, sums, out);
    }
  }
}

template <Rounding kRounding>
void run(const Layer& layer, const Rows& rows) {
  for (std::size_t row = 0; row < rows.count; ++row) run_row<kRounding>(layer, rows, row);
}

}  // namespace

const Kernel* avx2_kernel() {
  static constexpr Kernel kKernel{"avx2", 0, run<Rounding::kReal>, run<Rounding::kDoubled>,
                                  depthwise_portable};
  static const bool served = __builtin_cpu_supports("avx2") != 0;
  return served ? &kKernel : nullptr;
}

}  // namespace edgecore::inference

#else

namespace edgecore::inference {
const Kernel* avx2_kernel() {
  return nullptr;
}
}  // namespace edgecore::inference

#endif
