// The durable mark: up to where the log was known to be on stable storage, in a file of two slots
// written in turn, each in a sector of its own: a torn write costs the newer one only.
// docs/formats/log-side-files.md.
#pragma once

#include <optional>

#include "base/bytes.hpp"

namespace edgecore::wal {

inline constexpr std::uint64_t kMarkSlotBytes = 4096;

struct Mark {
  std::uint64_t generation = 0;
  std::uint64_t epoch = 0;
  std::uint64_t position = 0;  // of the last row on stable storage
  std::uint64_t segment = 0;   // number of the segment written then
  bool clean = false;          // written by an orderly close
};

Bytes encode_mark(const Mark& mark);
// The newer intact slot of the file's bytes; nullopt when none is.
std::optional<Mark> decode_marks(ByteSpan file);

}  // namespace edgecore::wal
