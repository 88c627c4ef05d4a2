// CONV_2D: the patch of the image under the filter, one row for each pixel of the output, times a
// matrix.
#include <algorithm>
#include <cstring>

#include "inference/matrix.hpp"
#include "inference/window.hpp"

namespace edgecore::inference {
namespace {

constexpr std::size_t kTile = 32;  // pixels of the output that are gathered together,
constexpr std::size_t kTileBytes = std::size_t{1} << 18;  // while their patches take no more

// How a patch comes to the product.
enum class Reading : std::uint8_t {
  kImage,   // the filter is one pixel: the image is the patches
  kPieces,  // a piece for each tap, where a pixel is whole steps
  kGather,  // copied, out of an image with its padding around it
};

class Conv final : public Stage {
 public:
  Conv(Matrix matrix, const Window& window, std::int8_t zero)
      : matrix_(std::move(matrix)), window_(window), zero_(zero) {
    straight_ = window_.out_depth % kLanes == 0;
    patch_ = round_up(matrix_.depth(), kAlign);
    wide_ = round_up(window_.out_depth, kLanes);
    tile_ = std::min(window_.pixels(), std::clamp<std::size_t>(kTileBytes / patch_, 1, kTile));
    if (window_.taps() == 1 && window_.y.stride == 1 && window_.x.stride == 1)
      reading_ = Reading::kImage;
    else if (window_.depth % kStep == 0)
      reading_ = Reading::kPieces;
    if (reading_ != Reading::kPieces) return;
    padding_.assign(round_up(window_.depth, kAlign), zero);
    offsets_ = offsets_of(window_, window_.depth, 1);
  }

  void run(const Frame& frame) const override {
    for (std::size_t row = 0; row < frame.rows; ++row)
      run_image(frame.codes(in_[0], row), frame.codes(out_, row),
                reinterpret_cast<std::int8_t*>(frame.work));
  }
  std::size_t work_bytes() const override {
    return padded_bytes() + patches_bytes() + (straight_ ? 0 : tile_ * wide_);
  }
  std::uint64_t packed_bytes() const override {
    return matrix_.packed_bytes() + offsets_.size() * sizeof(std::int32_t);
  }
  std::uint64_t products() const override {
    return std::uint64_t{window_.pixels()} * matrix_.depth() * matrix_.width();
  }

 private:
  // A copied line may be followed by what lies behind it.
  std::size_t patches_bytes() const {
    return reading_ == Reading::kGather ? tile_ * patch_ + kAlign : 0;
  }
  std::size_t padded_bytes() const {
    return reading_ == Reading::kGather
               ? round_up(window_.y.padded() * window_.x.padded() * window_.depth + kLanes, kAlign)
               : 0;
  }

  void run_image(const std::int8_t* image, std::int8_t* out, std::int8_t* work) const {
    const std::size_t tile = reading_ != Reading::kGather && straight_ ? window_.pixels() : tile_;
    std::int8_t* patches = work + padded_bytes();
    std::int8_t* results = patches + patches_bytes();
    if (reading_ == Reading::kGather) image = pad(image, work);
    for (std::size_t start = 0; start < window_.pixels(); start += tile) {
      const std::size_t count = std::min(tile, window_.pixels() - start);
      std::int8_t* to = out + start * window_.out_depth;
      Rows rows = rows_of(image, start, count, patches);
      rows.out = straight_ ? to : results;
      rows.out_stride = straight_ ? window_.out_depth : wide_;
      matrix_.run(rows);
      for (std::size_t i = 0; i < count && !straight_; ++i)
        std::memcpy(to + i * window_.out_depth, results + i * wide_, window_.out_depth);
    }
  }

  Rows rows_of(const std::int8_t* image, std::size_t start, std::size_t count,
               std::int8_t* patches) const {
    Rows rows;
    rows.count = count;
    rows.in = image;
    if (reading_ == Reading::kImage) {
      rows.in += start * window_.depth;
      rows.in_stride = window_.depth;
    } else if (reading_ == Reading::kPieces) {
      rows.segments = window_.taps();
      rows.offsets = offsets_.data() + start * rows.segments;
      rows.padding = padding_.data();
    } else {
      for (std::size_t i = 0; i < count; ++i) gather(image, start + i, patches + i * patch_);
      rows.in = patches;
      rows.in_stride = patch_;
    }
    return rows;
  }

