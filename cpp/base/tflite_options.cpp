// See tflite_options.hpp. Field numbers are those of the public schema, version 3.
#include "base/tflite_options.hpp"

#include <algorithm>
#include <cmath>
#include <string>

namespace edgecore::tflite {
namespace {

using flatbuffer::Table;

using Read = Status (*)(const Table& from, Options& to);

struct Served {
  Op op;
  std::int32_t versions;  // 1 to it
  std::uint8_t options;   // the member of the union that it takes; 0: none that matters here
  bool required;          // without options it has no meaning
  Read read;
};

Status unserved(const char* what) {
  return Status::incompatible(std::string(".tflite: ") + what + " is not served");
}

Status read_activation(const Table& from, std::uint16_t field, Options& to) {
  EDGECORE_ASSIGN(const auto activation, from.scalar<std::int8_t>(field, 0));
  if (activation < 0 || activation > 3) return unserved("a fused activation");
  to.activation = static_cast<Activation>(activation);
  return {};
}

Status read_padding(const Table& from, Options& to) {
  EDGECORE_ASSIGN(const auto padding, from.scalar<std::int8_t>(0, 0));
  if (padding != 0 && padding != 1) return Status::corrupt(".tflite: a padding of no kind");
  to.same_padding = padding == 0;
  return {};
}

// [height, width] out of two fields.
Status read_pair(const Table& from, std::uint16_t height, std::uint16_t width, std::int32_t absent,
                 std::array<std::int32_t, 2>& to) {
  EDGECORE_ASSIGN(to[0], from.scalar<std::int32_t>(height, absent));
  EDGECORE_ASSIGN(to[1], from.scalar<std::int32_t>(width, absent));
  for (const std::int32_t one : to) {
    if (one < 1) return Status::corrupt(".tflite: a filter, stride or dilation below 1");
    if (one > kMaxWindow) return unserved("a window so wide");
  }
  return {};
}

Status read_conv(const Table& from, Options& to) {
  EDGECORE_TRY(read_padding(from, to));
  EDGECORE_TRY(read_pair(from, 2, 1, 0, to.stride));
  EDGECORE_TRY(read_activation(from, 3, to));
  return read_pair(from, 5, 4, 1, to.dilation);
}

Status read_depthwise(const Table& from, Options& to) {
  EDGECORE_TRY(read_padding(from, to));
  EDGECORE_TRY(read_pair(from, 2, 1, 0, to.stride));
  EDGECORE_ASSIGN(to.depth_multiplier, from.scalar<std::int32_t>(3, 0));
  if (to.depth_multiplier < 1) return Status::corrupt(".tflite: a depth multiplier below 1");
  EDGECORE_TRY(read_activation(from, 4, to));
  return read_pair(from, 6, 5, 1, to.dilation);
}

Status read_pool(const Table& from, Options& to) {
  EDGECORE_TRY(read_padding(from, to));
  EDGECORE_TRY(read_pair(from, 2, 1, 0, to.stride));
  EDGECORE_TRY(read_pair(from, 4, 3, 0, to.filter));
  return read_activation(from, 5, to);
}

Status read_connected(const Table& from, Options& to) {
  EDGECORE_ASSIGN(const auto format, from.scalar<std::int8_t>(1, 0));
  if (format != 0) return unserved("a shuffled weight format");
  return read_activation(from, 0, to);
}

Status read_softmax(const Table& from, Options& to) {
  EDGECORE_ASSIGN(to.number, from.scalar<float>(0, 0));
  if (!std::isfinite(to.number) || !(to.number > 0))
    return Status::corrupt(".tflite: the beta of a softmax is not above zero");
  return {};
}

Status read_concatenation(const Table& from, Options& to) {
  EDGECORE_ASSIGN(to.axis, from.scalar<std::int32_t>(0, 0));
  return read_activation(from, 1, to);
}

Status read_elementwise(const Table& from, Options& to) {
  return read_activation(from, 0, to);
}

Status read_reducer(const Table& from, Options& to) {
  EDGECORE_ASSIGN(const auto keep, from.scalar<std::uint8_t>(0, 0));
  to.keep_dims = keep != 0;
  return {};
}

Status read_slope(const Table& from, Options& to) {
  EDGECORE_ASSIGN(to.number, from.scalar<float>(0, 0));
  if (!std::isfinite(to.number)) return Status::corrupt(".tflite: a slope that is no number");
  return {};
}

constexpr Served kServed[] = {
    {Op::kAdd, 2, 11, false, read_elementwise},
    {Op::kAveragePool2d, 2, 5, true, read_pool},
    {Op::kConcatenation, 2, 10, true, read_concatenation},
    {Op::kConv2d, 3, 1, true, read_conv},
    {Op::kDepthwiseConv2d, 3, 2, true, read_depthwise},
    {Op::kDequantize, 2, 0, false, nullptr},
    {Op::kFullyConnected, 12, 8, false, read_connected},
    {Op::kLogistic, 2, 0, false, nullptr},
    {Op::kMaxPool2d, 2, 5, true, read_pool},
    {Op::kMul, 2, 21, false, read_elementwise},
    {Op::kRelu, 2, 0, false, nullptr},
    {Op::kReluN1To1, 1, 0, false, nullptr},
    {Op::kRelu6, 2, 0, false, nullptr},
    {Op::kReshape, 1, 0, false, nullptr},
    {Op::kSoftmax, 2, 9, true, read_softmax},
    {Op::kTanh, 2, 0, false, nullptr},
    {Op::kPad, 2, 0, false, nullptr},
    {Op::kMean, 2, 27, false, read_reducer},
    {Op::kLeakyRelu, 2, 75, true, read_slope},
    {Op::kQuantize, 2, 0, false, nullptr},
};

}  // namespace

Result<Options> read_options(const Table& table, Op op, std::int32_t version) {
  const auto served = std::find_if(std::begin(kServed), std::end(kServed),
                                   [&](const Served& one) { return one.op == op; });
  if (served == std::end(kServed) || version < 1 || version > served->versions)
    return Status::incompatible(".tflite: operator " +
                                std::to_string(static_cast<std::int32_t>(op)) + " version " +
                                std::to_string(version) + " is not served");
  Options out;
  if (served->read == nullptr) return out;
  EDGECORE_ASSIGN(const auto kind, table.scalar<std::uint8_t>(3, 0));
  EDGECORE_ASSIGN(const auto options, table.table(4));
  if (!options) {
    if (served->required) return Status::corrupt(".tflite: an operator lacks its options");
    return out;
  }
  if (kind != served->options) return Status::corrupt(".tflite: options of another operator");
  EDGECORE_TRY(served->read(*options, out));
  return out;
}

}  // namespace edgecore::tflite
