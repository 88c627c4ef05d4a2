// A verified graph as a chain of fully connected layers, checked against what the kernels promise.
#pragma once

#include <vector>

#include "base/tflite.hpp"
#include "inference/requantise.hpp"

namespace edgecore::inference {

// Borrows from the file that the graph was read from.
struct ChainLayer {
  std::size_t depth = 0;                // inputs
  std::size_t width = 0;                // outputs
  ByteSpan weights;                     // [width][depth] int8
  ByteSpan bias;                        // [width] int32, or empty
  std::vector<Multiplier> multipliers;  // one, or one per output
  std::int32_t input_zero = 0;
  std::int32_t output_zero = 0;
  std::int32_t low = -128;
  std::int32_t high = 127;
};

struct Chain {
  std::vector<ChainLayer> layers;  // at least one
  Quantisation input;
  Quantisation output;
  bool reshapes = false;
};

// Incompatible for what is not a chain of int8 FULLY_CONNECTED and RESHAPE over one row, and for
// a layer whose sums or outputs might not fit in 32 bits.
Result<Chain> chain_of(const tflite::Graph& graph);

}  // namespace edgecore::inference
