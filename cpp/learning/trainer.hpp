// Training of small multi-layer perceptrons and autoencoders on the device and the hub, the same
// bits on each: parameters are f32, every sum is f64 in a fixed order, chance is a counter-based
// generator (splitmix64 of seed, epoch and index), and nothing calls libm but sqrt, which IEEE 754
// rounds exactly. Adam (Kingma and Ba, 2015) on the mean squared error.
//
// A Trainer stopped after any step and restored from state() goes on bit-identically.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/blake3.hpp"
#include "base/bytes.hpp"
#include "base/status.hpp"
#include "learning/histogram.hpp"

namespace edgecore {

inline constexpr std::size_t kLayersMax = 16;
inline constexpr std::uint32_t kLayerWidthMax = 1024;
inline constexpr std::size_t kTrainingRowsMax = 1u << 20;

// Widths from input to output; hidden layers are ReLU, the last one is linear.
struct Architecture {
  std::vector<std::uint32_t> widths;

  Status check() const;
  std::size_t input() const { return widths.front(); }
  std::size_t output() const { return widths.back(); }
  std::size_t layers() const { return widths.size() - 1; }
  std::size_t parameter_count() const;
  // Offset of layer's weights [out][in]; its biases [out] follow them.
  std::size_t weights_at(std::size_t layer) const;
  std::size_t biases_at(std::size_t layer) const;
};

struct TrainingPlan {
  std::uint64_t seed = 1;
  std::uint32_t batch = 32;
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
};

// Activations of one forward pass, layer by layer; [0] is the input.
using Activations = std::vector<std::vector<double>>;

// He-uniform start from the seed.
std::vector<float> initial_parameters(const Architecture& architecture, std::uint64_t seed);
void forward(const Architecture& architecture, std::span<const float> parameters,
             std::span<const float> input, Activations& out);
// Loss (mean over outputs of the squared error) of one row; adds its gradient to `gradient`.
double backward(const Architecture& architecture, std::span<const float> parameters,
                std::span<const float> target, const Activations& activations,
                std::span<double> gradient);

class Trainer {
 public:
  // `inputs` is rows x input(), `targets` rows x output(), row-major; both copied.
  static Result<Trainer> create(Architecture architecture, std::vector<float> parameters,
                                std::vector<float> inputs, std::vector<float> targets,
                                TrainingPlan plan);

  // Takes `count` optimiser steps of one batch each; returns the mean loss over them.
  double step(std::uint64_t count);
  std::uint64_t steps() const { return steps_; }
  std::span<const float> parameters() const { return parameters_; }

  Bytes state() const;             // docs/formats/trainer-state.md
  Status restore(ByteSpan state);  // Corrupt; Incompatible for other data, shape or plan

  // One histogram per activation tensor (input, then each layer's output) over all rows.
  std::vector<RangeHistogram> activation_ranges() const;

 private:
  Trainer() = default;
  std::size_t rows() const { return inputs_.size() / architecture_.input(); }
  std::uint64_t steps_per_epoch() const;
  void shuffle(std::uint64_t epoch);
  void apply_gradient();
  Digest identity() const;  // of architecture, data and plan: what a state belongs to

  Architecture architecture_;
  TrainingPlan plan_;
  std::vector<float> inputs_;
  std::vector<float> targets_;
  std::vector<float> parameters_;
  std::vector<double> gradient_;
  std::vector<double> moment1_;
  std::vector<double> moment2_;
  double beta1_power_ = 1;
  double beta2_power_ = 1;
  std::uint64_t steps_ = 0;
  std::vector<std::uint32_t> order_;
  std::uint64_t order_epoch_ = UINT64_MAX;
  Activations activations_;
};

}  // namespace edgecore
