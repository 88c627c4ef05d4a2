// One operator of a network, ready to run: its tensors checked against what it promises, its
// numbers prepared, its weights packed. A stage is made once, when a model is loaded, and shared
// by threads; what moves lies in the frame that a run brings.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/tflite.hpp"
#include "inference/matrix.hpp"

namespace edgecore::inference {

// Where a tensor lies: that of row r of a batch `offset + r * stride` bytes into the arena. The
// stride is that of a whole row's arena, so that one row alone touches no more than it needs.
struct Place {
  std::size_t offset = 0;
  std::size_t stride = 0;
};

// What a run brings. int8 tensors lie in the arena flipped as the kernel has them.
struct Frame {
  std::byte* arena = nullptr;
  std::size_t rows = 1;
  std::byte* work = nullptr;  // of the largest work_bytes(); what is in it is nobody's

  std::int8_t* codes(const Place& place, std::size_t row) const {
    return reinterpret_cast<std::int8_t*>(arena + place.offset + row * place.stride);
  }
  float* reals(const Place& place, std::size_t row) const {
    return reinterpret_cast<float*>(arena + place.offset + row * place.stride);
  }
};

class Stage {
 public:
  virtual ~Stage() = default;
  virtual void run(const Frame& frame) const = 0;
  virtual std::size_t work_bytes() const { return 0; }
  virtual std::uint64_t packed_bytes() const { return 0; }  // of weights, for the model's limit
  virtual std::uint64_t products() const { return 0; }      // multiplications of one row
  // Before the first run. `inputs` are in the order in which the stage's maker named them.
  void place(std::vector<Place> inputs, Place output) {
    in_ = std::move(inputs);
    out_ = output;
  }

 protected:
  std::vector<Place> in_;
  Place out_;
};

// Of what a maker works out for each element of a tensor: a file of a few bytes may ask for many.
constexpr std::uint64_t kMaxEntries = std::uint64_t{1} << 22;

// What the maker of a stage sees: the operator and what it is made for.
struct Site {
  const tflite::Graph& graph;
  const tflite::Operator& op;
  Profile profile;
  const Kernel& kernel;

  // The tensor of an input; null where it is left out.
  const tflite::Tensor* input(std::size_t i) const {
    if (i >= op.inputs.size() || op.inputs[i] < 0) return nullptr;
    return &graph.tensors[static_cast<std::size_t>(op.inputs[i])];
  }
  const tflite::Tensor& output() const {
    return graph.tensors[static_cast<std::size_t>(op.outputs[0])];
  }
};

struct Made {
  std::unique_ptr<Stage> stage;     // null: the output is the input, under another shape
  std::vector<std::size_t> inputs;  // of the operator's inputs, those that lie in the arena
};

// Makers, by operator. Incompatible: what the operator declares is not served; Corrupt: it lacks
// a tensor.
using Maker = Result<Made> (*)(const Site& site);
Result<Made> make_add(const Site& site);
Result<Made> make_average_pool(const Site& site);
Result<Made> make_concatenation(const Site& site);
Result<Made> make_connected(const Site& site);
Result<Made> make_conv(const Site& site);
Result<Made> make_depthwise(const Site& site);
Result<Made> make_float(const Site& site);  // all that have an f32 tensor
Result<Made> make_leaky_relu(const Site& site);
Result<Made> make_logistic(const Site& site);
Result<Made> make_max_pool(const Site& site);
Result<Made> make_mean(const Site& site);
Result<Made> make_mul(const Site& site);
Result<Made> make_pad(const Site& site);
Result<Made> make_quantize(const Site& site);
Result<Made> make_relu(const Site& site);
Result<Made> make_reshape(const Site& site);
Result<Made> make_softmax(const Site& site);
Result<Made> make_tanh(const Site& site);

// ------------------------------------------------------------ shared by makers

// The quantisation of an int8 activation, which has one.
Result<Quantisation> activation_of(const tflite::Tensor& tensor);

// The codes between which a fused activation keeps an output.
struct Range {
  std::int32_t low = -128, high = 127;
};
Range range_of(tflite::Activation activation, Quantisation output);

// Fills in what the tensors of a filter say of its outputs: bias (input 2), scales, zeros, the
// fused activation. Weight scales are one, or one per channel of dimension `axis` of the weights;
// `narrow`: where there is one, it is multiplied with the input's in f32. Incompatible: another
// number of them, a weight zero point that is not 0, a bias of another shape, activations that are
// not int8.
Status take_outputs(const Site& site, std::int32_t axis, MatrixSpec& spec, bool narrow = false);

}  // namespace edgecore::inference
