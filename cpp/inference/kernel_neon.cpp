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

// Sums of one group, or of two neighbours, which share each load of inputs.
using Accumulate = void (*)(const Layer&, const BlockOf&, std::size_t group, const Rows&,
                            std::size_t row, std::int32_t* sums);

EDGECORE_INLINE int8x16_t four_inputs(const std::int8_t* in) {
  std::int32_t four;
  __builtin_memcpy(&four, in, sizeof four);
  return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

template <std::size_t kGroups>
EDGECORE_DOT void with_dot(const Layer& layer, const BlockOf& block, std::size_t group,
                           const Rows& rows, std::size_t row, std::int32_t* sums) {
  constexpr std::size_t kAll = kGroups * kParts;  // parts of neighbours lie one after another
  int32x4_t total[kAll];
  EDGECORE_UNROLLED
  for (std::size_t part = 0; part < kAll; ++part)
    total[part] = vld1q_s32(layer.bias + group * kLanes + part * 4);
  const std::int8_t* weights = block.weights + (group - block.start) * kCell;
  const std::size_t steps = rows.segments == 1 ? layer.steps : layer.steps / rows.segments;
  for (std::size_t segment = 0; segment < rows.segments; ++segment) {
    const std::int8_t* in = rows.piece(row, segment);
    for (std::size_t step = 0; step < steps; ++step, weights += block.count * kCell) {
      const int8x16_t inputs = four_inputs(in + step * kStep);
      EDGECORE_UNROLLED
      for (std::size_t part = 0; part < kAll; ++part)
        total[part] = vdotq_s32(total[part], vld1q_s8(weights + part * 16), inputs);
    }
  }
  EDGECORE_UNROLLED
  for (std::size_t part = 0; part < kAll; ++part) vst1q_s32(sums + part * 4, total[part]);
}

template <std::size_t kGroups>
void without_dot(const Layer& layer, const BlockOf& block, std::size_t group, const Rows& rows,
                 std::size_t row, std::int32_t* sums) {
  constexpr std::size_t kAll = kGroups * kParts;
  int32x4_t total[kAll];
  EDGECORE_UNROLLED
  for (std::size_t part = 0; part < kAll; ++part)
    total[part] = vld1q_s32(layer.bias + group * kLanes + part * 4);
  const std::int8_t* weights = block.weights + (group - block.start) * kCell;
  const std::size_t steps = rows.segments == 1 ? layer.steps : layer.steps / rows.segments;
  for (std::size_t segment = 0; segment < rows.segments; ++segment) {
    const std::int8_t* in = rows.piece(row, segment);
    for (std::size_t step = 0; step < steps; ++step, weights += block.count * kCell) {
      const int8x8_t inputs = vget_low_s8(four_inputs(in + step * kStep));
      EDGECORE_UNROLLED
      for (std::size_t part = 0; part < kAll; ++part) {
        const int8x16_t w = vld1q_s8(weights + part * 16);
        const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(w), inputs));
        const int32x4_t high = vpaddlq_s16(vmull_s8(vget_high_s8(w), inputs));
        total[part] = vaddq_s32(total[part], vpaddq_s32(low, high));
      }
    }
  }
  EDGECORE_UNROLLED
  for (std::size_t part = 0; part < kAll; ++part) vst1q_s32(sums + part * 4, total[part]);
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

template <Rounding kRounding>
void store_group(const Layer& layer, std::size_t group, const std::int32_t* sums,
                 std::int8_t* out) {
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
    code = vaddq_s32(code, vdupq_n_s32(layer.zero_point));
    code = vmaxq_s32(code, vdupq_n_s32(layer.low));
    code = vminq_s32(code, vdupq_n_s32(layer.high));
    words[part] = vmovn_s32(code);
  }
  const int8x8_t first = vmovn_s16(vcombine_s16(words[0], words[1]));
  const int8x8_t second = vmovn_s16(vcombine_s16(words[2], words[3]));
  vst1q_s8(out + group * kLanes, vcombine_s8(first, second));
}

template <Rounding kRounding, Accumulate kOne, Accumulate kTwo>
void run_row(const Layer& layer, const Rows& rows, std::size_t row) {
  std::int8_t* out = rows.out + row * rows.out_stride;
  alignas(16) std::int32_t sums[2 * kLanes];
  for (std::size_t start = 0; start < layer.groups; start += kBlock) {
    const BlockOf block(layer, start);
    std::size_t group = start;
    for (; group + 2 <= start + block.count; group += 2) {
      kTwo(layer, block, group, rows, row, sums);
      store_group<kRounding>(layer, group, sums, out);
      store_group<kRounding>(layer, group + 1, sums + kLanes, out);
    }
    if (group < start + block.count) {
      kOne(layer, block, group, rows, row, sums);
      store_group<kRounding>(layer, group, sums, out);
    }
  }
}

template <Rounding kRounding, Accumulate kOne, Accumulate kTwo>
void run(const Layer& layer, const Rows& rows) {
  for (std::size_t row = 0; row < rows.count; ++row)
    run_row<kRounding, kOne, kTwo>(layer, rows, row);
}

template <Accumulate kOne, Accumulate kTwo>
constexpr Kernel kernel(const char* name) {
  return {name,
          0,
          run<Rounding::kReal, kOne, kTwo>,
          run<Rounding::kDoubled, kOne, kTwo>,
          depthwise_portable,
          add_portable};
}

}  // namespace

const Kernel* neon_dot_kernel() {
  static constexpr Kernel kKernel = kernel<with_dot<1>, with_dot<2>>("neon-dot");
  static const bool served = (::getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
  return served ? &kKernel : nullptr;
}

const Kernel* neon_kernel() {
  static constexpr Kernel kKernel = kernel<without_dot<1>, without_dot<2>>("neon");
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
