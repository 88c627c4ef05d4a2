// The kernel of x86-64 processors with AVX-512 VNNI: vpdpbusd multiplies unsigned activations
// (hence the flip) with signed weights, 64 products an instruction, and never saturates.
#include "inference/layer.hpp"

#if defined(__x86_64__)

#if defined(__GNUC__) && !defined(__clang__)
// GCC 12's own header makes "undefined" registers from themselves.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

// Attributes, not compiler flags of this file: an inline function shared with other files must
// never be compiled for this processor alone.
#define EDGECORE_VNNI __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))

namespace edgecore::inference {
namespace {

constexpr std::size_t kCell = kLanes * kStep;  // bytes of one register of weights
constexpr std::size_t kRowsAtOnce = 2;         // rows that share each load of weights

EDGECORE_VNNI inline __m512i four_inputs(const std::int8_t* in) {
  std::int32_t four;
  __builtin_memcpy(&four, in, sizeof four);
  return _mm512_set1_epi32(four);
}

// Sums of kRows rows over kGroups groups into sums[row][group][lane]. Few groups are split into
// chains of steps, because an instruction waits for the one before it in its chain.
template <std::size_t kRows, std::size_t kGroups>
EDGECORE_VNNI void accumulate(const Layer& layer, const BlockOf& block, const std::int8_t* in,
                              std::size_t in_stride, std::int32_t* sums) {
  constexpr std::size_t kChains = kRows * kGroups >= 8 ? 1 : kRows * kGroups >= 4 ? 2 : 4;
  __m512i total[kChains][kRows][kGroups];
  EDGECORE_UNROLLED
  for (std::size_t chain = 0; chain < kChains; ++chain) EDGECORE_UNROLLED
  for (std::size_t row = 0; row < kRows; ++row) EDGECORE_UNROLLED
  for (std::size_t group = 0; group < kGroups; ++group)
    total[chain][row][group] = chain == 0
                                   ? _mm512_load_si512(layer.bias + (block.start + group) * kLanes)
                                   : _mm512_setzero_si512();
  const std::int8_t* weights = block.weights;
  std::size_t step = 0;
  for (; step + kChains <= layer.steps; step += kChains) EDGECORE_UNROLLED
  for (std::size_t chain = 0; chain < kChains; ++chain) EDGECORE_UNROLLED
  for (std::size_t group = 0; group < kGroups; ++group) {
    const __m512i w = _mm512_load_si512(weights);
    weights += kCell;
    EDGECORE_UNROLLED
    for (std::size_t row = 0; row < kRows; ++row)
      total[chain][row][group] = _mm512_dpbusd_epi32(
          total[chain][row][group], four_inputs(in + row * in_stride + (step + chain) * kStep), w);
  }
  for (; step < layer.steps; ++step) EDGECORE_UNROLLED
  for (std::size_t group = 0; group < kGroups; ++group, weights += kCell) EDGECORE_UNROLLED
  for (std::size_t row = 0; row < kRows; ++row)
    total[0][row][group] =
        _mm512_dpbusd_epi32(total[0][row][group], four_inputs(in + row * in_stride + step * kStep),
                            _mm512_load_si512(weights));
  EDGECORE_UNROLLED
  for (std::size_t row = 0; row < kRows; ++row) EDGECORE_UNROLLED
  for (std::size_t group = 0; group < kGroups; ++group) {
    __m512i sum = total[0][row][group];
    EDGECORE_UNROLLED
    for (std::size_t chain = 1; chain < kChains; ++chain)
      sum = _mm512_add_epi32(sum, total[chain][row][group]);
    _mm512_store_si512(sums + (row * kGroups + group) * kLanes, sum);
  }
}

template <std::size_t kRows>
EDGECORE_VNNI void accumulate_block(const Layer& layer, const BlockOf& block, const std::int8_t* in,
                                    std::size_t in_stride, std::int32_t* sums) {
  using Sum =
      void (*)(const Layer&, const BlockOf&, const std::int8_t*, std::size_t, std::int32_t*);
  static constexpr Sum kSums[kBlock] = {
      accumulate<kRows, 1>, accumulate<kRows, 2>, accumulate<kRows, 3>, accumulate<kRows, 4>,
      accumulate<kRows, 5>, accumulate<kRows, 6>, accumulate<kRows, 7>, accumulate<kRows, 8>};
  kSums[block.count - 1](layer, block, in, in_stride, sums);
}

// What one group's sums are multiplied with: Rounding::kDoubled as 64-bit lanes, the even outputs
// and the odd ones beside them; Rounding::kReal in order.
template <Rounding kRounding>
struct Scaling;

template <>
struct Scaling<Rounding::kDoubled> {
  __m512i even, odd;            // multipliers, in the low halves
  __m512i even_left, odd_left;  // shifts left before
  __m512i even_down, odd_down;  // shifts right after
  __m512i even_half, odd_half;  // what rounds those

