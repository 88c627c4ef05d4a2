// See litert_api.hpp.
#include "inference/litert_api.hpp"

#include <dlfcn.h>

namespace edgecore::inference::litert {
namespace {

// Finds functions until one is missing, and remembers which.
class Finder {
 public:
  explicit Finder(void* library) : library_(library) {}
  template <typename F>
  void find(const char* name, F& out) {
    out = reinterpret_cast<F>(::dlsym(library_, name));
    if (out == nullptr && missing_ == nullptr) missing_ = name;
  }
  const char* missing() const { return missing_; }

 private:
  void* library_;
  const char* missing_ = nullptr;
};

}  // namespace

Result<Api> open_api(const std::string& library) {
  void* handle = ::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* why = ::dlerror();
    return Status::unavailable("LiteRT: " + std::string(why == nullptr ? "not found" : why) +
                               "; install edgecore[litert]");
  }
  Finder in(handle);
  Api api{};
  in.find("LiteRtCreateEnvironment", api.create_environment);
  in.find("LiteRtDestroyEnvironment", api.destroy_environment);
  in.find("LiteRtCreateModelFromBuffer", api.create_model);
  in.find("LiteRtDestroyModel", api.destroy_model);
  in.find("LiteRtCreateOptions", api.create_options);
  in.find("LiteRtDestroyOptions", api.destroy_options);
  in.find("LiteRtSetOptionsHardwareAccelerators", api.set_accelerators);
  in.find("LiteRtCreateCompiledModel", api.create_compiled);
  in.find("LiteRtDestroyCompiledModel", api.destroy_compiled);
  in.find("LiteRtCompiledModelResizeInputTensor", api.resize_input);
  in.find("LiteRtGetModelSignature", api.signature);
  in.find("LiteRtGetNumSignatureInputs", api.input_count);
  in.find("LiteRtGetNumSignatureOutputs", api.output_count);
  in.find("LiteRtGetSignatureInputTensorByIndex", api.input_tensor);
  in.find("LiteRtGetSignatureOutputTensorByIndex", api.output_tensor);
  in.find("LiteRtGetRankedTensorType", api.tensor_type);
  in.find("LiteRtGetPerTensorQuantization", api.per_tensor);
  in.find("LiteRtCreateTensorBufferFromHostMemory", api.create_buffer);
  in.find("LiteRtDestroyTensorBuffer", api.destroy_buffer);
  in.find("LiteRtRunCompiledModel", api.run);
  if (in.missing() != nullptr)
    return Status::unavailable("LiteRT: " + library + " has no " + in.missing() +
                               "; install ai-edge-litert 2.3");
  return api;
}

}  // namespace edgecore::inference::litert
