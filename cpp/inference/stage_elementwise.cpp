// ADD and MUL of two int8 tensors, or of one and a constant; smaller shapes are broadcast.
#include <algorithm>

#include "inference/fixed.hpp"
#include "inference/stage.hpp"

namespace edgecore::inference {
namespace {

constexpr int kRaise = 20;  // bits that inputs of a sum are raised by before they are scaled

class Add final : public Stage {
 public:
  // An input's code as its share of the sum, by code + 128: what the reference computes for it.
  using Table = std::array<std::int32_t, 256>;

  Add(const Table& first, const Table& second, Multiplier by, std::int32_t zero, Range range,
      std::size_t count, std::uint8_t flip)
      : first_(first),
        second_(second),
        by_(by),
        zero_(zero),
        range_(range),
        count_(count),
        flip_(flip) {}

  void run(const Frame& frame) const override {
    for (std::size_t row = 0; row < frame.rows; ++row) {
      const std::int8_t* a = frame.codes(in_[0], row);
      const std::int8_t* b = frame.codes(in_[1], row);
      std::int8_t* out = frame.codes(out_, row);
      for (std::size_t i = 0; i < count_; ++i) {
        const std::int32_t sum = first_[place(a[i])] + second_[place(b[i])];
        const std::int32_t code = requantise(sum, by_) + zero_;
        out[i] = static_cast<std::int8_t>(std::clamp(code, range_.low, range_.high) ^
                                          std::int32_t{flip_});
      }
    }
  }
  std::uint64_t products() const override { return count_; }

 private:
  std::size_t place(std::int8_t code) const {
    return static_cast<std::uint8_t>(code ^ flip_ ^ 0x80);
  }

  Table first_;
  Table second_;
  Multiplier by_;
  std::int32_t zero_;
  Range range_;
  std::size_t count_;
  std::uint8_t flip_;
};

Add::Table table_of(Quantisation from, double twice_most) {
  const Multiplier by = multiplier_of(static_cast<double>(from.scale) / twice_most);
  Add::Table table{};
  for (std::int32_t code = -128; code < 128; ++code)
    table[static_cast<std::size_t>(code + 128)] =
        requantise((code - from.zero_point) * (1 << kRaise), by);
  return table;
}

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
  const double real = twice_most / static_cast<double>((1 << kRaise) * to.scale);
  if (!(real < 1)) return Status::incompatible("a sum of so small a scale is not served");
  return Made{std::make_unique<Add>(table_of(first, twice_most), table_of(second, twice_most),
                                    multiplier_of(real), to.zero_point,
                                    range_of(site.op.options.activation, to),
                                    static_cast<std::size_t>(out.elements), site.kernel.flip),
              {0, 1}};
}

}  // namespace edgecore::inference
