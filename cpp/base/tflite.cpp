// See tflite.hpp. Field numbers are those of the public schema, version 3.
#include "base/tflite.hpp"

#include <cmath>
#include <string>

#include "base/flatbuffer.hpp"
#include "base/tflite_options.hpp"

namespace edgecore::tflite {
namespace {

using flatbuffer::Table;
using flatbuffer::Vector;

std::uint64_t width(Type type) {
  switch (type) {
    case Type::kInt8:
      return 1;
    case Type::kInt64:
      return 8;
    default:
      return 4;
  }
}

Result<std::vector<std::int32_t>> indices(const Table& table, std::uint16_t field,
                                          std::size_t tensors) {
  EDGECORE_ASSIGN(const Vector raw, table.vector(field, 4));
  if (raw.count > kMaxEnds) return Status::incompatible(".tflite: too many inputs or outputs");
  std::vector<std::int32_t> out;
  for (std::size_t i = 0; i < raw.count; ++i) {
    const auto index = raw.at<std::int32_t>(i);
    if (index < -1 || (index >= 0 && static_cast<std::size_t>(index) >= tensors))
      return Status::corrupt(".tflite: a tensor index is out of range");
    out.push_back(index);
  }
  return out;
}

Status read_shape(const Table& table, Tensor& tensor) {
  EDGECORE_ASSIGN(const Vector shape, table.vector(0, 4));
  if (shape.count > kMaxRank) return Status::incompatible(".tflite: rank above 8");
  tensor.elements = 1;
  for (std::size_t i = 0; i < shape.count; ++i) {
    const auto dim = shape.at<std::int32_t>(i);
    if (dim < 1) return Status::incompatible(".tflite: a dimension is not positive");
    tensor.elements *= static_cast<std::uint64_t>(dim);  // below 2^26 * 2^31 before the check
    if (tensor.elements > kMaxTensorElements)
      return Status::incompatible(".tflite: a tensor is too large");
    tensor.shape.push_back(dim);
  }
  return {};
}

Status read_quantisation(const Table& table, Tensor& tensor) {
  EDGECORE_ASSIGN(const auto found, table.table(4));
  if (!found) return {};
  EDGECORE_ASSIGN(const Vector scales, found->vector(2, 4));
  EDGECORE_ASSIGN(const Vector zeros, found->vector(3, 8));
  EDGECORE_ASSIGN(tensor.axis, found->scalar<std::int32_t>(6, 0));
  if (scales.count != zeros.count && zeros.count > 1)
    return Status::corrupt(".tflite: scales and zero points differ in number");
  for (std::size_t i = 0; i < scales.count; ++i) {
    const auto scale = scales.at<float>(i);
    if (!std::isfinite(scale) || !(scale > 0))
      return Status::corrupt(".tflite: a scale is not finite and above zero");
    const auto zero =
        zeros.count == 0 ? std::int64_t{0} : zeros.at<std::int64_t>(zeros.count == 1 ? 0 : i);
    if (tensor.type == Type::kInt8 && (zero < -128 || zero > 127))
      return Status::corrupt(".tflite: a zero point is outside int8");
    tensor.scales.push_back(scale);
    tensor.zero_points.push_back(zero);
  }
  return {};
}

Result<Tensor> read_tensor(const Table& table, const Table& model, const Vector& buffers) {
  Tensor tensor;
  EDGECORE_ASSIGN(const auto type, table.scalar<std::int8_t>(1, 0));
  tensor.type = static_cast<Type>(type);
  if (type != 0 && type != 2 && type != 4 && type != 9)
    return Status::incompatible(".tflite: tensor type " + std::to_string(type));
  EDGECORE_TRY(read_shape(table, tensor));
  EDGECORE_TRY(read_quantisation(table, tensor));
  EDGECORE_ASSIGN(const auto buffer, table.scalar<std::uint32_t>(2, 0));
  if (buffer >= buffers.count) return Status::corrupt(".tflite: a buffer index is out of range");
  EDGECORE_ASSIGN(const Table holder, model.element(buffers, buffer));
  EDGECORE_ASSIGN(const auto offset, holder.scalar<std::uint64_t>(1, 0));
  if (offset > 1) return Status::incompatible(".tflite: a buffer outside the FlatBuffer");
  EDGECORE_ASSIGN(const Vector data, holder.vector(0, 1));
  if (data.count != 0 && data.count != tensor.elements * width(tensor.type))
    return Status::corrupt(".tflite: a buffer's size is not its tensor's");
  tensor.constant = data.bytes;
  return tensor;
}

Result<std::int32_t> read_code(const Table& model, const Vector& codes, std::uint32_t index,
                               Operator& op) {
  if (index >= codes.count) return Status::corrupt(".tflite: an operator code is out of range");
  EDGECORE_ASSIGN(const Table code, model.element(codes, index));
  EDGECORE_ASSIGN(const auto old_code, code.scalar<std::int8_t>(0, 0));
  EDGECORE_ASSIGN(const auto new_code, code.scalar<std::int32_t>(3, 0));
  EDGECORE_ASSIGN(op.version, code.scalar<std::int32_t>(2, 1));
  return new_code > old_code ? new_code : std::int32_t{old_code};
}

Result<Operator> read_operator(const Table& table, const Table& model, const Vector& codes,
                               std::size_t tensors) {
  Operator op;
  EDGECORE_ASSIGN(const auto index, table.scalar<std::uint32_t>(0, 0));
  EDGECORE_ASSIGN(const auto code, read_code(model, codes, index, op));
  op.op = static_cast<Op>(code);
  EDGECORE_ASSIGN(op.inputs, indices(table, 1, tensors));
  EDGECORE_ASSIGN(op.outputs, indices(table, 2, tensors));
  EDGECORE_ASSIGN(op.options, read_options(table, op.op, op.version));
  return op;
}

// Every input is the graph's, a constant, or made by an earlier operator; nothing is made twice.
Status check_order(const Graph& graph) {
  std::vector<bool> known;
  std::uint64_t arena = 0;
  for (const Tensor& tensor : graph.tensors) {
    known.push_back(!tensor.constant.empty());
    if (tensor.constant.empty()) arena += tensor.elements * width(tensor.type);
  }
  if (arena > kMaxArenaBytes) return Status::incompatible(".tflite: the arena is too large");
  const auto claim = [&](std::int32_t index) -> bool {
    if (index < 0 || known[static_cast<std::size_t>(index)]) return false;
    known[static_cast<std::size_t>(index)] = true;
    return true;
  };
  if (!claim(graph.input)) return Status::corrupt(".tflite: the graph's input is a constant");
  for (const Operator& op : graph.operators) {
    for (const std::int32_t index : op.inputs)
      if (index >= 0 && !known[static_cast<std::size_t>(index)])
        return Status::corrupt(".tflite: an operator reads a tensor not yet made");
    for (const std::int32_t index : op.outputs)
      if (!claim(index)) return Status::corrupt(".tflite: a tensor is made twice");
  }
  if (graph.output < 0 || !known[static_cast<std::size_t>(graph.output)])
    return Status::corrupt(".tflite: nothing makes the graph's output");
  return {};
}

Status read_subgraph(const Table& model, const Table& subgraph, std::size_t file_bytes,
                     Graph& graph) {
  EDGECORE_ASSIGN(const Vector codes, model.vector(1, 4));
  EDGECORE_ASSIGN(const Vector buffers, model.vector(4, 4));
  EDGECORE_ASSIGN(const Vector tensors, subgraph.vector(0, 4));
  EDGECORE_ASSIGN(const Vector operators, subgraph.vector(3, 4));
  if (tensors.count > kMaxTensors || operators.count > kMaxOps)
    return Status::incompatible(".tflite: too many tensors or operators");
  std::size_t scales = 0;
  for (std::size_t i = 0; i < tensors.count; ++i) {
    EDGECORE_ASSIGN(const Table table, subgraph.element(tensors, i));
    EDGECORE_ASSIGN(Tensor tensor, read_tensor(table, model, buffers));
    // Many tensors may name one vector of them.
    scales += tensor.scales.size();
    if (scales * sizeof(float) > file_bytes)
      return Status::incompatible(".tflite: more scales than the file has room for");
    graph.tensors.push_back(std::move(tensor));
  }
  for (std::size_t i = 0; i < operators.count; ++i) {
    EDGECORE_ASSIGN(const Table table, subgraph.element(operators, i));
    EDGECORE_ASSIGN(Operator op, read_operator(table, model, codes, tensors.count));
    graph.operators.push_back(std::move(op));
  }
  EDGECORE_ASSIGN(const auto inputs, indices(subgraph, 1, tensors.count));
  EDGECORE_ASSIGN(const auto outputs, indices(subgraph, 2, tensors.count));
  if (inputs.size() != 1 || outputs.size() != 1)
    return Status::incompatible(".tflite: one input and one output are served");
  graph.input = inputs[0];
  graph.output = outputs[0];
  return check_order(graph);
}

}  // namespace

Result<Graph> read(ByteSpan file) {
  EDGECORE_ASSIGN(const Table model, Table::root(file, "TFL3"));
  EDGECORE_ASSIGN(const auto version, model.scalar<std::uint32_t>(0, 0));
  if (version != 3) return Status::incompatible(".tflite: schema version is not 3");
  EDGECORE_ASSIGN(const Vector subgraphs, model.vector(2, 4));
  if (subgraphs.count != 1) return Status::incompatible(".tflite: one subgraph is served");
  EDGECORE_ASSIGN(const Table subgraph, model.element(subgraphs, 0));
  Graph graph;
  EDGECORE_TRY(read_subgraph(model, subgraph, file.size(), graph));
  return graph;
}

}  // namespace edgecore::tflite
