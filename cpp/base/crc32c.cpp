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
#define EDGECORE_CRC_TARGET __attribute__((target("sse4.2")))
EDGECORE_CRC_TARGET inline std::uint32_t step(std::uint32_t crc, std::uint64_t word) {
  return static_cast<std::uint32_t>(_mm_crc32_u64(crc, word));
}
EDGECORE_CRC_TARGET inline std::uint32_t step(std::uint32_t crc, std::byte byte) {
  return _mm_crc32_u8(crc, static_cast<std::uint8_t>(byte));
}
bool has_hardware() {
  return __builtin_cpu_supports("sse4.2") != 0;
}
#elif defined(__aarch64__)
#define EDGECORE_CRC_TARGET __attribute__((target("+crc")))
EDGECORE_CRC_TARGET inline std::uint32_t step(std::uint32_t crc, std::uint64_t word) {
  return __crc32cd(crc, word);
}
EDGECORE_CRC_TARGET inline std::uint32_t step(std::uint32_t crc, std::byte byte) {
  return __crc32cb(crc, static_cast<std::uint8_t>(byte));
}
bool has_hardware() {
  return (getauxval(AT_HWCAP) & (1u << 7)) != 0;  // HWCAP_CRC32
}
#endif

#if defined(EDGECORE_CRC_TARGET)
constexpr std::size_t kStripe = 1024;  // bytes

EDGECORE_CRC_TARGET std::uint32_t one_stream(const std::byte* at, std::size_t count,
                                             std::uint32_t crc) {
  for (; count >= 8; at += 8, count -= 8) crc = step(crc, load_le<std::uint64_t>(at));
  for (; count > 0; ++at, --count) crc = step(crc, *at);
  return crc;
}

// What a stripe of zeros makes of a checksum, which is linear: by its four bytes.
using Shift = std::array<std::array<std::uint32_t, 256>, 4>;

Shift make_shift() {
  const std::array<std::byte, kStripe> zeros{};
  Shift shift{};
  for (std::size_t byte = 0; byte < 4; ++byte)
    for (std::uint32_t value = 1; value < 256; ++value) {
      const std::uint32_t lowest = value & (~value + 1);
      shift[byte][value] = value == lowest ? one_stream(zeros.data(), kStripe, value << (8 * byte))
                                           : shift[byte][lowest] ^ shift[byte][value ^ lowest];
    }
  return shift;
}

// The instruction takes three cycles, but one can begin in each: long inputs are cut into three
// stripes that go side by side.
EDGECORE_CRC_TARGET std::uint32_t hardware(const std::byte* at, std::size_t count,
                                           std::uint32_t crc) {
  if (count < 3 * kStripe) return one_stream(at, count, crc);
  static const Shift shift = make_shift();
  const auto shifted = [](std::uint32_t value) {
    return shift[0][value & 255] ^ shift[1][value >> 8 & 255] ^ shift[2][value >> 16 & 255] ^
           shift[3][value >> 24];
  };
  for (; count >= 3 * kStripe; at += 3 * kStripe, count -= 3 * kStripe) {
    std::uint32_t second = 0, third = 0;
    for (std::size_t i = 0; i < kStripe; i += 8) {
      crc = step(crc, load_le<std::uint64_t>(at + i));
      second = step(second, load_le<std::uint64_t>(at + kStripe + i));
      third = step(third, load_le<std::uint64_t>(at + 2 * kStripe + i));
    }
    crc = shifted(shifted(crc) ^ second) ^ third;
  }
  return one_stream(at, count, crc);
}
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
