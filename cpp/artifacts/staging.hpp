// One object on its way in: bytes arrive in pieces, over as many links and power cuts as it takes.
// What every cut leaves behind is listed in store.hpp.
//
// Progress is kept in chunks of kChunkBytes. A chunk is held when its bytes and its CRC entry are
// durable; held chunks are never written again. At finish the whole is read back and its BLAKE3
// compared: a CRC decides only what need not be fetched again, never what is true.
#pragma once

#include "artifacts/store.hpp"

namespace edgecore::artifacts {

inline constexpr std::uint64_t kChunkBytes = 16 * 1024;

struct Range {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

// Thread-safe. At most one exists per object; when it is destroyed, what is held stays on disk for
// the next ArtifactStore::stage.
class Staging {
 public:
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  std::uint64_t length() const { return length_; }
  // Bytes held from the start on without a gap: where a sequential download goes on.
  std::uint64_t received() const;
  std::vector<Range> missing() const;
  // Within a chunk bytes come in order from its start (Invalid otherwise); chunks in any order.
  // Bytes of held chunks are skipped. Chunks completed by this call are durable when it returns.
  // Exhausted on a full disk: what was received stays. After a failed sync: Unavailable for good,
  // stage again.
  Status write(std::uint64_t offset, ByteSpan bytes);
  // Makes it an object. Invalid while bytes are missing; Corrupt when the whole has another digest,
  // and then nothing is kept.
  Status finish();

 private:
  friend class ArtifactStore;
  Staging(std::shared_ptr<ArtifactStore> store, const Digest& digest, std::uint64_t length);
  Status open_files();
  Status create_files();
  Status load_progress();
  Status write_piece(std::uint64_t offset, ByteSpan bytes);
  Status checkpoint();
  Status fail(const Status& status);
  void discard();
  std::uint64_t chunk_size(std::size_t index) const;
  std::uint64_t held_bytes() const;

  std::shared_ptr<ArtifactStore> store_;
  Digest digest_;
  std::uint64_t length_;
  bool complete_ = false;  // the object is held
  bool failed_ = false;
  std::unique_ptr<File> part_;
  std::unique_ptr<File> progress_;
  std::vector<bool> held_;
  struct Fresh {
    std::size_t index;
    std::uint32_t crc;
  };
  std::vector<Fresh> fresh_;  // written whole, not yet durable; in order of index
  struct Partial {
    std::size_t index = 0;
    std::uint64_t filled = 0;
    std::uint32_t crc = 0;
  };
  std::optional<Partial> partial_;
};

// The object length that a progress file speaks of, or Corrupt. Seen by the store's scan.
Result<std::uint64_t> progress_length(ByteSpan header, const Digest& digest);
inline constexpr std::size_t kProgressHeaderBytes = 64;

}  // namespace edgecore::artifacts
