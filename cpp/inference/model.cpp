// See model.hpp. A graph becomes stages in its own order and tensors in one arena; a run is the
// stages one after another.
#include "inference/model.hpp"

#include <algorithm>
#include <cstring>
#include <new>
#include <string>

#include "inference/arena.hpp"
#include "inference/matrix.hpp"
#include "inference/stage.hpp"

namespace edgecore::inference {
namespace {

using tflite::Graph;
using tflite::Op;
using tflite::Tensor;

constexpr std::size_t kRowsMax = 16;  // of a batch that go through a stage together
constexpr std::size_t kBatchBytes = std::size_t{1} << 18;  // what their tensors may take for it

struct Served {
  Op op;
  const char* name;
  Maker make;
};
constexpr Served kServed[] = {
    {Op::kAdd, "ADD", make_add},
    {Op::kAveragePool2d, "AVERAGE_POOL_2D", make_average_pool},
    {Op::kConcatenation, "CONCATENATION", make_concatenation},
    {Op::kConv2d, "CONV_2D", make_conv},
    {Op::kDepthwiseConv2d, "DEPTHWISE_CONV_2D", make_depthwise},
    {Op::kDequantize, "DEQUANTIZE", make_float},
    {Op::kFullyConnected, "FULLY_CONNECTED", make_connected},
    {Op::kLeakyRelu, "LEAKY_RELU", make_leaky_relu},
    {Op::kLogistic, "LOGISTIC", make_logistic},
    {Op::kMaxPool2d, "MAX_POOL_2D", make_max_pool},
    {Op::kMean, "MEAN", make_mean},
    {Op::kMul, "MUL", make_mul},
    {Op::kPad, "PAD", make_pad},
    {Op::kQuantize, "QUANTIZE", make_quantize},
    {Op::kRelu, "RELU", make_relu},
    {Op::kRelu6, "RELU6", make_relu},
    {Op::kReluN1To1, "RELU_N1_TO_1", make_relu},
    {Op::kReshape, "RESHAPE", make_reshape},
    {Op::kSoftmax, "SOFTMAX", make_softmax},
    {Op::kTanh, "TANH", make_tanh},
};

class NativeExecutor final : public Executor {
 public:
  std::size_t input_size() const override { return input_size_; }
  std::size_t output_size() const override { return output_size_; }
  Element input_element() const override { return input_element_; }
  Element output_element() const override { return output_element_; }
  Quantisation input_quantisation() const override { return input_scale_; }
  Quantisation output_quantisation() const override { return output_scale_; }
  std::size_t arena_bytes() const override { return memory_for(rows_); }
  Description describe() const override {
    return {"native", kernel_->name, profile_name(profile_), ops_, costs_};
  }
  Status run(const std::int8_t* in, std::int8_t* out, Scratch& scratch) const override {
    return run_batch(in, out, 1, scratch);
  }
  Status run_batch(const std::int8_t* in, std::int8_t* out, std::size_t rows,
                   Scratch& scratch) const override;

 private:
  friend class Builder;
  NativeExecutor() = default;
  std::size_t memory_for(std::size_t rows) const { return rows * arena_ + work_ + kAlign; }