  // The image as every window reads it.
  const std::int8_t* pad(const std::int8_t* image, std::int8_t* work) const {
    const Axis& y = window_.y;
    const Axis& x = window_.x;
    const std::size_t line = x.padded() * window_.depth;
    const std::size_t before = static_cast<std::size_t>(x.before) * window_.depth;
    const std::size_t inside =
        std::min(line - before, static_cast<std::size_t>(x.in) * window_.depth);
    std::memset(work, zero_, y.padded() * line);
    for (std::size_t at = 0; at < y.padded(); ++at) {
      const auto from = static_cast<std::int32_t>(at) - y.before;
      if (from >= 0 && from < y.in)
        std::memcpy(work + at * line + before,
                    image + static_cast<std::size_t>(from * x.in) * window_.depth, inside);
    }
    return work;
  }

  // The patch of an output pixel, [filter y][filter x][channel].
  void gather(const std::int8_t* padded, std::size_t pixel, std::int8_t* to) const {
    const Axis& y = window_.y;
    const Axis& x = window_.x;
    const std::size_t depth = window_.depth;
    const std::size_t at_y = pixel / static_cast<std::size_t>(x.out);
    const std::size_t at_x = pixel - at_y * static_cast<std::size_t>(x.out);
    const std::size_t line = x.padded() * depth;
    const std::int8_t* from = padded + at_y * static_cast<std::size_t>(y.stride) * line +
                              at_x * static_cast<std::size_t>(x.stride) * depth;
    const bool together = x.dilation == 1;
    const std::size_t piece = together ? static_cast<std::size_t>(x.filter) * depth : depth;
    const std::size_t pieces = together ? 1 : static_cast<std::size_t>(x.filter);
    for (std::int32_t tap = 0; tap < y.filter; ++tap) {
      for (std::size_t i = 0; i < pieces; ++i, to += piece)
        copy(from + i * static_cast<std::size_t>(x.dilation) * depth, to, piece);
      from += static_cast<std::size_t>(y.dilation) * line;
    }
  }

  static void copy(const std::int8_t* from, std::int8_t* to, std::size_t count) {
    if (count <= kLanes)
      std::memcpy(to, from, kLanes);
    else
      std::memcpy(to, from, count);
  }

  Matrix matrix_;
  Window window_;
  std::int8_t zero_;  // what padding reads: the input's zero point, flipped
  Reading reading_ = Reading::kGather;
  bool straight_ = true;  // outputs are whole groups
  std::size_t tile_ = 1;
  std::size_t patch_ = 0;  // bytes from one patch to the next
  std::size_t wide_ = 0;   // and from one result, where they are not straight
  std::vector<std::int8_t> padding_;
  std::vector<std::int32_t> offsets_;
};

}  // namespace

Result<Made> make_conv(const Site& site) {
  const tflite::Tensor* in = site.input(0);
  const tflite::Tensor* weights = site.input(1);
  if (in == nullptr || weights == nullptr) return Status::corrupt("it lacks a tensor");
  const tflite::Tensor& out = site.output();
  if (weights->type != tflite::Type::kInt8 || weights->constant.empty() ||
      weights->shape.size() != 4)
    return Status::incompatible("weights are not constant int8 of rank 4");
  EDGECORE_ASSIGN(const Window window,
                  window_of(*in, out, {weights->shape[1], weights->shape[2]}, site.op.options));
  MatrixSpec spec;
  spec.width = static_cast<std::size_t>(weights->shape[0]);
  spec.depth = static_cast<std::size_t>(weights->elements) / spec.width;
  spec.weights = weights->constant;
  if (static_cast<std::size_t>(weights->shape[3]) != window.depth || spec.width != window.out_depth)
    return Status::incompatible("the activations do not fit the weights");
  EDGECORE_TRY(take_outputs(site, 0, spec));
  if (std::uint64_t{window.pixels()} * window.taps() > kMaxEntries ||
      std::uint64_t{window.y.padded()} * window.x.padded() >
          tflite::kMaxTensorElements / window.depth)
    return Status::incompatible("an image or a filter so large is not served");
  EDGECORE_ASSIGN(Matrix matrix, Matrix::make(spec, site.kernel));
  const auto zero = static_cast<std::int8_t>(spec.input_zero ^ site.kernel.flip);
  return Made{std::make_unique<Conv>(std::move(matrix), window, zero), {0}};
}

}  // namespace edgecore::inference
