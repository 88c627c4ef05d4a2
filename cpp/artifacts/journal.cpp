#include "artifacts/journal.hpp"

#include <array>

namespace edgecore::artifacts {
namespace {

constexpr std::uint64_t kFileBytes = 2 * kJournalCopyBytes;

Status create(Fs& fs, const std::string& path) {
  Bytes file = encode_journal({});
  const Bytes copy = file;
  file.insert(file.end(), copy.begin(), copy.end());
  return write_file_atomic(fs, path, file);
}

}  // namespace

Result<Journal> Journal::open(std::shared_ptr<Fs> fs, const std::string& path) {
  EDGECORE_ASSIGN(const bool present, fs->exists(path));
  if (present) {
    EDGECORE_TRY(fs->sync_directory(parent_path(path)));  // its maker may have been killed before
  } else {
    EDGECORE_TRY(create(*fs, path));
  }
  EDGECORE_ASSIGN(auto file, fs->open(path, OpenMode::kReadWrite));
  Journal journal(std::move(file), path);
  EDGECORE_TRY(journal.recover());
  return journal;
}

Status Journal::recover() {
  std::array<Bytes, 2> copies;
  std::array<std::optional<JournalState>, 2> states;
  for (std::size_t i = 0; i < 2; ++i) {
    Bytes& copy = copies[i];
    copy.resize(kJournalCopyBytes);
    EDGECORE_ASSIGN(const std::size_t got, file_->read_at(i * kJournalCopyBytes, copy));
    copy.resize(got);
    Result<JournalState> state = decode_journal(copy);
    if (state.is_ok())
      states[i] = std::move(state).value();
    else if (state.status().outcome() != Outcome::kCorrupt)
      return state.status();
  }
  if (!states[0] && !states[1])
    return Status::corrupt(path_ +
                           ": both copies of the activation journal are damaged; move the file "
                           "away to begin with no release");
  const std::size_t best =
      !states[0] || (states[1] && states[1]->generation > states[0]->generation) ? 1 : 0;
  state_ = *states[best];
  if (copies[0] == copies[1]) return Status::ok();
  const std::size_t other = 1 - best;
  if (states[other]) EDGECORE_TRY(write_copy(best, copies[best]));
  return write_copy(other, copies[best]);
}

Status Journal::write_copy(std::size_t which, ByteSpan copy) {
  Status status = file_->write_at(which * kJournalCopyBytes, copy);
  if (status.is_ok()) status = file_->sync();
  failed_ = !status.is_ok();
  return status;
}

Status Journal::usable() const {
  if (!failed_) return Status::ok();
  return Status::unavailable(path_ + ": a write failed earlier; open the store again");
}

Status Journal::save(const JournalState& next) {
  EDGECORE_TRY(usable());
  const Bytes copy = encode_journal(next);
  EDGECORE_TRY(write_copy(0, copy));
  EDGECORE_TRY(write_copy(1, copy));
  state_ = next;
  return Status::ok();
}

}  // namespace edgecore::artifacts
