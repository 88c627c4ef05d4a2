// Reads and verifies a .tflite file: one subgraph, tensors whose buffers match their shapes,
// operators in an order in which every input exists. What it returns borrows from the bytes.
#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.hpp"
#include "base/status.hpp"

namespace edgecore::tflite {

enum class Type : std::int8_t { kFloat32 = 0, kInt32 = 2, kInt64 = 4, kInt8 = 9 };
enum class Op : std::int32_t { kFullyConnected = 9, kReshape = 22 };
enum class Activation : std::int8_t { kNone = 0, kRelu = 1, kRelu6 = 3 };

constexpr std::size_t kMaxRank = 8;
constexpr std::size_t kMaxTensors = 4096;
constexpr std::size_t kMaxOps = 1024;
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

struct Operator {
  Op op = Op::kReshape;
  std::int32_t version = 1;
  std::vector<std::int32_t> inputs;  // -1: an optional input left out
  std::vector<std::int32_t> outputs;
  Activation activation = Activation::kNone;
};

struct Graph {
  std::vector<Tensor> tensors;
  std::vector<Operator> operators;
  std::int32_t input = 0;  // exactly one input and one output
  std::int32_t output = 0;
};

// Corrupt: malformed; Incompatible: well-formed, but not what the native executor serves.
Result<Graph> read(ByteSpan file);

}  // namespace edgecore::tflite
