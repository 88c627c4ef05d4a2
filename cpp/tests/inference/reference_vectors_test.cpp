// What the field's reference kernels answer, read from files, so that every kernel is held against
// it also on processors on which those runtimes don't run. tests/inference/
// make_reference_vectors.py wrote the files and says what is in them.
#include <gtest/gtest.h>

#include <cstdlib>
#include <iterator>
#include <sstream>

#include "base/blake3.hpp"
#include "inference/model.hpp"
#include "tests/inference/vectors.hpp"

namespace edgecore::inference {
namespace {

using testing::bytes_of;
using testing::Codes;
using testing::from_hex;
using testing::open_vectors;

constexpr Isa kIsas[] = {Isa::kPortable, Isa::kAvx2, Isa::kAvx512Vnni, Isa::kNeonDot, Isa::kNeon};

Profile profile_of(const std::string& name) {
  EXPECT_TRUE(name == "litert-single" || name == "tflite-double") << name;
  return name == "litert-single" ? Profile::kLitertSingle : Profile::kTfliteDouble;
}

// Bytes of one row.
struct Sizes {
  std::size_t in, out;
  explicit Sizes(const Executor& model)
      : in(model.input_size() * element_bytes(model.input_element())),
        out(model.output_size() * element_bytes(model.output_element())) {}
};

// `rows` in batches of `together`; a last batch that isn't whole is filled with the first rows.
Codes answers(const Executor& model, const Codes& rows, std::size_t together) {
  const Sizes size(model);
  const std::size_t count = rows.size() / size.in;
  Codes out;
  Scratch scratch;
  for (std::size_t at = 0; at < count; at += together) {
    Codes in;
    for (std::size_t i = 0; i < together; ++i) {
      const auto from = rows.begin() + static_cast<std::ptrdiff_t>((at + i) % count * size.in);
      in.insert(in.end(), from, from + static_cast<std::ptrdiff_t>(size.in));
    }
    Codes batch(together * size.out);
    EXPECT_TRUE(model.run_batch(in.data(), batch.data(), together, scratch).is_ok());
    batch.resize(std::min(together, count - at) * size.out);
    out.insert(out.end(), batch.begin(), batch.end());
  }
  return out;
}

TEST(ReferenceVectors, EveryOperatorOnEveryKernelAnswersAsBothRuntimes) {
  std::ifstream lines = open_vectors("inference-operators.txt");
  std::string name;
  Codes file, rows;
  int met = 0;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string kind, first, second;
    words >> kind >> first >> second;
    if (kind == "graph") {
      name = first;
      file = from_hex(second);
    }
    if (kind == "in") rows = from_hex(first);
    if (kind != "out") continue;
    const Codes expected = from_hex(second);
    for (const Isa isa : kIsas) {
      const auto made = load_native(bytes_of(file), profile_of(first), isa);
      if (!made.is_ok() && isa != Isa::kPortable) continue;  // not of this processor
      ASSERT_TRUE(made.is_ok()) << name << ": " << made.status().to_string();
      for (const std::size_t together : {1U, 3U})
        EXPECT_EQ(answers(*made.value(), rows, together), expected)
            << name << " on " << made.value()->describe().isa << ", " << together << " together";
      ++met;
    }
  }
  EXPECT_GE(met, 140);
}

// Codes `first`.. of the generator that the file states.
Codes generated(std::uint64_t first, std::size_t count) {
  Codes out(count);
  for (std::size_t i = 0; i < count; ++i) {
    std::uint64_t x = (first + i + 1) * 0x9e3779b97f4a7c15U;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93U;
    out[i] = static_cast<std::int8_t>(x >> 56);
  }
  return out;
}

std::string hex_of(const Digest& digest) {
  std::string text;
  for (const std::byte one : digest) {
    char hex[3];
    std::snprintf(hex, sizeof hex, "%02x", static_cast<unsigned>(one));
    text += hex;
  }
  return text;
}

std::string digest_of_answers(const Executor& model, std::size_t rows) {
  const Sizes size(model);
  constexpr std::size_t kTogether = 25;
  Blake3 hash;
  Scratch scratch;
  for (std::size_t at = 0; at < rows; at += kTogether) {
    const std::size_t count = std::min(kTogether, rows - at);
    const Codes in = generated(at * size.in, count * size.in);
    Codes out(count * size.out);
    EXPECT_TRUE(model.run_batch(in.data(), out.data(), count, scratch).is_ok());
    hash.update(bytes_of(out));
  }
  return hex_of(hash.finish());
}

// The first rows on every kernel; all of them of the smaller models on the kernel that serves, and
// with EDGECORE_LONG of every model on every kernel but the portable one, which takes minutes.
TEST(ReferenceVectors, MlperfTinyModelsAnswerAsBothRuntimes) {
  const char* root = std::getenv("EDGECORE_DATA");
  if (root == nullptr) GTEST_SKIP() << "EDGECORE_DATA is not set: no MLPerf Tiny models";
  std::ifstream lines = open_vectors("inference-tiny.txt");
  std::string name, file;
  int met = 0;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string kind, first, second;
    words >> kind >> first >> second;
    if (kind == "model") {
      name = first;
      std::ifstream stream(std::string(root) + "/mlperf_tiny/" + name, std::ios::binary);
      ASSERT_TRUE(stream.good()) << name;
      file.assign(std::istreambuf_iterator<char>(stream), {});
      EXPECT_EQ(hex_of(blake3(as_byte_span(file))), second) << name;
    }
    if (kind == "model" || kind == "#") continue;
    const std::size_t rows = std::stoul(first);
    const auto serving = load_native(as_byte_span(file), profile_of(kind));
    ASSERT_TRUE(serving.is_ok()) << name << ": " << serving.status().to_string();
    const std::string best = serving.value()->describe().isa;
    for (const Isa isa : kIsas) {
      const auto made = load_native(as_byte_span(file), profile_of(kind), isa);
      if (!made.is_ok() && isa != Isa::kPortable) continue;  // not of this processor
      ASSERT_TRUE(made.is_ok()) << name << ": " << made.status().to_string();
      const std::string kernel = made.value()->describe().isa;
      const bool usual = kernel == best && made.value()->input_size() < 2000;
      const bool asked = kernel != "portable" && std::getenv("EDGECORE_LONG") != nullptr;
      if (rows > 50 && !usual && !asked) continue;
      EXPECT_EQ(digest_of_answers(*made.value(), rows), second)
          << name << " " << kind << " on " << kernel << ", " << rows << " rows";
      ++met;
    }
  }
  EXPECT_GE(met, 16);
}

}  // namespace
}  // namespace edgecore::inference
