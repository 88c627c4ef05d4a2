// The artifact store: immutable objects named by their BLAKE3, resumable staging of new ones, and
// the journal of the release that runs (docs/formats/artifact-store.md).
//
//     lock                     held by the one owner
//     journal                  see journal.hpp
//     objects/<64 hex>         a whole object; the name is its checksum
//     objects/<hex>.new        put in progress
//     objects/<hex>.part       staging: bytes received, at their place; else zeros
//     objects/<hex>.progress   staging: header and the CRC-32C of every chunk that is held
//
// What every cut leaves behind, to hold under any loss of unsynced sectors and names:
//   put      1 write .new  2 sync  3 read back and check the digest  4 rename  5 directory sync
//            before 4 is durable: nothing, or a .new of any content, removed at open
//            from 4 on: the whole object under its name, since its bytes were durable before
//   stage    1 create .part at its full size, sync  2 .progress by temporary name, sync, rename
//            3 directory sync
//            a .part without a .progress, or the reverse: removed at open, nothing was received
//   write    1 write bytes into .part  2 sync  3 write chunk CRCs into .progress  4 sync
//            before 4: a chunk counts as held only if its CRC entry is there and the bytes in .part
//            match it, whichever of the two survived; else it is fetched again
//   finish   1 read .part back, check the digest of the whole  2 rename .part  3 directory sync
//            4 remove .progress. Before 2 is durable: the staging as it was; after: the object, and
//            perhaps an orphaned .progress, removed at open
//   gc       unlink, then directory sync: any subset is gone; none of it was referenced by the
//            journal's durable state or by an open staging
//   stage_release, begin_trial, activate, roll_back to the previous release: directory sync, every
//            object read back and checked, and only then the journal edge. So no durable journal
//            state names a release whose objects were not durable and whole when it was written
// What a running process reads may be in the page cache alone (the one before was killed): open
// syncs the directory before it trusts a name; bytes under a final name were synced before rename.
//
// The digest is checked on every read, so a flipped byte is Corrupt and never served. Length is
// checked against quota, free space and kObjectBytesMax before a byte is written.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>

#include "artifacts/activation.hpp"
#include "artifacts/journal.hpp"
#include "base/fs.hpp"

namespace edgecore::artifacts {

inline constexpr std::uint64_t kObjectBytesMax = std::uint64_t{1} << 30;
inline constexpr std::uint64_t kQuotaBytesDefault = std::uint64_t{256} << 20;
inline constexpr std::uint64_t kSpareBytes = 64 * 1024;  // left free on the disk by staging and put
inline constexpr std::size_t kPieceBytes = 64 * 1024;    // of streamed reads

struct ObjectInfo {
  Digest digest{};
  std::uint64_t length = 0;
};

class Staging;

// Thread-safe: one mutex, held across I/O. Stagings keep the store alive.
class ArtifactStore : public std::enable_shared_from_this<ArtifactStore> {
 public:
  // Unavailable when another process has it open.
  static Result<std::shared_ptr<ArtifactStore>> open(std::shared_ptr<Fs> fs, std::string directory,
                                                     std::uint64_t quota_bytes);

  Result<Digest> put(ByteSpan object);      // Exhausted over quota or on a full disk
  Result<Bytes> get(const Digest& digest);  // Unavailable when not held, Corrupt when damaged
  Status verify(const Digest& digest);      // get without the memory
  bool has(const Digest& digest) const;     // held, whole or damaged
  std::vector<ObjectInfo> objects() const;  // by digest
  std::uint64_t used_bytes() const;         // objects, and stagings at their full length

  // Begins or resumes; a held object is checked and needs nothing more, a damaged one is dropped.
  Result<std::unique_ptr<Staging>> stage(const Digest& digest, std::uint64_t length);

  // Removes every object and closed staging that neither `keep` nor the journal names. The number
  // of files removed.
  Result<std::size_t> gc(const std::set<Digest>& keep);

  JournalState state() const;
  // Each is durable when Ok is returned. Corrupt or Unavailable when an object of the release is
  // damaged or missing; the state is then unchanged.
  Status stage_release(Release release);
  Status begin_trial();
  Status activate();
  Status mark_stable();
  // Leaves nothing active when the previous release is damaged (see state().reason).
  Status roll_back(std::string_view reason, const std::optional<Digest>& which);

 private:
  friend class Staging;
  ArtifactStore(std::shared_ptr<Fs> fs, const std::string& directory, std::uint64_t quota_bytes)
      : fs_(std::move(fs)), directory_(join_path(directory, "objects")), quota_(quota_bytes) {}
  std::string path_of(const Digest& digest, std::string_view suffix = "") const;
  Status scan();
  Status scan_object(const std::string& name, const Digest& digest);
  Status scan_staging(const Digest& digest);
  Status check_room(std::uint64_t length, std::uint64_t to_write) const;
  Status check_object(const Digest& digest) const;
  Status check_release(const Release& release) const;
  Status check_file(const std::string& path, const Digest& digest) const;
  Status settle(const Digest& digest, std::uint64_t length, std::string_view suffix);
  Status forget(const Digest& digest);  // a damaged object
  std::uint64_t used() const;
  Status save(Result<JournalState> next);

  std::shared_ptr<Fs> fs_;
  std::string directory_;  // of objects
  std::uint64_t quota_;
  std::unique_ptr<FileLock> lock_;
  mutable std::mutex mutex_;
  std::map<Digest, std::uint64_t> objects_;   // length on disk
  std::map<Digest, std::uint64_t> stagings_;  // length to be
  std::set<Digest> open_stagings_;
  std::optional<Journal> journal_;
};

}  // namespace edgecore::artifacts
