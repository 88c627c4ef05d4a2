// See model.hpp. Everything that a run reads lies in one block in the order in which it is read,
// because a small model's time is the time of streaming its weights.
#include "inference/model.hpp"

#include <algorithm>
#include <cstring>
#include <new>
#include <string>

#include "inference/chain.hpp"
#include "inference/layer.hpp"

namespace edgecore::inference {
namespace {

constexpr std::size_t kAlign = 64;
constexpr std::size_t kRowBlock = 16;  // rows of a batch that go through a layer together

constexpr std::size_t round_up(std::size_t n, std::size_t to) {
  return (n + to - 1) / to * to;
}

struct Sizes {
  std::size_t groups, steps, channels, weights, bias, channel;
  std::size_t total() const { return weights + bias + 2 * channel; }
};

Sizes sizes_of(const ChainLayer& layer) {
  Sizes s{};
  s.groups = round_up(layer.width, kLanes) / kLanes;
  s.steps = round_up(layer.depth, kStep) / kStep;
  s.channels = layer.multipliers.size() == 1 ? 1 : s.groups;
  s.weights = s.groups * s.steps * kLanes * kStep;
  s.bias = s.groups * kLanes * sizeof(std::int32_t);
  s.channel = s.channels * kLanes * sizeof(std::int32_t);
  return s;
}

struct AlignedDelete {
  void operator()(std::byte* block) const { ::operator delete(block, std::align_val_t{kAlign}); }
};
using Block = std::unique_ptr<std::byte, AlignedDelete>;

void pack_weights(const ChainLayer& from, const Sizes& sizes, std::int8_t* to) {
  for (std::size_t out = 0; out < from.width; ++out)
    for (std::size_t in = 0; in < from.depth; ++in) {
      const std::size_t group = out / kLanes;
      const std::size_t start = group / kBlock * kBlock;
      const std::size_t together = std::min(kBlock, sizes.groups - start);
      const std::size_t cell = start * sizes.steps + in / kStep * together + (group - start);
      to[(cell * kLanes + out % kLanes) * kStep + in % kStep] =
          static_cast<std::int8_t>(from.weights[out * from.depth + in]);
    }
}

// sum((code - zero) * w) + bias = sum(code * w) + (bias - zero * sum(w)); a kernel that flips
// sees code + 128, so that its zero is 128 higher.
void pack_bias(const ChainLayer& from, std::uint8_t flip, std::int32_t* to) {
  for (std::size_t out = 0; out < from.width; ++out) {
    std::int32_t sum = 0;
    for (const std::byte weight : from.weights.subspan(out * from.depth, from.depth))
      sum += static_cast<std::int8_t>(weight);
    const std::int32_t bias =
        from.bias.empty() ? 0 : load_le<std::int32_t>(from.bias.data() + out * 4);
    to[out] = bias - (from.input_zero + flip) * sum;
  }
}

void pack_channels(const ChainLayer& from, std::size_t count, std::int32_t* multiplier,
                   std::int32_t* shift) {
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t last = from.multipliers.size() - 1;
    const Multiplier& by = from.multipliers[std::min(i, last)];
    multiplier[i] = by.value;
    shift[i] = by.shift;
  }
}

Layer pack(const ChainLayer& from, const Sizes& sizes, std::uint8_t flip, std::byte* at) {
  auto* bias = reinterpret_cast<std::int32_t*>(at);
  auto* multiplier = reinterpret_cast<std::int32_t*>(at + sizes.bias);
  auto* shift = reinterpret_cast<std::int32_t*>(at + sizes.bias + sizes.channel);
  auto* weights = reinterpret_cast<std::int8_t*>(at + sizes.bias + 2 * sizes.channel);
  pack_weights(from, sizes, weights);
  pack_bias(from, flip, bias);
  pack_channels(from, sizes.channels * kLanes, multiplier, shift);
  Layer layer;
  layer.groups = sizes.groups;
  layer.steps = sizes.steps;
  layer.weights = weights;
  layer.bias = bias;
  layer.multiplier = multiplier;
  layer.shift = shift;
  layer.channel_stride = sizes.channels == 1 ? 0 : kLanes;
  layer.zero_point = from.output_zero;
  layer.low = from.low;
  layer.high = from.high;
  return layer;
}

void copy_flipped(const std::int8_t* from, std::int8_t* to, std::size_t count, std::uint8_t flip) {
  for (std::size_t i = 0; i < count; ++i) to[i] = static_cast<std::int8_t>(from[i] ^ flip);
}

class NativeExecutor final : public Executor {
 public:
  static Result<std::shared_ptr<const Executor>> make(const Chain& chain, Profile profile,
                                                      const Kernel& kernel);
  std::size_t input_size() const override { return input_size_; }
  std::size_t output_size() const override { return output_size_; }
  Quantisation input_quantisation() const override { return input_; }
  Quantisation output_quantisation() const override { return output_; }
  std::size_t arena_bytes() const override { return 2 * kRowBlock * stride_ + kAlign; }
  Description describe() const override;
  Status run(const std::int8_t* in, std::int8_t* out, Scratch& scratch) const override {
    return run_batch(in, out, 1, scratch);
  }
  Status run_batch(const std::int8_t* in, std::int8_t* out, std::size_t rows,
                   Scratch& scratch) const override;

