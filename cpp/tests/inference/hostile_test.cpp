// Hostile models of every operator: refused in one of two words or run, within what a device can
// spare. EDGECORE_MUTANTS=N asks for N of them, and for the structure of the MLPerf Tiny models
// too.
#include <gtest/gtest.h>
#include <malloc.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <new>
#include <sstream>

#include "inference/model.hpp"
#include "tests/inference/graph_builder.hpp"
#include "tests/inference/tflite_mutator.hpp"
#include "tests/inference/vectors.hpp"

namespace {

std::atomic<std::size_t> held{0}, most_held{0};  // bytes of the heap

}  // namespace

// Sanitizers count with operators of their own, and limit a single allocation themselves.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
namespace {

void* counted(void* at) {
  const std::size_t now = held += ::malloc_usable_size(at);
  if (now > most_held) most_held = now;
  return at;
}
void* required(void* at) {
  if (at == nullptr) std::abort();
  return counted(at);
}
void released(void* at) {
  held -= ::malloc_usable_size(at);
  std::free(at);
}

}  // namespace

void* operator new(std::size_t size) {
  return required(std::malloc(size));
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return counted(std::malloc(size));
}
void* operator new(std::size_t size, std::align_val_t align) {
  return required(std::aligned_alloc(static_cast<std::size_t>(align), size));
}
void* operator new(std::size_t size, std::align_val_t align, const std::nothrow_t&) noexcept {
  return counted(std::aligned_alloc(static_cast<std::size_t>(align), size));
}
void operator delete(void* at) noexcept {
  released(at);
}
void operator delete(void* at, std::size_t) noexcept {
  released(at);
}
void operator delete(void* at, std::align_val_t) noexcept {
  released(at);
}
void operator delete(void* at, std::size_t, std::align_val_t) noexcept {
  released(at);
}
#endif

