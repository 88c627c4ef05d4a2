// Fuzz target: any bytes, loaded as a model on every profile, run if they load.
#include <cstdlib>
#include <vector>

#include "inference/model.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace edgecore;
  for (const auto profile :
       {inference::Profile::kLitertSingle, inference::Profile::kTfliteDouble}) {
    const auto made = inference::load_native(std::as_bytes(std::span(data, size)), profile);
    if (!made.is_ok()) {
      const Outcome outcome = made.status().outcome();
      if (outcome != Outcome::kCorrupt && outcome != Outcome::kIncompatible) std::abort();
      continue;
    }
    const std::vector<std::int8_t> in(made.value()->input_size(), 7);
    std::vector<std::int8_t> out(made.value()->output_size());
    inference::Scratch scratch;
    if (!made.value()->run(in.data(), out.data(), scratch).is_ok()) std::abort();
  }
  return 0;
}
