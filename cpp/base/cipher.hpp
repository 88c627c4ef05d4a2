// The seam to encryption at rest. The core has no cryptography of its own: a shell gives it a
// Cipher, which makes keys, keeps them wrapped by a key that the core never sees, and seals and
// opens spans with them. docs/adr/0024-encryption-at-rest.md.
//
// Contract
// - A key is random, made here and now, from the operating system's entropy; nobody else has it.
// - The caller never gives one key the same nonce twice, not after a crash either.
// - What is sealed opens only under the same key, nonce and associated data. `open` answers
//   Untrusted when it does not, and nothing else with that word.
// - Calls may come from any thread, and may wait for an interpreter's lock: a caller holds no lock
//   that someone who has that one waits for.
#pragma once

#include <array>
#include <memory>

#include "base/bytes.hpp"
#include "base/status.hpp"

namespace edgecore {

inline constexpr std::size_t kNonceBytes = 12;
inline constexpr std::size_t kTagBytes = 16;
using Nonce = std::array<std::byte, kNonceBytes>;

// As file headers name them. Both take 32-byte keys.
enum CipherId : std::uint16_t { kPlain = 0, kChaCha20Poly1305 = 1, kAes256Gcm = 2 };

class CipherKey {
 public:
  virtual ~CipherKey() = default;
  // `out` holds plain.size() + kTagBytes and may begin where `plain` does. After an error nothing
  // of it is used.
  virtual Status seal(const Nonce& nonce, ByteSpan associated, ByteSpan plain,
                      std::span<std::byte> out) = 0;
  // `out` holds sealed.size() - kTagBytes and may begin where `sealed` does.
  virtual Status open(const Nonce& nonce, ByteSpan associated, ByteSpan sealed,
                      std::span<std::byte> out) = 0;
};

class Cipher {
 public:
  virtual ~Cipher() = default;
  virtual std::uint16_t id() const = 0;  // of the keys that it makes
  // A new key, wrapped. `context` says what the key is for; it opens with the same context alone.
  virtual Result<Bytes> make_key(ByteSpan context) = 0;
  // Untrusted when it was wrapped by another key than the cipher's own, or for another context.
  virtual Result<std::shared_ptr<CipherKey>> open_key(std::uint16_t id, ByteSpan wrapped,
                                                      ByteSpan context) = 0;
};

}  // namespace edgecore
