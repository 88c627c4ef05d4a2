// Opens a .tflite file as a native executor: verified first, weights packed once.
#pragma once

#include <memory>

#include "base/bytes.hpp"
#include "inference/executor.hpp"

namespace edgecore::inference {

enum class Isa : std::uint8_t {
  kBest = 0,
  kPortable = 1,
  kAvx512Vnni = 2,
  kAvx2 = 3,
  kNeonDot = 4,
  kNeon = 5
};

// Multiplications of one row: what a hostile file may ask of a processor.
constexpr std::uint64_t kMaxProducts = std::uint64_t{1} << 32;

// Corrupt: the bytes are malformed; Incompatible: well-formed, but an operator, a type or this
// processor (when `isa` is forced) is not served, or a limit is passed; Exhausted: no memory.
// `file` need not outlive the executor.
Result<std::shared_ptr<const Executor>> load_native(ByteSpan file, Profile profile,
                                                    Isa isa = Isa::kBest);

}  // namespace edgecore::inference
