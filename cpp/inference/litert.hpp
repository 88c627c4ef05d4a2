// Runs what the native executor does not serve by the LiteRT C API, found at run time in the
// shared library that the package ai-edge-litert installs. No header, no link: a board without it
// pays nothing.
#pragma once

#include <memory>
#include <string>

#include "base/bytes.hpp"
#include "inference/executor.hpp"

namespace edgecore::inference {

// One int8 input, one int8 output, of one row where the model leaves that open; rounding as
// Profile::kLitertSingle names it. The foreign loader is not hardened: hostile bytes may crash it,
// so a caller tries them in another process first.
// Unavailable: no such library, or one without this API; Incompatible: LiteRT refuses the model.
// `file` is copied. The library stays loaded as long as the process.
Result<std::shared_ptr<const Executor>> load_litert(ByteSpan file, const std::string& library);

}  // namespace edgecore::inference
