// Which files are the log's: reading and writing `contents`, and removing what it no longer names.
#include <algorithm>

#include "log/log.hpp"

namespace edgecore {
namespace {

constexpr std::uint64_t kSlotBytesMin = 12 * 1024;

}  // namespace

Status Log::read_contents() {
  const std::string path = contents_path(directory_);
  EDGECORE_ASSIGN(const bool there, fs_->exists(path));
  if (!there) return Status::ok();
  EDGECORE_ASSIGN(const Bytes bytes, read_file(*fs_, path, wal::kContentsBytesMax));
  auto found = wal::decode_contents(bytes);
  bool known = found.has_value();
  if (known && !wal::contents_whole(bytes)) {
    EDGECORE_ASSIGN(known, all_there(*found));
  }
  if (!known) {
    EDGECORE_ASSIGN(found, rebuild_contents());
    rebuilt_ = true;
  } else if (bytes.size() % (2 * wal::kContentsSlotUnit) == 0) {
    contents_slot_ = bytes.size() / 2;
  }
  next_pack_ = found->next_pack;
  contents_ = std::make_shared<const wal::Contents>(std::move(*found));
  return Status::ok();
}

Result<bool> Log::all_there(const wal::Contents& contents) const {
  for (const PackEntry& pack : contents.packs) {
    EDGECORE_ASSIGN(const bool there, fs_->exists(pack_path(directory_, pack.number)));
    if (!there) return false;
  }
  return contents.segment == 0 ? true : fs_->exists(segment_path(directory_, contents.segment));
}

// No slot is intact, or the older one alone: what the log is made of is told by its files. A
// sealing of which the first segment is still there may not have come to its end, so the segments
// count; else the packs do, and segments that they cover are what a crash has left. What was
// released before is not known any more, but that nothing of it is here.
Result<wal::Contents> Log::rebuild_contents() const {
  EDGECORE_ASSIGN(const auto names, fs_->list(directory_));
  std::vector<wal::SegmentHeader> headers;
  std::vector<std::pair<PackIndex, std::size_t>> packs;
  wal::Contents out;
  for (const std::string& name : names) {
    const std::string path = join_path(directory_, name);
    if (name.starts_with("wal-")) {
      EDGECORE_ASSIGN(const auto file, fs_->open(path, OpenMode::kRead));
      Bytes page(wal::kHeaderBytes);
      EDGECORE_ASSIGN(const std::size_t got, file->read_at(0, page));
      const auto header = wal::decode_header(ByteSpan(page).first(got));
      if (header.is_ok()) headers.push_back(header.value());
    } else if (name.starts_with("pack-")) {
      EDGECORE_ASSIGN(const Bytes bytes, read_file(*fs_, path, UINT32_MAX));
      auto index = decode_pack(bytes);
      if (index.is_ok()) packs.emplace_back(std::move(index).value(), bytes.size());
    }
  }
  for (const auto& [index, bytes] : packs) {
    out.next_pack = std::max(out.next_pack, index.number + 1);
    const std::uint64_t base = index.base;
    if (std::any_of(headers.begin(), headers.end(),
                    [&](const auto& header) { return header.base_position == base; }))
      continue;
    out.packs.push_back(index.entry(bytes));
    out.position = std::max(out.position, index.end);
    for (const PackRange& range : index.ranges) {
      wal::Kept& kept =
          out.kept.try_emplace(range.partition, wal::Kept{range.first, 1}).first->second;
      kept.first = std::min(kept.first, range.first);
      kept.segment = std::max(kept.segment, range.end);
    }
  }
  for (const wal::SegmentHeader& header : headers)
    if (header.base_position >= out.position) {
      out.segment = header.number;
      out.position = header.base_position;
      break;
    }
  return out;
}

// Made whole before it is first needed, and again before a slot grows too small, so that a release
// needs no space.
Status Log::open_contents(const wal::Contents& next) {
  const std::string path = contents_path(directory_);
  const std::uint64_t room = wal::contents_room(next, catalogue_.entries.size());
  if (room > contents_slot_) {
    const std::uint64_t slot =
        wal::round_up(std::max<std::uint64_t>(kSlotBytesMin, 2 * room), 4096);
    Bytes file = wal::encode_contents(*contents_);
    const std::uint64_t at = contents_->generation % 2 * slot;
    file.insert(file.begin(), at, std::byte{0});
    file.resize(2 * slot);
    contents_file_.reset();
    EDGECORE_TRY(write_file_atomic(*fs_, path, file));
    contents_slot_ = slot;
  }
  if (contents_file_ != nullptr) return Status::ok();
  EDGECORE_ASSIGN(contents_file_, fs_->open(path, OpenMode::kReadWrite));
  return Status::ok();
}

Status Log::write_contents(const wal::Contents& next) {
  EDGECORE_TRY(open_contents(next));
  const Bytes slot = wal::encode_contents(next);
  Status status = contents_file_->write_at(next.generation % 2 * contents_slot_, slot);
  if (status.is_ok()) status = contents_file_->sync();
  if (!status.is_ok()) contents_file_.reset();  // its descriptor is not synced again
  return status;
}

// The files that the new contents, now durable, do not name any more are freed; `segments` of them
// are segments, the oldest ones.
void Log::adopt_contents(wal::Contents next, std::size_t segments) {
  std::vector<SegmentInfo> freed;
  const auto before = contents_;
  {
    const std::lock_guard guard(mutex_);
    const auto end = segments_.begin() + static_cast<std::ptrdiff_t>(segments);
    freed.assign(segments_.begin(), end);
    segments_.erase(segments_.begin(), end);
    contents_ = std::make_shared<const wal::Contents>(std::move(next));
  }
  free_files(freed);
  remove_packs(before->packs, contents_->packs);
  forget_keys();
}

// What can't be removed now is found by the next open.
void Log::remove_packs(const std::vector<PackEntry>& before, const std::vector<PackEntry>& after) {
  auto kept = after.begin();  // both are in order of number
  for (const PackEntry& pack : before) {
    while (kept != after.end() && kept->number < pack.number) ++kept;
    if (kept != after.end() && kept->number == pack.number) continue;
    ranges_.erase(pack.number);
    static_cast<void>(fs_->remove(pack_path(directory_, pack.number)));
  }
  for (const std::string& path : orphans_) static_cast<void>(fs_->remove(path));
  orphans_.clear();
}

}  // namespace edgecore
