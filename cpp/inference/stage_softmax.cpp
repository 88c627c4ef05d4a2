// SOFTMAX over the last dimension, in fixed point. The exponential of a difference of codes is
// looked up: there are 256, and a model's scale is known when it is loaded.
#include <algorithm>
#include <array>
#include <cmath>

#include "inference/fixed.hpp"
#include "inference/stage.hpp"

namespace edgecore::inference {
namespace {

constexpr int kInBits = 5;    // integer bits of scaled differences
constexpr int kSumBits = 12;  // and of their sums

// e^(-difference) by difference of codes; differences from `end` on count as none.
struct Table {
  std::array<fixed::Raw, 256> exps{};
  std::int32_t end = 0;
};

Table table_of(double beta, double scale) {
  constexpr double kMost = 2147483647.0;
  const double real = std::min(beta * scale * (1 << (31 - kInBits)), kMost);
  const Multiplier by = multiplier_of(real);
  const auto left = std::int64_t{1} << by.shift;
  const double radius =
      31.0 * static_cast<double>(std::int64_t{1} << (31 - kInBits)) / static_cast<double>(left);
  Table table;
  table.end = static_cast<std::int32_t>(std::min(std::floor(radius), 255.0)) + 1;
  for (std::int32_t difference = 0; difference < table.end; ++difference)
    table.exps[static_cast<std::size_t>(difference)] = fixed::exp_of_negative(
        fixed::times(static_cast<fixed::Raw>(-difference * left), by.value), kInBits);
  return table;
}

class Softmax final : public Stage {
 public:
  Softmax(const Table& table, std::size_t count, std::size_t depth, std::uint8_t flip)
      : table_(table), count_(count), depth_(depth), flip_(flip) {}

  void run(const Frame& frame) const override {
    for (std::size_t row = 0; row < frame.rows; ++row)
      for (std::size_t i = 0; i < count_; ++i)
        run_one(frame.codes(in_[0], row) + i * depth_, frame.codes(out_, row) + i * depth_);
  }
  std::uint64_t products() const override { return std::uint64_t{count_} * depth_ * 16; }

 private:
  std::int8_t code(std::int8_t raw) const { return static_cast<std::int8_t>(raw ^ flip_); }

  void run_one(const std::int8_t* in, std::int8_t* out) const {
    std::int32_t most = -128;
    for (std::size_t i = 0; i < depth_; ++i) most = std::max<std::int32_t>(most, code(in[i]));
    fixed::Raw sum = 0;
    for (std::size_t i = 0; i < depth_; ++i) {
      const std::int32_t difference = most - code(in[i]);
      if (difference < table_.end)
        sum += fixed::halved(table_.exps[static_cast<std::size_t>(difference)], kSumBits);
    }
    const fixed::Reciprocal by = fixed::reciprocal_of(sum, kSumBits);
    for (std::size_t i = 0; i < depth_; ++i) {
      const std::int32_t difference = most - code(in[i]);
      std::int32_t share = 0;  // of 256
      if (difference < table_.end)
        share =
            fixed::halved(fixed::times(by.value, table_.exps[static_cast<std::size_t>(difference)]),
                          by.shift + 23);
      out[i] = static_cast<std::int8_t>(std::clamp(share - 128, -128, 127) ^ std::int32_t{flip_});
    }
  }

  Table table_;
  std::size_t count_;
  std::size_t depth_;
  std::uint8_t flip_;
};

}  // namespace

Result<Made> make_softmax(const Site& site) {
  const tflite::Tensor* in = site.input(0);
  if (in == nullptr) return Status::corrupt("it lacks a tensor");
  const tflite::Tensor& out = site.output();
  if (in->shape.empty() || in->shape != out.shape)
    return Status::incompatible("the output has another shape than the input");
  EDGECORE_ASSIGN(const Quantisation from, activation_of(*in));
  EDGECORE_ASSIGN(const Quantisation to, activation_of(out));
  if (to.zero_point != -128 || to.scale != 1.0F / 256)
    return Status::incompatible("a softmax gives 256ths");
  const auto depth = static_cast<std::size_t>(in->shape.back());
  // Sums have 12 integer bits: that many terms of 1 fit.
  if (depth >= (std::size_t{1} << kSumBits))
    return Status::incompatible("a softmax over 4,096 values or more is not served");
  const double beta = static_cast<double>(site.op.options.number);
  const double scale = static_cast<double>(from.scale);
  if (multiplier_of(beta * scale * (1 << (31 - kInBits))).shift < 1)
    return Status::incompatible("a softmax of so small a scale is not served");
  return Made{std::make_unique<Softmax>(table_of(beta, scale),
                                        static_cast<std::size_t>(in->elements) / depth, depth,
                                        site.kernel.flip),
              {0}};
}

}  // namespace edgecore::inference
