// See litert.hpp. A compiled model may serve one call at a time, so a mutex guards each.
#include "inference/litert.hpp"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <new>

#include "base/tflite.hpp"
#include "inference/litert_api.hpp"

namespace edgecore::inference {
namespace {

constexpr std::size_t kAlign = 64;  // LiteRT takes host memory aligned so

struct AlignedDelete {
  void operator()(std::int8_t* block) const { ::operator delete(block, std::align_val_t{kAlign}); }
};

// An end of the model: its shape, its quantisation, and memory that LiteRT reads or writes.
struct End {
  litert::TensorType type{};
  std::size_t size = 0;
  bool any_batch = false;  // the model leaves the number of rows open: it is made 1
  Quantisation quantisation;
  std::unique_ptr<std::int8_t, AlignedDelete> memory;
  litert::Handle buffer = nullptr;

  std::size_t rank() const { return std::min<std::size_t>(type.rank_and_strides & 0x7fU, 8); }
};

class LitertExecutor final : public Executor {
 public:
  explicit LitertExecutor(const litert::Api& api) : api_(api) {}
  LitertExecutor(const LitertExecutor&) = delete;
  LitertExecutor& operator=(const LitertExecutor&) = delete;
  ~LitertExecutor() override;
  Status open(ByteSpan file);

  std::size_t input_size() const override { return input_.size; }
  std::size_t output_size() const override { return output_.size; }
  Quantisation input_quantisation() const override { return input_.quantisation; }
  Quantisation output_quantisation() const override { return output_.quantisation; }
  std::size_t arena_bytes() const override { return 0; }
  Description describe() const override {
    return {"litert", "", profile_name(Profile::kLitertSingle), {}, {}};
  }
  Status run(const std::int8_t* in, std::int8_t* out, Scratch& scratch) const override {
    return run_batch(in, out, 1, scratch);
  }
  Status run_batch(const std::int8_t* in, std::int8_t* out, std::size_t rows,
                   Scratch& scratch) const override;

 private:
  Status open_end(litert::Handle tensor, const char* what, End& end) const;
  Status open_ends();

