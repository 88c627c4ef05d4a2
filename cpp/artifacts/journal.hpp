// The activation journal on disk: one file, the same state twice, each copy under its own BLAKE3.
//
// What every cut leaves behind, to hold under any loss of unsynced sectors and names:
//   create   a whole file by temporary name, sync, rename, directory sync: no file, or both copies.
//   edge     1 write copy A (N+1)   A torn, B = N            -> N, the edge did not happen
//            2 sync                 A = N+1, B = N           -> N+1
//            3 write copy B (N+1)   A = N+1, B torn          -> N+1
//            4 sync                 A = B = N+1; only now is the edge told to the caller
//   open     the valid copy of the higher generation is the state. Before anybody acts on it:
//            copies differ          rewrite that copy in place with its own bytes, sync (a killed
//                                   process may have left it in the page cache alone), then the
//                                   other, sync. A cut before the first sync leaves A and B as met
//                                   or N; the older copy is not touched until the newer is durable
//            one copy damaged       rewrite the damaged one first, sync: the good one is not at
//            risk copies equal           nothing to do: A was durable before B was written both
//            damaged           Corrupt. No cut and no single flipped byte can do it
// One flipped byte at rest is therefore healed by the other copy and never undoes an edge: a
// counted attempt stays counted.
// After a failed write or sync the journal refuses everything (Unavailable) until it is opened
// again: which of N and N+1 is durable is then decided by the disk alone.
#pragma once

#include <memory>

#include "artifacts/activation.hpp"
#include "base/fs.hpp"

namespace edgecore::artifacts {

// Not thread-safe; one owner (the store holds the lock of the directory).
class Journal {
 public:
  static Result<Journal> open(std::shared_ptr<Fs> fs, const std::string& path);

  const JournalState& state() const { return state_; }
  // Makes `next` the durable state; Ok only when both copies hold it.
  Status save(const JournalState& next);
  // Whether state() is known to be what the disk holds.
  Status usable() const;

 private:
  Journal(std::unique_ptr<File> file, std::string path)
      : file_(std::move(file)), path_(std::move(path)) {}
  Status write_copy(std::size_t which, ByteSpan copy);
  Status recover();

  std::unique_ptr<File> file_;
  std::string path_;
  JournalState state_;
  bool failed_ = false;
};

}  // namespace edgecore::artifacts
