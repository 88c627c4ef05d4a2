// Operators that move codes and compute none: RESHAPE, CONCATENATION, PAD.
#include <algorithm>
#include <cstring>

#include "inference/stage.hpp"

namespace edgecore::inference {
namespace {

using tflite::Tensor;

bool same_quantisation(const Tensor& a, const Tensor& b) {
  return a.type == b.type && a.scales == b.scales && a.zero_points == b.zero_points;
}

// One input of a concatenation: `count` runs of `bytes` go to `offset` within as many of the
// output.
struct Piece {
  std::size_t bytes = 0;
  std::size_t offset = 0;
  std::vector<std::int8_t> constant;  // flipped; empty: it is in the arena
};

class Concatenation final : public Stage {
 public:
  Concatenation(std::vector<Piece> pieces, std::size_t count, std::size_t stride)
      : pieces_(std::move(pieces)), count_(count), stride_(stride) {}

  void run(const Frame& frame) const override {
    for (std::size_t row = 0; row < frame.rows; ++row) {
      std::size_t next = 0;
      for (const Piece& piece : pieces_) {
        const std::int8_t* in =
            piece.constant.empty() ? frame.codes(in_[next++], row) : piece.constant.data();
        std::int8_t* out = frame.codes(out_, row) + piece.offset;
        for (std::size_t i = 0; i < count_; ++i)
          std::memcpy(out + i * stride_, in + i * piece.bytes, piece.bytes);
      }
    }
  }
  std::uint64_t packed_bytes() const override {
    std::uint64_t total = 0;
    for (const Piece& piece : pieces_) total += piece.constant.size();
    return total;
  }
  std::uint64_t products() const override { return std::uint64_t{count_} * stride_; }

 private:
  std::vector<Piece> pieces_;
  std::size_t count_;
  std::size_t stride_;
};

std::vector<std::int8_t> flipped(ByteSpan bytes, std::uint8_t flip) {
  std::vector<std::int8_t> out;
  for (const std::byte one : bytes)
    out.push_back(static_cast<std::int8_t>(static_cast<std::int8_t>(one) ^ flip));
  return out;
}

// A run of the input's last dimension, and where in the output it goes.
class Pad final : public Stage {
 public:
  Pad(std::vector<std::uint32_t> offsets, std::size_t run, std::size_t size, std::int8_t zero)
      : offsets_(std::move(offsets)), run_(run), size_(size), zero_(zero) {}

  void run(const Frame& frame) const override {
    for (std::size_t row = 0; row < frame.rows; ++row) {
      const std::int8_t* in = frame.codes(in_[0], row);
      std::int8_t* out = frame.codes(out_, row);
      std::memset(out, zero_, size_);
      for (std::size_t i = 0; i < offsets_.size(); ++i)
        std::memcpy(out + offsets_[i], in + i * run_, run_);
    }
  }
  std::uint64_t packed_bytes() const override { return 4 * offsets_.size(); }
  std::uint64_t products() const override { return size_; }

