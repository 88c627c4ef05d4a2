// See window.hpp.
#include "inference/window.hpp"

namespace edgecore::inference {
namespace {

Result<Axis> axis_of(std::int32_t in, std::int32_t out, std::int32_t filter, std::size_t which,
                     const tflite::Options& options) {
  Axis axis{in, out, filter, options.stride[which], options.dilation[which], 0};
  const std::int64_t reach = std::int64_t{filter - 1} * axis.dilation + 1;
  if (reach > kMaxReach) return Status::incompatible("a window so wide is not served");
  std::int64_t expected = 0;
  if (options.same_padding) {
    expected = (std::int64_t{in} + axis.stride - 1) / axis.stride;
    const std::int64_t total = (expected - 1) * axis.stride + reach - in;
    axis.before = static_cast<std::int32_t>(std::max<std::int64_t>(total, 0) / 2);
  } else if (reach <= in) {
    expected = (in - reach) / axis.stride + 1;
  }
  if (expected != out)
    return Status::incompatible("the output has another size than its window makes");
  return axis;
}

}  // namespace

Result<Window> window_of(const tflite::Tensor& in, const tflite::Tensor& out,
                         std::array<std::int32_t, 2> filter, const tflite::Options& options) {
  if (in.shape.size() != 4 || out.shape.size() != 4 || in.shape[0] != 1 || out.shape[0] != 1)
    return Status::incompatible("the activations are not one image");
  Window window;
  for (const std::int32_t one : filter)
    if (one > tflite::kMaxWindow) return Status::incompatible("a window so wide is not served");
  EDGECORE_ASSIGN(window.y, axis_of(in.shape[1], out.shape[1], filter[0], 0, options));
  EDGECORE_ASSIGN(window.x, axis_of(in.shape[2], out.shape[2], filter[1], 1, options));
  window.depth = static_cast<std::size_t>(in.shape[3]);
  window.out_depth = static_cast<std::size_t>(out.shape[3]);
  return window;
}

std::vector<std::int32_t> offsets_of(const Window& window, std::size_t channels, std::size_t step) {
  std::vector<std::int32_t> offsets;
  offsets.reserve(window.pixels() * round_up(window.taps(), step));
  for (std::int32_t y = 0; y < window.y.out; ++y)
    for (std::int32_t x = 0; x < window.x.out; ++x) {
      for (std::int32_t tap_y = 0; tap_y < window.y.filter; ++tap_y)
        for (std::int32_t tap_x = 0; tap_x < window.x.filter; ++tap_x)
          offsets.push_back(window.offset(y, x, tap_y, tap_x, channels));
      while (offsets.size() % step != 0) offsets.push_back(-1);
    }
  return offsets;
}

}  // namespace edgecore::inference
