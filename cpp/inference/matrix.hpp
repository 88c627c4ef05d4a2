// Sums of products with int8 weights, checked against what the kernels promise and packed once:
// what FULLY_CONNECTED, CONV_2D and DEPTHWISE_CONV_2D are made of.
#pragma once

#include <memory>
#include <new>
#include <vector>

#include "base/bytes.hpp"
#include "inference/layer.hpp"

namespace edgecore::inference {

// Borrowed.
struct MatrixSpec {
  std::size_t depth = 0;      // inputs
  std::size_t width = 0;      // outputs
  ByteSpan weights;           // [width][depth] int8
  ByteSpan bias;              // [width] int32, or empty
  std::vector<double> reals;  // scale_in * scale_weight / scale_out: one, or one per output
  Rounding rounding = Rounding::kDoubled;
  std::int32_t input_zero = 0;
  std::int32_t output_zero = 0;
  std::int32_t low = -128;
  std::int32_t high = 127;
};

// What is packed for one model, zeros that fill up groups included.
constexpr std::uint64_t kMaxPackedBytes = std::uint64_t{1} << 28;

// What a kernel will be given: Rows, or Taps.
enum class Packing : std::uint8_t { kSteps, kTaps };

struct AlignedDelete {
  void operator()(std::byte* block) const { ::operator delete(block, std::align_val_t{kAlign}); }
};

// Immutable.
class Matrix {
 public:
  // Incompatible: sums or outputs that might not fit in 32 bits, or too many weights; Exhausted.
  static Result<Matrix> make(const MatrixSpec& spec, const Kernel& kernel,
                             Packing packing = Packing::kSteps);
  std::size_t depth() const { return depth_; }
  std::size_t width() const { return width_; }
  std::uint64_t packed_bytes() const { return packed_bytes_; }
  // As Layer and Rows say; `in` and `out` are flipped as the kernel has them.
  void run(const Rows& rows) const { run_(layer_, rows); }
  const Layer& layer() const { return layer_; }

 private:
  Matrix() = default;
  Layer layer_;
  void (*run_)(const Layer&, const Rows&) = nullptr;
  std::unique_ptr<std::byte, AlignedDelete> block_;
  std::size_t depth_ = 0;
  std::size_t width_ = 0;
  std::uint64_t packed_bytes_ = 0;
};

}  // namespace edgecore::inference
