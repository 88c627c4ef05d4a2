// FULLY_CONNECTED: rows of activations times a matrix.
#include <algorithm>
#include <cstring>

#include "inference/matrix.hpp"
#include "inference/stage.hpp"

namespace edgecore::inference {
namespace {

constexpr std::size_t kTile = 16;  // rows that go through the work together

class Connected final : public Stage {
 public:
  // `count` rows of the matrix's depth are one row of the network.
  Connected(Matrix matrix, std::size_t count) : matrix_(std::move(matrix)), count_(count) {}

  void run(const Frame& frame) const override {
    if (count_ == 1) {
      matrix_.run(
          {frame.codes(in_[0], 0), frame.codes(out_, 0), frame.rows, in_[0].stride, out_.stride});
      return;
    }
    for (std::size_t row = 0; row < frame.rows; ++row)
      run_many(frame.codes(in_[0], row), frame.codes(out_, row),
               reinterpret_cast<std::int8_t*>(frame.work));
  }
  std::size_t work_bytes() const override {
    return count_ == 1 ? 0 : std::min(kTile, count_) * wide();
  }
  std::uint64_t packed_bytes() const override { return matrix_.packed_bytes(); }
  std::uint64_t products() const override {
    return std::uint64_t{count_} * matrix_.depth() * matrix_.width();
  }

 private:
  std::size_t wide() const { return round_up(matrix_.width(), kAlign); }

  // Outputs lie without gaps, which whole groups would overrun.
  void run_many(const std::int8_t* in, std::int8_t* out, std::int8_t* work) const {
    const std::size_t width = matrix_.width();
    for (std::size_t start = 0; start < count_; start += kTile) {
      const std::size_t count = std::min(kTile, count_ - start);
      matrix_.run({in + start * matrix_.depth(), work, count, matrix_.depth(), wide()});
      for (std::size_t i = 0; i < count; ++i)
        std::memcpy(out + (start + i) * width, work + i * wide(), width);
    }
  }

  Matrix matrix_;
  std::size_t count_;
};

}  // namespace

Result<Made> make_connected(const Site& site) {
  const tflite::Tensor* in = site.input(0);
  const tflite::Tensor* weights = site.input(1);
  if (in == nullptr || weights == nullptr) return Status::corrupt("it lacks a tensor");
  const tflite::Tensor& out = site.output();
  if (weights->type != tflite::Type::kInt8 || weights->constant.empty() ||
      weights->shape.size() != 2)
    return Status::incompatible("weights are not a constant int8 matrix");
  MatrixSpec spec;
  spec.width = static_cast<std::size_t>(weights->shape[0]);
  spec.depth = static_cast<std::size_t>(weights->shape[1]);
  spec.weights = weights->constant;
  const std::uint64_t count = in->elements / spec.depth;
  if (in->elements % spec.depth != 0 || out.elements != count * spec.width)
    return Status::incompatible("the activations are not rows that fit the weights");
  const bool double_profile = site.profile == Profile::kTfliteDouble;
  spec.rounding = double_profile ? Rounding::kDoubled : Rounding::kReal;
  EDGECORE_TRY(take_outputs(site, 0, spec, double_profile));
  EDGECORE_ASSIGN(Matrix matrix, Matrix::make(spec, site.kernel));
  return Made{std::make_unique<Connected>(std::move(matrix), static_cast<std::size_t>(count)), {0}};
}

}  // namespace edgecore::inference