 private:
  std::vector<std::uint32_t> offsets_;
  std::size_t run_;
  std::size_t size_;
  std::int8_t zero_;
};

// Checked against the shapes: what is before each dimension.
Result<std::vector<std::int32_t>> padding_of(const Site& site, const Tensor& in) {
  const Tensor* padding = site.input(1);
  const Tensor& out = site.output();
  const std::size_t rank = in.shape.size();
  if (padding == nullptr) return Status::corrupt("it lacks a tensor");
  if (padding->type != tflite::Type::kInt32 || padding->constant.empty() ||
      padding->elements != 2 * rank || out.shape.size() != rank || rank == 0)
    return Status::incompatible("the padding is not a constant pair of int32 per dimension");
  std::vector<std::int32_t> before;
  for (std::size_t i = 0; i < rank; ++i) {
    const auto first = load_le<std::int32_t>(padding->constant.data() + 8 * i);
    const auto last = load_le<std::int32_t>(padding->constant.data() + 8 * i + 4);
    if (first < 0 || last < 0 || std::int64_t{in.shape[i]} + first + last != out.shape[i])
      return Status::incompatible("the output has another size than its padding makes");
    before.push_back(first);
  }
  return before;
}

}  // namespace

// Same elements, same quantisation.
Result<Made> make_reshape(const Site& site) {
  const Tensor* in = site.input(0);
  if (in == nullptr) return Status::corrupt("it lacks a tensor");
  if (in->elements != site.output().elements || !same_quantisation(*in, site.output()))
    return Status::incompatible("a reshape that changes values");
  return Made{nullptr, {0}};
}

Result<Made> make_concatenation(const Site& site) {
  const Tensor& out = site.output();
  const auto rank = static_cast<std::int32_t>(out.shape.size());
  const std::int32_t axis = site.op.options.axis + (site.op.options.axis < 0 ? rank : 0);
  if (axis < 0 || axis >= rank) return Status::corrupt("an axis that the output has not");
  if (site.op.options.activation != tflite::Activation::kNone)
    return Status::incompatible("a concatenation with an activation is not served");
  EDGECORE_TRY(activation_of(out).status());
  const auto at = static_cast<std::size_t>(axis);
  std::size_t inner = 1;
  for (std::size_t i = at + 1; i < out.shape.size(); ++i)
    inner *= static_cast<std::size_t>(out.shape[i]);
  const std::size_t stride = inner * static_cast<std::size_t>(out.shape[at]);
  std::vector<Piece> pieces;
  std::vector<std::size_t> inputs;
  std::size_t offset = 0;
  for (std::size_t i = 0; i < site.op.inputs.size(); ++i) {
    const Tensor* in = site.input(i);
    if (in == nullptr) return Status::corrupt("it lacks a tensor");
    std::vector<std::int32_t> shape = in->shape;
    if (shape.size() != out.shape.size() || !same_quantisation(*in, out))
      return Status::incompatible("the inputs differ in rank or quantisation");
    Piece piece{inner * static_cast<std::size_t>(shape[at]), offset, {}};
    shape[at] = out.shape[at];
    if (shape != out.shape) return Status::incompatible("the inputs differ in shape");
    // Before it is copied: one constant may be named many times.
    if (offset + piece.bytes > stride) return Status::incompatible("the inputs are too many");
    if (in->constant.empty())
      inputs.push_back(i);
    else
      piece.constant = flipped(in->constant, site.kernel.flip);
    offset += piece.bytes;
    pieces.push_back(std::move(piece));
  }
  if (offset != stride) return Status::incompatible("the inputs are not the whole output");
  return Made{std::make_unique<Concatenation>(
                  std::move(pieces), static_cast<std::size_t>(out.elements) / stride, stride),
              inputs};
}

Result<Made> make_pad(const Site& site) {
  const Tensor* in = site.input(0);
  if (in == nullptr) return Status::corrupt("it lacks a tensor");
  const Tensor& out = site.output();
  EDGECORE_ASSIGN(const auto before, padding_of(site, *in));
  EDGECORE_ASSIGN(const Quantisation to, activation_of(out));
  if (!same_quantisation(*in, out)) return Status::incompatible("a pad that changes values");
  const auto run = static_cast<std::size_t>(in->shape.back());
  if (in->elements / run > kMaxEntries) return Status::incompatible("so large a pad is not served");
  std::vector<std::uint32_t> offsets(static_cast<std::size_t>(in->elements) / run);
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    std::size_t rest = i;
    std::size_t stride = static_cast<std::size_t>(out.shape.back());
    std::size_t offset = static_cast<std::size_t>(before.back());
    for (std::size_t dim = in->shape.size() - 1; dim-- > 0;) {
      const auto size = static_cast<std::size_t>(in->shape[dim]);
      offset += (rest % size + static_cast<std::size_t>(before[dim])) * stride;
      stride *= static_cast<std::size_t>(out.shape[dim]);
      rest /= size;
    }
    offsets[i] = static_cast<std::uint32_t>(offset);
  }
  const auto zero = static_cast<std::int8_t>(to.zero_point ^ site.kernel.flip);
  return Made{
      std::make_unique<Pad>(std::move(offsets), run, static_cast<std::size_t>(out.elements), zero),
      {0}};
}

}  // namespace edgecore::inference