 private:
  NativeExecutor(const Kernel& kernel, Profile profile) : kernel_(kernel), profile_(profile) {}

  const Kernel& kernel_;
  Profile profile_;
  Block packed_;
  std::vector<Layer> layers_;
  Quantisation input_;
  Quantisation output_;
  std::size_t input_size_ = 0;
  std::size_t output_size_ = 0;
  std::size_t stride_ = 0;  // of a row of activations in the scratch
  bool reshapes_ = false;
};

Result<std::shared_ptr<const Executor>> NativeExecutor::make(const Chain& chain, Profile profile,
                                                             const Kernel& kernel) {
  std::uint64_t total = 0;
  for (const ChainLayer& layer : chain.layers) total += sizes_of(layer).total();
  if (total > kMaxPackedBytes) return Status::incompatible("model: more than 256 MiB when packed");
  auto* block = static_cast<std::byte*>(
      ::operator new(static_cast<std::size_t>(total), std::align_val_t{kAlign}, std::nothrow));
  if (block == nullptr) return Status::exhausted("model: no memory for its weights");
  std::memset(block, 0, static_cast<std::size_t>(total));
  std::shared_ptr<NativeExecutor> made(new NativeExecutor(kernel, profile));
  made->packed_.reset(block);
  made->input_ = chain.input;
  made->output_ = chain.output;
  made->reshapes_ = chain.reshapes;
  made->input_size_ = chain.layers.front().depth;
  made->output_size_ = chain.layers.back().width;
  for (const ChainLayer& from : chain.layers) {
    const Sizes sizes = sizes_of(from);
    made->layers_.push_back(pack(from, sizes, kernel.flip, block));
    block += sizes.total();
    made->stride_ =
        std::max({made->stride_, round_up(from.depth, kAlign), round_up(from.width, kAlign)});
  }
  return std::shared_ptr<const Executor>(std::move(made));
}

Description NativeExecutor::describe() const {
  Description out{"native", kernel_.name, profile_name(profile_), {"FULLY_CONNECTED"}};
  if (reshapes_) out.ops.emplace_back("RESHAPE");
  return out;
}

Status NativeExecutor::run_batch(const std::int8_t* in, std::int8_t* out, std::size_t rows,
                                 Scratch& scratch) const {
  if (scratch.memory.size() < arena_bytes()) scratch.memory.resize(arena_bytes());
  const auto address = reinterpret_cast<std::uintptr_t>(scratch.memory.data());
  std::int8_t* first = scratch.memory.data() + (round_up(address, kAlign) - address);
  std::int8_t* second = first + kRowBlock * stride_;
  const auto layer_run = profile_ == Profile::kLitertSingle ? kernel_.single : kernel_.doubled;
  for (std::size_t start = 0; start < rows; start += kRowBlock) {
    const std::size_t count = std::min(kRowBlock, rows - start);
    for (std::size_t row = 0; row < count; ++row)
      copy_flipped(in + (start + row) * input_size_, first + row * stride_, input_size_,
                   kernel_.flip);
    for (const Layer& layer : layers_) {
      layer_run(layer, Rows{first, second, count, stride_, stride_});
      std::swap(first, second);
    }
    for (std::size_t row = 0; row < count; ++row)
      copy_flipped(first + row * stride_, out + (start + row) * output_size_, output_size_,
                   kernel_.flip);
  }
  return {};
}

Result<const Kernel*> kernel_for(Isa isa) {
  const Kernel* found = nullptr;
  if (isa == Isa::kPortable) found = &portable_kernel();
  if (isa == Isa::kBest || isa == Isa::kAvx512Vnni) found = avx512_vnni_kernel();
  if (isa == Isa::kAvx2 || (isa == Isa::kBest && found == nullptr)) found = avx2_kernel();
  if (isa == Isa::kNeonDot || (isa == Isa::kBest && found == nullptr)) found = neon_dot_kernel();
  if (isa == Isa::kNeon || (isa == Isa::kBest && found == nullptr)) found = neon_kernel();
  if (isa == Isa::kBest && found == nullptr) found = &portable_kernel();
  if (found == nullptr) return Status::incompatible("model: this processor lacks the forced ISA");
  return found;
}

}  // namespace

Result<std::shared_ptr<const Executor>> load_native(ByteSpan file, Profile profile, Isa isa) {
  EDGECORE_ASSIGN(const tflite::Graph graph, tflite::read(file));
  EDGECORE_ASSIGN(const Chain chain, chain_of(graph));
  EDGECORE_ASSIGN(const Kernel* kernel, kernel_for(isa));
  return NativeExecutor::make(chain, profile, *kernel);
}

}  // namespace edgecore::inference
