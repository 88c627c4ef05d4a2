// CRC-32C (Castagnoli polynomial 0x1EDC6F41, reflected, RFC 3720 appendix B.4): the checksum of
// everything small that the core writes. Hardware instruction where the CPU has one.
#pragma once

#include <cstdint>

#include "base/bytes.hpp"

namespace edgecore {

// Continues `crc` (0 to begin) over `bytes`.
std::uint32_t crc32c(ByteSpan bytes, std::uint32_t crc = 0);

}  // namespace edgecore