  EDGECORE_VNNI Scaling(const Layer& layer, std::size_t group) {
    const __m512i zero = _mm512_setzero_si512();
    const __m512i one = _mm512_set1_epi64(1);
    const std::size_t channel = group * layer.channel_stride;
    even = _mm512_load_si512(layer.multiplier + channel);
    odd = _mm512_srli_epi64(even, 32);
    const __m512i shift = _mm512_load_si512(layer.shift + channel);
    const __m512i first = _mm512_srai_epi64(_mm512_slli_epi64(shift, 32), 32);
    const __m512i second = _mm512_srai_epi64(shift, 32);
    even_left = _mm512_max_epi64(first, zero);
    odd_left = _mm512_max_epi64(second, zero);
    even_down = _mm512_max_epi64(_mm512_sub_epi64(zero, first), zero);
    odd_down = _mm512_max_epi64(_mm512_sub_epi64(zero, second), zero);
    even_half = _mm512_srli_epi64(_mm512_sllv_epi64(one, even_down), 1);  // 0 when down is 0
    odd_half = _mm512_srli_epi64(_mm512_sllv_epi64(one, odd_down), 1);
  }
  EDGECORE_VNNI __m512i operator()(__m512i sum) const {
    const __m512i low = doubled(sum, even, even_left, even_down, even_half);
    const __m512i high = doubled(_mm512_srli_epi64(sum, 32), odd, odd_left, odd_down, odd_half);
    return _mm512_mask_shuffle_epi32(low, 0xaaaa, high, _MM_PERM_CCAA);
  }

 private:
  // See requantise(); each 64-bit lane holds one sum, and then its result, in the low half.
  EDGECORE_VNNI static __m512i doubled(__m512i sum, __m512i by, __m512i left, __m512i down,
                                       __m512i half) {
    __m512i product = _mm512_sllv_epi64(_mm512_mul_epi32(sum, by), left);
    product = _mm512_srai_epi64(_mm512_add_epi64(product, _mm512_set1_epi64(1 << 30)), 31);
    const __mmask8 negative = _mm512_movepi64_mask(product) & _mm512_test_epi64_mask(down, down);
    product = _mm512_mask_sub_epi64(product, negative, product, _mm512_set1_epi64(1));
    return _mm512_srav_epi64(_mm512_add_epi64(product, half), down);
  }
};

template <>
struct Scaling<Rounding::kReal> {
  __m512d low, high;

  EDGECORE_VNNI Scaling(const Layer& layer, std::size_t group) {
    const double* by = layer.real + group * layer.channel_stride;
    low = _mm512_load_pd(by);
    high = _mm512_load_pd(by + 8);
  }
  EDGECORE_VNNI __m512i operator()(__m512i sum) const {
    return _mm512_inserti64x4(_mm512_castsi256_si512(rounded(_mm512_castsi512_si256(sum), low)),
                              rounded(_mm512_extracti64x4_epi64(sum, 1), high), 1);
  }

 private:
  EDGECORE_VNNI static __m256i rounded(__m256i sum, __m512d by) {
    const __m512d product = _mm512_mul_pd(_mm512_cvtepi32_pd(sum), by);
    const __m512d sign = _mm512_and_pd(product, _mm512_set1_pd(-0.0));
    return _mm512_cvttpd_epi32(
        _mm512_add_pd(product, _mm512_or_pd(sign, _mm512_set1_pd(kBelowHalf))));
  }
};

template <Rounding kRounding>
EDGECORE_VNNI void store(const Layer& layer, const Scaling<kRounding>& by, const std::int32_t* sums,
                         std::int8_t* out) {
  __m512i code = by(_mm512_load_si512(sums));
  code = _mm512_add_epi32(code, _mm512_set1_epi32(layer.zero_point + 128));
  code = _mm512_max_epi32(code, _mm512_set1_epi32(layer.low + 128));
  code = _mm512_min_epi32(code, _mm512_set1_epi32(layer.high + 128));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtepi32_epi8(code));
}

template <Rounding kRounding, std::size_t kRows>
EDGECORE_VNNI void run_rows(const Layer& layer, const Rows& rows, std::size_t first) {
  alignas(64) std::int32_t sums[kRows * kBlock * kLanes];
  const std::int8_t* in = rows.in + first * rows.in_stride;
  std::int8_t* out = rows.out + first * rows.out_stride;
  Scaling<kRounding> by(layer, 0);
  for (std::size_t start = 0; start < layer.groups; start += kBlock) {
    const BlockOf block(layer, start);
    accumulate_block<kRows>(layer, block, in, rows.in_stride, sums);
    for (std::size_t group = 0; group < block.count; ++group) {
      if (layer.channel_stride != 0) by = Scaling<kRounding>(layer, start + group);
      for (std::size_t row = 0; row < kRows; ++row)
        store<kRounding>(layer, by, sums + (row * block.count + group) * kLanes,
                         out + row * rows.out_stride + (start + group) * kLanes);
    }
  }
}

template <Rounding kRounding>
void run(const Layer& layer, const Rows& rows) {
  std::size_t row = 0;
  for (; row + kRowsAtOnce <= rows.count; row += kRowsAtOnce)
    run_rows<kRounding, kRowsAtOnce>(layer, rows, row);
  for (; row < rows.count; ++row) run_rows<kRounding, 1>(layer, rows, row);
}

}  // namespace

const Kernel* avx512_vnni_kernel() {
  static constexpr Kernel kKernel{"avx512-vnni", 0x80, run<Rounding::kReal>,
                                  run<Rounding::kDoubled>, depthwise_flipped};
  static const bool served =
      __builtin_cpu_supports("avx512vnni") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
      __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0;
  return served ? &kKernel : nullptr;
}

}  // namespace edgecore::inference

#else

namespace edgecore::inference {
const Kernel* avx512_vnni_kernel() {
  return nullptr;
}
}  // namespace edgecore::inference

#endif
