// The kernel of x86-64 processors with AVX-512 VNNI.
#include "inference/layer.hpp"

namespace edgecore::inference {
const Kernel* avx512_vnni_kernel() {
  return nullptr;
}
}  // namespace edgecore::inference
