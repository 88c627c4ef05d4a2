// Which release a device runs: the state that the activation journal keeps, the edges that change
// it, and its bytes (docs/formats/activation-journal.md). Pure: no file, no clock.
//
//     kEmpty ─stage→ kStaged ─begin_trial→ kTrial ─activate→ kActive ─mark_stable→ kStable
//                                  (again: one more attempt)
//     any of kStaged, kTrial, kActive, kStable ─roll_back→ kRolledBack; kEmpty, kStaged, kStable,
//     kRolledBack ─stage→ kStaged
//
// Invariants: `candidate` exists exactly in kStaged and kTrial. While a release is under
// observation (kActive) nothing can be staged, so that `previous`, the rollback target, has always
// been stable. `attempt` counts the trials begun of the candidate, and goes on counting when the
// release that was given up last is staged again.
#pragma once

#include <optional>
#include <vector>

#include "base/blake3.hpp"
#include "base/status.hpp"

namespace edgecore::artifacts {

inline constexpr std::size_t kReleaseObjectsMax = 32;
inline constexpr std::size_t kReasonBytesMax = 200;
inline constexpr std::size_t kJournalCopyBytes = 8192;

// A set of objects that is activated and rolled back together.
struct Release {
  Digest digest{};            // of its manifest
  std::uint64_t version = 0;  // of its family; for people and policy, not judged here
  std::vector<Digest> objects;
  friend bool operator==(const Release&, const Release&) = default;
};

enum class Phase : std::uint8_t {
  kEmpty = 0,
  kStaged = 1,      // the candidate is whole on disk
  kTrial = 2,       // an attempt to run the candidate has begun
  kActive = 3,      // active is new and under observation
  kStable = 4,      // active has proved itself
  kRolledBack = 5,  // the newest release was given up; active, if any, is the one before
};
inline constexpr Phase kPhaseLast = Phase::kRolledBack;

struct JournalState {
  std::uint64_t generation = 0;  // edges so far
  Phase phase = Phase::kEmpty;
  std::uint32_t attempt = 0;
  std::optional<Release> active;
  std::optional<Release> previous;   // the rollback target
  std::optional<Release> candidate;  // staged or in trial
  std::optional<Digest> given_up;    // the release rolled back last
  std::string reason;                // why
  friend bool operator==(const JournalState&, const JournalState&) = default;
};

// The edges: the next state, or Invalid where the edge does not leave from here.
Result<JournalState> after_stage(const JournalState& state, Release release);
Result<JournalState> after_begin_trial(const JournalState& state);
Result<JournalState> after_activate(const JournalState& state);
Result<JournalState> after_mark_stable(const JournalState& state);
// Gives up `which` (the candidate or active), by default the candidate, else an active release
// that has not been rolled back to. With previous_is_whole false nothing stays active.
Result<JournalState> after_roll_back(const JournalState& state, std::string_view reason,
                                     const std::optional<Digest>& which, bool previous_is_whole);
// Whether after_roll_back would make `previous` active.
bool rolls_back_active(const JournalState& state, const std::optional<Digest>& which);

// One copy, kJournalCopyBytes long.
Bytes encode_journal(const JournalState& state);
// Corrupt for a wrong checksum or structure; Incompatible for a newer version, which is not ours
// to overwrite.
Result<JournalState> decode_journal(ByteSpan copy);

}  // namespace edgecore::artifacts
