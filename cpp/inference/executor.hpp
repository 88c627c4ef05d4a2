// What runs a model: int8 in, int8 out, or f32 where the model is. One interface for the native
// executor and for foreign runtimes, so that the binding, the score and the pipeline never ask
// which it is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/status.hpp"

namespace edgecore::inference {

// How an int32 accumulator becomes int8; part of the manifest, because outputs differ.
enum class Profile : std::uint8_t {
  kLitertSingle = 0,  // one 64-bit rounding shift (LiteRT 2.3 reference kernels)
  kTfliteDouble = 1,  // doubling high multiply, then a rounding divide (tflite-runtime 2.14)
};

constexpr const char* profile_name(Profile profile) {
  return profile == Profile::kLitertSingle ? "litert-single" : "tflite-double";
}

// What a value of an input or output is.
enum class Element : std::uint8_t { kInt8 = 0, kFloat32 = 1 };
constexpr std::size_t element_bytes(Element element) {
  return element == Element::kInt8 ? 1 : 4;
}

struct Quantisation {
  float scale = 1.0F;  // finite, above zero
  std::int32_t zero_point = 0;
};

// What one operator of a model costs.
struct Cost {
  const char* op = "";
  std::vector<std::int32_t> shape;  // of its output
  std::uint64_t products = 0;       // multiplications of one row
  std::uint64_t packed_bytes = 0;   // its weights as the kernel reads them, tables included
};

struct Description {
  std::string backend;  // "native", "litert", "tflite-runtime"
  std::string
      isa;  // "portable", "avx2", "avx512-vnni", "neon-dot", "neon"; "" for foreign runtimes
  std::string profile;           // "litert-single", "tflite-double"
  std::vector<std::string> ops;  // each once; of foreign runtimes none
  std::vector<Cost> costs;       // in the order in which they run; of foreign runtimes none
};

// Working memory of one thread. An executor is immutable after loading, so any number of threads
// may share it, each with its own scratch.
struct Scratch {
  std::vector<std::int8_t> memory;
};

class Executor {
 public:
  virtual ~Executor() = default;
  virtual std::size_t input_size() const = 0;  // values
  virtual std::size_t output_size() const = 0;
  virtual Element input_element() const { return Element::kInt8; }
  virtual Element output_element() const { return Element::kInt8; }
  virtual Quantisation input_quantisation() const = 0;
  virtual Quantisation output_quantisation() const = 0;
  virtual std::size_t arena_bytes() const = 0;  // what a Scratch grows to at most
  virtual Description describe() const = 0;
  // `in` holds input_size() values, `out` takes output_size(); those of f32 are their bytes,
  // aligned to 4. Allocates only until the scratch is as large as these rows need.
  virtual Status run(const std::int8_t* in, std::int8_t* out, Scratch& scratch) const = 0;
  // `rows` rows, each as run() takes and gives them, contiguous; the same bits as one at a time.
  virtual Status run_batch(const std::int8_t* in, std::int8_t* out, std::size_t rows,
                           Scratch& scratch) const = 0;
};

}  // namespace edgecore::inference
