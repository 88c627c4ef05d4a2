// The kernel of ARM64 processors with the dot product extension (Cortex-A55, A76 and later).
#include "inference/layer.hpp"

#if defined(__aarch64__) && defined(__linux__)

#include <arm_neon.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>

#define EDGECORE_DOT __attribute__((target("arch=armv8.2-a+dotprod")))

namespace edgecore::inference {
namespace {

constexpr std::size_t kCell = kLanes * kStep;  // bytes of weights of one group and one step
constexpr std::size_t kParts = 4;              // registers of one group's sums

EDGECORE_DOT inline __attribute__((always_inline)) void add_step(int32x4_t* total,
                                                                 const std::int8_t* weights,
                                                                 int8x16_t inputs) {
  EDGECORE_UNROLLED
  for (std::size_t part = 0; part < kParts; ++part)
    total[part] = vdotq_s32(total[part], vld1q_s8(weights + part * kCell / kParts), inputs);
}

// Sums of kGroups neighbouring groups, which share each load of inputs.
template <std::size_t kGroups>
EDGECORE_DOT void accumulate(const Layer& layer, const BlockOf& block, std::size_t group,
                             const std::int8_t* in, std::int32_t* sums) {
  int32x4_t total[kGroups * kParts];
  EDGECORE_UNROLLED
  for (std::size_t part = 0; part < kGroups * kParts; ++part)
    total[part] = vld1q_s32(layer.bias + group * kLanes + part * 4);
  const std::int8_t* weights = block.weights + (group - block.start) * kCell;
  for (std::size_t step = 0; step < layer.steps; ++step) {
    std::int32_t four;
    __builtin_memcpy(&four, in + step * kStep, sizeof four);
    const int8x16_t inputs = vreinterpretq_s8_s32(vdupq_n_s32(four));
    add_step(total, weights, inputs);
    if constexpr (kGroups == 2) add_step(total + kParts, weights + kCell, inputs);
    weights += block.count * kCell;
  }
  EDGECORE_UNROLLED
  for (std::size_t part = 0; part < kGroups * kParts; ++part)
    vst1q_s32(sums + part * 4, total[part]);
}

// See requantise(): the instructions round as the profiles do.
template <Profile kProfile>
EDGECORE_DOT inline int32x4_t scaled(int32x4_t sum, int32x4_t by, int32x4_t shift) {
  if constexpr (kProfile == Profile::kLitertSingle) {
    const int32x4_t up = vsubq_s32(shift, vdupq_n_s32(31));  // a negative shift left
    const int64x2_t low = vmull_s32(vget_low_s32(sum), vget_low_s32(by));
    const int64x2_t high = vmull_s32(vget_high_s32(sum), vget_high_s32(by));
    return vcombine_s32(vmovn_s64(vrshlq_s64(low, vmovl_s32(vget_low_s32(up)))),
                        vmovn_s64(vrshlq_s64(high, vmovl_s32(vget_high_s32(up)))));
  } else {
    const int32x4_t zero = vdupq_n_s32(0);
    const int32x4_t left = vmaxq_s32(shift, zero);
    const int32x4_t down = vminq_s32(shift, zero);
    const int32x4_t high = vqrdmulhq_s32(vshlq_s32(sum, left), by);
    const int32x4_t away = vshrq_n_s32(vandq_s32(high, down), 31);  // minus one below zero
    return vrshlq_s32(vqaddq_s32(high, away), down);
  }
}

template <Profile kProfile>
EDGECORE_DOT void store_group(const Layer& layer, std::size_t group, const std::int32_t* sums,
                              std::int8_t* out) {
  int16x4_t words[kParts];
  EDGECORE_UNROLLED
  for (std::size_t part = 0; part < kParts; ++part) {
    const std::size_t channel = group * layer.channel_stride + part * 4;
    int32x4_t code =
        scaled<kProfile>(vld1q_s32(sums + part * 4), vld1q_s32(layer.multiplier + channel),
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

template <Profile kProfile>
EDGECORE_DOT void run_row(const Layer& layer, const std::int8_t* in, std::int8_t* out) {
  alignas(16) std::int32_t sums[2 * kLanes];
  for (std::size_t start = 0; start < layer.groups; start += kBlock) {
    const BlockOf block(layer, start);
    std::size_t group = start;
    for (; group + 2 <= start + block.count; group += 2) {
      accumulate<2>(layer, block, group, in, sums);
      store_group<kProfile>(layer, group, sums, out);
      store_group<kProfile>(layer, group + 1, sums + kLanes, out);
    }
    if (group < start + block.count) {
      accumulate<1>(layer, block, group, in, sums);
      store_group<kProfile>(layer, group, sums, out);
    }
  }
}

template <Profile kProfile>
void run(const Layer& layer, const Rows& rows) {
  for (std::size_t row = 0; row < rows.count; ++row)
    run_row<kProfile>(layer, rows.in + row * rows.in_stride, rows.out + row * rows.out_stride);
}

}  // namespace

const Kernel* neon_dot_kernel() {
  static constexpr Kernel kKernel{"neon-dot", 0, run<Profile::kLitertSingle>,
                                  run<Profile::kTfliteDouble>};
  static const bool served = (::getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
  return served ? &kKernel : nullptr;
}

}  // namespace edgecore::inference

#else

namespace edgecore::inference {
const Kernel* neon_dot_kernel() {
  return nullptr;
}
}  // namespace edgecore::inference

#endif
