// ADD and MUL of int8 tensors; a constant, or a smaller shape, is first made as large as the
// output.
#include <algorithm>
#include <cstring>

#include "inference/stage.hpp"

namespace edgecore::inference {
namespace {

// One side, as large as the output.
struct Side {
  Quantisation quantisation;
  std::vector<std::int8_t> constant;    // flipped; else empty, and the side is in the arena,
  std::vector<std::uint32_t> elements;  // each output element's; empty: they are its own
};

// For each element of `to`, which one of `from` it reads: dimensions count from the last, and one
// of size 1 is read again and again.
Result<std::vector<std::uint32_t>> broadcast(const tflite::Tensor& from, const tflite::Tensor& to) {
  const std::size_t rank = to.shape.size();
  if (from.shape.size() > rank) return Status::incompatible("a side has more dimensions");
  if (to.elements > kMaxEntries) return Status::incompatible("so large a broadcast is not served");
  std::vector<std::uint32_t> strides(rank, 0);
  std::uint32_t stride = 1;
  for (std::size_t i = 1; i <= from.shape.size(); ++i) {
    const std::int32_t size = from.shape[from.shape.size() - i];
    if (size != 1 && size != to.shape[rank - i])
      return Status::incompatible("a side has another shape than the output");
    if (size != 1) strides[rank - i] = stride;
    stride *= static_cast<std::uint32_t>(size);
  }
  std::vector<std::uint32_t> elements(static_cast<std::size_t>(to.elements), 0);
  for (std::size_t i = 0; i < elements.size(); ++i) {
    std::size_t rest = i;
    for (std::size_t dim = rank; dim-- > 0;) {
      const auto size = static_cast<std::size_t>(to.shape[dim]);
      elements[i] += static_cast<std::uint32_t>(rest % size) * strides[dim];
      rest /= size;
    }
  }
  return elements;
}

Result<Side> side_of(const Site& site, std::size_t input) {
  const tflite::Tensor* tensor = site.input(input);
  if (tensor == nullptr) return Status::corrupt("it lacks a tensor");
  Side side;
  EDGECORE_ASSIGN(side.quantisation, activation_of(*tensor));
  const bool same = tensor->shape == site.output().shape;
  if (!same) {
    EDGECORE_ASSIGN(side.elements, broadcast(*tensor, site.output()));
  }
  if (tensor->constant.empty()) return side;
  const auto count = static_cast<std::size_t>(site.output().elements);
  side.constant.resize(round_up(count, kAlign));
  for (std::size_t i = 0; i < count; ++i) {
    const auto code = static_cast<std::int8_t>(tensor->constant[same ? i : side.elements[i]]);
    side.constant[i] = static_cast<std::int8_t>(code ^ site.kernel.flip);
  }
  side.elements.clear();
  return side;
}

// Two sides and what is made of them.
class Elementwise : public Stage {
 public:
  Elementwise(Side first, Side second, std::size_t count)
      : first_(std::move(first)), second_(std::move(second)), count_(count) {}

  void run(const Frame& frame) const override {
    auto* work = reinterpret_cast<std::int8_t*>(frame.work);
    for (std::size_t row = 0; row < frame.rows; ++row) {
      std::size_t next = 0;
      const std::int8_t* first = take(first_, frame, row, next, work);
      const std::int8_t* second = take(second_, frame, row, next, work + wide());
      combine(first, second, frame.codes(out_, row));
    }
  }
  std::size_t work_bytes() const override {
    return first_.elements.empty() && second_.elements.empty() ? 0 : 2 * wide();
  }
  std::uint64_t packed_bytes() const override {
    return first_.constant.size() + second_.constant.size() +
           4 * (first_.elements.size() + second_.elements.size());
  }
  std::uint64_t products() const override { return count_; }

 protected:
  virtual void combine(const std::int8_t* first, const std::int8_t* second,
                       std::int8_t* out) const = 0;
  std::size_t count() const { return count_; }

 private:
  std::size_t wide() const { return round_up(count_, kAlign); }

  const std::int8_t* take(const Side& side, const Frame& frame, std::size_t row, std::size_t& next,
                          std::int8_t* work) const {
    if (!side.constant.empty()) return side.constant.data();
    const std::int8_t* in = frame.codes(in_[next++], row);
    if (side.elements.empty()) return in;
    for (std::size_t i = 0; i < count_; ++i) work[i] = in[side.elements[i]];
    return work;
  }

