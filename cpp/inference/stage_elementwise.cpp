// ADD and MUL of two int8 tensors, or of one and a constant; smaller shapes are broadcast.
#include <algorithm>

#include "inference/stage.hpp"

namespace edgecore::inference {
namespace {

class Add final : public Stage {
 public:
  Add(const Sum& sum, const Kernel& kernel, std::size_t count)
      : sum_(sum), kernel_(kernel), count_(count) {}

  void run(const Frame& frame) const override {
    for (std::size_t row = 0; row < frame.rows; ++row)
      kernel_.add(sum_, frame.codes(in_[0], row), frame.codes(in_[1], row), frame.codes(out_, row),
                  count_);
  }
  std::uint64_t products() const override { return count_; }

 private:
  Sum sum_;
  const Kernel& kernel_;
  std::size_t count_;
};

}  // namespace

Result<Made> make_add(const Site& site) {
  const tflite::Tensor* a = site.input(0);
  const tflite::Tensor* b = site.input(1);
  if (a == nullptr || b == nullptr) return Status::corrupt("it lacks a tensor");
  const tflite::Tensor& out = site.output();
  if (a->shape != out.shape || b->shape != out.shape)
    return Status::incompatible("a sum of other shapes than its own is not served");
  EDGECORE_ASSIGN(const Quantisation first, activation_of(*a));
  EDGECORE_ASSIGN(const Quantisation second, activation_of(*b));
  EDGECORE_ASSIGN(const Quantisation to, activation_of(out));
  const double twice_most = static_cast<double>(2 * std::max(first.scale, second.scale));
  const double whole = twice_most / static_cast<double>((1 << Sum::kRaise) * to.scale);
  if (!(whole < 1)) return Status::incompatible("a sum of so small a scale is not served");
  const Range range = range_of(site.op.options.activation, to);
  const Sum sum{multiplier_of(static_cast<double>(first.scale) / twice_most),
                multiplier_of(static_cast<double>(second.scale) / twice_most),
                multiplier_of(whole),
                first.zero_point,
                second.zero_point,
                to.zero_point,
                range.low,
                range.high};
  if (sum.whole.shift > 0) return Status::incompatible("a sum of so small a scale is not served");
  return Made{std::make_unique<Add>(sum, site.kernel, static_cast<std::size_t>(out.elements)),
              {0, 1}};
}

}  // namespace edgecore::inference
