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
constexpr std::size_t kRowsMost = 8;           // rows that share each load of weights

EDGECORE_VNNI inline __m512i four_inputs(const std::int8_t* in) {
  std::int32_t four;
  __builtin_memcpy(&four, in, sizeof four);
  return _mm512_set1_epi32(four);
}

// Adds the products of `steps` steps to sums[chain][row][group]. Few sums are split into chains of
// steps, because an instruction waits for the one before it in its chain.
template <std::size_t kChains, std::size_t kRows, std::size_t kGroups>
EDGECORE_VNNI inline __attribute__((always_inline)) const std::int8_t* add_steps(
    __m512i (&total)[kChains][kRows][kGroups], const std::int8_t* weights,
    const std::int8_t* const (&in)[kRows], std::size_t steps) {
  std::size_t step = 0;
  for (; step + kChains <= steps; step += kChains) EDGECORE_UNROLLED
  for (std::size_t chain = 0; chain < kChains; ++chain) EDGECORE_UNROLLED
  for (std::size_t group = 0; group < kGroups; ++group) {
    const __m512i w = _mm512_load_si512(weights);
    weights += kCell;
    EDGECORE_UNROLLED
    for (std::size_t row = 0; row < kRows; ++row)
      total[chain][row][group] = _mm512_dpbusd_epi32(
          total[chain][row][group], four_inputs(in[row] + (step + chain) * kStep), w);
  }
  for (; step < steps; ++step) EDGECORE_UNROLLED
  for (std::size_t group = 0; group < kGroups; ++group, weights += kCell) EDGECORE_UNROLLED
  for (std::size_t row = 0; row < kRows; ++row)
    total[0][row][group] = _mm512_dpbusd_epi32(
        total[0][row][group], four_inputs(in[row] + step * kStep), _mm512_load_si512(weights));
  return weights;
}

