// How a window of a filter or a pool moves over an image: sizes checked, in the field's rules of
// padding.
#pragma once

#include <algorithm>

#include "inference/stage.hpp"

namespace edgecore::inference {

constexpr std::int64_t kMaxReach = std::int64_t{1} << 20;  // of a window, dilation included

// One direction of an image.
struct Axis {
  std::int32_t in = 1, out = 1;
  std::int32_t filter = 1, stride = 1, dilation = 1;
  std::int32_t before = 0;  // padding

  // What all windows read, padding included.
  std::size_t padded() const {
    return static_cast<std::size_t>((out - 1) * stride + (filter - 1) * dilation + 1);
  }
  // Where tap `tap` of output `at` reads; outside [0, in) it reads padding.
  std::int32_t read(std::int32_t at, std::int32_t tap) const {
    return at * stride - before + tap * dilation;
  }
  // The taps [first, end) of output `at` that read no padding.
  struct Span {
    std::int32_t first, end;
  };
  Span inside(std::int32_t at) const {
    const std::int32_t origin = read(at, 0);  // below `in`
    return {(std::max(0, -origin) + dilation - 1) / dilation,
            std::min(filter, (in - origin + dilation - 1) / dilation)};
  }
};

struct Window {
  Axis y, x;
  std::size_t depth = 1;      // channels of the input
  std::size_t out_depth = 1;  // and of the output
  std::size_t pixels() const {
    return static_cast<std::size_t>(y.out) * static_cast<std::size_t>(x.out);
  }
  // Where a tap of an output pixel lies in an image of `channels` bytes a pixel; -1: in the
  // padding.
  std::int32_t offset(std::int32_t out_y, std::int32_t out_x, std::int32_t tap_y,
                      std::int32_t tap_x, std::size_t channels) const {
    const std::int32_t at_y = y.read(out_y, tap_y);
    const std::int32_t at_x = x.read(out_x, tap_x);
    if (at_y < 0 || at_y >= y.in || at_x < 0 || at_x >= x.in) return -1;
    return (at_y * x.in + at_x) * static_cast<std::int32_t>(channels);
  }
  std::size_t taps() const {
    return static_cast<std::size_t>(y.filter) * static_cast<std::size_t>(x.filter);
  }
};

// Of one image, [1, height, width, channels], and a filter of [height, width]. Incompatible: other
// ranks, more than one image, or an output whose size is not what window and padding make.
Result<Window> window_of(const tflite::Tensor& in, const tflite::Tensor& out,
                         std::array<std::int32_t, 2> filter, const tflite::Options& options);

// Where the taps of every output pixel lie, [pixel][tap], in an image of `channels` bytes a pixel;
// -1: in the padding. A pixel's are filled up with -1 to a multiple of `step`.
std::vector<std::int32_t> offsets_of(const Window& window, std::size_t channels, std::size_t step);

}  // namespace edgecore::inference