  const Kernel* kernel_ = nullptr;
  Profile profile_ = Profile::kLitertSingle;
  std::vector<std::unique_ptr<Stage>> stages_;
  std::vector<std::string> ops_;
  std::vector<Cost> costs_;
  Element input_element_ = Element::kInt8;
  Element output_element_ = Element::kInt8;
  Quantisation input_scale_;
  Quantisation output_scale_;
  std::size_t input_size_ = 0;
  std::size_t output_size_ = 0;
  Place input_;
  Place output_;
  std::size_t rows_ = 1;   // together
  std::size_t arena_ = 0;  // of one row; that of the next lies behind it
  std::size_t work_ = 0;
};

void copy_flipped(const std::int8_t* from, std::int8_t* to, std::size_t count, std::uint8_t flip) {
  for (std::size_t i = 0; i < count; ++i) to[i] = static_cast<std::int8_t>(from[i] ^ flip);
}

// One row of an end, in or out of the arena.
void copy_row(const std::int8_t* from, std::int8_t* to, std::size_t count, Element element,
              std::uint8_t flip) {
  if (element == Element::kInt8)
    copy_flipped(from, to, count, flip);
  else
    std::memcpy(to, from, count * element_bytes(element));
}

Status NativeExecutor::run_batch(const std::int8_t* in, std::int8_t* out, std::size_t rows,
                                 Scratch& scratch) const {
  const std::size_t together = std::min(rows, rows_);
  try {
    if (scratch.memory.size() < memory_for(together)) scratch.memory.resize(memory_for(together));
  } catch (const std::bad_alloc&) {
    return Status::exhausted("model: no memory for its activations");
  }
  const auto address = reinterpret_cast<std::uintptr_t>(scratch.memory.data());
  Frame frame;
  frame.arena =
      reinterpret_cast<std::byte*>(scratch.memory.data()) + (round_up(address, kAlign) - address);
  frame.work = frame.arena + together * arena_;
  const std::size_t in_bytes = input_size_ * element_bytes(input_element_);
  const std::size_t out_bytes = output_size_ * element_bytes(output_element_);
  for (std::size_t start = 0; start < rows; start += rows_) {
    frame.rows = std::min(rows_, rows - start);
    for (std::size_t row = 0; row < frame.rows; ++row)
      copy_row(in + (start + row) * in_bytes, frame.codes(input_, row), input_size_, input_element_,
               kernel_->flip);
    for (const auto& stage : stages_) stage->run(frame);
    for (std::size_t row = 0; row < frame.rows; ++row)
      copy_row(frame.codes(output_, row), out + (start + row) * out_bytes, output_size_,
               output_element_, kernel_->flip);
  }
  return {};
}

// Makes an executor of a graph that was read: the stages, then where their tensors lie.
class Builder {
 public:
  Builder(const Graph& graph, Profile profile, const Kernel& kernel)
      : graph_(graph), home_(graph.tensors.size(), kNowhere), made_(new NativeExecutor) {
    made_->kernel_ = &kernel;
    made_->profile_ = profile;
  }

  Result<std::shared_ptr<const Executor>> build() {
    EDGECORE_TRY(take_ends());
    for (std::size_t at = 0; at < graph_.operators.size(); ++at) EDGECORE_TRY(add(at));
    if (stages_.empty()) return Status::incompatible("model: no operator makes its output");
    const std::size_t output = home_of(graph_.output);
    if (output == kNowhere) return Status::incompatible("model: its output is a constant");
    lives_[output].last = static_cast<std::int32_t>(stages_.size());
    place(output);
    return std::shared_ptr<const Executor>(std::move(made_));
  }

 private:
  static constexpr std::size_t kNowhere = static_cast<std::size_t>(-1);

  struct Waiting {  // a stage whose tensors have no place yet
    std::unique_ptr<Stage> stage;
    std::vector<std::size_t> inputs;  // lives
    std::size_t output = 0;
  };

  const Tensor& tensor(std::int32_t index) const {
    return graph_.tensors[static_cast<std::size_t>(index)];
  }
  std::size_t& home_of(std::int32_t index) { return home_[static_cast<std::size_t>(index)]; }

  // Whole groups are written, and whole steps read.
  std::size_t new_life(const Tensor& tensor) {
    Life life;
    const std::size_t bytes = tensor.type == tflite::Type::kFloat32 ? 4 : 1;
    life.bytes = round_up(static_cast<std::size_t>(tensor.elements) * bytes + kLanes - 1, kAlign);
    life.first = life.last = static_cast<std::int32_t>(stages_.size());
    lives_.push_back(life);
    return lives_.size() - 1;
  }

  static Status take_end(const Tensor& tensor, Element& element, Quantisation& scale,
                         std::size_t& size) {
    size = static_cast<std::size_t>(tensor.elements);
    if (tensor.type == tflite::Type::kFloat32) {
      element = Element::kFloat32;
      return {};
    }
    EDGECORE_ASSIGN(scale, activation_of(tensor));
    return {};
  }

  Status take_ends() {
    EDGECORE_TRY(take_end(tensor(graph_.input), made_->input_element_, made_->input_scale_,
                          made_->input_size_));
    EDGECORE_TRY(take_end(tensor(graph_.output), made_->output_element_, made_->output_scale_,
                          made_->output_size_));
    home_of(graph_.input) = new_life(tensor(graph_.input));
    return {};
  }

