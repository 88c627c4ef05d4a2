// The kernels of ARM64 processors: with the dot product extension (Cortex-A55, A76 and later), and
// without (Cortex-A53, A72). They differ in how one step is summed.
#include "inference/layer.hpp"

#if defined(__aarch64__) && defined(__linux__)

#include <arm_neon.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>

#define EDGECORE_INLINE inline __attribute__((always_inline))
#define EDGECORE_DOT __attribute__((target("arch=armv8.2-a+dotprod")))

namespace edgecore::inference {
namespace {

constexpr std::size_t kCell = kLanes * kStep;  // bytes of weights of one group and one step
constexpr std::size_t kParts = 4;              // registers of one group's sums

// Sums of one group: four products of each output are added at once.
struct WithDot {
  static constexpr std::size_t kRows = 4;  // that share weights and stay in registers
  int32x4_t sums[kParts] = {};

  // Inlined into what has the target, because nothing without it may.
  EDGECORE_DOT void add(std::size_t part, int8x16_t weights, int8x16_t inputs) {
    sums[part] = vdotq_s32(sums[part], weights, inputs);
  }
  EDGECORE_INLINE int32x4_t sum(std::size_t part) const { return sums[part]; }
};

// As WithDot, in sums of two products, which come together in the end.
struct WithPairs {
  static constexpr std::size_t kRows = 2;
  int32x4_t low[kParts] = {};
  int32x4_t high[kParts] = {};

