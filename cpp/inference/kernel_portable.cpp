// The kernel of any processor, and the oracle of the others.
#include <algorithm>

#include "inference/layer.hpp"

namespace edgecore::inference {
namespace {

template <Rounding kRounding>
void run_group(const Layer& layer, const BlockOf& block, std::size_t group, const Rows& rows,
               std::size_t row) {
  std::int32_t sums[kLanes];
  std::copy_n(layer.bias + group * kLanes, kLanes, sums);
  const std::int8_t* weights = block.weights + (group - block.start) * kLanes * kStep;
  const std::size_t steps = layer.steps / rows.segments;
  for (std::size_t segment = 0; segment < rows.segments; ++segment) {
    const std::int8_t* in = rows.piece(row, segment);
    for (std::size_t step = 0; step < steps; ++step, in += kStep) {
      for (std::size_t lane = 0; lane < kLanes; ++lane)
        for (std::size_t i = 0; i < kStep; ++i) sums[lane] += weights[lane * kStep + i] * in[i];
      weights += block.count * kLanes * kStep;
    }
  }
  std::int8_t* out = rows.out + row * rows.out_stride;
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
      run_group<kRounding>(layer, BlockOf(layer, group / kBlock * kBlock), group, rows, row);
}

// `kFlip` is what the codes are XORed with.
template <std::uint8_t kFlip>
void depthwise(const Layer& layer, const Taps& taps) {
  const auto plain = [](std::int8_t code) {
    return kFlip == 0 ? std::int32_t{code} : std::int32_t{static_cast<std::uint8_t>(code)};
  };
  for (std::size_t pixel = 0; pixel < taps.count; ++pixel)
    for (std::size_t group = 0; group < layer.groups; ++group) {
      std::int32_t sums[kLanes];
      std::copy_n(layer.bias + group * kLanes, kLanes, sums);
      const std::size_t count = layer.steps * kStep;
      const std::int8_t* weights = layer.weights + group * count * kLanes;
      for (std::size_t tap = 0; tap < count; ++tap) {
        const std::int8_t* in = taps.tap(pixel * count + tap) + group * kLanes;
        const std::int8_t* by = weights + tap / kStep * kLanes * kStep + tap % kStep;
        for (std::size_t lane = 0; lane < kLanes; ++lane)
          sums[lane] += plain(in[lane]) * by[lane * kStep];
      }
      std::int8_t* out = taps.out + pixel * taps.channels + group * kLanes;
      for (std::size_t lane = 0; lane < taps.lanes(group); ++lane) {
        const std::size_t channel = group * layer.channel_stride + lane;
        const Multiplier by{layer.multiplier[channel], layer.shift[channel]};
        const std::int32_t code = requantise(sums[lane], by) + layer.zero_point;
        out[lane] =
            static_cast<std::int8_t>(std::clamp(code, layer.low, layer.high) ^ std::int32_t{kFlip});
      }
    }
}

}  // namespace

void depthwise_portable(const Layer& layer, const Taps& taps) {
  depthwise<0>(layer, taps);
}
void depthwise_flipped(const Layer& layer, const Taps& taps) {
  depthwise<0x80>(layer, taps);
}

void add_portable(const Sum& sum, const std::int8_t* first, const std::int8_t* second,
                  std::int8_t* out, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    const std::int32_t a = (first[i] - sum.first_zero) * (1 << Sum::kRaise);
    const std::int32_t b = (second[i] - sum.second_zero) * (1 << Sum::kRaise);
    const std::int32_t both = requantise(a, sum.first) + requantise(b, sum.second);
    const std::int32_t code = requantise(both, sum.whole) + sum.zero_point;
    out[i] = static_cast<std::int8_t>(std::clamp(code, sum.low, sum.high));
  }
}

const Kernel& portable_kernel() {
  static constexpr Kernel kKernel{"portable",           0,
                                  run<Rounding::kReal>, run<Rounding::kDoubled>,
                                  depthwise_portable,   add_portable};
  return kKernel;
}

}  // namespace edgecore::inference
