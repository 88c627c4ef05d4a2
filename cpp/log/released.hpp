// What a log has released, and what a recycled segment held before: the bytes of two side files.
// docs/formats/log-side-files.md. Encoding and decoding only: no file is touched here.
#pragma once

#include <map>
#include <optional>

#include "log/format.hpp"

namespace edgecore::wal {

inline constexpr std::uint64_t kReleasedSlotBytes = 69632;  // a table of kPartitionsMax fits

// The segments below `segment` are no part of the log any more. On stable storage before the first
// of their files is freed, so that what is gone is told from what is lost.
struct Released {
  std::uint64_t generation = 0;
  std::uint64_t segment = 0;    // number of the first segment kept; 0: nothing was released
  std::uint64_t position = 1;   // of its first row
  std::uint32_t announced = 0;  // schemas, by number, that rows of the log have named
  std::map<std::uint32_t, std::uint64_t> starts;  // partition -> the first sequence kept
};

Bytes encode_released(const Released& released);
// The newer intact slot of the file's bytes; nullopt when none is.
std::optional<Released> decode_released(ByteSpan file);

// A checksum of each sector that a recycled file holds when `header`'s segment takes it over: what
// tells its stale bytes from the torn block of a crash.
Bytes encode_stale(const SegmentHeader& header, ByteSpan file);
std::uint64_t stale_slot_bytes(const SegmentHeader& header);
std::uint64_t stale_slot_at(const SegmentHeader& header);
// Whether every sector of `segment` from `from` on is blank, or as `slot` says it was.
bool only_stale(ByteSpan slot, const SegmentHeader& header, ByteSpan segment, std::uint64_t from);

}  // namespace edgecore::wal
