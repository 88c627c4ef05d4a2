// The keys that a log's files are encrypted with, wrapped, in a file beside them: one page per key,
// written before the key encrypts anything and blanked when nothing that it has encrypted is left.
// docs/formats/keys.md.
//
// What a cut leaves: a page that is torn, whose key never encrypted anything; a key of which the
// log has no file, which the next open forgets.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <set>

#include "base/cipher.hpp"
#include "base/fs.hpp"
#include "log/format.hpp"

namespace edgecore {

// What a key encrypts: one segment, or the packs of one tier that one open makes in one period.
struct KeyUse {
  enum Kind : std::uint16_t { kSegment = 1, kPack = 2 };
  Kind kind = kSegment;
  std::uint16_t tier = 0;
  std::uint64_t of = 0;  // the segment's number, or the period
  bool operator==(const KeyUse&) const = default;
};

// Days since 1970, UTC, by the hybrid clock: for so long a key of packs is used.
constexpr std::uint64_t key_period(std::uint64_t hlc) {
  return (hlc >> 16) / 86'400'000;
}

struct KeyEntry {
  std::uint32_t id = 0;  // 1 on
  std::uint16_t cipher = 0;
  bool destroyed = false;
  KeyUse use;
  Bytes wrapped;  // empty when destroyed
};

namespace wal {

inline constexpr std::uint64_t kKeyPageBytes = 4096;  // two copies of 2048 bytes
inline constexpr std::size_t kWrappedBytesMax = 1024;

Bytes encode_key(const KeyEntry& entry, const StoreId& store);  // a page
// The first intact copy that is of this store; nullopt when neither is.
std::optional<KeyEntry> decode_key(ByteSpan page, const StoreId& store);
// What the wrapping of a key is bound to.
Bytes key_context(const KeyEntry& entry, const StoreId& store);

}  // namespace wal

// Thread-safe for those who read; make, destroy, forget and keep_only are for one at a time. No
// lock is held while the cipher is called.
class KeyRing {
 public:
  // Reads the file, if there is one. Without a cipher what stands in it is known, and no key opens.
  static Result<std::shared_ptr<KeyRing>> open(std::shared_ptr<Fs> fs, const std::string& directory,
                                               const StoreId& store,
                                               std::shared_ptr<Cipher> cipher);

  enum class State : std::uint8_t { kLive, kDestroyed, kUnknown };
  State state(std::uint32_t id) const;
  // Whether there is a file.
  bool present() const;
  bool has_cipher() const { return cipher_ != nullptr; }
  // Unavailable without a cipher or when the key is not there, Untrusted when it does not unwrap.
  Result<std::shared_ptr<CipherKey>> find(std::uint32_t id) const;
  std::vector<KeyEntry> entries() const;

  struct Made {
    std::uint32_t id = 0;
    std::uint16_t cipher = 0;
    std::shared_ptr<CipherKey> key;
  };
  // A new key, on stable storage when this returns.
  Result<Made> make(const KeyUse& use);
  // Overwrites keys whose files remain: what they have encrypted can't be read again, and is known
  // to be so. Needs no space.
  Status destroy(const std::set<std::uint32_t>& ids);
  // Blanks the pages of keys that have no file any more. Needs no space.
  Status forget(const std::set<std::uint32_t>& ids);
  // Forgets all but these, which files name; a new key has a number above them.
  Status keep_only(const std::set<std::uint32_t>& live);

 private:
  KeyRing(std::shared_ptr<Fs> fs, const std::string& directory, const StoreId& store,
          std::shared_ptr<Cipher> cipher);
  Status read();
  Status write_page(std::size_t page, ByteSpan bytes);
  Result<std::size_t> free_page();
  std::optional<KeyEntry> entry(std::uint32_t id) const;

  std::shared_ptr<Fs> fs_;
  std::string directory_;
  std::string path_;
  StoreId store_;
  std::shared_ptr<Cipher> cipher_;

  mutable std::mutex mutex_;  // guards the two below; never held across I/O or the cipher
  std::map<std::uint32_t, KeyEntry> entries_;
  bool present_ = false;

  std::unique_ptr<File> file_;
  std::map<std::uint32_t, std::size_t> page_of_;
  std::size_t pages_ = 0;        // in the file
  std::set<std::size_t> taken_;  // pages of keys, and those that are not to be used again
  std::set<std::size_t> damaged_;
  std::set<std::uint32_t> half_destroyed_;
  std::uint32_t next_id_ = 1;
};

}  // namespace edgecore
