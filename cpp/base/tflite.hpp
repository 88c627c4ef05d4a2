// Reads and verifies a .tflite file: one subgraph, tensors whose buffers match their shapes,
// operators in an order in which every input exists. What it returns borrows from the bytes.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "base/bytes.hpp"
#include "base/status.hpp"

namespace edgecore::tflite {

enum class Type : std::int8_t { kFloat32 = 0, kInt32 = 2, kInt64 = 4, kInt8 = 9 };
// The operators that are read; whoever runs a graph serves those it can.
enum class Op : std::int32_t {
  kAdd = 0,
  kAveragePool2d = 1,
  kConcatenation = 2,
  kConv2d = 3,
  kDepthwiseConv2d = 4,
  kDequantize = 6,
  kFullyConnected = 9,
  kLogistic = 14,
  kMaxPool2d = 17,
  kMul = 18,
  kRelu = 19,
  kReluN1To1 = 20,
  kRelu6 = 21,
  kReshape = 22,
  kSoftmax = 25,
  kTanh = 28,
  kPad = 34,
  kMean = 40,
  kLeakyRelu = 98,
  kQuantize = 114,
};
enum class Activation : std::int8_t { kNone = 0, kRelu = 1, kReluN1To1 = 2, kRelu6 = 3 };

constexpr std::size_t kMaxRank = 8;
constexpr std::size_t kMaxEnds = 64;  // inputs or outputs of one operator
constexpr std::size_t kMaxTensors = 4096;
constexpr std::size_t kMaxOps = 1024;
constexpr std::int32_t kMaxWindow = 1 << 16;  // of filters, strides and dilations
constexpr std::uint64_t kMaxTensorElements = std::uint64_t{1} << 26;
constexpr std::uint64_t kMaxArenaBytes = std::uint64_t{1} << 26;  // all non-constant tensors

struct Tensor {
  Type type = Type::kFloat32;
  std::vector<std::int32_t> shape;
  std::uint64_t elements = 0;
  ByteSpan constant;          // empty: computed
  std::vector<float> scales;  // one, one per channel, or none
  std::vector<std::int64_t> zero_points;
  std::int32_t axis = 0;
};

// What an operator declares beside its tensors. Windows: filter, stride, dilation are [height,
// width] and at least 1.
struct Options {
  Activation activation = Activation::kNone;
  bool same_padding = false;  // else none
  std::array<std::int32_t, 2> filter{1, 1};
  std::array<std::int32_t, 2> stride{1, 1};
  std::array<std::int32_t, 2> dilation{1, 1};
  std::int32_t depth_multiplier = 1;
  std::int32_t axis = 0;   // kConcatenation
  bool keep_dims = false;  // kMean
  float number = 0;        // beta of kSoftmax, slope of kLeakyRelu
};

struct Operator {
  Op op = Op::kReshape;
  std::int32_t version = 1;
  std::vector<std::int32_t> inputs;  // -1: an optional input left out
  std::vector<std::int32_t> outputs;
  Options options;
};

struct Graph {
  std::vector<Tensor> tensors;
  std::vector<Operator> operators;
  std::int32_t input = 0;  // exactly one input and one output
  std::int32_t output = 0;
};

// Corrupt: malformed; Incompatible: well-formed, but with an operator, version or type that is not
// read here, or beyond the limits above.
Result<Graph> read(ByteSpan file);

}  // namespace edgecore::tflite
