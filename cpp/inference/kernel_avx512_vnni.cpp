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

#define EDGECORE_INLINE EDGECORE_VNNI inline __attribute__((always_inline))

namespace edgecore::inference {
namespace {

constexpr std::size_t kCell = kLanes * kStep;  // bytes of one register of weights

EDGECORE_VNNI inline __m512i four_inputs(const std::int8_t* in) {
  std::int32_t four;
  __builtin_memcpy(&four, in, sizeof four);
  return _mm512_set1_epi32(four);
}

template <std::size_t kChains, std::size_t kRows, std::size_t kGroups>
using Sums = __m512i[kChains][kRows][kGroups];

// Adds the products of `steps` steps to total[chain][row][group], and takes `weights` past them.
// Few sums are split into chains of steps, because an instruction waits for the one before it in
// its chain.
template <std::size_t kChains, std::size_t kRows, std::size_t kGroups>
EDGECORE_INLINE void add_steps(Sums<kChains, kRows, kGroups>& total, const std::int8_t*& weights,
                               const std::int8_t* const* in, std::size_t steps) {
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
}

// Sums of kRows rows from `first` on over kGroups groups into sums[row][group][lane].
template <std::size_t kRows, std::size_t kGroups>
EDGECORE_VNNI void accumulate(const Layer& layer, const BlockOf& block, const Rows& rows,
                              std::size_t first, std::int32_t* sums) {
  constexpr std::size_t kChains = kRows * kGroups >= 8 ? 1 : kRows * kGroups >= 4 ? 2 : 4;
  Sums<kChains, kRows, kGroups> total;
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
    add_steps<kChains, kRows, kGroups>(total, weights, in, steps);
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

// See requantise(). The high multiply gives even and odd values in 64-bit lanes; what follows is of
// 32 bits, because the loader has proven that it fits. `half` rounds the shift `down` where
// `rounds` says, by all its bits, that there is one.
EDGECORE_VNNI inline __m512i scaled(__m512i value, __m512i even, __m512i odd, __m512i down,
                                    __m512i half, __m512i rounds) {
  const __m512i nudge = _mm512_set1_epi64(1 << 30);
  const __m512i low = _mm512_add_epi64(_mm512_mul_epi32(value, even), nudge);
  const __m512i high = _mm512_add_epi64(_mm512_mul_epi32(_mm512_srli_epi64(value, 32), odd), nudge);
  const __m512i product =
      _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(low, 31), _mm512_slli_epi64(high, 1));
  const __m512i away = _mm512_and_si512(_mm512_srai_epi32(product, 31), rounds);  // minus one
  return _mm512_srav_epi32(_mm512_add_epi32(_mm512_add_epi32(product, half), away), down);
}

// What one group's sums are multiplied with.
template <Rounding kRounding>
struct Scaling;

template <>
struct Scaling<Rounding::kDoubled> {
  __m512i even, odd;   // multipliers, in the low halves
  __m512i left, down;  // shifts before, and after
  __m512i half;        // what rounds the latter; 0 where it is 0
  __m512i rounds;      // all bits where it is not

