// One number out of a model's output, on the declared grid decimal(6), in doubles in index order.
#pragma once

#include <cstdint>
#include <span>

#include "base/status.hpp"
#include "inference/executor.hpp"

namespace edgecore::inference {

enum class ScoreKind : std::uint8_t { kReconstruction = 0, kIdentity = 1, kArgmax = 2 };
constexpr int kScoreScale = 6;  // scores count millionths

// reconstruction: mean of (normalised[i] - dequantised output[i])^2, sizes must agree;
// identity: the first output, dequantised; argmax: the first index of the largest output.
// A score beyond the grid is the grid's end: INT64_MAX or INT64_MIN.
Result<std::int64_t> score(ScoreKind kind, std::span<const double> normalised,
                           std::span<const std::int8_t> output, Quantisation from);

}  // namespace edgecore::inference
