#include "learning/trainer.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/crc32c.hpp"

namespace edgecore {
namespace {

constexpr std::uint32_t kStateMagic = 0x53544345;  // "ECTS"
constexpr std::uint16_t kStateVersion = 1;

// splitmix64 (Steele, Lea and Flood, 2014) as a function of a counter.
std::uint64_t chance(std::uint64_t seed, std::uint64_t counter) {
  std::uint64_t z = seed + (counter + 1) * 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

// Uniform in [0, 1) with 53 bits: an exact product.
double unit(std::uint64_t bits) {
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

template <typename T>
bool all_finite(const std::vector<T>& values) {
  return std::all_of(values.begin(), values.end(), [](T v) { return v - v == 0; });
}

template <typename T>
std::vector<T> take_numbers(const std::byte* from, std::size_t count) {
  std::vector<T> out(count);
  std::memcpy(out.data(), from, count * sizeof(T));
  return out;
}

}  // namespace

Status Architecture::check() const {
  if (widths.size() < 2 || widths.size() > kLayersMax + 1)
    return Status::invalid("architecture: 1 to 16 layers");
  for (const std::uint32_t width : widths)
    if (width == 0 || width > kLayerWidthMax)
      return Status::invalid("architecture: layer widths are 1 to 1024");
  return Status::ok();
}

std::size_t Architecture::parameter_count() const {
  return weights_at(layers());
}

std::size_t Architecture::weights_at(std::size_t layer) const {
  std::size_t at = 0;
  for (std::size_t l = 0; l < layer; ++l)
    at += static_cast<std::size_t>(widths[l] + 1) * widths[l + 1];
  return at;
}

std::size_t Architecture::biases_at(std::size_t layer) const {
  return weights_at(layer) + static_cast<std::size_t>(widths[layer]) * widths[layer + 1];
}

std::vector<float> initial_parameters(const Architecture& architecture, std::uint64_t seed) {
  std::vector<float> out(architecture.parameter_count(), 0.0f);
  for (std::size_t l = 0; l < architecture.layers(); ++l) {
    const std::size_t in = architecture.widths[l];
    const double limit = std::sqrt(6.0 / static_cast<double>(in));
    const std::size_t first = architecture.weights_at(l);
    const std::size_t last = architecture.biases_at(l);
    for (std::size_t i = first; i < last; ++i)
      out[i] = static_cast<float>((2 * unit(chance(seed, i)) - 1) * limit);
  }
  return out;
}

void forward(const Architecture& architecture, std::span<const float> parameters,
             std::span<const float> input, Activations& out) {
  out.resize(architecture.widths.size());
  out[0].assign(input.begin(), input.end());
  for (std::size_t l = 0; l < architecture.layers(); ++l) {
    const std::size_t width_in = architecture.widths[l];
    const std::size_t width_out = architecture.widths[l + 1];
    const float* weights = parameters.data() + architecture.weights_at(l);
    const float* biases = parameters.data() + architecture.biases_at(l);
    out[l + 1].resize(width_out);
    for (std::size_t o = 0; o < width_out; ++o) {
      double sum = static_cast<double>(biases[o]);
      for (std::size_t i = 0; i < width_in; ++i)
        sum += static_cast<double>(weights[o * width_in + i]) * out[l][i];
      const bool hidden = l + 1 < architecture.layers();
      out[l + 1][o] = hidden && sum < 0 ? 0.0 : sum;
    }
  }
}

double backward(const Architecture& architecture, std::span<const float> parameters,
                std::span<const float> target, const Activations& activations,
                std::span<double> gradient) {
  const std::vector<double>& output = activations.back();
  std::vector<double> delta(output.size());
  double loss = 0;
  for (std::size_t o = 0; o < output.size(); ++o) {
    const double error = output[o] - static_cast<double>(target[o]);
    loss += error * error;
    delta[o] = 2 * error / static_cast<double>(output.size());
  }
  for (std::size_t l = architecture.layers(); l-- > 0;) {
    const std::size_t width_in = architecture.widths[l];
    const std::size_t width_out = architecture.widths[l + 1];
    const float* weights = parameters.data() + architecture.weights_at(l);
    double* weight_gradient = gradient.data() + architecture.weights_at(l);
    double* bias_gradient = gradient.data() + architecture.biases_at(l);
    std::vector<double> below(width_in, 0.0);
    for (std::size_t o = 0; o < width_out; ++o) {
      bias_gradient[o] += delta[o];
      for (std::size_t i = 0; i < width_in; ++i) {
        weight_gradient[o * width_in + i] += delta[o] * activations[l][i];
        below[i] += delta[o] * static_cast<double>(weights[o * width_in + i]);
      }
    }
    // ReLU passes the gradient where its output is positive.
    for (std::size_t i = 0; l > 0 && i < width_in; ++i)
      if (activations[l][i] <= 0) below[i] = 0;
    delta = std::move(below);
  }
  return loss / static_cast<double>(output.size());
}

Result<Trainer> Trainer::create(Architecture architecture, std::vector<float> parameters,
                                std::vector<float> inputs, std::vector<float> targets,
                                TrainingPlan plan) {
  EDGECORE_TRY(architecture.check());
  if (parameters.empty()) parameters = initial_parameters(architecture, plan.seed);
  if (parameters.size() != architecture.parameter_count())
    return Status::invalid("trainer: parameters do not fit the architecture");
  const std::size_t rows = inputs.size() / architecture.input();
  if (rows == 0 || rows > kTrainingRowsMax || inputs.size() != rows * architecture.input() ||
      targets.size() != rows * architecture.output())
    return Status::invalid("trainer: inputs and targets must be the same 1 to 2^20 rows");
  if (!all_finite(inputs) || !all_finite(targets) || !all_finite(parameters))
    return Status::invalid("trainer: training values must be finite");
  if (plan.batch == 0 || !(plan.learning_rate > 0) || !(plan.epsilon > 0) ||
      !(plan.beta1 >= 0 && plan.beta1 < 1) || !(plan.beta2 >= 0 && plan.beta2 < 1))
    return Status::invalid("trainer: plan out of range");
  Trainer trainer;
  trainer.architecture_ = std::move(architecture);
  trainer.plan_ = plan;
  trainer.inputs_ = std::move(inputs);
  trainer.targets_ = std::move(targets);
  trainer.parameters_ = std::move(parameters);
  trainer.gradient_.assign(trainer.parameters_.size(), 0.0);
  trainer.moment1_.assign(trainer.parameters_.size(), 0.0);
  trainer.moment2_.assign(trainer.parameters_.size(), 0.0);
  trainer.order_.resize(rows);
  return trainer;
}

std::uint64_t Trainer::steps_per_epoch() const {
  return (rows() + plan_.batch - 1) / plan_.batch;
}

void Trainer::shuffle(std::uint64_t epoch) {
  if (order_epoch_ == epoch) return;
  std::iota(order_.begin(), order_.end(), 0u);
  const std::uint64_t seed = chance(plan_.seed, ~epoch);
  for (std::size_t i = order_.size(); i > 1; --i)
    std::swap(order_[i - 1], order_[chance(seed, i) % i]);
  order_epoch_ = epoch;
}

void Trainer::apply_gradient() {
  beta1_power_ *= plan_.beta1;
  beta2_power_ *= plan_.beta2;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const double g = gradient_[i];
    moment1_[i] = plan_.beta1 * moment1_[i] + (1 - plan_.beta1) * g;
    moment2_[i] = plan_.beta2 * moment2_[i] + (1 - plan_.beta2) * g * g;
    const double m = moment1_[i] / (1 - beta1_power_);
    const double v = moment2_[i] / (1 - beta2_power_);
    const double change = plan_.learning_rate * m / (std::sqrt(v) + plan_.epsilon);
    parameters_[i] = static_cast<float>(static_cast<double>(parameters_[i]) - change);
  }
}

double Trainer::step(std::uint64_t count) {
  double total = 0;
  const std::size_t in = architecture_.input();
  const std::size_t out = architecture_.output();
  for (std::uint64_t s = 0; s < count; ++s) {
    shuffle(steps_ / steps_per_epoch());
    const std::size_t first = (steps_ % steps_per_epoch()) * plan_.batch;
    const std::size_t last = std::min<std::size_t>(first + plan_.batch, rows());
    std::fill(gradient_.begin(), gradient_.end(), 0.0);
    double loss = 0;
    for (std::size_t i = first; i < last; ++i) {
      const std::size_t row = order_[i];
      forward(architecture_, parameters_, {inputs_.data() + row * in, in}, activations_);
      loss += backward(architecture_, parameters_, {targets_.data() + row * out, out}, activations_,
                       gradient_);
    }
    const double share = 1.0 / static_cast<double>(last - first);
    for (double& g : gradient_) g *= share;
    apply_gradient();
    total += loss * share;
    ++steps_;
  }
  return count == 0 ? 0.0 : total / static_cast<double>(count);
}

Digest Trainer::identity() const {
  Bytes head;
  ByteWriter writer(head);
  for (const std::uint32_t width : architecture_.widths) writer.put(width);
  writer.put(plan_.seed);
  writer.put(plan_.batch);
  for (const double v : {plan_.learning_rate, plan_.beta1, plan_.beta2, plan_.epsilon})
    writer.put(v);
  Blake3 hasher;
  hasher.update(head);
  hasher.update(std::as_bytes(std::span(inputs_)));
  hasher.update(std::as_bytes(std::span(targets_)));
  return hasher.finish();
}

Bytes Trainer::state() const {
  Bytes out;
  ByteWriter writer(out);
  writer.put(kStateMagic);
  writer.put(kStateVersion);
  writer.put(std::uint16_t{0});
  writer.put_bytes(identity());
  writer.put(steps_);
  writer.put(beta1_power_);
  writer.put(beta2_power_);
  writer.put_bytes(std::as_bytes(std::span(parameters_)));
  writer.put_bytes(std::as_bytes(std::span(moment1_)));
  writer.put_bytes(std::as_bytes(std::span(moment2_)));
  writer.put(crc32c(out));
  return out;
}

Status Trainer::restore(ByteSpan state) {
  const std::size_t count = parameters_.size();
  constexpr std::size_t kHead = 8 + 32 + 24;
  if (state.size() < kHead + 4 || crc32c(state.first(state.size() - 4)) !=
                                      load_le<std::uint32_t>(state.data() + state.size() - 4))
    return Status::corrupt("trainer state: checksum");
  if (load_le<std::uint32_t>(state.data()) != kStateMagic)
    return Status::corrupt("trainer state: not one");
  if (load_le<std::uint16_t>(state.data() + 4) != kStateVersion)
    return Status::incompatible("trainer state: version not known");
  const Digest mine = identity();
  if (!std::equal(mine.begin(), mine.end(), state.begin() + 8) ||
      state.size() != kHead + count * 20 + 4)
    return Status::incompatible("trainer state: of other data, architecture or plan");
  const std::byte* at = state.data() + 40;
  const auto steps = load_le<std::uint64_t>(at);
  const auto power1 = load_le<double>(at + 8), power2 = load_le<double>(at + 16);
  at += 24;
  const auto parameters = take_numbers<float>(at, count);
  const auto moment1 = take_numbers<double>(at + count * 4, count);
  const auto moment2 = take_numbers<double>(at + count * 12, count);
  const auto share = [](double v) { return v >= 0 && v <= 1; };
  const auto square = [](double v) { return v >= 0; };
  if (!share(power1) || !share(power2) || !all_finite(parameters) || !all_finite(moment1) ||
      !all_finite(moment2) || !std::all_of(moment2.begin(), moment2.end(), square))
    return Status::corrupt("trainer state: a number that training cannot reach");
  steps_ = steps;
  beta1_power_ = power1;
  beta2_power_ = power2;
  parameters_ = parameters;
  moment1_ = moment1;
  moment2_ = moment2;
  return Status::ok();
}

std::vector<RangeHistogram> Trainer::activation_ranges() const {
  std::vector<RangeHistogram> out(architecture_.widths.size());
  Activations activations;
  for (std::size_t row = 0; row < rows(); ++row) {
    forward(architecture_, parameters_,
            {inputs_.data() + row * architecture_.input(), architecture_.input()}, activations);
    for (std::size_t t = 0; t < out.size(); ++t)
      for (const double value : activations[t]) out[t].add(value);
  }
  return out;
}

}  // namespace edgecore
