// The edges of the journal against a model that remembers everything that ever happened.
#include "artifacts/activation.hpp"

#include <gtest/gtest.h>

#include <map>
#include <set>

namespace edgecore::artifacts {
namespace {

Release make(std::uint8_t number) {
  Release release{{}, number, {{}}};
  release.digest.fill(static_cast<std::byte>(number));
  release.objects[0].fill(static_cast<std::byte>(100 + number));
  return release;
}

// What history allows, kept apart from the code under test.
struct History {
  std::set<std::uint64_t> tried;               // versions that a trial was begun of
  std::set<std::uint64_t> proved;              // marked stable at some time
  std::map<std::uint64_t, unsigned> attempts;  // since last forgotten
};

void expect_sound(const JournalState& state, const History& history, const std::string& at) {
  if (state.active) {
    EXPECT_TRUE(history.tried.contains(state.active->version)) << at;
  }
  if (state.previous) {
    EXPECT_TRUE(history.proved.contains(state.previous->version)) << at;
    EXPECT_FALSE(state.previous == state.active) << at;
  }
  if (state.candidate) {
    const auto counted = history.attempts.find(state.candidate->version);
    EXPECT_EQ(state.attempt, counted == history.attempts.end() ? 0 : counted->second) << at;
  }
  EXPECT_EQ(state.candidate.has_value(),
            state.phase == Phase::kStaged || state.phase == Phase::kTrial)
      << at;
}

TEST(Activation, RandomWalksKeepWhatHistoryAllows) {
  std::uint64_t seed = 20260101;
  const auto dice = [&](unsigned sides) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return static_cast<unsigned>((seed >> 33) % sides);
  };
  std::size_t edges = 0;
  for (int walk = 0; walk < 300; ++walk) {
    JournalState state;
    History history;
    for (int step = 0; step < 60; ++step) {
      const std::string at = "walk " + std::to_string(walk) + ", step " + std::to_string(step);
      const JournalState before = state;
      const Release staged = make(static_cast<std::uint8_t>(1 + dice(4)));
      const unsigned edge = dice(6);
      Result<JournalState> next = before;
      if (edge == 0) next = after_stage(before, staged);
      if (edge == 1 || edge == 5) next = after_begin_trial(before);
      if (edge == 2) next = after_activate(before);
      if (edge == 3) next = after_mark_stable(before);
      if (edge == 4) next = after_roll_back(before, "why", std::nullopt, dice(4) != 0);
      if (!next.is_ok()) {
        EXPECT_EQ(next.status().outcome(), Outcome::kInvalid) << at;
        continue;
      }
      ++edges;
      state = std::move(next).value();
      EXPECT_EQ(state.generation, before.generation + 1) << at;
      if (edge == 0) {
        const bool again = before.given_up == staged.digest ||
                           (before.candidate && before.candidate->version == staged.version);
        if (!again) history.attempts.clear();
      }
      if (edge == 1 || edge == 5) {
        history.tried.insert(state.candidate->version);
        ++history.attempts[state.candidate->version];
      }
      if (edge == 3) history.proved.insert(state.active->version);
      // Only activation and roll-back change what runs.
      if (edge != 2 && edge != 4) {
        EXPECT_TRUE(state.active == before.active) << at;
      }
      expect_sound(state, history, at);
      EXPECT_TRUE(decode_journal(encode_journal(state)).value() == state) << at;
    }
  }
  EXPECT_GT(edges, 3000u);
}

TEST(Activation, SameReleaseActivatedAgainIsNotItsOwnRollbackTarget) {
  JournalState state;
  for (int round = 0; round < 2; ++round) {
    state = after_stage(state, make(1)).value();
    state = after_begin_trial(state).value();
    state = after_activate(state).value();
    state = after_mark_stable(state).value();
  }
  EXPECT_FALSE(state.previous.has_value());
}

TEST(Activation, LongReasonIsCutBetweenCharacters) {
  std::string reason(kReasonBytesMax - 1, 'x');
  reason += "\xC3\xA9";  // two bytes, of which one would fit
  const JournalState staged = after_stage({}, make(1)).value();
  const JournalState state = after_roll_back(staged, reason, std::nullopt, true).value();
  EXPECT_EQ(state.reason, std::string(kReasonBytesMax - 1, 'x'));
}

TEST(Activation, FullestStateFitsACopy) {
  JournalState state;
  state.phase = Phase::kTrial;
  for (auto* release : {&state.active, &state.previous, &state.candidate}) {
    *release = make(1);
    (*release)->objects.resize(kReleaseObjectsMax);
  }
  state.given_up = Digest{};
  state.reason.assign(kReasonBytesMax, 'r');
  EXPECT_TRUE(decode_journal(encode_journal(state)).value() == state);
}

}  // namespace
}  // namespace edgecore::artifacts
