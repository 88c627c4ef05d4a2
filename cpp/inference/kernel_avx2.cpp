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

// One step of kRows rows and one group: each part holds two half sums of four outputs.
template <std::size_t kRows>
EDGECORE_AVX2 inline __attribute__((always_inline)) void add_step(__m256i (*total)[kParts],
                                                                  const std::int8_t* weights,
                                                                  const __m256i* inputs) {
  EDGECORE_UNROLLED
  for (std::size_t part = 0; part < kParts; ++part) {
    const auto* from = reinterpret_cast<const __m128i*>(weights + part * kCell / kParts);
    const __m256i wide = _mm256_cvtepi8_epi16(_mm_load_si128(from));
    EDGECORE_UNROLLED
    for (std::size_t row = 0; row < kRows; ++row)
      total[row][part] = _mm256_add_epi32(total[row][part], _mm256_madd_epi16(wide, inputs[row]));
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

EDGECORE_AVX2 inline __m256i four_inputs(const std::int8_t* in) {
  std::int32_t four;
  __builtin_memcpy(&four, in, sizeof four);
  return _mm256_cvtepi8_epi16(_mm_set1_epi32(four));
}

// Sums of kRows rows over kGroups neighbouring groups into sums[row][group][lane]: rows share each
// load of weights, groups of inputs.
template <std::size_t kRows, std::size_t kGroups>
EDGECORE_AVX2 void accumulate(const Layer& layer, const BlockOf& block, std::size_t group,
                              const Rows& rows, std::size_t first, std::int32_t* sums) {
  __m256i total[kGroups][kRows][kParts] = {};
  const std::int8_t* weights = block.weights + (group - block.start) * kCell;
  const std::size_t steps = rows.segments == 1 ? layer.steps : layer.steps / rows.segments;
  for (std::size_t segment = 0; segment < rows.segments; ++segment) {
    const std::int8_t* in[kRows];
    EDGECORE_UNROLLED
    for (std::size_t row = 0; row < kRows; ++row) in[row] = rows.piece(first + row, segment);
    for (std::size_t step = 0; step < steps; ++step, weights += block.count * kCell) {
      __m256i inputs[kRows];
      EDGECORE_UNROLLED
      for (std::size_t row = 0; row < kRows; ++row)
        inputs[row] = four_inputs(in[row] + step * kStep);
      EDGECORE_UNROLLED
      for (std::size_t next = 0; next < kGroups; ++next)
        add_step<kRows>(total[next], weights + next * kCell, inputs);
    }
  }
  EDGECORE_UNROLLED
  for (std::size_t row = 0; row < kRows; ++row) EDGECORE_UNROLLED
  for (std::size_t next = 0; next < kGroups; ++next)
    finish(total[next][row], layer.bias + (group + next) * kLanes,
           sums + (row * kGroups + next) * kLanes);
}

// See requantise(). The high multiply gives even and odd values in 64-bit lanes; what follows is of
// 32 bits, because the loader has proven that it fits. `half` rounds the shift `down` where
// `rounds` says, by all its bits, that there is one.
EDGECORE_AVX2 inline __m256i scaled(__m256i value, __m256i even, __m256i odd, __m256i down,
                                    __m256i half, __m256i rounds) {
  const __m256i nudge = _mm256_set1_epi64x(1 << 30);
  const __m256i low = _mm256_add_epi64(_mm256_mul_epi32(value, even), nudge);
  const __m256i high = _mm256_add_epi64(_mm256_mul_epi32(_mm256_srli_epi64(value, 32), odd), nudge);
  const __m256i product =
      _mm256_blend_epi32(_mm256_srli_epi64(low, 31), _mm256_slli_epi64(high, 1), 0xaa);
  const __m256i away = _mm256_and_si256(_mm256_srai_epi32(product, 31), rounds);  // minus one
  return _mm256_srav_epi32(_mm256_add_epi32(_mm256_add_epi32(product, half), away), down);
}

EDGECORE_AVX2 inline __m256i by_multiplier(const Layer& layer, __m256i sum, std::size_t channel) {
  const __m256i zero = _mm256_setzero_si256();
  const __m256i by = load(layer.multiplier + channel);
  const __m256i shift = load(layer.shift + channel);
  const __m256i down = _mm256_max_epi32(_mm256_sub_epi32(zero, shift), zero);
  const __m256i half =
      _mm256_srli_epi32(_mm256_sllv_epi32(_mm256_set1_epi32(1), down), 1);  // 0 when down is 0
  return scaled(_mm256_sllv_epi32(sum, _mm256_max_epi32(shift, zero)), by,
                _mm256_srli_epi64(by, 32), down, half, _mm256_cmpgt_epi32(down, zero));
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

// Eight codes in the low half.
EDGECORE_AVX2 inline __m128i clamped(__m256i value, std::int32_t zero, std::int32_t low,
                                     std::int32_t high) {
  __m256i code = _mm256_add_epi32(value, _mm256_set1_epi32(zero));
  code = _mm256_max_epi32(code, _mm256_set1_epi32(low));
  code = _mm256_min_epi32(code, _mm256_set1_epi32(high));
  const __m128i words =
      _mm_packs_epi32(_mm256_castsi256_si128(code), _mm256_extracti128_si256(code, 1));
  return _mm_packs_epi16(words, words);
}

template <Rounding kRounding>
EDGECORE_AVX2 inline __m128i codes(const Layer& layer, const std::int32_t* sums,
                                   std::size_t channel) {
  if constexpr (kRounding == Rounding::kReal)
    return clamped(by_real(layer, load(sums), channel), layer.zero_point, layer.low, layer.high);
  else
    return clamped(by_multiplier(layer, load(sums), channel), layer.zero_point, layer.low,
                   layer.high);
}

template <Rounding kRounding>
EDGECORE_AVX2 inline __m128i all_codes(const Layer& layer, std::size_t group,
                                       const std::int32_t* sums) {
  const std::size_t channel = group * layer.channel_stride;
  return _mm_unpacklo_epi64(codes<kRounding>(layer, sums, channel),
                            codes<kRounding>(layer, sums + 8, channel + 8));
}

template <Rounding kRounding, std::size_t kRows, std::size_t kGroups>
EDGECORE_AVX2 void run_groups(const Layer& layer, const BlockOf& block, std::size_t group,
                              const Rows& rows, std::size_t first) {
  alignas(32) std::int32_t sums[kRows * kGroups * kLanes];
  accumulate<kRows, kGroups>(layer, block, group, rows, first, sums);
  for (std::size_t row = 0; row < kRows; ++row)
    for (std::size_t next = 0; next < kGroups; ++next) {
      std::int8_t* out = rows.out + (first + row) * rows.out_stride + (group + next) * kLanes;
      _mm_storeu_si128(
          reinterpret_cast<__m128i*>(out),
          all_codes<kRounding>(layer, group + next, sums + (row * kGroups + next) * kLanes));
    }
}

template <Rounding kRounding, std::size_t kRows, std::size_t kGroups>
void run_rows(const Layer& layer, const Rows& rows, std::size_t first) {
  for (std::size_t start = 0; start < layer.groups; start += kBlock) {
    const BlockOf block(layer, start);
    std::size_t group = start;
    for (; group + kGroups <= start + block.count; group += kGroups)
      run_groups<kRounding, kRows, kGroups>(layer, block, group, rows, first);
    if (group < start + block.count)
      run_groups<kRounding, kRows, 1>(layer, block, group, rows, first);
  }
}

template <Rounding kRounding>
void run(const Layer& layer, const Rows& rows) {
  std::size_t row = 0;
  for (; row + 3 <= rows.count; row += 3) run_rows<kRounding, 3, 1>(layer, rows, row);
  for (; row < rows.count; ++row) run_rows<kRounding, 1, 2>(layer, rows, row);
}

// Four taps of four channels, as one register of [channel][tap], for each quarter of a group.
EDGECORE_AVX2 inline void four_taps(const Taps& taps, std::size_t at, std::size_t channel,
                                    __m128i (&quarters)[kParts]) {
  const auto tap = [&](std::size_t i) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(taps.tap(at + i) + channel));
  };
  const __m128i first = tap(0);
  const __m128i second = tap(1);
  const __m128i third = tap(2);
  const __m128i fourth = tap(3);
  const __m128i low = _mm_unpacklo_epi8(first, second);
  const __m128i high = _mm_unpackhi_epi8(first, second);
  const __m128i low_after = _mm_unpacklo_epi8(third, fourth);
  const __m128i high_after = _mm_unpackhi_epi8(third, fourth);
  quarters[0] = _mm_unpacklo_epi16(low, low_after);
  quarters[1] = _mm_unpackhi_epi16(low, low_after);
  quarters[2] = _mm_unpacklo_epi16(high, high_after);
  quarters[3] = _mm_unpackhi_epi16(high, high_after);
}

EDGECORE_AVX2 void depthwise(const Layer& layer, const Taps& taps) {
  const std::size_t count = layer.steps * kStep;
  alignas(32) std::int32_t sums[kLanes];
  for (std::size_t group = 0; group < layer.groups; ++group) {
    const std::int8_t* weights = layer.weights + group * layer.steps * kCell;
    for (std::size_t pixel = 0; pixel < taps.count; ++pixel) {
      __m256i total[kParts] = {};
      for (std::size_t step = 0; step < layer.steps; ++step) {
        __m128i quarters[kParts];
        four_taps(taps, pixel * count + step * kStep, group * kLanes, quarters);
        EDGECORE_UNROLLED
        for (std::size_t part = 0; part < kParts; ++part) {
          const std::int8_t* from = weights + step * kCell + part * kCell / kParts;
          const __m256i by =
              _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(from)));
          total[part] = _mm256_add_epi32(
              total[part], _mm256_madd_epi16(by, _mm256_cvtepi8_epi16(quarters[part])));
        }
      }
      finish(total, layer.bias + group * kLanes, sums);
      alignas(16) std::int8_t out[kLanes];
      _mm_store_si128(reinterpret_cast<__m128i*>(out),
                      all_codes<Rounding::kDoubled>(layer, group, sums));
      __builtin_memcpy(taps.out + pixel * taps.channels + group * kLanes, out, taps.lanes(group));
    }
  }
}

