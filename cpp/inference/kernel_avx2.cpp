// The kernel of x86-64 processors with AVX2.
#include "inference/layer.hpp"

namespace edgecore::inference {
const Kernel* avx2_kernel() {
  return nullptr;
}
}  // namespace edgecore::inference
