// Sums of products of one operator, packed for every kernel, and the kernels. All give the same
// bits: integer sums have no order.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "inference/executor.hpp"
#include "inference/requantise.hpp"

// Loops over registers must be gone before the compiler decides what lives in memory.
#if defined(__clang__)
#define EDGECORE_UNROLLED _Pragma("clang loop unroll(full)")
#else
#define EDGECORE_UNROLLED _Pragma("GCC unroll 8")
#endif

namespace edgecore::inference {

constexpr std::size_t kAlign = 64;  // bytes, of what kernels read and write
constexpr std::size_t kLanes = 16;  // outputs computed together
constexpr std::size_t kStep = 4;    // inputs of one dot product instruction
constexpr std::size_t kBlock = 8;   // groups whose weights are interleaved, to be read as a stream

constexpr std::size_t round_up(std::size_t n, std::size_t to) {
  return (n + to - 1) / to * to;
}

// Borrowed, 64-byte aligned arrays. `groups` are of kLanes outputs and `steps` of kStep inputs,
// the last of each filled up with zero weights.
struct Layer {
  std::size_t groups = 0;
  std::size_t steps = 0;
  const std::int8_t* weights = nullptr;      // [block][step][group of block][lane][input]
  const std::int32_t* bias = nullptr;        // [group][lane], zero points folded in
  const double* real = nullptr;              // [lane], or [group][lane] when per channel
  const std::int32_t* multiplier = nullptr;  // Rounding::kDoubled: in the place of `real`
  const std::int32_t* shift = nullptr;       // as `multiplier`
  std::size_t channel_stride = 0;            // 0, or kLanes when per channel
  std::int32_t zero_point = 0;               // of the output
  std::int32_t low = -128;                   // of the fused activation
  std::int32_t high = 127;
};

// Rows of activations. A kernel reads whole steps and writes whole groups: what it reads beyond a
// row has no effect, and `out_stride` holds whole groups.
struct Rows {
  const std::int8_t* in = nullptr;
  std::int8_t* out = nullptr;
  std::size_t count = 1;
  std::size_t in_stride = 0;
  std::size_t out_stride = 0;
  // Else null: a row is `segments` pieces of the layer's depth, each as long and of whole steps;
  // piece s of row r is at in + offsets[r * segments + s], or, where that is below 0, `padding`.
  const std::int32_t* offsets = nullptr;
  std::size_t segments = 1;
  const std::int8_t* padding = nullptr;

  const std::int8_t* piece(std::size_t row, std::size_t segment) const {
    if (offsets == nullptr) return in + row * in_stride;
    const std::int32_t offset = offsets[row * segments + segment];
    return offset < 0 ? padding : in + offset;
  }
};

// Pixels of a depthwise filter: a Layer whose steps are of kStep taps, and whose blocks of one
// group. Tap t of pixel p is the pixel of the image at offsets[p * taps + t], taps being
// steps * kStep, or, where that is below 0, `padding`. A kernel reads whole groups of channels.
struct Taps {
  const std::int8_t* image = nullptr;
  const std::int8_t* padding = nullptr;
  const std::int32_t* offsets = nullptr;
  std::int8_t* out = nullptr;
  std::size_t count = 1;
  std::size_t channels = 0;

  std::size_t lanes(std::size_t group) const {  // that there are
    return std::min(kLanes, channels - group * kLanes);
  }
  const std::int8_t* tap(std::size_t at) const {
    return offsets[at] < 0 ? padding : image + offsets[at];
  }
};

// A sum of two codes: each less its zero, raised by kRaise bits and requantised, and then the sum
// of both. The loader has proven that nothing leaves 32 bits.
struct Sum {
  static constexpr int kRaise = 20;
  Multiplier first, second, whole;  // of shifts <= 0
  std::int32_t first_zero = 0, second_zero = 0;
  std::int32_t zero_point = 0;
  std::int32_t low = -128;
  std::int32_t high = 127;
};

// Groups [start, start + count) are a block; its weights, read in order.
struct BlockOf {
  std::size_t start;
  std::size_t count;
  const std::int8_t* weights;
  BlockOf(const Layer& layer, std::size_t group)
      : start(group),
        count(layer.groups - group < kBlock ? layer.groups - group : kBlock),
        weights(layer.weights + group * layer.steps * kLanes * kStep) {}
};

// What a processor runs. `flip` is XORed to every activation code: 0x80 where the dot product
// instruction wants unsigned inputs. Bias and zero_point are of unflipped codes; a kernel flips
// what it stores.
struct Kernel {
  const char* name;
  std::uint8_t flip;
  void (*real)(const Layer&, const Rows&);     // Rounding::kReal
  void (*doubled)(const Layer&, const Rows&);  // Rounding::kDoubled
  void (*depthwise)(const Layer&, const Taps&);
  // `count` codes of each; what lies behind them up to whole groups may be read and written.
  void (*add)(const Sum&, const std::int8_t* first, const std::int8_t* second, std::int8_t* out,
              std::size_t count);
};

// Of any processor: without a flip, and with 0x80.
void depthwise_portable(const Layer& layer, const Taps& taps);
void depthwise_flipped(const Layer& layer, const Taps& taps);
void add_portable(const Sum& sum, const std::int8_t* first, const std::int8_t* second,
                  std::int8_t* out, std::size_t count);

const Kernel& portable_kernel();
const Kernel* avx2_kernel();         // nullptr where the processor has it not
const Kernel* avx512_vnni_kernel();  // nullptr where the processor has it not
const Kernel* neon_dot_kernel();     // nullptr where the processor has it not
const Kernel* neon_kernel();         // nullptr where the processor is not ARM64

}  // namespace edgecore::inference
