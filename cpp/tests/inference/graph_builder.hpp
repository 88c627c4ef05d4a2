// Any graph as a .tflite file, tensors and operators in the order in which they are added.
#pragma once

#include "base/tflite.hpp"
#include "tests/inference/tflite_builder.hpp"

namespace edgecore::inference::testing {

using Shape = std::vector<std::int32_t>;

class GraphBuilder {
 public:
  GraphBuilder() { buffers_.emplace_back(); }

  // An int8 tensor of one scale.
  std::int32_t codes(const Shape& shape, float scale = 0.1F, std::int64_t zero = 0,
                     const std::vector<std::uint8_t>& data = {}) {
    Node quantisation;
    quantisation.child(2, numbers<float>({scale})).child(3, numbers<std::int64_t>({zero}));
    Node node = tensor(shape, tflite::Type::kInt8, data);
    node.child(4, std::move(quantisation));
    return put(std::move(node));
  }
  std::int32_t reals(const Shape& shape, const std::vector<float>& data = {}) {
    return put(tensor(shape, tflite::Type::kFloat32, bytes_of(data)));
  }
  std::int32_t ints(const std::vector<std::int32_t>& data) {
    return put(
        tensor({static_cast<std::int32_t>(data.size())}, tflite::Type::kInt32, bytes_of(data)));
  }
  // `member` of the options union, with fields that are numbers; 0: none.
  void add(tflite::Op op, const std::vector<std::int32_t>& inputs, std::int32_t output,
           int member = 0, const std::vector<std::pair<int, std::int64_t>>& options = {}) {
    Node code;
    const auto number = static_cast<std::int64_t>(op);
    code.scalar(0, number).scalar(2, 1).scalar(3, number);
    Node node;
    node.scalar(0, static_cast<std::int64_t>(codes_.size()))
        .child(1, numbers(inputs))
        .child(2, numbers<std::int32_t>({output}));
    if (member != 0) {
      Node fields;
      for (const auto& [field, value] : options) fields.scalar(field, value);
      node.scalar(3, member).child(4, std::move(fields));
    }
    codes_.push_back(std::move(code));
    operators_.push_back(std::move(node));
  }
  Bytes file(std::int32_t input, std::int32_t output) const {
    Node graph;
    graph.child(0, tables(tensors_))
        .child(1, numbers<std::int32_t>({input}))
        .child(2, numbers<std::int32_t>({output}))
        .child(3, tables(operators_));
    Node model;
    model.scalar(0, 3)
        .child(1, tables(codes_))
        .child(2, tables({graph}))
        .child(4, tables(buffers_));
    return write_file(model);
  }

 private:
  template <typename T>
  static std::vector<std::uint8_t> bytes_of(const std::vector<T>& data) {
    std::vector<std::uint8_t> out(data.size() * sizeof(T));
    for (std::size_t i = 0; i < data.size(); ++i)
      store_le(reinterpret_cast<std::byte*>(out.data()) + i * sizeof(T), data[i]);
    return out;
  }
  Node tensor(const Shape& shape, tflite::Type type, const std::vector<std::uint8_t>& data) {
    std::size_t buffer = 0;
    if (!data.empty()) {
      buffer = buffers_.size();
      buffers_.emplace_back().child(0, numbers(data));
    }
    Node node;
    node.child(0, numbers(shape))
        .scalar(1, static_cast<std::int64_t>(type))
        .scalar(2, static_cast<std::int64_t>(buffer));
    return node;
  }
  std::int32_t put(Node node) {
    tensors_.push_back(std::move(node));
    return static_cast<std::int32_t>(tensors_.size()) - 1;
  }

  std::vector<Node> tensors_, operators_, codes_, buffers_;
};

}  // namespace edgecore::inference::testing