// Sums of kRows rows from `first` on over kGroups groups into sums[row][group][lane].
template <std::size_t kRows, std::size_t kGroups>
EDGECORE_VNNI void accumulate(const Layer& layer, const BlockOf& block, const Rows& rows,
                              std::size_t first, std::int32_t* sums) {
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
  const std::size_t steps = rows.segments == 1 ? layer.steps : layer.steps / rows.segments;
  for (std::size_t segment = 0; segment < rows.segments; ++segment) {
    const std::int8_t* in[kRows];
    EDGECORE_UNROLLED
    for (std::size_t row = 0; row < kRows; ++row) in[row] = rows.piece(first + row, segment);
    weights = add_steps<kChains, kRows, kGroups>(total, weights, in, steps);
  }
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

using Accumulate = void (*)(const Layer&, const BlockOf&, const Rows&, std::size_t, std::int32_t*);

// By rows that go together and groups of a block: as many sums as registers hold.
template <std::size_t kRows>
constexpr Accumulate accumulate_of(std::size_t groups) {
  constexpr Accumulate kFew[] = {accumulate<kRows, 1>, accumulate<kRows, 2>};
  if constexpr (kRows == 8) {
    return kFew[groups - 1];
  } else if constexpr (kRows == 4) {
    constexpr Accumulate kSome[] = {kFew[0], kFew[1], accumulate<4, 3>, accumulate<4, 4>};
    return kSome[groups - 1];
  } else {
    constexpr Accumulate kAll[] = {kFew[0],
                                   kFew[1],
                                   accumulate<kRows, 3>,
                                   accumulate<kRows, 4>,
                                   accumulate<kRows, 5>,
                                   accumulate<kRows, 6>,
                                   accumulate<kRows, 7>,
                                   accumulate<kRows, 8>};
    return kAll[groups - 1];
  }
}

// What one group's sums are multiplied with.
template <Rounding kRounding>
struct Scaling;

// See requantise(). The high multiply gives even and odd outputs in 64-bit lanes; what follows is
// of 32 bits, because the loader has proven that it fits.
template <>
struct Scaling<Rounding::kDoubled> {
  __m512i even, odd;   // multipliers, in the low halves
  __m512i left, down;  // shifts before, and after
  __m512i half;        // what rounds the latter; 0 where it is 0
  __mmask16 rounds;    // where it is not

  EDGECORE_VNNI Scaling(const Layer& layer, std::size_t group) {
    const __m512i zero = _mm512_setzero_si512();
    const std::size_t channel = group * layer.channel_stride;
    even = _mm512_load_si512(layer.multiplier + channel);
    odd = _mm512_srli_epi64(even, 32);
    const __m512i shift = _mm512_load_si512(layer.shift + channel);
    left = _mm512_max_epi32(shift, zero);
    down = _mm512_max_epi32(_mm512_sub_epi32(zero, shift), zero);
    half = _mm512_srli_epi32(_mm512_sllv_epi32(_mm512_set1_epi32(1), down), 1);
    rounds = _mm512_test_epi32_mask(down, down);
  }
  EDGECORE_VNNI __m512i operator()(__m512i sum) const {
    sum = _mm512_sllv_epi32(sum, left);
    const __m512i nudge = _mm512_set1_epi64(1 << 30);
    const __m512i low = _mm512_add_epi64(_mm512_mul_epi32(sum, even), nudge);
    const __m512i high = _mm512_add_epi64(_mm512_mul_epi32(_mm512_srli_epi64(sum, 32), odd), nudge);
    __m512i product =
        _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(low, 31), _mm512_slli_epi64(high, 1));
    const __mmask16 negative = _mm512_movepi32_mask(product) & rounds;
    product = _mm512_mask_sub_epi32(product, negative, product, _mm512_set1_epi32(1));
    return _mm512_srav_epi32(_mm512_add_epi32(product, half), down);
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
EDGECORE_VNNI __m128i codes(const Layer& layer, const Scaling<kRounding>& by, __m512i sum) {
  __m512i code = _mm512_add_epi32(by(sum), _mm512_set1_epi32(layer.zero_point + 128));
  code = _mm512_max_epi32(code, _mm512_set1_epi32(layer.low + 128));
  code = _mm512_min_epi32(code, _mm512_set1_epi32(layer.high + 128));
  return _mm512_cvtepi32_epi8(code);
}

template <Rounding kRounding, std::size_t kRows>
EDGECORE_VNNI void run_rows(const Layer& layer, const Rows& rows, std::size_t first) {
  alignas(64) std::int32_t sums[16 * kLanes];
  std::int8_t* out = rows.out + first * rows.out_stride;
  Scaling<kRounding> by(layer, 0);
  for (std::size_t start = 0; start < layer.groups; start += kBlock) {
    const BlockOf block(layer, start);
    accumulate_of<kRows>(block.count)(layer, block, rows, first, sums);
    for (std::size_t group = 0; group < block.count; ++group) {
      if (layer.channel_stride != 0) by = Scaling<kRounding>(layer, start + group);
      for (std::size_t row = 0; row < kRows; ++row)
        _mm_storeu_si128(
            reinterpret_cast<__m128i*>(out + row * rows.out_stride + (start + group) * kLanes),
            codes(layer, by, _mm512_load_si512(sums + (row * block.count + group) * kLanes)));
    }
  }
}

template <Rounding kRounding>
void run(const Layer& layer, const Rows& rows) {
  std::size_t row = 0;
  if (layer.groups <= 2)
    for (; row + 8 <= rows.count; row += 8) run_rows<kRounding, 8>(layer, rows, row);
  if (layer.groups <= 4)
    for (; row + 4 <= rows.count; row += 4) run_rows<kRounding, 4>(layer, rows, row);
  for (; row + 2 <= rows.count; row += 2) run_rows<kRounding, 2>(layer, rows, row);
  for (; row < rows.count; ++row) run_rows<kRounding, 1>(layer, rows, row);
}

// Four taps of 16 channels as one register of [channel][tap].
EDGECORE_VNNI inline __m512i four_taps(const Taps& taps, std::size_t at, std::size_t channel) {
  const auto tap = [&](std::size_t i) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(taps.tap(at + i) + channel));
  };
  __m512i all = _mm512_castsi128_si512(tap(0));
  all = _mm512_inserti32x4(all, tap(1), 1);
  all = _mm512_inserti32x4(all, tap(2), 2);
  all = _mm512_inserti32x4(all, tap(3), 3);
  // Four channels of each tap to a quarter of the register, then bytes within it.
  const __m512i quarters = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
  const __m512i bytes =
      _mm512_broadcast_i32x4(_mm_set_epi8(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0));
  return _mm512_shuffle_epi8(_mm512_permutexvar_epi32(quarters, all), bytes);
}

EDGECORE_VNNI void depthwise(const Layer& layer, const Taps& taps) {
  const std::size_t count = layer.steps * kStep;
  for (std::size_t group = 0; group < layer.groups; ++group) {
    const Scaling<Rounding::kDoubled> by(layer, group);
    const __m512i bias = _mm512_load_si512(layer.bias + group * kLanes);
    const std::int8_t* weights = layer.weights + group * layer.steps * kCell;
    const auto lanes = static_cast<__mmask16>((1U << taps.lanes(group)) - 1);
    for (std::size_t pixel = 0; pixel < taps.count; ++pixel) {
      __m512i sum = bias;
      for (std::size_t step = 0; step < layer.steps; ++step)
        sum =
            _mm512_dpbusd_epi32(sum, four_taps(taps, pixel * count + step * kStep, group * kLanes),
                                _mm512_load_si512(weights + step * kCell));
      _mm_mask_storeu_epi8(taps.out + pixel * taps.channels + group * kLanes, lanes,
                           codes(layer, by, sum));
    }
  }
}

}  // namespace

const Kernel* avx512_vnni_kernel() {
  static constexpr Kernel kKernel{"avx512-vnni", 0x80, run<Rounding::kReal>,
                                  run<Rounding::kDoubled>, depthwise};
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
