// What a recycled segment held before: the bytes of the side file `stale`.
// docs/formats/log-side-files.md. Encoding and decoding only: no file is touched here.
#pragma once

#include "log/format.hpp"

namespace edgecore::wal {

// A checksum of each sector that a recycled file holds when `header`'s segment takes it over: what
// tells its stale bytes from the torn block of a crash.
Bytes encode_stale(const SegmentHeader& header, ByteSpan file);
std::uint64_t stale_slot_bytes(const SegmentHeader& header);
std::uint64_t stale_slot_at(const SegmentHeader& header);
// Whether every sector of `segment` from `from` on is blank, or as `slot` says it was.
bool only_stale(ByteSpan slot, const SegmentHeader& header, ByteSpan segment, std::uint64_t from);

}  // namespace edgecore::wal
