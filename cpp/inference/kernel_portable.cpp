// The kernel of any processor, and the oracle of the others.
#include <algorithm>

#include "inference/layer.hpp"
#include "inference/requantise.hpp"

namespace edgecore::inference {
namespace {

template <Profile kProfile>
void group(const Layer& layer, std::size_t at, const std::int8_t* in, std::int8_t* out) {
  std::int32_t sums[kLanes];
  std::copy_n(layer.bias + at * kLanes, kLanes, sums);
  const std::int8_t* weights = layer.weights + at * layer.steps * kLanes * kStep;
  for (std::size_t step = 0; step < layer.steps; ++step, in += kStep, weights += kLanes * kStep)
    for (std::size_t lane = 0; lane < kLanes; ++lane)
      for (std::size_t i = 0; i < kStep; ++i) sums[lane] += weights[lane * kStep + i] * in[i];
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    const std::size_t channel = at * layer.channel_stride + lane;
    const Multiplier by{layer.multiplier[channel], layer.shift[channel]};
    const std::int32_t code = requantise(kProfile, sums[lane], by) + layer.zero_point;
    out[at * kLanes + lane] = static_cast<std::int8_t>(std::clamp(code, layer.low, layer.high));
  }
}

template <Profile kProfile>
void run(const Layer& layer, const Rows& rows) {
  for (std::size_t row = 0; row < rows.count; ++row)
    for (std::size_t at = 0; at < layer.groups; ++at)
      group<kProfile>(layer, at, rows.in + row * rows.in_stride, rows.out + row * rows.out_stride);
}

}  // namespace

const Kernel& portable_kernel() {
  static constexpr Kernel kKernel{"portable", 0, run<Profile::kLitertSingle>,
                                  run<Profile::kTfliteDouble>};
  return kKernel;
}

}  // namespace edgecore::inference
