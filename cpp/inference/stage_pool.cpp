// AVERAGE_POOL_2D and MAX_POOL_2D: codes alone, because a pool's output is quantised as its input.
#include <algorithm>

#include "inference/window.hpp"

namespace edgecore::inference {
namespace {

class Pool final : public Stage {
 public:
  Pool(const Window& window, bool average, Range range, std::uint8_t flip)
      : window_(window), average_(average), range_(range), flip_(flip) {}

  void run(const Frame& frame) const override {
    for (std::size_t row = 0; row < frame.rows; ++row) {
      std::int8_t* out = frame.codes(out_, row);
      for (std::int32_t y = 0; y < window_.y.out; ++y)
        for (std::int32_t x = 0; x < window_.x.out; ++x, out += window_.depth)
          run_pixel(frame.codes(in_[0], row), y, x, reinterpret_cast<std::int32_t*>(frame.work),
                    out);
    }
  }
  std::size_t work_bytes() const override { return window_.depth * sizeof(std::int32_t); }
  std::uint64_t products() const override {
    return std::uint64_t{window_.pixels()} * window_.taps() * window_.depth;
  }

 private:
  void run_pixel(const std::int8_t* image, std::int32_t y, std::int32_t x, std::int32_t* sums,
                 std::int8_t* out) const {
    const Axis::Span lines = window_.y.inside(y);
    const Axis::Span columns = window_.x.inside(x);
    const std::size_t depth = window_.depth;
    std::fill_n(sums, depth, average_ ? 0 : -128);
    for (std::int32_t tap_y = lines.first; tap_y < lines.end; ++tap_y)
      for (std::int32_t tap_x = columns.first; tap_x < columns.end; ++tap_x) {
        const auto pixel = static_cast<std::size_t>(window_.y.read(y, tap_y) * window_.x.in +
                                                    window_.x.read(x, tap_x));
        add(image + pixel * depth, sums);
      }
    const std::int32_t count = (lines.end - lines.first) * (columns.end - columns.first);
    for (std::size_t i = 0; i < depth; ++i) {
      const std::int32_t code = average_ ? mean(sums[i], count) : sums[i];
      out[i] =
          static_cast<std::int8_t>(std::clamp(code, range_.low, range_.high) ^ std::int32_t{flip_});
    }
  }

  void add(const std::int8_t* from, std::int32_t* sums) const {
    for (std::size_t i = 0; i < window_.depth; ++i) {
      const auto code = static_cast<std::int8_t>(from[i] ^ flip_);
      sums[i] = average_ ? sums[i] + code : std::max(sums[i], std::int32_t{code});
    }
  }

  // Halves away from zero.
  static std::int32_t mean(std::int32_t sum, std::int32_t count) {
    return (sum + (sum > 0 ? count / 2 : -(count / 2))) / count;
  }

  Window window_;
  bool average_;
  Range range_;
  std::uint8_t flip_;
};

Result<Made> make_pool(const Site& site, bool average) {
  const tflite::Tensor* in = site.input(0);
  if (in == nullptr) return Status::corrupt("it lacks a tensor");
  const tflite::Tensor& out = site.output();
  EDGECORE_ASSIGN(const Window window,
                  window_of(*in, out, site.op.options.filter, site.op.options));
  if (window.depth != window.out_depth)
    return Status::incompatible("a pool that changes the channels");
  if (window.depth > kMaxEntries) return Status::incompatible("an image so deep is not served");
  EDGECORE_ASSIGN(const Quantisation from, activation_of(*in));
  EDGECORE_ASSIGN(const Quantisation to, activation_of(out));
  if (from.scale != to.scale || from.zero_point != to.zero_point)
    return Status::incompatible("a pool that changes the quantisation");
  // A sum of as many codes as a tensor has elements stays within 2^26 * 2^7 = 2^33: bound it.
  if (window.taps() > (std::size_t{1} << 23))
    return Status::incompatible("a window so wide is not served");
  return Made{std::make_unique<Pool>(window, average, range_of(site.op.options.activation, to),
                                     site.kernel.flip),
              {0}};
}

}  // namespace

Result<Made> make_average_pool(const Site& site) {
  return make_pool(site, true);
}
Result<Made> make_max_pool(const Site& site) {
  return make_pool(site, false);
}

}  // namespace edgecore::inference
