// See score.hpp.
#include "inference/score.hpp"

#include <algorithm>
#include <limits>

#include "base/exact.hpp"

namespace edgecore::inference {
namespace {

double dequantise(std::int8_t q, Quantisation from) {
  return static_cast<double>(q - from.zero_point) * static_cast<double>(from.scale);
}

std::int64_t on_grid(double value) {
  if (const auto grid = grid_from_double(value, kScoreScale)) return grid->value;
  return value < 0 ? std::numeric_limits<std::int64_t>::min()
                   : std::numeric_limits<std::int64_t>::max();
}

}  // namespace

Result<std::int64_t> score(ScoreKind kind, std::span<const double> normalised,
                           std::span<const std::int8_t> output, Quantisation from) {
  if (output.empty()) return Status::invalid("a score needs at least one output");
  if (kind == ScoreKind::kIdentity) return on_grid(dequantise(output[0], from));
  if (kind == ScoreKind::kArgmax) {
    const auto best = std::max_element(output.begin(), output.end()) - output.begin();
    return static_cast<std::int64_t>(best) * 1'000'000;
  }
  if (normalised.size() != output.size())
    return Status::incompatible("reconstruction needs as many outputs as inputs, got " +
                                std::to_string(output.size()) + " and " +
                                std::to_string(normalised.size()));
  double sum = 0.0;
  for (std::size_t i = 0; i < output.size(); ++i) {
    const double difference = normalised[i] - dequantise(output[i], from);
    sum += difference * difference;
  }
  return on_grid(sum / static_cast<double>(output.size()));
}

}  // namespace edgecore::inference
