// See chain.hpp. Multipliers and activation bounds are computed as the reference kernels compute
// them, float products included, so that the integers agree to the bit.
#include "inference/chain.hpp"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <string>

namespace edgecore::inference {
namespace {

using tflite::Activation;
using tflite::Graph;
using tflite::Op;
using tflite::Operator;
using tflite::Tensor;
using tflite::Type;

Status refused(std::size_t at, const std::string& what) {
  return Status::incompatible("model: operator " + std::to_string(at) + ": " + what);
}

Result<Quantisation> activation_of(const Tensor& tensor, std::size_t at) {
  if (tensor.type != Type::kInt8 || tensor.scales.size() != 1)
    return refused(at, "an activation is not int8 with one scale");
  return Quantisation{tensor.scales[0], static_cast<std::int32_t>(tensor.zero_points[0])};
}

const Tensor* input_of(const Graph& graph, const Operator& op, std::size_t i) {
  if (i >= op.inputs.size() || op.inputs[i] < 0) return nullptr;
  return &graph.tensors[static_cast<std::size_t>(op.inputs[i])];
}

// Half away from zero, in f32, as the reference rounds bounds; saturates far outside int8.
std::int32_t code_of(float real, Quantisation by) {
  const float code = std::clamp(real / by.scale, -1024.0F, 1024.0F);
  return by.zero_point + static_cast<std::int32_t>(code + (code < 0 ? -0.5F : 0.5F));
}

void bound_activation(Activation activation, Quantisation out, ChainLayer& layer) {
  if (activation != Activation::kNone) layer.low = std::max(-128, code_of(0.0F, out));
  if (activation == Activation::kRelu6) layer.high = std::min(127, code_of(6.0F, out));
}

// Per tensor the product of scales is taken in f32, per channel in f64.
Status set_multipliers(const Tensor& weights, Quantisation in, Quantisation out, std::size_t at,
                       ChainLayer& layer) {
  const std::size_t count = weights.scales.size();
  if (count != 1 && (count != layer.width || weights.axis != 0))
    return refused(at, "weight scales are neither one nor one per output");
  for (const std::int64_t zero : weights.zero_points)
    if (zero != 0) return refused(at, "a weight zero point is not 0");
  for (const float scale : weights.scales) {
    const double product = count == 1 ? static_cast<double>(in.scale * scale)
                                      : static_cast<double>(in.scale) * static_cast<double>(scale);
    layer.multipliers.push_back(multiplier_of(product / static_cast<double>(out.scale)));
  }
  return {};
}

// Proves that no sum leaves 32 bits, flipped or not, and no output does before its clamp.
Status check_bounds(const ChainLayer& layer, std::size_t at) {
  for (std::size_t out = 0; out < layer.width; ++out) {
    std::int64_t reach = 0;
    for (const std::byte weight : layer.weights.subspan(out * layer.depth, layer.depth))
      reach += std::abs(static_cast<int>(static_cast<std::int8_t>(weight)));
    reach *= 2 * 255;
    if (!layer.bias.empty())
      reach += std::abs(std::int64_t{load_le<std::int32_t>(layer.bias.data() + out * 4)});
    const Multiplier& by = layer.multipliers[layer.multipliers.size() == 1 ? 0 : out];
    const int left = std::max(by.shift, 0);
    if (left > 30 || reach >= (std::int64_t{1} << 30) >> left)
      return refused(at, "sums or outputs may not fit in 32 bits");
  }
  return {};
}

Result<ChainLayer> layer_of(const Graph& graph, const Operator& op, std::size_t at) {
  const Tensor* in = input_of(graph, op, 0);
  const Tensor* weights = input_of(graph, op, 1);
  const Tensor* bias = input_of(graph, op, 2);
  if (in == nullptr || weights == nullptr || op.outputs.size() != 1 || op.outputs[0] < 0)
    return Status::corrupt("model: operator " + std::to_string(at) + " lacks a tensor");
  const Tensor& out = graph.tensors[static_cast<std::size_t>(op.outputs[0])];
  if (weights->type != Type::kInt8 || weights->constant.empty() || weights->shape.size() != 2)
    return refused(at, "weights are not a constant int8 matrix");
  ChainLayer layer;
  layer.width = static_cast<std::size_t>(weights->shape[0]);
  layer.depth = static_cast<std::size_t>(weights->shape[1]);
  layer.weights = weights->constant;
  if (in->elements != layer.depth || out.elements != layer.width)
    return refused(at, "the activations are not one row that fits the weights");
  if (bias != nullptr) {
    if (bias->type != Type::kInt32 || bias->constant.empty() || bias->elements != layer.width)
      return refused(at, "the bias is not a constant int32 per output");
    layer.bias = bias->constant;
  }
  EDGECORE_ASSIGN(const Quantisation from, activation_of(*in, at));
  EDGECORE_ASSIGN(const Quantisation to, activation_of(out, at));
  layer.input_zero = from.zero_point;
  layer.output_zero = to.zero_point;
  bound_activation(op.activation, to, layer);
  EDGECORE_TRY(set_multipliers(*weights, from, to, at, layer));
  EDGECORE_TRY(check_bounds(layer, at));
  return layer;
}

// A reshape moves no code: same elements, same quantisation.
Status check_reshape(const Graph& graph, const Operator& op, std::size_t at) {
  const Tensor* in = input_of(graph, op, 0);
  if (in == nullptr || op.outputs.size() != 1 || op.outputs[0] < 0)
    return Status::corrupt("model: operator " + std::to_string(at) + " lacks a tensor");
  const Tensor& out = graph.tensors[static_cast<std::size_t>(op.outputs[0])];
  EDGECORE_ASSIGN(const Quantisation from, activation_of(*in, at));
  EDGECORE_ASSIGN(const Quantisation to, activation_of(out, at));
  if (in->elements != out.elements || from.scale != to.scale || from.zero_point != to.zero_point)
    return refused(at, "a reshape that changes values");
  return {};
}

}  // namespace

Result<Chain> chain_of(const Graph& graph) {
  Chain chain;
  std::int32_t current = graph.input;
  for (std::size_t at = 0; at < graph.operators.size(); ++at) {
    const Operator& op = graph.operators[at];
    if (op.inputs.empty() || op.inputs[0] != current)
      return refused(at, "the model is not a chain");
    if (op.op == Op::kReshape) {
      EDGECORE_TRY(check_reshape(graph, op, at));
      chain.reshapes = true;
    } else {
      EDGECORE_ASSIGN(ChainLayer layer, layer_of(graph, op, at));
      chain.layers.push_back(std::move(layer));
    }
    current = op.outputs[0];
  }
  if (chain.layers.empty() || current != graph.output)
    return Status::incompatible("model: no fully connected layer makes its output");
  const auto tensor = [&](std::int32_t index) -> const Tensor& {
    return graph.tensors[static_cast<std::size_t>(index)];
  };
  EDGECORE_ASSIGN(chain.input, activation_of(tensor(graph.input), 0));
  EDGECORE_ASSIGN(chain.output, activation_of(tensor(graph.output), graph.operators.size() - 1));
  return chain;
}

}  // namespace edgecore::inference
