// MEAN over some dimensions: sums of codes, and one multiplier that holds both scales and the
// count.
#include <algorithm>
#include <bit>
#include <cstring>

#include "inference/stage.hpp"

namespace edgecore::inference {
namespace {

class Mean final : public Stage {
 public:
  Mean(std::vector<std::uint32_t> to, std::size_t outputs, Multiplier by, std::int32_t offset,
       std::int32_t zero, std::uint8_t flip)
      : to_(std::move(to)), outputs_(outputs), by_(by), offset_(offset), zero_(zero), flip_(flip) {}

  void run(const Frame& frame) const override {
    auto* sums = reinterpret_cast<std::int32_t*>(frame.work);
    for (std::size_t row = 0; row < frame.rows; ++row) {
      const std::int8_t* in = frame.codes(in_[0], row);
      std::int8_t* out = frame.codes(out_, row);
      std::fill_n(sums, outputs_, offset_);
      for (std::size_t i = 0; i < to_.size(); ++i)
        sums[to_[i]] += static_cast<std::int8_t>(in[i] ^ flip_);
      for (std::size_t i = 0; i < outputs_; ++i) {
        const std::int32_t code = std::clamp(requantise(sums[i], by_) + zero_, -128, 127);
        out[i] = static_cast<std::int8_t>(code ^ std::int32_t{flip_});
      }
    }
  }
  std::size_t work_bytes() const override { return outputs_ * sizeof(std::int32_t); }
  std::uint64_t packed_bytes() const override { return 4 * to_.size(); }
  std::uint64_t products() const override { return to_.size(); }

 private:
  std::vector<std::uint32_t> to_;  // of each input, its output
  std::size_t outputs_;
  Multiplier by_;
  std::int32_t offset_;  // of a sum: what its codes' zeros come to
  std::int32_t zero_;
  std::uint8_t flip_;
};

// Which dimensions are taken together.
Result<std::vector<bool>> axes_of(const Site& site, const tflite::Tensor& in) {
  const tflite::Tensor* axes = site.input(1);
  if (axes == nullptr) return Status::corrupt("it lacks a tensor");
  if (axes->type != tflite::Type::kInt32 || axes->constant.empty())
    return Status::incompatible("the axes are not constant int32");
  std::vector<bool> reduced(in.shape.size(), false);
  const auto rank = static_cast<std::int64_t>(in.shape.size());
  for (std::size_t i = 0; i < axes->elements; ++i) {
    std::int64_t axis = load_le<std::int32_t>(axes->constant.data() + 4 * i);
    if (axis < 0) axis += rank;
    if (axis < 0 || axis >= rank) return Status::corrupt("an axis that the input has not");
    reduced[static_cast<std::size_t>(axis)] = true;
  }
  return reduced;
}

// The multiplier of scales over the count, as the reference folds the two: as many bits of the
// count as leave it exact.
Multiplier folded(Multiplier by, std::uint32_t count) {
  int shift = std::bit_width(count) - 1;
  shift = std::min({shift, 32, 31 + by.shift});
  by.value = static_cast<std::int32_t>((std::int64_t{by.value} << shift) / count);
  by.shift -= shift;
  return by;
}

constexpr std::uint64_t kMostTogether = std::uint64_t{1} << 22;  // codes of 9 bits in a sum of 31

}  // namespace

Result<Made> make_mean(const Site& site) {
  const tflite::Tensor* in = site.input(0);
  if (in == nullptr) return Status::corrupt("it lacks a tensor");
  const tflite::Tensor& out = site.output();
  EDGECORE_ASSIGN(const auto reduced, axes_of(site, *in));
  std::vector<std::int32_t> shape;
  std::uint64_t together = 1;
  for (std::size_t i = 0; i < in->shape.size(); ++i) {
    if (reduced[i]) together *= static_cast<std::uint64_t>(in->shape[i]);
    if (!reduced[i] || site.op.options.keep_dims) shape.push_back(reduced[i] ? 1 : in->shape[i]);
  }
  if (shape != out.shape) return Status::incompatible("the output has another shape");
  if (in->elements > kMaxEntries) return Status::incompatible("so large a mean is not served");
  if (together >= kMostTogether) return Status::incompatible("a mean of so many is not served");
  EDGECORE_ASSIGN(const Quantisation from, activation_of(*in));
  EDGECORE_ASSIGN(const Quantisation to, activation_of(out));
  const Multiplier by =
      multiplier_of(static_cast<double>(from.scale) / static_cast<double>(to.scale));
  if (by.shift > 8) return Status::incompatible("outputs may not fit in 32 bits");
  std::vector<std::uint32_t> target(static_cast<std::size_t>(in->elements), 0);
  for (std::size_t i = 0; i < target.size(); ++i) {
    std::size_t rest = i;
    std::uint32_t stride = 1;
    for (std::size_t dim = in->shape.size(); dim-- > 0;) {
      const auto size = static_cast<std::size_t>(in->shape[dim]);
      if (!reduced[dim]) {
        target[i] += static_cast<std::uint32_t>(rest % size) * stride;
        stride *= static_cast<std::uint32_t>(size);
      }
      rest /= size;
    }
  }
  const auto count = static_cast<std::int32_t>(together);
  return Made{std::make_unique<Mean>(std::move(target), static_cast<std::size_t>(out.elements),
                                     folded(by, static_cast<std::uint32_t>(count)),
                                     -from.zero_point * count, to.zero_point, site.kernel.flip),
              {0}};
}

}  // namespace edgecore::inference
