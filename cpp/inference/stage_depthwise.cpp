// DEPTHWISE_CONV_2D: every channel has a filter of its own. Which pixels a tap reads is worked out
// once; where the channels multiply, the image is widened first, so that each output has its input.
#include <cstring>

#include "inference/matrix.hpp"
#include "inference/window.hpp"

namespace edgecore::inference {
namespace {

class Depthwise final : public Stage {
 public:
  Depthwise(Matrix matrix, const Kernel& kernel, const Window& window, std::size_t multiplier,
            std::int8_t zero)
      : matrix_(std::move(matrix)), kernel_(kernel), window_(window), multiplier_(multiplier) {
    padding_.assign(round_up(window.out_depth, kAlign), zero);
    offsets_ = offsets_of(window, window.out_depth, kStep);  // what fills up has no weights
  }

  void run(const Frame& frame) const override {
    for (std::size_t row = 0; row < frame.rows; ++row) {
      const std::int8_t* image = frame.codes(in_[0], row);
      if (multiplier_ != 1) image = widen(image, reinterpret_cast<std::int8_t*>(frame.work));
      kernel_.depthwise(matrix_.layer(),
                        {image, padding_.data(), offsets_.data(), frame.codes(out_, row),
                         window_.pixels(), window_.out_depth});
    }
  }
  std::size_t work_bytes() const override {
    return multiplier_ == 1 ? 0 : image_pixels() * window_.out_depth + kAlign;
  }
  std::uint64_t packed_bytes() const override {
    return matrix_.packed_bytes() + offsets_.size() * sizeof(std::int32_t);
  }
  std::uint64_t products() const override {
    return std::uint64_t{window_.pixels()} * matrix_.depth() * matrix_.width();
  }

 private:
  std::size_t image_pixels() const {
    return static_cast<std::size_t>(window_.y.in) * static_cast<std::size_t>(window_.x.in);
  }

  const std::int8_t* widen(const std::int8_t* image, std::int8_t* work) const {
    std::int8_t* to = work;
    for (std::size_t i = 0; i < image_pixels() * window_.depth; ++i, to += multiplier_)
      std::memset(to, image[i], multiplier_);
    return work;
  }

  Matrix matrix_;
  const Kernel& kernel_;
  Window window_;
  std::size_t multiplier_;
  std::vector<std::int8_t> padding_;  // a pixel of zero points
  std::vector<std::int32_t> offsets_;
};

// [channel][tap] out of [tap][channel].
std::vector<std::byte> transposed(ByteSpan weights, std::size_t taps, std::size_t channels) {
  std::vector<std::byte> out(weights.size());
  for (std::size_t tap = 0; tap < taps; ++tap)
    for (std::size_t channel = 0; channel < channels; ++channel)
      out[channel * taps + tap] = weights[tap * channels + channel];
  return out;
}

}  // namespace

Result<Made> make_depthwise(const Site& site) {
  const tflite::Tensor* in = site.input(0);
  const tflite::Tensor* weights = site.input(1);
  if (in == nullptr || weights == nullptr) return Status::corrupt("it lacks a tensor");
  const tflite::Tensor& out = site.output();
  if (weights->type != tflite::Type::kInt8 || weights->constant.empty() ||
      weights->shape.size() != 4 || weights->shape[0] != 1)
    return Status::incompatible("weights are not constant int8 of rank 4");
  const tflite::Options& options = site.op.options;
  EDGECORE_ASSIGN(const Window window,
                  window_of(*in, out, {weights->shape[1], weights->shape[2]}, options));
  const auto multiplier = static_cast<std::size_t>(options.depth_multiplier);
  if (static_cast<std::size_t>(weights->shape[3]) != window.out_depth ||
      window.depth * multiplier != window.out_depth)
    return Status::incompatible("the activations do not fit the weights");
  if (std::uint64_t{window.pixels()} * round_up(window.taps(), kStep) > kMaxEntries ||
      in->elements * multiplier > tflite::kMaxTensorElements)
    return Status::incompatible("an image or a filter so large is not served");
  const auto ordered = transposed(weights->constant, window.taps(), window.out_depth);
  MatrixSpec spec;
  spec.width = window.out_depth;
  spec.depth = window.taps();
  spec.weights = ordered;
  EDGECORE_TRY(take_outputs(site, 3, spec));
  EDGECORE_ASSIGN(Matrix matrix, Matrix::make(spec, site.kernel, Packing::kTaps));
  const auto zero = static_cast<std::int8_t>(spec.input_zero ^ site.kernel.flip);
  return Made{std::make_unique<Depthwise>(std::move(matrix), site.kernel, window, multiplier, zero),
              {0}};
}

}  // namespace edgecore::inference
