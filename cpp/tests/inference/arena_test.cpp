// Tensors share the arena, one after another: a graph of any branches answers as it does when every
// tensor has a place of its own.
#include "inference/arena.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <random>

#include "inference/model.hpp"
#include "inference/stage.hpp"
#include "tests/inference/graph_builder.hpp"

namespace edgecore::inference {
namespace {

using testing::GraphBuilder;
using testing::Shape;
using tflite::Op;

constexpr Isa kIsas[] = {Isa::kPortable, Isa::kAvx2, Isa::kAvx512Vnni, Isa::kNeonDot, Isa::kNeon};

// Random operators, each on what came before it, however long ago.
class RandomGraph {
 public:
  explicit RandomGraph(std::uint32_t seed) : random_(seed) {
    shapes_.push_back({1, 4, 4, static_cast<std::int32_t>(1 + random_() % 20)});
    indices_.push_back(graph_.codes(shapes_[0], kScale, kZero));
    for (std::size_t count = 3 + random_() % 20; count > 0; --count) add();
  }
  // Its output is the last tensor, any other, or the input.
  Bytes file() {
    const std::size_t output = random_() % 2 == 0 ? indices_.size() - 1 : pick();
    return graph_.file(indices_[0], indices_[output]);
  }

 private:
  static constexpr float kScale = 0.1F;
  static constexpr std::int64_t kZero = -3;

  std::size_t pick() { return random_() % indices_.size(); }
  std::int32_t put(const Shape& shape) {
    shapes_.push_back(shape);
    indices_.push_back(graph_.codes(shape, kScale, kZero));
    return indices_.back();
  }
  std::size_t pick_like(std::size_t one) {
    for (int tries = 0; tries < 8; ++tries)
      if (const std::size_t other = pick(); shapes_[other] == shapes_[one]) return other;
    return one;
  }

  void add() {
    const std::size_t one = pick();
    const Shape shape = shapes_[one];
    const std::int32_t in = indices_[one];
    const bool image = shape.size() == 4;
    switch (random_() % 7) {
      case 0:
        return graph_.add(Op::kRelu, {in}, put(shape));
      case 1: {
        const std::int32_t other = indices_[pick_like(one)];
        return graph_.add(Op::kAdd, {in, other}, put(shape), 11);
      }
      case 2: {
        const std::int32_t other = indices_[pick_like(one)];
        return graph_.add(Op::kMul, {in, other}, put(shape), 21);
      }
      case 3: {  // to rows of channels, and back to an image
        const Shape rows{16, shape.back()};
        return graph_.add(Op::kReshape, {in}, put(image ? rows : Shape{1, 4, 4, shape.back()}));
      }
      case 4: {
        Shape whole = shape;
        whole.back() *= 2;
        if (whole.back() > 80) return;
        const std::int32_t other = indices_[pick_like(one)];
        return graph_.add(Op::kConcatenation, {in, other}, put(whole), 10,
                          {{0, static_cast<std::int64_t>(shape.size()) - 1}});
      }
      case 5:
        if (!image) return;
        return graph_.add(Op::kMaxPool2d, {in}, put(shape), 5,
                          {{0, 0}, {1, 1}, {2, 1}, {3, 3}, {4, 3}});
      default: {
        if (image) return;
        const auto width = static_cast<std::int32_t>(1 + random_() % 40);
        std::vector<std::uint8_t> weights(static_cast<std::size_t>(width * shape.back()));
        for (auto& weight : weights) weight = static_cast<std::uint8_t>(random_());
        const std::int32_t matrix = graph_.codes({width, shape.back()}, 0.003F, 0, weights);
        return graph_.add(Op::kFullyConnected, {in, matrix, -1}, put({16, width}), 8);
      }
    }
  }