  EDGECORE_INLINE void add(std::size_t part, int8x16_t weights, int8x16_t inputs) {
    low[part] = vpadalq_s16(low[part], vmull_s8(vget_low_s8(weights), vget_low_s8(inputs)));
    high[part] = vpadalq_s16(high[part], vmull_high_s8(weights, inputs));
  }
  EDGECORE_INLINE int32x4_t sum(std::size_t part) const {
    return vpaddq_s32(low[part], high[part]);
  }
};

template <typename Sums>
EDGECORE_INLINE void finish(const Sums& total, const std::int32_t* bias, std::int32_t* sums) {
  EDGECORE_UNROLLED
  for (std::size_t part = 0; part < kParts; ++part)
    vst1q_s32(sums + part * 4, vaddq_s32(total.sum(part), vld1q_s32(bias + part * 4)));
}

EDGECORE_INLINE int8x16_t four_inputs(const std::int8_t* in) {
  std::int32_t four;
  __builtin_memcpy(&four, in, sizeof four);
  return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

// One step of kRows rows and one group.
template <std::size_t kRows, typename Sums>
EDGECORE_INLINE void add_step(Sums (&total)[kRows], const std::int8_t* weights,
                              const int8x16_t (&inputs)[kRows]) {
  EDGECORE_UNROLLED
  for (std::size_t part = 0; part < kParts; ++part) {
    const int8x16_t by = vld1q_s8(weights + part * kCell / kParts);
    EDGECORE_UNROLLED
    for (std::size_t row = 0; row < kRows; ++row) total[row].add(part, by, inputs[row]);
  }
}

// Sums of kRows rows over kGroups neighbouring groups into sums[row][group][lane]: rows share each
// load of weights, groups of inputs.
template <typename Sums, std::size_t kRows, std::size_t kGroups>
EDGECORE_INLINE void accumulate(const Layer& layer, const BlockOf& block, std::size_t group,
                                const Rows& rows, std::size_t first, std::int32_t* sums) {
  Sums total[kGroups][kRows];
  const std::int8_t* weights = block.weights + (group - block.start) * kCell;
  const std::size_t steps = rows.segments == 1 ? layer.steps : layer.steps / rows.segments;
  for (std::size_t segment = 0; segment < rows.segments; ++segment) {
    const std::int8_t* in[kRows];
    EDGECORE_UNROLLED
    for (std::size_t row = 0; row < kRows; ++row) in[row] = rows.piece(first + row, segment);
    for (std::size_t step = 0; step < steps; ++step, weights += block.count * kCell) {
      int8x16_t inputs[kRows];
      EDGECORE_UNROLLED
      for (std::size_t row = 0; row < kRows; ++row)
        inputs[row] = four_inputs(in[row] + step * kStep);
      EDGECORE_UNROLLED
      for (std::size_t next = 0; next < kGroups; ++next)
        add_step(total[next], weights + next * kCell, inputs);
    }
  }
  EDGECORE_UNROLLED
  for (std::size_t row = 0; row < kRows; ++row) EDGECORE_UNROLLED
  for (std::size_t next = 0; next < kGroups; ++next)
    finish(total[next][row], layer.bias + (group + next) * kLanes,
           sums + (row * kGroups + next) * kLanes);
}

// See requantise(): the instructions round as it does.
EDGECORE_INLINE int32x4_t by_real(int32x4_t sum, const double* by) {
  const float64x2_t low = vcvtq_f64_s64(vmovl_s32(vget_low_s32(sum)));
  const float64x2_t high = vcvtq_f64_s64(vmovl_high_s32(sum));
  return vcombine_s32(vmovn_s64(vcvtaq_s64_f64(vmulq_f64(low, vld1q_f64(by)))),
                      vmovn_s64(vcvtaq_s64_f64(vmulq_f64(high, vld1q_f64(by + 2)))));
}

EDGECORE_INLINE int32x4_t by_multiplier(int32x4_t sum, int32x4_t by, int32x4_t shift) {
  const int32x4_t zero = vdupq_n_s32(0);
  const int32x4_t left = vmaxq_s32(shift, zero);
  const int32x4_t down = vminq_s32(shift, zero);
  const int32x4_t high = vqrdmulhq_s32(vshlq_s32(sum, left), by);
  const int32x4_t away = vshrq_n_s32(vandq_s32(high, down), 31);  // minus one below zero
  return vrshlq_s32(vqaddq_s32(high, away), down);
}

EDGECORE_INLINE int16x4_t clamped(int32x4_t code, std::int32_t zero_point, std::int32_t low,
                                  std::int32_t high) {
  code = vaddq_s32(code, vdupq_n_s32(zero_point));
  code = vmaxq_s32(code, vdupq_n_s32(low));
  return vmovn_s32(vminq_s32(code, vdupq_n_s32(high)));
}

EDGECORE_INLINE int8x16_t codes_of(const int16x4_t (&words)[kParts]) {
  return vcombine_s8(vmovn_s16(vcombine_s16(words[0], words[1])),
                     vmovn_s16(vcombine_s16(words[2], words[3])));
}

template <Rounding kRounding>
EDGECORE_INLINE int8x16_t codes(const Layer& layer, std::size_t group, const std::int32_t* sums) {
  int16x4_t words[kParts];
  EDGECORE_UNROLLED
  for (std::size_t part = 0; part < kParts; ++part) {
    const std::size_t channel = group * layer.channel_stride + part * 4;
    const int32x4_t sum = vld1q_s32(sums + part * 4);
    int32x4_t code;
    if constexpr (kRounding == Rounding::kReal)
      code = by_real(sum, layer.real + channel);
    else
      code = by_multiplier(sum, vld1q_s32(layer.multiplier + channel),
                           vld1q_s32(layer.shift + channel));
    words[part] = clamped(code, layer.zero_point, layer.low, layer.high);
  }
  return codes_of(words);
}

// What is inlined into a function of the target may use it.
template <typename Sums, std::size_t kRows, std::size_t kGroups>
struct Rowwise {
  static void sum(const Layer& layer, const BlockOf& block, std::size_t group, const Rows& rows,
                  std::size_t first, std::int32_t* sums) {
    accumulate<Sums, kRows, kGroups>(layer, block, group, rows, first, sums);
  }
};
template <std::size_t kRows, std::size_t kGroups>
struct Rowwise<WithDot, kRows, kGroups> {
  EDGECORE_DOT static void sum(const Layer& layer, const BlockOf& block, std::size_t group,
                               const Rows& rows, std::size_t first, std::int32_t* sums) {
    accumulate<WithDot, kRows, kGroups>(layer, block, group, rows, first, sums);
  }
};

template <Rounding kRounding, typename Sums, std::size_t kRows, std::size_t kGroups>
void run_groups(const Layer& layer, const BlockOf& block, std::size_t group, const Rows& rows,
                std::size_t first) {
  alignas(16) std::int32_t sums[kRows * kGroups * kLanes];
  Rowwise<Sums, kRows, kGroups>::sum(layer, block, group, rows, first, sums);
  for (std::size_t row = 0; row < kRows; ++row)
    for (std::size_t next = 0; next < kGroups; ++next)
      vst1q_s8(rows.out + (first + row) * rows.out_stride + (group + next) * kLanes,
               codes<kRounding>(layer, group + next, sums + (row * kGroups + next) * kLanes));
}

template <Rounding kRounding, typename Sums, std::size_t kRows, std::size_t kGroups>
void run_rows(const Layer& layer, const Rows& rows, std::size_t first) {
  for (std::size_t start = 0; start < layer.groups; start += kBlock) {
    const BlockOf block(layer, start);
    std::size_t group = start;
    for (; group + kGroups <= start + block.count; group += kGroups)
      run_groups<kRounding, Sums, kRows, kGroups>(layer, block, group, rows, first);
    if (group < start + block.count)
      run_groups<kRounding, Sums, kRows, 1>(layer, block, group, rows, first);
  }
}

template <Rounding kRounding, typename Sums>
void run(const Layer& layer, const Rows& rows) {
  constexpr std::size_t kRows = Sums::kRows;
  std::size_t row = 0;
  for (; row + kRows <= rows.count; row += kRows)
    run_rows<kRounding, Sums, kRows, 1>(layer, rows, row);
  for (; row < rows.count; ++row) run_rows<kRounding, Sums, 1, 2>(layer, rows, row);
}

// Four taps of four channels, as one register of [channel][tap], for each quarter of a group.
EDGECORE_INLINE void four_taps(const Taps& taps, std::size_t at, std::size_t channel,
                               int8x16_t (&quarters)[kParts]) {
  int8x16_t tap[kStep];
  EDGECORE_UNROLLED
  for (std::size_t i = 0; i < kStep; ++i) tap[i] = vld1q_s8(taps.tap(at + i) + channel);
  const int16x8_t low = vreinterpretq_s16_s8(vzip1q_s8(tap[0], tap[1]));
  const int16x8_t high = vreinterpretq_s16_s8(vzip2q_s8(tap[0], tap[1]));
  const int16x8_t low_after = vreinterpretq_s16_s8(vzip1q_s8(tap[2], tap[3]));
  const int16x8_t high_after = vreinterpretq_s16_s8(vzip2q_s8(tap[2], tap[3]));
  quarters[0] = vreinterpretq_s8_s16(vzip1q_s16(low, low_after));
  quarters[1] = vreinterpretq_s8_s16(vzip2q_s16(low, low_after));
  quarters[2] = vreinterpretq_s8_s16(vzip1q_s16(high, high_after));
  quarters[3] = vreinterpretq_s8_s16(vzip2q_s16(high, high_after));
}

template <typename Sums>
EDGECORE_INLINE void depthwise(const Layer& layer, const Taps& taps) {
  const std::size_t count = layer.steps * kStep;
  alignas(16) std::int32_t sums[kLanes];
  for (std::size_t group = 0; group < layer.groups; ++group) {
    const std::int8_t* weights = layer.weights + group * layer.steps * kCell;
    for (std::size_t pixel = 0; pixel < taps.count; ++pixel) {
      Sums total;
      for (std::size_t step = 0; step < layer.steps; ++step) {
        int8x16_t quarters[kParts];
        four_taps(taps, pixel * count + step * kStep, group * kLanes, quarters);
        EDGECORE_UNROLLED
        for (std::size_t part = 0; part < kParts; ++part)
          total.add(part, vld1q_s8(weights + step * kCell + part * kCell / kParts), quarters[part]);
      }
      finish(total, layer.bias + group * kLanes, sums);
      alignas(16) std::int8_t out[kLanes];
      vst1q_s8(out, codes<Rounding::kDoubled>(layer, group, sums));
      __builtin_memcpy(taps.out + pixel * taps.channels + group * kLanes, out, taps.lanes(group));
    }
  }
}

void depthwise_by_pairs(const Layer& layer, const Taps& taps) {
  depthwise<WithPairs>(layer, taps);
}
EDGECORE_DOT void depthwise_by_dot(const Layer& layer, const Taps& taps) {
  depthwise<WithDot>(layer, taps);
}

// Of four values.
struct Doubled {
  int32x4_t by, shift;

  explicit Doubled(Multiplier multiplier)
      : by(vdupq_n_s32(multiplier.value)), shift(vdupq_n_s32(multiplier.shift)) {}
  EDGECORE_INLINE int32x4_t operator()(int32x4_t value) const {
    return by_multiplier(value, by, shift);
  }
};

// Sixteen codes less their zero, raised.
EDGECORE_INLINE void raise(const std::int8_t* from, std::int32_t zero, int32x4_t (&to)[kParts]) {
  const int8x16_t all = vld1q_s8(from);
  const int16x8_t less = vdupq_n_s16(static_cast<std::int16_t>(zero));
  const int16x8_t low = vsubq_s16(vmovl_s8(vget_low_s8(all)), less);
  const int16x8_t high = vsubq_s16(vmovl_high_s8(all), less);
  to[0] = vshlq_n_s32(vmovl_s16(vget_low_s16(low)), Sum::kRaise);
  to[1] = vshlq_n_s32(vmovl_high_s16(low), Sum::kRaise);
  to[2] = vshlq_n_s32(vmovl_s16(vget_low_s16(high)), Sum::kRaise);
  to[3] = vshlq_n_s32(vmovl_high_s16(high), Sum::kRaise);
}

void add(const Sum& sum, const std::int8_t* first, const std::int8_t* second, std::int8_t* out,
         std::size_t count) {
  const Doubled by_first(sum.first);
  const Doubled by_second(sum.second);
  const Doubled by_whole(sum.whole);
  for (std::size_t i = 0; i < count; i += kLanes) {
    int32x4_t a[kParts], b[kParts];
    raise(first + i, sum.first_zero, a);
    raise(second + i, sum.second_zero, b);
    int16x4_t words[kParts];
    EDGECORE_UNROLLED
    for (std::size_t part = 0; part < kParts; ++part)
      words[part] = clamped(by_whole(vaddq_s32(by_first(a[part]), by_second(b[part]))),
                            sum.zero_point, sum.low, sum.high);
    vst1q_s8(out + i, codes_of(words));
  }
}

template <typename Sums>
constexpr Kernel kernel(const char* name, void (*filter)(const Layer&, const Taps&)) {
  return {name, 0, run<Rounding::kReal, Sums>, run<Rounding::kDoubled, Sums>, filter, add};
}

}  // namespace

const Kernel* neon_dot_kernel() {
  static constexpr Kernel kKernel = kernel<WithDot>("neon-dot", depthwise_by_dot);
  static const bool served = (::getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
  return served ? &kKernel : nullptr;
}

const Kernel* neon_kernel() {
  static constexpr Kernel kKernel = kernel<WithPairs>("neon", depthwise_by_pairs);
  return &kKernel;
}

}  // namespace edgecore::inference

#else

namespace edgecore::inference {
const Kernel* neon_dot_kernel() {
  return nullptr;
}
const Kernel* neon_kernel() {
  return nullptr;
}
}  // namespace edgecore::inference

#endif
