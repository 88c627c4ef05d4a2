// How a window of a filter or a pool moves over an image: sizes checked, in the field's rules of
// padding.
#pragma once

#include "inference/stage.hpp"

namespace edgecore::inference {

// One direction of an image.
struct Axis {
  std::int32_t in = 1, out = 1;
  std::int32_t filter = 1, stride = 1, dilation = 1;
  std::int32_t before = 0;  // padding

  // Where tap `tap` of output `at` reads; outside [0, in) it reads padding.
  std::int32_t read(std::int32_t at, std::int32_t tap) const {
    return at * stride - before + tap * dilation;
  }
};

struct Window {
  Axis y, x;
  std::size_t depth = 1;      // channels of the input
  std::size_t out_depth = 1;  // and of the output
  std::size_t pixels() const {
    return static_cast<std::size_t>(y.out) * static_cast<std::size_t>(x.out);
  }
  std::size_t taps() const {
    return static_cast<std::size_t>(y.filter) * static_cast<std::size_t>(x.filter);
  }
};

// Of one image, [1, height, width, channels], and a filter of [height, width]. Incompatible: other
// ranks, more than one image, or an output whose size is not what window and padding make.
Result<Window> window_of(const tflite::Tensor& in, const tflite::Tensor& out,
                         std::array<std::int32_t, 2> filter, const tflite::Options& options);

}  // namespace edgecore::inference