  std::mt19937 random_;
  GraphBuilder graph_;
  std::vector<Shape> shapes_;
  std::vector<std::int32_t> indices_;
};

// One row, stage by stage on the portable kernel, every tensor in a place of its own.
std::vector<std::int8_t> run_apart(const tflite::Graph& graph, const std::int8_t* row) {
  static const std::map<Op, Maker> makers{
      {Op::kAdd, make_add},         {Op::kConcatenation, make_concatenation},
      {Op::kMul, make_mul},         {Op::kFullyConnected, make_connected},
      {Op::kRelu, make_relu},       {Op::kMaxPool2d, make_max_pool},
      {Op::kReshape, make_reshape},
  };
  constexpr std::size_t kEach = 4096;
  std::vector<std::byte> memory(graph.tensors.size() * kEach), work(1 << 16);
  Frame frame{memory.data(), 1, work.data()};
  const auto place = [](std::int32_t index) {
    return Place{static_cast<std::size_t>(index) * kEach, 0};
  };
  const auto size = [&](std::int32_t index) {
    return static_cast<std::size_t>(graph.tensors[static_cast<std::size_t>(index)].elements);
  };
  std::memcpy(frame.codes(place(graph.input), 0), row, size(graph.input));
  for (const tflite::Operator& op : graph.operators) {
    auto made = makers.at(op.op)({graph, op, Profile::kLitertSingle, portable_kernel()});
    EXPECT_TRUE(made.is_ok()) << made.status().to_string();
    const Place out = place(op.outputs[0]);
    if (made->stage == nullptr) {
      std::memcpy(frame.codes(out, 0), frame.codes(place(op.inputs[0]), 0), size(op.inputs[0]));
      continue;
    }
    std::vector<Place> inputs;
    for (const std::size_t input : made->inputs) inputs.push_back(place(op.inputs[input]));
    EXPECT_LE(made->stage->work_bytes(), work.size());
    made->stage->place(std::move(inputs), out);
    made->stage->run(frame);
  }
  const std::int8_t* out = frame.codes(place(graph.output), 0);
  return {out, out + size(graph.output)};
}

TEST(Arena, RandomGraphsWithBranchesAnswerAsWithAPlaceForEveryTensor) {
  std::mt19937 random(20263);  // the seed
  int met = 0;
  for (std::uint32_t seed = 0; seed < 400; ++seed) {
    const Bytes file = RandomGraph(seed).file();
    const auto graph = tflite::read(file);
    ASSERT_TRUE(graph.is_ok()) << seed << ": " << graph.status().to_string();
    constexpr std::size_t kRows = 5;
    const auto in_size =
        static_cast<std::size_t>(graph->tensors[static_cast<std::size_t>(graph->input)].elements);
    std::vector<std::int8_t> rows(kRows * in_size), expected;
    for (auto& code : rows) code = static_cast<std::int8_t>(random());
    for (std::size_t row = 0; row < kRows; ++row) {
      const auto one = run_apart(graph.value(), rows.data() + row * in_size);
      expected.insert(expected.end(), one.begin(), one.end());
    }
    for (const Isa isa : kIsas) {
      const auto made = load_native(file, Profile::kLitertSingle, isa);
      if (!made.is_ok() && isa != Isa::kPortable) continue;  // not of this processor
      if (!made.is_ok()) break;                              // nothing but reshapes
      std::vector<std::int8_t> out(expected.size());
      Scratch scratch;
      ASSERT_TRUE(made.value()->run_batch(rows.data(), out.data(), kRows, scratch).is_ok());
      ASSERT_EQ(out, expected) << "graph " << seed << " on " << made.value()->describe().isa;
      ++met;
    }
  }
  EXPECT_GT(met, 380);
}

TEST(Arena, LivesThatMeetNeverShareAByte) {
  std::mt19937 random(20264);  // the seed
  for (int round = 0; round < 500; ++round) {
    std::vector<Life> lives(1 + random() % 40);
    for (Life& life : lives) {
      life.bytes = kAlign * (1 + random() % 30);
      life.first = static_cast<std::int32_t>(random() % 20);
      life.last = life.first + static_cast<std::int32_t>(random() % 8);
    }
    const std::size_t end = lay_out(lives);
    for (std::size_t a = 0; a < lives.size(); ++a) {
      ASSERT_LE(lives[a].offset + lives[a].bytes, end);
      for (std::size_t b = 0; b < a; ++b) {
        const bool meet = lives[a].first <= lives[b].last && lives[b].first <= lives[a].last;
        const bool apart = lives[a].offset + lives[a].bytes <= lives[b].offset ||
                           lives[b].offset + lives[b].bytes <= lives[a].offset;
        ASSERT_TRUE(!meet || apart) << "round " << round;
      }
    }
  }
}

}  // namespace
}  // namespace edgecore::inference
