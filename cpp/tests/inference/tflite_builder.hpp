// Small .tflite files for the tests, written forwards: a table, then its children, offsets patched.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "base/bytes.hpp"

namespace edgecore::inference::testing {

// A FlatBuffer value: a table of fields, a vector of numbers, or a vector of tables.
struct Node {
  enum class Kind { kTable, kNumbers, kTables } kind = Kind::kTable;
  struct Field {
    int number;
    std::optional<std::int64_t> scalar;  // 8 bytes wide in the file, whatever its type
    std::size_t child = 0;
  };
  std::vector<Field> fields;
  std::vector<Node> children;
  Bytes numbers;
  std::size_t count = 0;

  Node& scalar(int number, std::int64_t value) {
    fields.push_back({number, value, 0});
    return *this;
  }
  Node& child(int number, Node node) {
    fields.push_back({number, std::nullopt, children.size()});
    children.push_back(std::move(node));
    return *this;
  }
};

template <typename T>
Node numbers(const std::vector<T>& values) {
  Node node;
  node.kind = Node::Kind::kNumbers;
  node.count = values.size();
  ByteWriter writer(node.numbers);
  for (const T value : values) writer.put(value);
  return node;
}

inline Node tables(std::vector<Node> children) {
  Node node;
  node.kind = Node::Kind::kTables;
  node.count = children.size();
  node.children = std::move(children);
  return node;
}

inline std::size_t write_node(const Node& node, Bytes& out);

inline void point(Bytes& out, std::size_t slot, std::size_t target) {
  store_le<std::uint32_t>(out.data() + slot, static_cast<std::uint32_t>(target - slot));
}

inline std::size_t write_table(const Node& node, Bytes& out) {
  ByteWriter writer(out);
  int last = -1;
  for (const auto& field : node.fields) last = std::max(last, field.number);
  const std::size_t vtable = out.size();
  const std::size_t vtable_bytes = 4 + 2 * static_cast<std::size_t>(last + 1);
  writer.put_zeros(vtable_bytes);
  const std::size_t table = out.size();
  writer.put(static_cast<std::int32_t>(table - vtable));
  std::vector<std::size_t> slots;
  for (const auto& field : node.fields) {
    const std::size_t entry = vtable + 4 + 2 * static_cast<std::size_t>(field.number);
    store_le(out.data() + entry, static_cast<std::uint16_t>(out.size() - table));
    slots.push_back(out.size());
    writer.put(field.scalar.value_or(0));
  }
  store_le(out.data() + vtable, static_cast<std::uint16_t>(vtable_bytes));
  store_le(out.data() + vtable + 2, static_cast<std::uint16_t>(out.size() - table));
  for (std::size_t i = 0; i < slots.size(); ++i)
    if (!node.fields[i].scalar)
      point(out, slots[i], write_node(node.children[node.fields[i].child], out));
  return table;
}

inline std::size_t write_node(const Node& node, Bytes& out) {
  if (node.kind == Node::Kind::kTable) return write_table(node, out);
  ByteWriter writer(out);
  const std::size_t at = out.size();
  writer.put(static_cast<std::uint32_t>(node.count));
  writer.put_bytes(node.numbers);
  if (node.kind == Node::Kind::kTables) {
    writer.put_zeros(4 * node.count);
    for (std::size_t i = 0; i < node.count; ++i)
      point(out, at + 4 + 4 * i, write_node(node.children[i], out));
  }
  return at;
}

inline Bytes write_file(const Node& root) {
  Bytes out(8);
  store_le<std::uint32_t>(out.data() + 4, 0x334c4654);  // "TFL3"
  const std::size_t at = write_node(root, out);         // moves the buffer
  store_le<std::uint32_t>(out.data(), static_cast<std::uint32_t>(at));
  return out;
}

// What a model is made of. Activation tensors have one scale; weights one, or one per output.
struct LayerSpec {
  std::size_t width = 1;
  std::vector<std::int8_t> weights;  // [width][inputs]
  std::vector<std::int32_t> bias;    // empty: none
  std::vector<float> scales{1.0F};
  std::int64_t weight_zero = 0;
  int activation = 0;
  float out_scale = 1.0F;
  std::int64_t out_zero = 0;
};
struct ModelSpec {
  std::size_t inputs = 1;
  float scale = 1.0F;
  std::int64_t zero = 0;
  bool reshape_first = false;
  std::vector<LayerSpec> layers;
};

class ModelWriter {
 public:
  explicit ModelWriter(const ModelSpec& spec) { write(spec); }
  Bytes file() const {
    Node code9;
    code9.scalar(0, 9).scalar(2, 4).scalar(3, 9);
    Node code22;
    code22.scalar(0, 22).scalar(2, 1).scalar(3, 22);
    Node subgraph;
    subgraph.child(0, tables(tensors_))
        .child(1, numbers<std::int32_t>({0}))
        .child(2, numbers<std::int32_t>({last_}))
        .child(3, tables(operators_));
    Node model;
    model.scalar(0, 3)
        .child(1, tables({code9, code22}))
        .child(2, tables({subgraph}))
        .child(4, tables(buffers_));
    return write_file(model);
  }

