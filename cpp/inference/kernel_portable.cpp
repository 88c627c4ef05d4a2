// The kernel of any processor, and the oracle of the others.
#include <algorithm>

#include "inference/layer.hpp"

namespace edgecore::inference {
namespace {

template <Rounding kRounding>
void run_group(const Layer& layer, const BlockOf& block, std::size_t group, const std::int8_t* in,
               std::int8_t* out) {
  std::int32_t sums[kLanes];
  std::copy_n(layer.bias + group * kLanes, kLanes, sums);
  const std::int8_t* weights = block.weights + (group - block.start) * kLanes * kStep;
  for (std::size_t step = 0; step < layer.steps; ++step) {
    for (std::size_t lane = 0; lane < kLanes; ++lane)
      for (std::size_t i = 0; i < kStep; ++i) sums[lane] += weights[lane * kStep + i] * in[i];
    weights += block.count * kLanes * kStep;
    in += kStep;
  }
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    const std::size_t channel = group * layer.channel_stride + lane;
    std::int32_t code = layer.zero_point;
    if constexpr (kRounding == Rounding::kReal)
      code += requantise(sums[lane], layer.real[channel]);
    else
      code += requantise(sums[lane], Multiplier{layer.multiplier[channel], layer.shift[channel]});
    out[group * kLanes + lane] = static_cast<std::int8_t>(std::clamp(code, layer.low, layer.high));
  }
}

template <Rounding kRounding>
void run(const Layer& layer, const Rows& rows) {
  for (std::size_t row = 0; row < rows.count; ++row)
    for (std::size_t group = 0; group < layer.groups; ++group)
      run_group<kRounding>(layer, BlockOf(layer, group / kBlock * kBlock), group,
                           rows.in + row * rows.in_stride, rows.out + row * rows.out_stride);
}

}  // namespace

const Kernel& portable_kernel() {
  static constexpr Kernel kKernel{"portable", 0, run<Rounding::kReal>, run<Rounding::kDoubled>};
  return kKernel;
}

}  // namespace edgecore::inference
