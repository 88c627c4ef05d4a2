// Operators of one int8 value: RELU and its kin, LOGISTIC, TANH, QUANTIZE. There are 256 codes, so
// each is a table, made when a model is loaded.
#include <algorithm>
#include <array>
#include <cmath>

#include "base/exact.hpp"
#include "inference/stage.hpp"

namespace edgecore::inference {
namespace {

// Output codes by input code, both flipped, as unsigned bytes.
using Table = std::array<std::int8_t, 256>;

class Lookup final : public Stage {
 public:
  Lookup(const Table& table, std::size_t count) : table_(table), count_(count) {}

  void run(const Frame& frame) const override {
    for (std::size_t row = 0; row < frame.rows; ++row) {
      const std::int8_t* in = frame.codes(in_[0], row);
      std::int8_t* out = frame.codes(out_, row);
      for (std::size_t i = 0; i < count_; ++i) out[i] = table_[static_cast<std::uint8_t>(in[i])];
    }
  }
  std::uint64_t products() const override { return count_; }

 private:
  Table table_;
  std::size_t count_;
};

// What a site's two tensors are quantised by.
struct Ends {
  Quantisation in, out;
  std::size_t count = 0;
};

Result<Ends> ends_of(const Site& site) {
  const tflite::Tensor* in = site.input(0);
  if (in == nullptr) return Status::corrupt("it lacks a tensor");
  if (in->elements != site.output().elements)
    return Status::incompatible("the output has another size than the input");
  Ends ends;
  EDGECORE_ASSIGN(ends.in, activation_of(*in));
  EDGECORE_ASSIGN(ends.out, activation_of(site.output()));
  ends.count = static_cast<std::size_t>(in->elements);
  return ends;
}

// A stage of `code_of`, which takes a code to an int32 that is then kept within `range`.
template <typename Function>
Made lookup(const Site& site, const Ends& ends, Range range, Function code_of) {
  Table table{};
  for (std::int32_t code = -128; code < 128; ++code) {
    const std::int32_t to = std::clamp(code_of(code), range.low, range.high);
    table[static_cast<std::uint8_t>(code ^ site.kernel.flip)] =
        static_cast<std::int8_t>(to ^ site.kernel.flip);
  }
  return {std::make_unique<Lookup>(table, ends.count), {0}};
}

// Requantised by `real`; codes less their zero have 9 bits, so a shift left beyond 21 overflows.
Result<Multiplier> small_multiplier(double real) {
  const Multiplier by = multiplier_of(real);
  if (by.shift > 21) return Status::incompatible("outputs may not fit in 32 bits");
  return by;
}

// The reference divides scales in f32.
double ratio(Quantisation in, Quantisation out) {
  return static_cast<double>(in.scale / out.scale);
}

// A real function of f32, rounded to the nearest code, halves away from zero.
template <typename Function>
Result<Made> of_reals(const Site& site, Function function) {
  EDGECORE_ASSIGN(const Ends ends, ends_of(site));
  const float inverse = 1.0F / ends.out.scale;
  if (!std::isfinite(inverse)) return Status::incompatible("so small a scale is not served");
  return lookup(site, ends, Range{}, [&](std::int32_t code) {
    const float x = ends.in.scale * static_cast<float>(code - ends.in.zero_point);
    const float y = std::clamp(function(x) * inverse, -1024.0F, 1024.0F);
    return static_cast<std::int32_t>(y + (y < 0 ? -0.5F : 0.5F)) + ends.out.zero_point;
  });
}

}  // namespace

Result<Made> make_relu(const Site& site) {
  using tflite::Activation;
  using tflite::Op;
  EDGECORE_ASSIGN(const Ends ends, ends_of(site));
  EDGECORE_ASSIGN(const Multiplier by, small_multiplier(ratio(ends.in, ends.out)));
  const Activation activation = site.op.op == Op::kRelu    ? Activation::kRelu
                                : site.op.op == Op::kRelu6 ? Activation::kRelu6
                                                           : Activation::kReluN1To1;
  return lookup(site, ends, range_of(activation, ends.out), [&](std::int32_t code) {
    return ends.out.zero_point + requantise(code - ends.in.zero_point, by);
  });
}

Result<Made> make_leaky_relu(const Site& site) {
  EDGECORE_ASSIGN(const Ends ends, ends_of(site));
  const float slope = site.op.options.number;
  if (slope < 0) return Status::incompatible("a slope below zero is not served");
  EDGECORE_ASSIGN(const Multiplier above, small_multiplier(ratio(ends.in, ends.out)));
  EDGECORE_ASSIGN(const Multiplier below,
                  small_multiplier(static_cast<double>(ends.in.scale * slope / ends.out.scale)));
  return lookup(site, ends, Range{}, [&](std::int32_t code) {
    const std::int32_t value = code - ends.in.zero_point;
    return ends.out.zero_point + requantise(value, value >= 0 ? above : below);
  });
}

Result<Made> make_quantize(const Site& site) {
  EDGECORE_ASSIGN(const Ends ends, ends_of(site));
  EDGECORE_ASSIGN(const Multiplier by, small_multiplier(static_cast<double>(ends.in.scale) /
                                                        static_cast<double>(ends.out.scale)));
  return lookup(site, ends, Range{}, [&](std::int32_t code) {
    return ends.out.zero_point + requantise(code - ends.in.zero_point, by);
  });
}

Result<Made> make_logistic(const Site& site) {
  return of_reals(site, [](float x) {
    return 1.0F / (1.0F + static_cast<float>(exact_exp(static_cast<double>(-x))));
  });
}

Result<Made> make_tanh(const Site& site) {
  return of_reals(site,
                  [](float x) { return static_cast<float>(exact_tanh(static_cast<double>(x))); });
}

}  // namespace edgecore::inference
