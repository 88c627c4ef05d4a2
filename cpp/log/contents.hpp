// What a log is made of: which segments and which packs are its own, from which sequence each
// partition is kept, and which losses no event tells of yet. One slot of a preallocated file is the
// single point at which rows move from segments to packs, or go. docs/formats/log-side-files.md.
// Encoding and decoding only: no file is touched here.
#pragma once

#include <map>
#include <optional>

#include "log/format.hpp"

namespace edgecore {

// A span of sequences that will never be read, and why.
struct LossRange {
  enum Reason : std::uint8_t {
    kLost = 0,       // to damage
    kBurnt = 1,      // handed out, and then perhaps lost in a crash before it was durable
    kUncertain = 2,  // burnt, and durable rows were among them
    kDropped = 3,    // to make room, as the tier's policy says
    kExpired = 4,    // older than its tier's time to live
    kPurged = 5,     // its key was destroyed
    kThinned = 6,    // all but one block in k, to make room
  };
  std::uint32_t partition = 0;
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  Reason reason = kLost;
  bool operator==(const LossRange&) const = default;
};
inline constexpr std::uint8_t kLossReasons = 7;

// Adds a range, joining it with the last one of the same partition and reason when it goes on.
void add_loss(std::vector<LossRange>& losses, const LossRange& range);

// Both files that name ranges write them so: partition u32, first u64, last u64, reason u32.
inline constexpr std::size_t kLossBytes = 24;
void put_loss(ByteWriter& writer, const LossRange& range);
[[nodiscard]] bool take_loss(ByteReader& reader, LossRange& range);

// One pack file. Packs of one sealing share the positions that they cover, each those of its tier.
struct PackEntry {
  std::uint64_t number = 0;
  std::uint64_t base = 0;  // first position of the sealing
  std::uint64_t end = 0;   // and the one behind its last
  std::uint32_t tier = 0;
  std::uint32_t rows = 0;
  std::uint32_t bytes = 0;  // of the file
  std::uint32_t key = 0;
  std::uint64_t hlc = 0;  // of its newest row
  std::int64_t time_min = 0;
  std::int64_t time_max = 0;
};

namespace wal {

inline constexpr std::uint32_t kPacksMax = 1u << 16;
inline constexpr std::uint32_t kUntoldMax = 256;         // for which there is always room
inline constexpr std::uint32_t kUntoldLimit = 1u << 14;  // damage that a sealing finds, with space
inline constexpr std::uint64_t kContentsBytesMax = 64u << 20;  // of the file
inline constexpr std::size_t kContentsSlotUnit = 4096;         // a slot begins at a multiple of it

struct Kept {
  std::uint64_t first = 1;    // the first sequence that is kept anywhere
  std::uint64_t segment = 1;  // the first one that the segments may hold
};

struct Contents {
  std::uint64_t generation = 0;
  std::uint64_t segment = 0;    // number of the first segment kept; 0: nothing has left one yet
  std::uint64_t position = 1;   // of its first row
  std::uint64_t next_pack = 1;  // a pack file from this number on is none of the log's
  std::uint32_t announced = 0;  // schemas, by number, that rows of the log have named
  std::map<std::uint32_t, Kept> kept;  // by partition
  std::vector<PackEntry> packs;        // in order of number, so also of position
  std::vector<LossRange> untold;       // losses of which edgecore.losses may have no row

  // Of the first row that is kept anywhere.
  std::uint64_t first_position() const { return packs.empty() ? position : packs.front().base; }
};

Bytes encode_contents(const Contents& contents);
// Room that a slot needs so that neither a release nor a drop ever outgrows it, in a log of so many
// partitions.
std::size_t contents_room(const Contents& contents, std::size_t partitions);
// The newer intact slot of the file's bytes; nullopt when none is.
std::optional<Contents> decode_contents(ByteSpan file);
// Whether both slots are intact. Else the intact one may be the older: a cut has left all files
// that it names; where one is gone, the newer slot had been there.
bool contents_whole(ByteSpan file);

}  // namespace wal
}  // namespace edgecore