 private:
  int tensor(const std::vector<std::int32_t>& shape, int type, const Bytes& data,
             const std::vector<float>& scales, std::int64_t zero) {
    std::size_t buffer = 0;
    if (!data.empty()) {
      Node holder;
      std::vector<std::uint8_t> bytes;
      for (const std::byte b : data) bytes.push_back(static_cast<std::uint8_t>(b));
      holder.child(0, numbers(bytes));
      buffer = buffers_.size();
      buffers_.push_back(holder);
    }
    Node quantisation;
    quantisation.child(2, numbers(scales))
        .child(3, numbers(std::vector<std::int64_t>(scales.size(), zero)));
    Node node;
    node.child(0, numbers(shape)).scalar(1, type);
    node.scalar(2, static_cast<std::int64_t>(buffer)).child(4, quantisation);
    tensors_.push_back(node);
    return static_cast<int>(tensors_.size()) - 1;
  }

  void write(const ModelSpec& spec) {
    buffers_.emplace_back();
    const auto n = static_cast<std::int32_t>(spec.inputs);
    last_ = tensor({1, n}, 9, {}, {spec.scale}, spec.zero);
    if (spec.reshape_first) {
      const int flat = tensor({n}, 9, {}, {spec.scale}, spec.zero);
      add_operator(1, {last_}, flat, std::nullopt);
    }
    std::int32_t depth = n;
    for (const LayerSpec& layer : spec.layers) {
      const auto width = static_cast<std::int32_t>(layer.width);
      const ByteSpan raw = std::as_bytes(std::span(layer.weights));
      std::vector<std::int32_t> in{last_};
      in.push_back(
          tensor({width, depth}, 9, {raw.begin(), raw.end()}, layer.scales, layer.weight_zero));
      const ByteSpan bias = std::as_bytes(std::span(layer.bias));
      in.push_back(layer.bias.empty() ? -1
                                      : tensor({width}, 2, {bias.begin(), bias.end()}, {1.0F}, 0));
      const int out = tensor({1, width}, 9, {}, {layer.out_scale}, layer.out_zero);
      add_operator(0, in, out, layer.activation);
      depth = width;
    }
  }

  void add_operator(int code, const std::vector<std::int32_t>& inputs, int output,
                    std::optional<int> activation) {
    Node node;
    node.scalar(0, code).child(1, numbers(inputs)).child(2, numbers<std::int32_t>({output}));
    if (activation) {
      Node options;
      options.scalar(0, *activation);
      node.scalar(3, 8).child(4, options);
    }
    operators_.push_back(node);
    last_ = output;
  }

  std::vector<Node> tensors_;
  std::vector<Node> operators_;
  std::vector<Node> buffers_;
  std::int32_t last_ = 0;
};

}  // namespace edgecore::inference::testing
