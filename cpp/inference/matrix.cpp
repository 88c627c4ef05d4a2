// See matrix.hpp. Everything that a product reads lies in one block in the order in which it is
// read, because a small model's time is the time of streaming its weights.
#include "inference/matrix.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace edgecore::inference {
namespace {

struct Sizes {
  std::size_t groups, steps, channels, weights, bias, channel;
  std::uint64_t total() const { return std::uint64_t{weights} + bias + channel; }
};

Sizes sizes_of(const MatrixSpec& spec) {
  Sizes s{};
  s.groups = round_up(spec.width, kLanes) / kLanes;
  s.steps = round_up(spec.depth, kStep) / kStep;
  s.channels = spec.reals.size() == 1 ? 1 : s.groups;
  s.weights = s.groups * s.steps * kLanes * kStep;
  s.bias = s.groups * kLanes * sizeof(std::int32_t);
  s.channel = s.channels * kLanes * sizeof(double);  // or two of int32
  return s;
}

// What is added to an output's sum and what that is multiplied with, as a kernel will have them.
struct Outputs {
  std::vector<std::int32_t> bias;
  std::vector<double> reals;
};

ByteSpan weights_of(const MatrixSpec& spec, std::size_t out) {
  return spec.weights.subspan(out * spec.depth, spec.depth);
}

// An output without weights is a constant, whose bias is whatever a training left there: up to
// 2^30, which other sums may not reach. It becomes 256ths of the constant.
void make_constant(const MatrixSpec& spec, std::size_t out, Outputs& outputs) {
  const std::int32_t sum = outputs.bias[out];
  const double real = outputs.reals[out];
  const std::int32_t code = spec.rounding == Rounding::kReal ? requantise(sum, real)
                                                             : requantise(sum, multiplier_of(real));
  outputs.bias[out] = std::clamp(code, -1024, 1024) * 256;
  outputs.reals[out] = 1.0 / 256;
}

Outputs outputs_of(const MatrixSpec& spec) {
  Outputs outputs{std::vector<std::int32_t>(spec.width), spec.reals};
  for (std::size_t out = 0; out < spec.width; ++out) {
    if (!spec.bias.empty()) outputs.bias[out] = load_le<std::int32_t>(spec.bias.data() + out * 4);
    const ByteSpan weights = weights_of(spec, out);
    if (spec.reals.size() == spec.width && spec.reals[out] < 1 &&
        std::all_of(weights.begin(), weights.end(), [](std::byte w) { return w == std::byte{0}; }))
      make_constant(spec, out, outputs);
  }
  return outputs;
}

// Proves that no sum leaves 31 bits, flipped or not, and no output does before its clamp.
Status check_bounds(const MatrixSpec& spec, const Outputs& outputs) {
  for (std::size_t out = 0; out < spec.width; ++out) {
    std::int64_t reach = 0;
    for (const std::byte weight : weights_of(spec, out))
      reach += std::abs(static_cast<int>(static_cast<std::int8_t>(weight)));
    reach = reach * 2 * 255 + std::abs(std::int64_t{outputs.bias[out]});
    const double real = outputs.reals[outputs.reals.size() == 1 ? 0 : out];
    const int left = std::max(multiplier_of(real).shift, 0);
    if (left > 30 || reach >= (std::int64_t{1} << 30) >> left)
      return Status::incompatible("sums or outputs may not fit in 32 bits");
  }
  return {};
}

// `block` groups at most are interleaved.
void pack_weights(const MatrixSpec& from, const Sizes& sizes, std::size_t block, std::int8_t* to) {
  for (std::size_t out = 0; out < from.width; ++out)
    for (std::size_t in = 0; in < from.depth; ++in) {
      const std::size_t group = out / kLanes;
      const std::size_t start = group / block * block;
      const std::size_t together = std::min(block, sizes.groups - start);
      const std::size_t cell = start * sizes.steps + in / kStep * together + (group - start);
      to[(cell * kLanes + out % kLanes) * kStep + in % kStep] =
          static_cast<std::int8_t>(from.weights[out * from.depth + in]);
    }
}

// sum((code - zero) * w) + bias = sum(code * w) + (bias - zero * sum(w)); a kernel that flips
// sees code + 128, so that its zero is 128 higher.
void pack_bias(const MatrixSpec& from, const Outputs& outputs, std::uint8_t flip,
               std::int32_t* to) {
  for (std::size_t out = 0; out < from.width; ++out) {
    std::int32_t sum = 0;
    for (const std::byte weight : weights_of(from, out)) sum += static_cast<std::int8_t>(weight);
    to[out] = outputs.bias[out] - (from.input_zero + flip) * sum;
  }
}

void pack_reals(const Outputs& outputs, std::size_t count, double* to) {
  for (std::size_t i = 0; i < count; ++i)
    to[i] = outputs.reals[std::min(i, outputs.reals.size() - 1)];
}

void pack_multipliers(const Outputs& outputs, std::size_t count, std::int32_t* values,
                      std::int32_t* shifts) {
  for (std::size_t i = 0; i < count; ++i) {
    const Multiplier by = multiplier_of(outputs.reals[std::min(i, outputs.reals.size() - 1)]);
    values[i] = by.value;
    shifts[i] = by.shift;
  }
}

}  // namespace

Result<Matrix> Matrix::make(const MatrixSpec& spec, const Kernel& kernel, Packing packing) {
  const Sizes sizes = sizes_of(spec);
  if (sizes.total() > kMaxPackedBytes)
    return Status::incompatible("more than 256 MiB of weights when packed");
  const Outputs outputs = outputs_of(spec);
  EDGECORE_TRY(check_bounds(spec, outputs));
  auto* at = static_cast<std::byte*>(::operator new(static_cast<std::size_t>(sizes.total()),
                                                    std::align_val_t{kAlign}, std::nothrow));
  if (at == nullptr) return Status::exhausted("model: no memory for its weights");
  Matrix made;
  made.block_.reset(at);
  std::memset(at, 0, static_cast<std::size_t>(sizes.total()));
  auto* bias = reinterpret_cast<std::int32_t*>(at);
  auto* weights = reinterpret_cast<std::int8_t*>(at + sizes.bias + sizes.channel);
  pack_bias(spec, outputs, kernel.flip, bias);
  pack_weights(spec, sizes, packing == Packing::kTaps ? 1 : kBlock, weights);
  Layer& layer = made.layer_;
  const std::size_t channels = sizes.channels * kLanes;
  if (spec.rounding == Rounding::kReal) {
    auto* reals = reinterpret_cast<double*>(at + sizes.bias);
    pack_reals(outputs, channels, reals);
    layer.real = reals;
    made.run_ = kernel.real;
  } else {
    auto* values = reinterpret_cast<std::int32_t*>(at + sizes.bias);
    pack_multipliers(outputs, channels, values, values + channels);
    layer.multiplier = values;
    layer.shift = values + channels;
    made.run_ = kernel.doubled;
  }
  layer.groups = sizes.groups;
  layer.steps = sizes.steps;
  layer.weights = weights;
  layer.bias = bias;
  layer.channel_stride = sizes.channels == 1 ? 0 : kLanes;
  layer.zero_point = spec.output_zero;
  layer.low = spec.low;
  layer.high = spec.high;
  made.depth_ = spec.depth;
  made.width_ = spec.width;
  made.packed_bytes_ = sizes.total();
  return made;
}

}  // namespace edgecore::inference