  Side first_;
  Side second_;
  std::size_t count_;
};

class Add final : public Elementwise {
 public:
  Add(Side first, Side second, const Sum& sum, const Kernel& kernel, std::size_t count)
      : Elementwise(std::move(first), std::move(second), count), sum_(sum), kernel_(kernel) {}

 private:
  void combine(const std::int8_t* first, const std::int8_t* second,
               std::int8_t* out) const override {
    kernel_.add(sum_, first, second, out, count());
  }
  Sum sum_;
  const Kernel& kernel_;
};

struct Product {
  Multiplier by;
  std::int32_t first_zero = 0, second_zero = 0, zero_point = 0;
  Range range;
};

class Mul final : public Elementwise {
 public:
  Mul(Side first, Side second, const Product& product, std::uint8_t flip, std::size_t count)
      : Elementwise(std::move(first), std::move(second), count), product_(product), flip_(flip) {}

 private:
  void combine(const std::int8_t* first, const std::int8_t* second,
               std::int8_t* out) const override {
    for (std::size_t i = 0; i < count(); ++i) {
      const std::int32_t a = static_cast<std::int8_t>(first[i] ^ flip_) - product_.first_zero;
      const std::int32_t b = static_cast<std::int8_t>(second[i] ^ flip_) - product_.second_zero;
      const std::int32_t code = requantise(a * b, product_.by) + product_.zero_point;
      out[i] = static_cast<std::int8_t>(std::clamp(code, product_.range.low, product_.range.high) ^
                                        std::int32_t{flip_});
    }
  }
  Product product_;
  std::uint8_t flip_;
};

// The inputs that lie in the arena.
std::vector<std::size_t> moving(const Side& first, const Side& second) {
  std::vector<std::size_t> inputs;
  if (first.constant.empty()) inputs.push_back(0);
  if (second.constant.empty()) inputs.push_back(1);
  return inputs;
}

}  // namespace

Result<Made> make_add(const Site& site) {
  EDGECORE_ASSIGN(Side a, side_of(site, 0));
  EDGECORE_ASSIGN(Side b, side_of(site, 1));
  EDGECORE_ASSIGN(const Quantisation to, activation_of(site.output()));
  const Quantisation first = a.quantisation;
  const Quantisation second = b.quantisation;
  const double twice_most = static_cast<double>(2 * std::max(first.scale, second.scale));
  const double whole = twice_most / static_cast<double>((1 << Sum::kRaise) * to.scale);
  const Range range = range_of(site.op.options.activation, to);
  const Sum sum{multiplier_of(static_cast<double>(first.scale) / twice_most),
                multiplier_of(static_cast<double>(second.scale) / twice_most),
                multiplier_of(whole),
                first.zero_point,
                second.zero_point,
                to.zero_point,
                range.low,
                range.high};
  if (sum.whole.shift > 0 || sum.first.shift < -30 || sum.second.shift < -30 ||
      sum.whole.shift < -30)
    return Status::incompatible("a sum of scales so far apart is not served");
  const std::vector<std::size_t> inputs = moving(a, b);
  return Made{std::make_unique<Add>(std::move(a), std::move(b), sum, site.kernel,
                                    static_cast<std::size_t>(site.output().elements)),
              inputs};
}

Result<Made> make_mul(const Site& site) {
  EDGECORE_ASSIGN(Side a, side_of(site, 0));
  EDGECORE_ASSIGN(Side b, side_of(site, 1));
  EDGECORE_ASSIGN(const Quantisation to, activation_of(site.output()));
  // The reference computes it in f32.
  const float real = a.quantisation.scale * b.quantisation.scale / to.scale;
  const Product product{multiplier_of(static_cast<double>(real)), a.quantisation.zero_point,
                        b.quantisation.zero_point, to.zero_point,
                        range_of(site.op.options.activation, to)};
  if (product.by.shift > 13)  // products of codes have 17 bits
    return Status::incompatible("outputs may not fit in 32 bits");
  const std::vector<std::size_t> inputs = moving(a, b);
  return Made{std::make_unique<Mul>(std::move(a), std::move(b), product, site.kernel.flip,
                                    static_cast<std::size_t>(site.output().elements)),
              inputs};
}

}  // namespace edgecore::inference