// Of eight values, by a multiplier whose shift is at most 0.
struct Doubled {
  __m256i by, down, half, rounds;

  EDGECORE_AVX2 explicit Doubled(Multiplier multiplier)
      : by(_mm256_set1_epi64x(multiplier.value)),
        down(_mm256_set1_epi32(-multiplier.shift)),
        half(_mm256_set1_epi32(multiplier.shift == 0 ? 0 : 1 << (-multiplier.shift - 1))),
        rounds(_mm256_set1_epi32(multiplier.shift == 0 ? 0 : -1)) {}
  EDGECORE_AVX2 __m256i operator()(__m256i value) const {
    return scaled(value, by, by, down, half, rounds);
  }
};

EDGECORE_AVX2 inline __m256i raised(const std::int8_t* from, std::int32_t zero) {
  const __m256i code =
      _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
  return _mm256_slli_epi32(_mm256_sub_epi32(code, _mm256_set1_epi32(zero)), Sum::kRaise);
}

EDGECORE_AVX2 void add(const Sum& sum, const std::int8_t* first, const std::int8_t* second,
                       std::int8_t* out, std::size_t count) {
  const Doubled by_first(sum.first);
  const Doubled by_second(sum.second);
  const Doubled by_whole(sum.whole);
  for (std::size_t i = 0; i < count; i += 8) {
    const __m256i a = by_first(raised(first + i, sum.first_zero));
    const __m256i b = by_second(raised(second + i, sum.second_zero));
    const __m256i whole = by_whole(_mm256_add_epi32(a, b));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out + i),
                     clamped(whole, sum.zero_point, sum.low, sum.high));
  }
}

}  // namespace

const Kernel* avx2_kernel() {
  static constexpr Kernel kKernel{"avx2",    0,  run<Rounding::kReal>, run<Rounding::kDoubled>,
                                  depthwise, add};
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
