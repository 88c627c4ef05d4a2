#include "artifacts/activation.hpp"

#include <algorithm>

namespace edgecore::artifacts {
namespace {

constexpr std::uint32_t kMagic = 0x4A414345;  // "ECAJ"
constexpr std::uint16_t kVersion = 1;
constexpr std::size_t kDigestBytes = sizeof(Digest);
constexpr std::uint8_t kHasActive = 1, kHasPrevious = 2, kHasCandidate = 4, kHasGivenUp = 8;

Status wrong_phase(const JournalState& state, std::string_view edge) {
  constexpr std::string_view kWords[] = {"empty",  "staged", "trial",
                                         "active", "stable", "rolled_back"};
  return Status::invalid(std::string(edge) + ": not from " +
                         std::string(kWords[static_cast<std::size_t>(state.phase)]));
}

JournalState next_of(const JournalState& state, Phase phase) {
  JournalState next = state;
  ++next.generation;
  next.phase = phase;
  return next;
}

void put_digest(ByteWriter& out, const Digest& digest) {
  out.put_bytes(digest);
}

bool take_digest(ByteReader& in, Digest& digest) {
  ByteSpan bytes;
  if (!in.take_bytes(kDigestBytes, bytes)) return false;
  std::copy(bytes.begin(), bytes.end(), digest.begin());
  return true;
}

void put_release(ByteWriter& out, const Release& release) {
  put_digest(out, release.digest);
  out.put(release.version);
  out.put(static_cast<std::uint16_t>(release.objects.size()));
  for (const Digest& object : release.objects) put_digest(out, object);
}

bool take_release(ByteReader& in, std::optional<Release>& out) {
  Release release;
  std::uint16_t count = 0;
  if (!take_digest(in, release.digest) || !in.take(release.version) || !in.take(count))
    return false;
  if (count == 0 || count > kReleaseObjectsMax) return false;
  release.objects.resize(count);
  for (Digest& object : release.objects)
    if (!take_digest(in, object)) return false;
  out = std::move(release);
  return true;
}

bool is_consistent(const JournalState& state) {
  const bool has_candidate = state.phase == Phase::kStaged || state.phase == Phase::kTrial;
  if (state.candidate.has_value() != has_candidate) return false;
  const bool needs_active = state.phase == Phase::kActive || state.phase == Phase::kStable;
  return !needs_active || state.active.has_value();
}

// The body behind the header; false when it does not parse to exactly its end.
bool take_body(ByteReader& in, JournalState& state) {
  std::uint8_t phase = 0;
  std::uint8_t parts = 0;
  std::uint16_t reason_bytes = 0;
  if (!in.take(state.generation) || !in.take(phase) || !in.take(parts) || !in.take(state.attempt))
    return false;
  if (phase > static_cast<std::uint8_t>(kPhaseLast) || parts > 15) return false;
  state.phase = static_cast<Phase>(phase);
  if ((parts & kHasActive) != 0 && !take_release(in, state.active)) return false;
  if ((parts & kHasPrevious) != 0 && !take_release(in, state.previous)) return false;
  if ((parts & kHasCandidate) != 0 && !take_release(in, state.candidate)) return false;
  if ((parts & kHasGivenUp) != 0 && !take_digest(in, state.given_up.emplace())) return false;
  ByteSpan reason;
  if (!in.take(reason_bytes) || reason_bytes > kReasonBytesMax) return false;
  if (!in.take_bytes(reason_bytes, reason)) return false;
  state.reason = as_text(reason);
  return in.remaining() == 0 && is_consistent(state);
}

// At most kReasonBytesMax bytes, cut between UTF-8 characters.
std::string_view shortened(std::string_view reason) {
  if (reason.size() <= kReasonBytesMax) return reason;
  std::size_t end = kReasonBytesMax;
  while (end > 0 && (static_cast<unsigned char>(reason[end]) & 0xC0u) == 0x80u) --end;
  return reason.substr(0, end);
}

}  // namespace

Result<JournalState> after_stage(const JournalState& state, Release release) {
  if (release.objects.empty() || release.objects.size() > kReleaseObjectsMax)
    return Status::invalid("release: " + std::to_string(release.objects.size()) +
                           " objects; 1 to " + std::to_string(kReleaseObjectsMax) + " are needed");
  if (state.phase == Phase::kTrial || state.phase == Phase::kActive)
    return wrong_phase(state, "stage");
  JournalState next = next_of(state, Phase::kStaged);
  const bool again = (state.given_up == release.digest) ||
                     (state.candidate && state.candidate->digest == release.digest);
  if (!again) {
    next.attempt = 0;
    next.given_up.reset();
    next.reason.clear();
  }
  next.candidate = std::move(release);
  return next;
}

Result<JournalState> after_begin_trial(const JournalState& state) {
  if (state.phase != Phase::kStaged && state.phase != Phase::kTrial)
    return wrong_phase(state, "begin_trial");
  JournalState next = next_of(state, Phase::kTrial);
  if (next.attempt != UINT32_MAX) ++next.attempt;
  return next;
}

Result<JournalState> after_activate(const JournalState& state) {
  if (state.phase != Phase::kTrial) return wrong_phase(state, "activate");
  JournalState next = next_of(state, Phase::kActive);
  // The same release again (re-staged while it ran) is no rollback target of itself.
  if (!state.active || state.active->digest != state.candidate->digest)
    next.previous = state.active;
  next.active = state.candidate;
  next.candidate.reset();
  next.given_up.reset();
  next.reason.clear();
  return next;
}

Result<JournalState> after_mark_stable(const JournalState& state) {
  if (state.phase != Phase::kActive) return wrong_phase(state, "mark_stable");
  return next_of(state, Phase::kStable);
}

bool rolls_back_active(const JournalState& state, const std::optional<Digest>& which) {
  if (which) {
    const bool is_candidate = state.candidate && state.candidate->digest == *which;
    return !is_candidate && state.active && state.active->digest == *which;
  }
  return state.phase == Phase::kActive || state.phase == Phase::kStable;
}

Result<JournalState> after_roll_back(const JournalState& state, std::string_view reason,
                                     const std::optional<Digest>& which, bool previous_is_whole) {
  JournalState next = next_of(state, Phase::kRolledBack);
  next.reason = shortened(reason);
  if (rolls_back_active(state, which)) {
    if (state.candidate) {  // a newer one waits; what it has gone through stays its own
      next.phase = state.phase;
    } else {
      next.given_up = state.active->digest;
      if (state.phase == Phase::kRolledBack) next.attempt = 0;  // it counted another release
    }
    next.active = previous_is_whole ? state.previous : std::nullopt;
    next.previous.reset();
    return next;
  }
  if (!state.candidate || (which && state.candidate->digest != *which))
    return which ? Status::invalid("roll_back: that release is neither active nor staged")
                 : wrong_phase(state, "roll_back");
  next.given_up = state.candidate->digest;
  next.candidate.reset();
  return next;
}

Bytes encode_journal(const JournalState& state) {
  EDGECORE_ASSERT(state.reason.size() <= kReasonBytesMax && is_consistent(state));
  Bytes copy;
  copy.reserve(kJournalCopyBytes);
  ByteWriter out(copy);
  out.put(kMagic);
  out.put(kVersion);
  out.put(std::uint16_t{0});
  out.put(std::uint32_t{0});  // required features
  out.put(std::uint32_t{0});  // optional features
  const std::size_t length_at = copy.size();
  out.put(std::uint32_t{0});
  out.put(state.generation);
  out.put(static_cast<std::uint8_t>(state.phase));
  out.put(static_cast<std::uint8_t>(
      (state.active ? kHasActive : 0) | (state.previous ? kHasPrevious : 0) |
      (state.candidate ? kHasCandidate : 0) | (state.given_up ? kHasGivenUp : 0)));
  out.put(state.attempt);
  for (const auto* release : {&state.active, &state.previous, &state.candidate})
    if (*release) put_release(out, **release);
  if (state.given_up) put_digest(out, *state.given_up);
  out.put(static_cast<std::uint16_t>(state.reason.size()));
  out.put_text(state.reason);
  store_le(copy.data() + length_at, static_cast<std::uint32_t>(copy.size() - length_at - 4));
  EDGECORE_ASSERT(copy.size() <= kJournalCopyBytes - kDigestBytes);
  out.put_zeros(kJournalCopyBytes - kDigestBytes - copy.size());
  put_digest(out, blake3(copy));
  return copy;
}

Result<JournalState> decode_journal(ByteSpan copy) {
  const Status corrupt = Status::corrupt("activation journal: a damaged copy");
  if (copy.size() != kJournalCopyBytes) return corrupt;
  const ByteSpan covered = copy.first(kJournalCopyBytes - kDigestBytes);
  const Digest digest = blake3(covered);
  if (!std::ranges::equal(digest, copy.last(kDigestBytes))) return corrupt;
  ByteReader in(covered);
  std::uint32_t magic = 0, required = 0, optional = 0, length = 0;
  std::uint16_t version = 0, reserved = 0;
  if (!in.take(magic) || !in.take(version) || !in.take(reserved) || !in.take(required) ||
      !in.take(optional) || !in.take(length) || magic != kMagic)
    return corrupt;
  if (version != kVersion || required != 0)
    return Status::incompatible("activation journal: version " + std::to_string(version) +
                                ", features " + std::to_string(required) +
                                "; this build reads version 1");
  ByteSpan body;
  if (!in.take_bytes(length, body)) return corrupt;
  ByteReader reader(body);
  JournalState state;
  if (!take_body(reader, state)) return corrupt;
  return state;
}

}  // namespace edgecore::artifacts
