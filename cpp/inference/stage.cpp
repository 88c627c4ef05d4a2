// See stage.hpp. Scales and bounds are computed as the reference kernels compute them, float
// products included, so that the integers agree to the bit.
#include "inference/stage.hpp"

#include <algorithm>

namespace edgecore::inference {

using tflite::Activation;
using tflite::Tensor;
using tflite::Type;

Result<Quantisation> activation_of(const Tensor& tensor) {
  if (tensor.type != Type::kInt8 || tensor.scales.size() != 1)
    return Status::incompatible("an activation is not int8 with one scale");
  return Quantisation{tensor.scales[0], static_cast<std::int32_t>(tensor.zero_points[0])};
}

namespace {

// Half away from zero, in f32, as the reference rounds bounds; saturates far outside int8.
std::int32_t code_of(float real, Quantisation by) {
  const float code = std::clamp(real / by.scale, -1024.0F, 1024.0F);
  return by.zero_point + static_cast<std::int32_t>(code + (code < 0 ? -0.5F : 0.5F));
}

}  // namespace

Range range_of(Activation activation, Quantisation output) {
  Range range;
  if (activation == Activation::kRelu || activation == Activation::kRelu6)
    range.low = std::max(range.low, code_of(0.0F, output));
  if (activation == Activation::kReluN1To1)
    range = {std::max(range.low, code_of(-1.0F, output)),
             std::min(range.high, code_of(1.0F, output))};
  if (activation == Activation::kRelu6) range.high = std::min(range.high, code_of(6.0F, output));
  return range;
}

namespace {

// The scales of int8 weights over an output's; see take_outputs.
Result<std::vector<double>> reals_of(const Tensor& weights, std::int32_t axis, Quantisation in,
                                     Quantisation out, bool narrow) {
  const std::size_t count = weights.scales.size();
  const auto channels = static_cast<std::size_t>(weights.shape[static_cast<std::size_t>(axis)]);
  if (count != 1 && (count != channels || weights.axis != axis))
    return Status::incompatible("weight scales are neither one nor one per output");
  for (const std::int64_t zero : weights.zero_points)
    if (zero != 0) return Status::incompatible("a weight zero point is not 0");
  std::vector<double> reals;
  for (const float scale : weights.scales) {
    const double product = count == 1 && narrow
                               ? static_cast<double>(in.scale * scale)
                               : static_cast<double>(in.scale) * static_cast<double>(scale);
    reals.push_back(product / static_cast<double>(out.scale));
  }
  return reals;
}

// The bytes of an int32 bias of `width` values; empty where it is left out.
Result<ByteSpan> bias_of(const Site& site, std::size_t input, std::size_t width) {
  const Tensor* bias = site.input(input);
  if (bias == nullptr) return ByteSpan{};
  if (bias->type != Type::kInt32 || bias->constant.empty() || bias->elements != width)
    return Status::incompatible("the bias is not a constant int32 per output");
  return bias->constant;
}

}  // namespace

Status take_outputs(const Site& site, std::int32_t axis, MatrixSpec& spec, bool narrow) {
  EDGECORE_ASSIGN(spec.bias, bias_of(site, 2, spec.width));
  EDGECORE_ASSIGN(const Quantisation from, activation_of(*site.input(0)));
  EDGECORE_ASSIGN(const Quantisation to, activation_of(site.output()));
  EDGECORE_ASSIGN(spec.reals, reals_of(*site.input(1), axis, from, to, narrow));
  const Range range = range_of(site.op.options.activation, to);
  spec.input_zero = from.zero_point;
  spec.output_zero = to.zero_point;
  spec.low = range.low;
  spec.high = range.high;
  return {};
}

}  // namespace edgecore::inference