namespace edgecore::inference {
namespace {

using testing::Mutator;

// What was held beyond what was when it was made.
struct HeapPeak {
  std::size_t before = held;
  HeapPeak() { most_held = before; }
  std::size_t bytes() const { return most_held - before; }
};

using testing::GraphBuilder;
using tflite::Op;

constexpr std::size_t kMiB = std::size_t{1} << 20;

Outcome outcome_of(const Bytes& file) {
  return load_native(file, Profile::kLitertSingle).status().outcome();
}

TEST(HostileModel, RealsAddedToCodesThenIncompatible) {
  GraphBuilder graph;
  const auto source = graph.reals({1, 1000});
  const auto codes = graph.codes({1, 1000});
  const auto target = graph.reals({1, 1000});
  graph.add(Op::kQuantize, {source}, codes);
  graph.add(Op::kAdd, {source, codes}, target);  // codes read as reals would be four times as many
  EXPECT_EQ(outcome_of(graph.file(source, target)), Outcome::kIncompatible);
}

TEST(HostileModel, AddendOfMoreDimensionsThanTheOutputThenIncompatible) {
  GraphBuilder graph;
  const auto source = graph.reals({4});
  const auto addend = graph.reals({1, 1, 1, 1, 1, 1, 1, 4}, {1, 2, 3, 4});
  const auto target = graph.reals({4});
  graph.add(Op::kAdd, {source, addend}, target);
  EXPECT_EQ(outcome_of(graph.file(source, target)), Outcome::kIncompatible);
}

TEST(HostileModel, ScaleWithoutAnInverseThenIncompatible) {
  for (const Op op : {Op::kTanh, Op::kLogistic}) {
    GraphBuilder graph;
    const auto source = graph.codes({1, 4}, 0.1F, 0);
    const auto target = graph.codes({1, 4}, 1e-40F, -128);
    graph.add(op, {source}, target);
    EXPECT_EQ(outcome_of(graph.file(source, target)), Outcome::kIncompatible);
  }
}

TEST(HostileModel, ConstantConcatenatedAgainAndAgainIsNotCopiedFirst) {
  GraphBuilder graph;
  const std::int32_t count = 1 << 20;
  const auto source = graph.codes({1, 1});
  const auto constant = graph.codes({1, count}, 0.1F, 0, std::vector<std::uint8_t>(kMiB, 1));
  const auto target = graph.codes({1, 2});
  std::vector<std::int32_t> inputs(60, constant);
  inputs.push_back(source);
  graph.add(Op::kConcatenation, inputs, target, 10, {{0, 1}});
  const Bytes file = graph.file(source, target);
  const HeapPeak heap;
  EXPECT_EQ(outcome_of(file), Outcome::kIncompatible);
  EXPECT_LT(heap.bytes(), 8 * kMiB);
}

TEST(HostileModel, TablesOfMillionsOfElementsAreNotMade) {
  std::vector<Bytes> files;
  const std::int32_t many = 1 << 24;
  for (const bool constant : {false, true}) {
    GraphBuilder graph;
    const auto source = graph.codes({1, constant ? many : 1});
    const auto one = constant ? graph.codes({1}, 0.1F, 0, {7}) : source;
    const auto target = graph.codes({1, many});
    graph.add(Op::kAdd, {source, one}, target);
    files.push_back(graph.file(source, target));
  }
  GraphBuilder mean;
  const auto source = mean.codes({1, many});
  const auto target = mean.codes({1, many});
  mean.add(Op::kMean, {source, mean.ints({0})}, target, 27, {{0, 1}});
  files.push_back(mean.file(source, target));
  GraphBuilder pool;
  const auto image = pool.codes({1, 1, 1, many});
  const auto pooled = pool.codes({1, 1, 1, many});
  pool.add(Op::kMaxPool2d, {image}, pooled, 5, {{0, 1}, {1, 1}, {2, 1}, {3, 1}, {4, 1}});
  files.push_back(pool.file(image, pooled));
  for (const Bytes& file : files) {
    const HeapPeak heap;
    EXPECT_EQ(outcome_of(file), Outcome::kIncompatible);
    EXPECT_LT(heap.bytes(), 2 * kMiB);
  }
}

TEST(HostileModel, WeightsInRealsCountToTheLimitHoweverOftenTheyAreNamed) {
  GraphBuilder graph;
  const std::int32_t side = 1024;
  const auto weights = graph.reals({side, side}, std::vector<float>(std::size_t{side} * side));
  const auto source = graph.reals({1, side});
  auto at = source;
  for (int i = 0; i < 70; ++i) {  // of 4 MiB
    const auto next = graph.reals({1, side});
    graph.add(Op::kFullyConnected, {at, weights, -1}, next);
    at = next;
  }
  EXPECT_EQ(outcome_of(graph.file(source, at)), Outcome::kIncompatible);
}

TEST(HostileModel, LargePatchesAreGatheredFewAtATime) {
  GraphBuilder graph;
  const std::int32_t side = 360, taps = side * side;
  const auto image = graph.codes({1, side, side, 3}, 0.1F, 0);
  const auto weights = graph.codes({1, side, side, 3}, 1e-7F, 0,
                                   std::vector<std::uint8_t>(std::size_t{taps} * 3, 1));
  const auto target = graph.codes({1, 4, 8, 1}, 0.1F, 0);
  graph.add(Op::kConv2d, {image, weights, -1}, target, 1, {{0, 0}, {1, 45}, {2, 90}});
  const auto made = load_native(graph.file(image, target), Profile::kLitertSingle);
  ASSERT_TRUE(made.is_ok()) << made.status().to_string();
  EXPECT_LT(made.value()->arena_bytes(), 4 * kMiB);
}

TEST(HostileModel, WindowFarLargerThanItsImageCostsNoMoreThanTheImage) {
  GraphBuilder graph;
  const auto image = graph.reals({1, 2, 2, 1});
  const auto target = graph.reals({1, 2, 2, 1});
  graph.add(Op::kMaxPool2d, {image}, target, 5,
            {{0, 0}, {1, 1}, {2, 1}, {3, 1 << 14}, {4, 1 << 15}});
  const auto made = load_native(graph.file(image, target), Profile::kLitertSingle);
  ASSERT_TRUE(made.is_ok()) << made.status().to_string();
  const std::vector<float> in{1, 4, 3, 2};
  std::vector<float> out(4);
  Scratch scratch;
  const auto start = std::chrono::steady_clock::now();
  ASSERT_TRUE(made.value()
                  ->run(reinterpret_cast<const std::int8_t*>(in.data()),
                        reinterpret_cast<std::int8_t*>(out.data()), scratch)
                  .is_ok());
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(200));
  EXPECT_EQ(out, std::vector<float>(4, 4.0F));
}

TEST(HostileModel, OneVectorOfScalesNamedByManyTensorsThenIncompatible) {
  GraphBuilder graph;
  const auto source = graph.codes({1, 4});
  const auto target = graph.codes({1, 4});
  graph.add(Op::kRelu, {source}, target);
  for (int i = 0; i < 2000; ++i) graph.reals({1});
  Bytes file = graph.file(source, target);
  // All tensors but two become one, whose scales are 10,000.
  const auto follow = [&](std::size_t at) { return at + load_le<std::uint32_t>(file.data() + at); };
  const auto field = [&](std::size_t table, std::size_t number) {
    const auto vtable = static_cast<std::size_t>(static_cast<std::int64_t>(table) -
                                                 load_le<std::int32_t>(file.data() + table));
    return table + load_le<std::uint16_t>(file.data() + vtable + 4 + 2 * number);
  };
  testing::Node quantisation, node;
  quantisation.child(2, testing::numbers(std::vector<float>(10'000, 1.0F)));
  node.child(0, testing::numbers<std::int32_t>({1})).scalar(1, 9).child(4, quantisation);
  const std::size_t shared = testing::write_node(node, file);
  const std::size_t model = follow(0);
  const std::size_t subgraphs = follow(field(model, 2));
  const std::size_t tensors = follow(field(follow(subgraphs + 4), 0));
  for (std::size_t i = 2; i < 2002; ++i) testing::point(file, tensors + 4 + 4 * i, shared);
  const HeapPeak heap;
  EXPECT_EQ(outcome_of(file), Outcome::kIncompatible);
  EXPECT_LT(heap.bytes(), 8 * kMiB);
}

std::vector<Bytes> seeds(bool long_form) {
  std::vector<Bytes> out;
  std::ifstream lines = testing::open_vectors("inference-operators.txt");
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string kind, name, file;
    words >> kind >> name >> file;
    if (kind != "graph") continue;
    const testing::Codes codes = testing::from_hex(file);
    const ByteSpan bytes = testing::bytes_of(codes);
    out.emplace_back(bytes.begin(), bytes.end());
  }
  const char* root = std::getenv("EDGECORE_DATA");
  if (root == nullptr || !long_form) return out;
  for (const char* name :
       {"ad01_int8", "ic01_resnet8_int8", "kws_ref_model_int8", "sww_ref_model", "vww_96_int8"}) {
    std::ifstream file(std::string(root) + "/mlperf_tiny/" + name + ".tflite", std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    const ByteSpan bytes = as_byte_span(text);
    if (!bytes.empty()) out.emplace_back(bytes.begin(), bytes.end());
  }
  return out;
}

constexpr Isa kIsas[] = {Isa::kPortable, Isa::kAvx2, Isa::kAvx512Vnni, Isa::kNeonDot, Isa::kNeon};
constexpr std::size_t kRunBytes = std::size_t{1} << 17;    // arenas that are run
constexpr std::size_t kLoadBytes = std::size_t{96} << 20;  // beyond what the file itself takes

struct Met {
  std::size_t refused = 0, ran = 0, large = 0;
};

void load_and_run(const Bytes& file, std::uint32_t chance, Met& met) {
  const Profile profile = chance % 2 == 0 ? Profile::kLitertSingle : Profile::kTfliteDouble;
  const HeapPeak heap;
  auto made = load_native(file, profile, kIsas[chance / 2 % std::size(kIsas)]);
  ASSERT_LE(heap.bytes(), kLoadBytes + 64 * file.size());
  if (!made.is_ok()) {
    ++met.refused;
    const Outcome outcome = made.status().outcome();
    ASSERT_TRUE(outcome == Outcome::kCorrupt || outcome == Outcome::kIncompatible)
        << made.status().to_string();
    return;
  }
  const Executor& model = *made.value();
  ASSERT_LE(model.arena_bytes(), std::size_t{160} << 20);
  if (model.arena_bytes() > kRunBytes) {
    ++met.large;
    return;
  }
  const std::size_t rows = 1 + chance / 16 % 3;
  std::vector<std::int8_t> in(rows * model.input_size() * element_bytes(model.input_element()));
  for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<std::int8_t>(chance + i * 37);
  std::vector<std::int8_t> out(rows * model.output_size() * element_bytes(model.output_element()));
  Scratch scratch;
  ASSERT_TRUE(model.run_batch(in.data(), out.data(), rows, scratch).is_ok());
  ++met.ran;
}

TEST(HostileModel, MutantsOfEveryOperatorAreRefusedOrRunWithinLimits) {
  const char* asked = std::getenv("EDGECORE_MUTANTS");
  const std::size_t count = asked == nullptr ? 20'000 : std::stoul(asked);
  const char* given = std::getenv("EDGECORE_SEED");
  const std::uint32_t seed =
      given == nullptr ? 20262 : static_cast<std::uint32_t>(std::stoul(given));
  std::mt19937 random(seed);
  std::vector<Mutator> mutators;
  for (Bytes& file : seeds(asked != nullptr)) mutators.emplace_back(std::move(file));
  Met met;
  std::chrono::duration<double> longest{};
  for (std::size_t i = 0; i < count; ++i) {
    const Bytes file = mutators[i % mutators.size()].mutant(random);
    const auto start = std::chrono::steady_clock::now();
    load_and_run(file, static_cast<std::uint32_t>(random()), met);
    longest =
        std::max<std::chrono::duration<double>>(longest, std::chrono::steady_clock::now() - start);
    if (::testing::Test::HasFatalFailure()) {
      std::ofstream("mutant.tflite", std::ios::binary)
          .write(reinterpret_cast<const char*>(file.data()),
                 static_cast<std::streamsize>(file.size()));
      FAIL() << "mutant " << i << " of seed " << seed << ", kept as mutant.tflite";
    }
  }
  EXPECT_LT(longest.count(), 20.0);
  EXPECT_GT(met.refused, count / 4);
  EXPECT_GT(met.ran, count / 20);
  std::printf(
      "%zu mutants of %zu files: %zu refused, %zu run, %zu too large to run here; "
      "the longest took %.2f s\n",
      count, mutators.size(), met.refused, met.ran, met.large, longest.count());
}

}  // namespace
}  // namespace edgecore::inference