  EDGECORE_VNNI Scaling(const Layer& layer, std::size_t group) {
    const __m512i zero = _mm512_setzero_si512();
    const std::size_t channel = group * layer.channel_stride;
    even = _mm512_load_si512(layer.multiplier + channel);
    odd = _mm512_srli_epi64(even, 32);
    const __m512i shift = _mm512_load_si512(layer.shift + channel);
    left = _mm512_max_epi32(shift, zero);
    down = _mm512_max_epi32(_mm512_sub_epi32(zero, shift), zero);
    half = _mm512_srli_epi32(_mm512_sllv_epi32(_mm512_set1_epi32(1), down), 1);
    rounds = _mm512_movm_epi32(_mm512_test_epi32_mask(down, down));
  }
  EDGECORE_VNNI __m512i operator()(__m512i sum) const {
    return scaled(_mm512_sllv_epi32(sum, left), even, odd, down, half, rounds);
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

// How requantised values become codes, flipped.
struct Clamp {
  __m512i zero, low, high;

  EDGECORE_VNNI Clamp(std::int32_t zero_point, std::int32_t least, std::int32_t most)
      : zero(_mm512_set1_epi32(zero_point + 128)),
        low(_mm512_set1_epi32(least + 128)),
        high(_mm512_set1_epi32(most + 128)) {}
  EDGECORE_VNNI __m128i operator()(__m512i value) const {
    const __m512i code = _mm512_max_epi32(_mm512_add_epi32(value, zero), low);
    return _mm512_cvtepi32_epi8(_mm512_min_epi32(code, high));
  }
};

constexpr std::size_t kTile =
    32;  // rows whose sums wait together, so that a group is scaled at once

// Sums of `count` rows from `first` on over one block, kRows together, into sums[row][group][lane].
template <std::size_t kRows>
EDGECORE_VNNI std::size_t sum_rows(const Layer& layer, const BlockOf& block, const Rows& rows,
                                   std::size_t first, std::size_t done, std::size_t count,
                                   std::int32_t* sums) {
  const Accumulate accumulate = accumulate_of<kRows>(block.count);
  for (; done + kRows <= count; done += kRows)
    accumulate(layer, block, rows, first + done, sums + done * block.count * kLanes);
  return done;
}

// Of several rows, as many together as registers hold.
EDGECORE_VNNI void sum_tile(const Layer& layer, const BlockOf& block, const Rows& rows,
                            std::size_t first, std::size_t count, std::int32_t* sums) {
  std::size_t done = 0;
  if (block.count <= 2) done = sum_rows<8>(layer, block, rows, first, done, count, sums);
  if (block.count <= 4) done = sum_rows<4>(layer, block, rows, first, done, count, sums);
  done = sum_rows<2>(layer, block, rows, first, done, count, sums);
  sum_rows<1>(layer, block, rows, first, done, count, sums);
}

template <Rounding kRounding>
EDGECORE_VNNI void run_tile(const Layer& layer, const Rows& rows, std::size_t first,
                            std::size_t count, std::int32_t* sums) {
  std::int8_t* out = rows.out + first * rows.out_stride;
  Scaling<kRounding> by(layer, 0);
  const Clamp clamp(layer.zero_point, layer.low, layer.high);
  for (std::size_t start = 0; start < layer.groups; start += kBlock) {
    const BlockOf block(layer, start);
    if (count == 1)
      accumulate_of<1>(block.count)(layer, block, rows, first, sums);
    else
      sum_tile(layer, block, rows, first, count, sums);
    for (std::size_t group = 0; group < block.count; ++group) {
      if (layer.channel_stride != 0) by = Scaling<kRounding>(layer, start + group);
      for (std::size_t row = 0; row < count; ++row)
        _mm_storeu_si128(
            reinterpret_cast<__m128i*>(out + row * rows.out_stride + (start + group) * kLanes),
            clamp(by(_mm512_load_si512(sums + (row * block.count + group) * kLanes))));
    }
  }
}

template <Rounding kRounding>
void run(const Layer& layer, const Rows& rows) {
  alignas(64) std::int32_t sums[kTile * kBlock * kLanes];
  for (std::size_t row = 0; row < rows.count; row += kTile)
    run_tile<kRounding>(layer, rows, row, std::min(kTile, rows.count - row), sums);
}

// Four taps of 16 channels as one register of [channel][tap].
EDGECORE_VNNI inline __m512i four_taps(const std::int8_t* const* taps, std::size_t channel) {
  const auto tap = [&](std::size_t i) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(taps[i] + channel));
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

constexpr std::size_t kTapsMost = 256;  // whose addresses are worked out together

// Pixels [first, first + count), whose taps are at `at`.
EDGECORE_VNNI void filter(const Layer& layer, const Taps& taps, std::size_t first,
                          std::size_t count, const std::int8_t* const* at) {
  const Clamp clamp(layer.zero_point, layer.low, layer.high);
  for (std::size_t group = 0; group < layer.groups; ++group) {
    const Scaling<Rounding::kDoubled> by(layer, group);
    const __m512i bias = _mm512_load_si512(layer.bias + group * kLanes);
    const std::int8_t* weights = layer.weights + group * layer.steps * kCell;
    const auto lanes = static_cast<__mmask16>((1U << taps.lanes(group)) - 1);
    for (std::size_t pixel = 0; pixel < count; ++pixel) {
      const std::int8_t* const* of_pixel = at + pixel * layer.steps * kStep;
      __m512i sum = bias;
      for (std::size_t step = 0; step < layer.steps; ++step)
        sum = _mm512_dpbusd_epi32(sum, four_taps(of_pixel + step * kStep, group * kLanes),
                                  _mm512_load_si512(weights + step * kCell));
      _mm_mask_storeu_epi8(taps.out + (first + pixel) * taps.channels + group * kLanes, lanes,
                           clamp(by(sum)));
    }
  }
}

// Addresses of `count` taps, eight at a time: what lies behind them may be read and written.
EDGECORE_VNNI void locate(const Taps& taps, std::size_t first, std::size_t count,
                          const std::int8_t** to) {
  const __m512i image = _mm512_set1_epi64(reinterpret_cast<std::int64_t>(taps.image));
  const __m512i padding = _mm512_set1_epi64(reinterpret_cast<std::int64_t>(taps.padding));
  for (std::size_t i = 0; i < count; i += 8) {
    const auto inside = static_cast<__mmask8>((1U << std::min<std::size_t>(8, count - i)) - 1);
    const __m512i offset =
        _mm512_cvtepi32_epi64(_mm256_maskz_loadu_epi32(inside, taps.offsets + first + i));
    _mm512_storeu_si512(to + i, _mm512_mask_blend_epi64(_mm512_movepi64_mask(offset),
                                                        _mm512_add_epi64(image, offset), padding));
  }
}

void depthwise(const Layer& layer, const Taps& taps) {
  const std::size_t each = layer.steps * kStep;
  if (each > kTapsMost) return depthwise_flipped(layer, taps);
  const std::int8_t* at[kTapsMost + 8];
  const std::size_t tile = kTapsMost / each;
  for (std::size_t pixel = 0; pixel < taps.count; pixel += tile) {
    const std::size_t count = std::min(tile, taps.count - pixel);
    locate(taps, pixel * each, count * each, at);
    filter(layer, taps, pixel, count, at);
  }
}

// Of 16 values, by a multiplier whose shift is at most 0; see Scaling<kDoubled>.
struct Doubled {
  __m512i by, down, half, rounds;

  EDGECORE_VNNI explicit Doubled(Multiplier multiplier)
      : by(_mm512_set1_epi64(multiplier.value)),
        down(_mm512_set1_epi32(-multiplier.shift)),
        half(_mm512_set1_epi32(multiplier.shift == 0 ? 0 : 1 << (-multiplier.shift - 1))),
        rounds(_mm512_set1_epi32(multiplier.shift == 0 ? 0 : -1)) {}
  EDGECORE_VNNI __m512i operator()(__m512i value) const {
    return scaled(value, by, by, down, half, rounds);
  }
};

EDGECORE_VNNI inline __m512i raised(const std::int8_t* from, std::int32_t zero) {
  const __m512i code =
      _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  return _mm512_slli_epi32(_mm512_sub_epi32(code, _mm512_set1_epi32(zero + 128)), Sum::kRaise);
}

EDGECORE_VNNI void add(const Sum& sum, const std::int8_t* first, const std::int8_t* second,
                       std::int8_t* out, std::size_t count) {
  const Clamp clamp(sum.zero_point, sum.low, sum.high);
  const Doubled by_first(sum.first);
  const Doubled by_second(sum.second);
  const Doubled by_whole(sum.whole);
  for (std::size_t i = 0; i < count; i += kLanes) {
    const __m512i a = by_first(raised(first + i, sum.first_zero));
    const __m512i b = by_second(raised(second + i, sum.second_zero));
    const __m512i whole = by_whole(_mm512_add_epi32(a, b));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), clamp(whole));
  }
}

}  // namespace

const Kernel* avx512_vnni_kernel() {
  static constexpr Kernel kKernel{"avx512-vnni",           0x80,      run<Rounding::kReal>,
                                  run<Rounding::kDoubled>, depthwise, add};
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
