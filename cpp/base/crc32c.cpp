#include "base/crc32c.hpp"

#include <array>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <sys/auxv.h>
#endif

namespace edgecore {
namespace {

using Tables = std::array<std::array<std::uint32_t, 256>, 8>;

constexpr Tables kTables = [] {
  Tables tables{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? 0x82F63B78u : 0u);
    tables[0][i] = crc;
  }
  for (std::size_t t = 1; t < 8; ++t)
    for (std::uint32_t i = 0; i < 256; ++i)
      tables[t][i] = (tables[t - 1][i] >> 8) ^ tables[0][tables[t - 1][i] & 255];
  return tables;
}();

std::uint32_t portable(const std::byte* at, std::size_t count, std::uint32_t crc) {
  for (; count >= 8; at += 8, count -= 8) {
    const std::uint64_t word = load_le<std::uint64_t>(at) ^ crc;
    crc = 0;
    for (std::size_t i = 0; i < 8; ++i) crc ^= kTables[7 - i][(word >> (8 * i)) & 255];
  }
  for (; count > 0; ++at, --count)
    crc = (crc >> 8) ^ kTables[0][(crc ^ static_cast<std::uint32_t>(*at)) & 255];
  return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) std::uint32_t hardware(const std::byte* at, std::size_t count,
                                                         std::uint32_t crc) {
  std::uint64_t wide = crc;
  for (; count >= 8; at += 8, count -= 8) wide = _mm_crc32_u64(wide, load_le<std::uint64_t>(at));
  crc = static_cast<std::uint32_t>(wide);
  for (; count > 0; ++at, --count) crc = _mm_crc32_u8(crc, static_cast<std::uint8_t>(*at));
  return crc;
}
bool has_hardware() {
  return __builtin_cpu_supports("sse4.2") != 0;
}
#elif defined(__aarch64__)
__attribute__((target("+crc"))) std::uint32_t hardware(const std::byte* at, std::size_t count,
                                                       std::uint32_t crc) {
  for (; count >= 8; at += 8, count -= 8) crc = __crc32cd(crc, load_le<std::uint64_t>(at));
  for (; count > 0; ++at, --count) crc = __crc32cb(crc, static_cast<std::uint8_t>(*at));
  return crc;
}
bool has_hardware() {
  return (getauxval(AT_HWCAP) & (1u << 7)) != 0;
}  // HWCAP_CRC32
#else
std::uint32_t hardware(const std::byte* at, std::size_t count, std::uint32_t crc) {
  return portable(at, count, crc);
}
bool has_hardware() {
  return false;
}
#endif

}  // namespace

std::uint32_t crc32c(ByteSpan bytes, std::uint32_t crc) {
  static const auto kernel = has_hardware() ? &hardware : &portable;
  return ~kernel(bytes.data(), bytes.size(), ~crc);
}

}  // namespace edgecore