  // Whether an operator reads or makes f32.
  bool is_float(const tflite::Operator& op) const {
    const bool reads = !op.inputs.empty() && op.inputs[0] >= 0 &&
                       tensor(op.inputs[0]).type == tflite::Type::kFloat32;
    return reads || tensor(op.outputs[0]).type == tflite::Type::kFloat32;
  }

  Status add(std::size_t at) {
    const tflite::Operator& op = graph_.operators[at];
    const auto served = std::find_if(std::begin(kServed), std::end(kServed),
                                     [&](const Served& one) { return one.op == op.op; });
    if (served == std::end(kServed))
      return Status::incompatible("model: operator " + std::to_string(at) + " is of a kind (" +
                                  std::to_string(static_cast<int>(op.op)) + ") not served here");
    const auto told = [&](const Status& status) {
      return Status(status.outcome(), "model: operator " + std::to_string(at) + " (" +
                                          served->name + "): " + status.message());
    };
    if (op.outputs.size() != 1 || op.outputs[0] < 0)
      return told(Status::corrupt("it has not one output"));
    const Maker make = is_float(op) ? make_float : served->make;
    auto made = make({graph_, op, made_->profile_, *made_->kernel_});
    if (!made.is_ok()) return told(made.status());
    Cost cost{served->name, tensor(op.outputs[0]).shape, 0, 0};
    if (const Stage* stage = made.value().stage.get(); stage != nullptr) {
      cost.products = stage->products();
      cost.packed_bytes = stage->packed_bytes();
    }
    const Status status = take(op, std::move(made).value());
    if (!status.is_ok()) return told(status);
    made_->costs_.push_back(std::move(cost));
    if (std::find(made_->ops_.begin(), made_->ops_.end(), served->name) == made_->ops_.end())
      made_->ops_.emplace_back(served->name);
    return {};
  }

  Status take(const tflite::Operator& op, Made made) {
    Waiting waiting;
    for (const std::size_t input : made.inputs) {
      const std::size_t home = home_of(op.inputs[input]);
      if (home == kNowhere) return Status::incompatible("an input is a constant");
      lives_[home].last = static_cast<std::int32_t>(stages_.size());
      waiting.inputs.push_back(home);
    }
    if (made.stage == nullptr) {
      home_of(op.outputs[0]) = waiting.inputs[0];
      return {};
    }
    packed_ += made.stage->packed_bytes();
    products_ += made.stage->products();  // of at most 2^10 operators with 2^52 each
    if (packed_ > kMaxPackedBytes)
      return Status::incompatible("more than 256 MiB of weights when packed");
    if (products_ > kMaxProducts)
      return Status::incompatible("more than 2^32 multiplications a row");
    waiting.output = home_of(op.outputs[0]) = new_life(tensor(op.outputs[0]));
    waiting.stage = std::move(made.stage);
    stages_.push_back(std::move(waiting));
    return {};
  }

  void place(std::size_t output) {
    const std::size_t alone = lay_out(lives_) | kAlign;  // odd: rows meet in no set of a cache
    const std::size_t rows = std::clamp<std::size_t>(kBatchBytes / alone, 1, kRowsMax);
    const auto place_of = [&](std::size_t life) { return Place{lives_[life].offset, alone}; };
    for (Waiting& waiting : stages_) {
      std::vector<Place> inputs;
      for (const std::size_t input : waiting.inputs) inputs.push_back(place_of(input));
      waiting.stage->place(std::move(inputs), place_of(waiting.output));
      made_->work_ = std::max(made_->work_, round_up(waiting.stage->work_bytes(), kAlign));
      made_->stages_.push_back(std::move(waiting.stage));
    }
    made_->input_ = place_of(home_of(graph_.input));
    made_->output_ = place_of(output);
    made_->rows_ = rows;
    made_->arena_ = alone;
  }

  const Graph& graph_;
  std::vector<std::size_t> home_;  // of each tensor, its life; several may share one
  std::vector<Life> lives_;
  std::vector<Waiting> stages_;
  std::uint64_t packed_ = 0;
  std::uint64_t products_ = 0;
  std::shared_ptr<NativeExecutor> made_;
};

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
  try {
    EDGECORE_ASSIGN(const Graph graph, tflite::read(file));
    EDGECORE_ASSIGN(const Kernel* kernel, kernel_for(isa));
    return Builder(graph, profile, *kernel).build();
  } catch (const std::bad_alloc&) {
    return Status::exhausted("model: no memory for it");
  }
}

}  // namespace edgecore::inference
