// A Python object as the core's Cipher (python/edgecore/trust/at_rest.py has the one there is).
#pragma once

#include "base/cipher.hpp"
#include "bindings/common.hpp"

namespace edgecore::bindings {

// Null for None. The core calls it from its own threads and under its commit lock; so whoever has
// the GIL gives it up before waiting for a core lock that is held across I/O.
std::shared_ptr<Cipher> cipher_of(const py::object& cipher);

}  // namespace edgecore::bindings
