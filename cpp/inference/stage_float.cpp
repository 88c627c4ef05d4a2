// Operators in f32: a plain reference, one loop after another in the order of the indices, so that
// the bits are the same everywhere. QUANTIZE and DEQUANTIZE lead from and to int8.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/exact.hpp"
#include "inference/window.hpp"

namespace edgecore::inference {
namespace {

using tflite::Activation;
using tflite::Op;
using tflite::Tensor;
using tflite::Type;

// `function` takes the inputs of one row to its output.
template <typename Function>
class Plain final : public Stage {
 public:
  Plain(Function function, std::uint64_t products, std::uint64_t packed)
      : function_(std::move(function)), products_(products), packed_(packed) {}
  void run(const Frame& frame) const override {
    const float* inputs[tflite::kMaxEnds];
    for (std::size_t row = 0; row < frame.rows; ++row) {
      for (std::size_t i = 0; i < in_.size(); ++i) inputs[i] = frame.reals(in_[i], row);
      function_(inputs, frame.reals(out_, row));
    }
  }
  std::uint64_t products() const override { return products_; }
  std::uint64_t packed_bytes() const override { return packed_; }

 private:
  Function function_;
  std::uint64_t products_;
  std::uint64_t packed_;
};

// `packed`: bytes of the constants that the function holds.
template <typename Function>
Made made(Function function, std::vector<std::size_t> inputs, std::uint64_t products,
          std::uint64_t packed = 0) {
  return {std::make_unique<Plain<Function>>(std::move(function), products, packed),
          std::move(inputs)};
}

float activated(Activation activation, float x) {
  switch (activation) {
    case Activation::kRelu:
      return std::max(x, 0.0F);
    case Activation::kReluN1To1:
      return std::clamp(x, -1.0F, 1.0F);
    case Activation::kRelu6:
      return std::clamp(x, 0.0F, 6.0F);
    default:
      return x;
  }
}

Status check_reals(const Tensor& tensor) {
  if (tensor.type != Type::kFloat32) return Status::incompatible("a tensor is not f32");
  return {};
}

Result<std::vector<float>> constant_of(const Site& site, std::size_t input) {
  const Tensor* tensor = site.input(input);
  if (tensor == nullptr) return std::vector<float>{};
  EDGECORE_TRY(check_reals(*tensor));
  if (tensor->constant.empty()) return Status::incompatible("weights that are not constant");
  std::vector<float> out(static_cast<std::size_t>(tensor->elements));
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = load_le<float>(tensor->constant.data() + 4 * i);
  return out;
}

// Weights and biases of a filter; a bias left out is zeros.
struct Filter {
  std::vector<float> weights, bias;
  std::uint64_t bytes() const { return 4 * (weights.size() + bias.size()); }
};

Result<Filter> filter_of(const Site& site, std::size_t rank, std::size_t width) {
  const Tensor* weights = site.input(1);
  if (weights == nullptr) return Status::corrupt("it lacks a tensor");
  if (weights->shape.size() != rank) return Status::incompatible("weights of another rank");
  Filter filter;
  EDGECORE_ASSIGN(filter.weights, constant_of(site, 1));
  EDGECORE_ASSIGN(filter.bias, constant_of(site, 2));
  if (filter.bias.empty()) filter.bias.assign(width, 0.0F);
  if (filter.bias.size() != width) return Status::incompatible("the bias is not one per output");
  return filter;
}

Result<Made> connected(const Site& site) {
  const Tensor* in = site.input(0);
  const Tensor* weights = site.input(1);
  if (in == nullptr || weights == nullptr) return Status::corrupt("it lacks a tensor");
  if (weights->shape.size() != 2) return Status::incompatible("weights are not a matrix");
  const auto width = static_cast<std::size_t>(weights->shape[0]);
  const auto depth = static_cast<std::size_t>(weights->shape[1]);
  EDGECORE_ASSIGN(Filter filter, filter_of(site, 2, width));
  const std::size_t count = static_cast<std::size_t>(in->elements) / depth;
  if (in->elements % depth != 0 || site.output().elements != count * width)
    return Status::incompatible("the activations are not rows that fit the weights");
  const Activation activation = site.op.options.activation;
  const std::uint64_t bytes = filter.bytes();
  return made(
      [=, filter = std::move(filter)](const float* const* inputs, float* out) {
        const float* row = inputs[0];
        for (std::size_t i = 0; i < count; ++i, row += depth)
          for (std::size_t o = 0; o < width; ++o) {
            float sum = 0;
            for (std::size_t d = 0; d < depth; ++d) sum += row[d] * filter.weights[o * depth + d];
            *out++ = activated(activation, sum + filter.bias[o]);
          }
      },
      {0}, in->elements * width, bytes);
}

// Every tap of a window that reads the image: (index of the tap, index of the pixel).
template <typename Visit>
void visit_taps(const Window& window, std::size_t pixel, Visit visit) {
  const auto columns = static_cast<std::size_t>(window.x.out);
  const auto y = static_cast<std::int32_t>(pixel / columns);
  const auto x = static_cast<std::int32_t>(pixel % columns);
  const Axis::Span lines = window.y.inside(y);
  const Axis::Span taps = window.x.inside(x);
  for (std::int32_t tap_y = lines.first; tap_y < lines.end; ++tap_y)
    for (std::int32_t tap_x = taps.first; tap_x < taps.end; ++tap_x)
      visit(static_cast<std::size_t>(tap_y * window.x.filter + tap_x),
            static_cast<std::size_t>(window.offset(y, x, tap_y, tap_x, 1)));
}

Result<Window> window_of_filter(const Site& site) {
  const Tensor* in = site.input(0);
  const Tensor* weights = site.input(1);
  if (in == nullptr || weights == nullptr) return Status::corrupt("it lacks a tensor");
  if (weights->shape.size() != 4) return Status::incompatible("weights are not of rank 4");
  return window_of(*in, site.output(), {weights->shape[1], weights->shape[2]}, site.op.options);
}

Result<Made> conv(const Site& site) {
  EDGECORE_ASSIGN(const Window window, window_of_filter(site));
  EDGECORE_ASSIGN(Filter filter, filter_of(site, 4, window.out_depth));
  const std::vector<std::int32_t>& shape = site.input(1)->shape;
  if (static_cast<std::size_t>(shape[0]) != window.out_depth ||
      static_cast<std::size_t>(shape[3]) != window.depth)
    return Status::incompatible("the activations do not fit the weights");
  const Activation activation = site.op.options.activation;
  const std::uint64_t products =
      std::uint64_t{window.pixels()} * window.taps() * window.depth * window.out_depth;
  const std::uint64_t bytes = filter.bytes();
  return made(
      [=, filter = std::move(filter)](const float* const* inputs, float* out) {
        const std::size_t depth = window.depth;
        for (std::size_t pixel = 0; pixel < window.pixels(); ++pixel)
          for (std::size_t o = 0; o < window.out_depth; ++o) {
            float sum = 0;
            visit_taps(window, pixel, [&](std::size_t tap, std::size_t at) {
              const float* weights = &filter.weights[(o * window.taps() + tap) * depth];
              for (std::size_t c = 0; c < depth; ++c) sum += inputs[0][at * depth + c] * weights[c];
            });
            *out++ = activated(activation, sum + filter.bias[o]);
          }
      },
      {0}, products, bytes);
}

Result<Made> depthwise(const Site& site) {
  EDGECORE_ASSIGN(const Window window, window_of_filter(site));
  EDGECORE_ASSIGN(Filter filter, filter_of(site, 4, window.out_depth));
  const std::vector<std::int32_t>& shape = site.input(1)->shape;
  const auto multiplier = static_cast<std::size_t>(site.op.options.depth_multiplier);
  if (shape[0] != 1 || static_cast<std::size_t>(shape[3]) != window.out_depth ||
      window.depth * multiplier != window.out_depth)
    return Status::incompatible("the activations do not fit the weights");
  const Activation activation = site.op.options.activation;
  const std::uint64_t bytes = filter.bytes();
  return made(
      [=, filter = std::move(filter)](const float* const* inputs, float* out) {
        for (std::size_t pixel = 0; pixel < window.pixels(); ++pixel)
          for (std::size_t o = 0; o < window.out_depth; ++o) {
            float sum = 0;
            visit_taps(window, pixel, [&](std::size_t tap, std::size_t at) {
              sum += inputs[0][at * window.depth + o / multiplier] *
                     filter.weights[tap * window.out_depth + o];
            });
            *out++ = activated(activation, sum + filter.bias[o]);
          }
      },
      {0}, std::uint64_t{window.pixels()} * window.taps() * window.out_depth, bytes);
}

Result<Made> pool(const Site& site) {
  const Tensor* in = site.input(0);
  if (in == nullptr) return Status::corrupt("it lacks a tensor");
  EDGECORE_ASSIGN(const Window window,
                  window_of(*in, site.output(), site.op.options.filter, site.op.options));
  if (window.depth != window.out_depth)
    return Status::incompatible("a pool that changes the channels");
  const Activation activation = site.op.options.activation;
  const bool average = site.op.op == Op::kAveragePool2d;
  return made(
      [=](const float* const* inputs, float* out) {
        for (std::size_t pixel = 0; pixel < window.pixels(); ++pixel)
          for (std::size_t c = 0; c < window.depth; ++c) {
            float value = average ? 0 : -std::numeric_limits<float>::infinity();
            float count = 0;
            visit_taps(window, pixel, [&](std::size_t, std::size_t at) {
              const float x = inputs[0][at * window.depth + c];
              value = average ? value + x : std::max(value, x);
              ++count;
            });
            *out++ = activated(activation, average ? value / count : value);
          }
      },
      {0}, std::uint64_t{window.pixels()} * window.taps() * window.depth);
}

Result<Made> elementwise(const Site& site) {
  const Tensor* a = site.input(0);
  const Tensor* b = site.input(1);
  if (a == nullptr || b == nullptr) return Status::corrupt("it lacks a tensor");
  const Tensor& out_tensor = site.output();
  EDGECORE_TRY(check_reals(*b));
  if (a->shape != out_tensor.shape || !a->constant.empty())
    return Status::incompatible("the first side has another shape than the output");
  if (b->shape.size() > out_tensor.shape.size() || b->elements > out_tensor.elements ||
      out_tensor.elements % b->elements != 0 ||
      !std::equal(b->shape.rbegin(), b->shape.rend(), out_tensor.shape.rbegin(),
                  [&](std::int32_t x, std::int32_t y) { return x == y || b->elements == 1; }))
    return Status::incompatible("the second side has another shape than the output's last");
  std::vector<float> constant;
  if (!b->constant.empty()) {
    EDGECORE_ASSIGN(constant, constant_of(site, 1));
  }
  const bool moves = constant.empty();
  const std::uint64_t bytes = 4 * constant.size();
  const bool adds = site.op.op == Op::kAdd;
  const auto count = static_cast<std::size_t>(out_tensor.elements);
  const auto period = static_cast<std::size_t>(b->elements);
  const Activation activation = site.op.options.activation;
  return made(
      [=, constant = std::move(constant)](const float* const* inputs, float* out) {
        const float* second = moves ? inputs[1] : constant.data();
        for (std::size_t i = 0; i < count; ++i) {
          const float y = second[i % period];
          out[i] = activated(activation, adds ? inputs[0][i] + y : inputs[0][i] * y);
        }
      },
      moves ? std::vector<std::size_t>{0, 1} : std::vector<std::size_t>{0}, count, bytes);
}

// Element by element.
template <typename Function>
Result<Made> each(const Site& site, Function function) {
  const Tensor* in = site.input(0);
  if (in == nullptr) return Status::corrupt("it lacks a tensor");
  if (in->elements != site.output().elements)
    return Status::incompatible("the output has another size than the input");
  const auto count = static_cast<std::size_t>(in->elements);
  return made(
      [=](const float* const* inputs, float* out) {
        for (std::size_t i = 0; i < count; ++i) out[i] = function(inputs[0][i]);
      },
      {0}, count);
}

float exp_of(float x) {
  return static_cast<float>(exact_exp(static_cast<double>(x)));
}

Result<Made> unary(const Site& site) {
  const float slope = site.op.options.number;
  switch (site.op.op) {
    case Op::kRelu:
      return each(site, [](float x) { return activated(Activation::kRelu, x); });
    case Op::kRelu6:
      return each(site, [](float x) { return activated(Activation::kRelu6, x); });
    case Op::kReluN1To1:
      return each(site, [](float x) { return activated(Activation::kReluN1To1, x); });
    case Op::kLeakyRelu:
      return each(site, [slope](float x) { return x > 0 ? x : x * slope; });
    case Op::kLogistic:
      return each(site, [](float x) { return 1.0F / (1.0F + exp_of(-x)); });
    default:
      return each(site,
                  [](float x) { return static_cast<float>(exact_tanh(static_cast<double>(x))); });
  }
}

Result<Made> softmax(const Site& site) {
  const Tensor* in = site.input(0);
  if (in == nullptr) return Status::corrupt("it lacks a tensor");
  if (in->shape.empty() || in->shape != site.output().shape)
    return Status::incompatible("the output has another shape than the input");
  const auto depth = static_cast<std::size_t>(in->shape.back());
  const auto count = static_cast<std::size_t>(in->elements) / depth;
  const float beta = site.op.options.number;
  return made(
      [=](const float* const* inputs, float* out) {
        for (std::size_t i = 0; i < count; ++i, out += depth) {
          const float* row = inputs[0] + i * depth;
          const float most = *std::max_element(row, row + depth);
          float sum = 0;
          for (std::size_t c = 0; c < depth; ++c) sum += out[c] = exp_of((row[c] - most) * beta);
          for (std::size_t c = 0; c < depth; ++c) out[c] /= sum;
        }
      },
      {0}, in->elements * 16);
}

Result<Made> quantize(const Site& site) {
  const Tensor* in = site.input(0);
  if (in == nullptr) return Status::corrupt("it lacks a tensor");
  EDGECORE_TRY(check_reals(*in));
  EDGECORE_ASSIGN(const Quantisation to, activation_of(site.output()));
  const auto count = static_cast<std::size_t>(in->elements);
  if (count != site.output().elements) return Status::incompatible("the sizes differ");
  const std::uint8_t flip = site.kernel.flip;
  return made(
      [=](const float* const* inputs, float* out) {
        auto* codes = reinterpret_cast<std::int8_t*>(out);
        for (std::size_t i = 0; i < count; ++i) {
          const float x = inputs[0][i] / to.scale;
          // What is no number is the zero point.
          const float code = x != x ? 0.0F : std::clamp(std::round(x), -1024.0F, 1024.0F);
          codes[i] = static_cast<std::int8_t>(
              std::clamp(static_cast<std::int32_t>(code) + to.zero_point, -128, 127) ^
              std::int32_t{flip});
        }
      },
      {0}, count);
}

Result<Made> dequantize(const Site& site) {
  const Tensor* in = site.input(0);
  if (in == nullptr) return Status::corrupt("it lacks a tensor");
  EDGECORE_TRY(check_reals(site.output()));
  EDGECORE_ASSIGN(const Quantisation from, activation_of(*in));
  const auto count = static_cast<std::size_t>(in->elements);
  if (count != site.output().elements) return Status::incompatible("the sizes differ");
  const std::uint8_t flip = site.kernel.flip;
  return made(
      [=](const float* const* inputs, float* out) {
        const auto* codes = reinterpret_cast<const std::int8_t*>(inputs[0]);
        for (std::size_t i = 0; i < count; ++i)
          out[i] = from.scale *
                   static_cast<float>(static_cast<std::int8_t>(codes[i] ^ flip) - from.zero_point);
      },
      {0}, count);
}

struct Served {
  Op op;
  Maker make;
};
constexpr Served kServed[] = {
    {Op::kAdd, elementwise},
    {Op::kAveragePool2d, pool},
    {Op::kConv2d, conv},
    {Op::kDepthwiseConv2d, depthwise},
    {Op::kFullyConnected, connected},
    {Op::kLeakyRelu, unary},
    {Op::kLogistic, unary},
    {Op::kMaxPool2d, pool},
    {Op::kMul, elementwise},
    {Op::kRelu, unary},
    {Op::kRelu6, unary},
    {Op::kReluN1To1, unary},
    {Op::kReshape, make_reshape},
    {Op::kSoftmax, softmax},
    {Op::kTanh, unary},
};

}  // namespace

Result<Made> make_float(const Site& site) {
  if (site.op.op == Op::kQuantize) return quantize(site);
  if (site.op.op == Op::kDequantize) return dequantize(site);
  const auto served = std::find_if(std::begin(kServed), std::end(kServed),
                                   [&](const Served& one) { return one.op == site.op.op; });
  if (served == std::end(kServed)) return Status::incompatible("it is not served in f32");
  const Tensor* in = site.input(0);
  if (in == nullptr) return Status::corrupt("it lacks a tensor");
  EDGECORE_TRY(check_reals(*in));
  EDGECORE_TRY(check_reals(site.output()));
  return served->make(site);
}

}  // namespace edgecore::inference
