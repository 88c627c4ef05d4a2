// Texts as numbers, so that a window can hold them, a reading can answer with them and a binding's
// vocabulary can name them.
#pragma once

#include <cstdint>
#include <string_view>

namespace edgecore::features {

inline constexpr std::int64_t kCategoryCodes = std::int64_t{1} << 52;  // a double holds each

// 0 to kCategoryCodes - 1: 64-bit FNV-1a of the bytes, mixed as MurmurHash3 ends, its upper 52
// bits. The same everywhere and for ever. Of a thousand texts two share a code once in 9 * 10^9.
inline std::int64_t category_code(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char one : text) hash = (hash ^ static_cast<unsigned char>(one)) * 0x100000001b3u;
  hash = (hash ^ hash >> 33) * 0xff51afd7ed558ccdu;
  hash = (hash ^ hash >> 33) * 0xc4ceb9fe1a85ec53u;
  return static_cast<std::int64_t>((hash ^ hash >> 33) >> 12);
}

}  // namespace edgecore::features