  litert::Api api_;
  Bytes file_;  // the model borrows it
  litert::Handle environment_ = nullptr;
  litert::Handle model_ = nullptr;
  litert::Handle options_ = nullptr;
  litert::Handle compiled_ = nullptr;
  End input_;
  End output_;
  mutable std::mutex one_at_a_time_;
};

LitertExecutor::~LitertExecutor() {
  if (input_.buffer != nullptr) api_.destroy_buffer(input_.buffer);
  if (output_.buffer != nullptr) api_.destroy_buffer(output_.buffer);
  if (compiled_ != nullptr) api_.destroy_compiled(compiled_);
  if (options_ != nullptr) api_.destroy_options(options_);
  if (model_ != nullptr) api_.destroy_model(model_);
  if (environment_ != nullptr) api_.destroy_environment(environment_);
}

Status failed(const char* what, litert::Code code) {
  return Status::incompatible("LiteRT: " + std::string(what) + " failed with status " +
                              std::to_string(code));
}

#define EDGECORE_LITERT(call, what)           \
  do {                                        \
    const litert::Code code = call;           \
    if (code != 0) return failed(what, code); \
  } while (false)

Status LitertExecutor::open(ByteSpan file) {
  file_.assign(file.begin(), file.end());
  const litert::Option options[] = {
      {litert::kTagAccelerators, {litert::kAnyInt, litert::kCpu}},
      {litert::kTagLogSeverity, {litert::kAnyInt, litert::kSeverityError}},
  };
  EDGECORE_LITERT(api_.create_environment(2, options, &environment_), "its environment");
  EDGECORE_LITERT(api_.create_model(environment_, file_.data(), file_.size(), &model_),
                  "reading the model");
  EDGECORE_LITERT(api_.create_options(&options_), "its options");
  EDGECORE_LITERT(api_.set_accelerators(options_, litert::kCpu), "choosing the CPU");
  EDGECORE_LITERT(api_.create_compiled(environment_, model_, options_, &compiled_),
                  "compiling the model");
  return open_ends();
}

Status LitertExecutor::open_ends() {
  litert::Handle signature = nullptr;
  litert::Handle in = nullptr;
  litert::Handle out = nullptr;
  std::size_t inputs = 0;
  std::size_t outputs = 0;
  EDGECORE_LITERT(api_.signature(model_, 0, &signature), "its signature");
  EDGECORE_LITERT(api_.input_count(signature, &inputs), "counting inputs");
  EDGECORE_LITERT(api_.output_count(signature, &outputs), "counting outputs");
  if (inputs != 1 || outputs != 1)
    return Status::incompatible("LiteRT: a model with one input and one output is served");
  EDGECORE_LITERT(api_.input_tensor(signature, 0, &in), "its input");
  EDGECORE_LITERT(api_.output_tensor(signature, 0, &out), "its output");
  EDGECORE_TRY(open_end(in, "input", input_));
  if (input_.any_batch) {
    const std::size_t rank = input_.rank();
    EDGECORE_LITERT(api_.resize_input(compiled_, 0, 0, input_.type.dimensions, rank),
                    "asking for one row");
  }
  return open_end(out, "output", output_);
}

Status LitertExecutor::open_end(litert::Handle tensor, const char* what, End& end) const {
  EDGECORE_LITERT(api_.tensor_type(tensor, &end.type), what);
  if (end.type.element != litert::kInt8)
    return Status::incompatible(std::string("LiteRT: the model's ") + what + " is not int8");
  litert::PerTensor found{};
  EDGECORE_LITERT(api_.per_tensor(tensor, &found), what);
  end.quantisation = {found.scale, static_cast<std::int32_t>(found.zero_point)};
  std::uint64_t size = 1;
  end.any_batch = end.rank() > 1 && end.type.dimensions[0] == -1;
  if (end.any_batch) end.type.dimensions[0] = 1;
  for (std::size_t i = 0; i < end.rank(); ++i) {
    if (end.type.dimensions[i] < 1)
      return Status::incompatible(std::string("LiteRT: the model's ") + what +
                                  " has no fixed size");
    size *= static_cast<std::uint64_t>(end.type.dimensions[i]);
    if (size > tflite::kMaxTensorElements)
      return Status::incompatible(std::string("LiteRT: the model's ") + what + " is too large");
  }
  end.size = static_cast<std::size_t>(size);
  // Kernels may read and write up to a whole vector past the end.
  const std::size_t bytes = (end.size + 2 * kAlign - 1) / kAlign * kAlign;
  end.memory.reset(
      static_cast<std::int8_t*>(::operator new(bytes, std::align_val_t{kAlign}, std::nothrow)));
  if (end.memory == nullptr) return Status::exhausted("LiteRT: no memory for its buffers");
  std::memset(end.memory.get(), 0, bytes);
  EDGECORE_LITERT(api_.create_buffer(&end.type, end.memory.get(), end.size, nullptr, &end.buffer),
                  what);
  return {};
}

Status LitertExecutor::run_batch(const std::int8_t* in, std::int8_t* out, std::size_t rows,
                                 Scratch&) const {
  const std::lock_guard lock(one_at_a_time_);
  litert::Handle from = input_.buffer;
  litert::Handle to = output_.buffer;
  for (std::size_t row = 0; row < rows; ++row) {
    std::memcpy(input_.memory.get(), in + row * input_.size, input_.size);
    const litert::Code code = api_.run(compiled_, 0, 1, &from, 1, &to);
    if (code != 0)
      return Status::unavailable("LiteRT: a run failed with status " + std::to_string(code));
    std::memcpy(out + row * output_.size, output_.memory.get(), output_.size);
  }
  return {};
}

}  // namespace

Result<std::shared_ptr<const Executor>> load_litert(ByteSpan file, const std::string& library) {
  EDGECORE_ASSIGN(const litert::Api api, litert::open_api(library));
  auto made = std::make_shared<LitertExecutor>(api);
  EDGECORE_TRY(made->open(file));
  return std::shared_ptr<const Executor>(std::move(made));
}

}  // namespace edgecore::inference
