// A life of an artifact store, step by step, and what must be true after each step: shared by the
// crash, fault and damage tests.
#pragma once

#include <gtest/gtest.h>

#include <functional>

#include "artifacts/staging.hpp"
#include "base/fs_memory.hpp"

namespace edgecore::artifacts {

// Every operation is cut; under ThreadSanitizer, twenty times as slow and with one thread to watch,
// every eleventh.
#if defined(__SANITIZE_THREAD__)
inline constexpr std::uint64_t kStride = 11;
#else
inline constexpr std::uint64_t kStride = 1;
#endif

inline constexpr const char* kPlace = "store";

inline Bytes content(std::uint64_t seed, std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    bytes[i] = static_cast<std::byte>(seed >> 56);
  }
  return bytes;
}

inline Digest digest_of(std::uint64_t seed, std::size_t size) {
  return blake3(content(seed, size));
}

// Two objects per release; the second release's model is big enough to be staged in chunks.
inline constexpr std::size_t kModelBytes = 2 * kChunkBytes + 700;
inline Release release(std::uint64_t number) {
  const std::size_t model = number == 2 ? kModelBytes : 900;
  return {digest_of(number * 10, 50),
          number,
          {digest_of(number * 10 + 1, model), digest_of(number * 10 + 2, 100)}};
}

struct Step {
  const char* name;
  std::function<Status(ArtifactStore&)> run;  // may be run again after it was interrupted
};

inline Status put_objects(ArtifactStore& store, std::uint64_t number) {
  EDGECORE_ASSIGN(const Digest model, store.put(content(number * 10 + 1, 900)));
  EDGECORE_ASSIGN(const Digest view, store.put(content(number * 10 + 2, 100)));
  return model == view ? Status::invalid("two names for one object") : Status::ok();
}

// One link: resumes, sends up to `upto` in pieces that do not respect chunks, ends when it is all.
inline Status send_model(ArtifactStore& store, std::uint64_t upto) {
  const Bytes model = content(21, kModelBytes);
  EDGECORE_ASSIGN(auto staging, store.stage(blake3(model), model.size()));
  constexpr std::size_t kPiece = 5000;
  for (std::uint64_t at = staging->received(); at < upto;) {
    const auto count = std::min<std::uint64_t>(kPiece, upto - at);
    EDGECORE_TRY(staging->write(at, ByteSpan(model).subspan(static_cast<std::size_t>(at),
                                                            static_cast<std::size_t>(count))));
    at += count;
  }
  return upto == model.size() ? staging->finish() : Status::ok();
}

inline Status put_view_of_second(ArtifactStore& store) {
  EDGECORE_ASSIGN(const Digest view, store.put(content(22, 100)));
  return store.has(view) ? Status::ok() : Status::corrupt("put and not held");
}

inline Status collect(ArtifactStore& store) {
  EDGECORE_ASSIGN(const std::size_t removed, store.gc({digest_of(21, kModelBytes)}));
  static_cast<void>(removed);
  return Status::ok();
}

inline std::vector<Step> life() {
  using Store = ArtifactStore;
  return {
      {"put 1", [](Store& s) { return put_objects(s, 1); }},
      {"stage 1", [](Store& s) { return s.stage_release(release(1)); }},
      {"trial 1", [](Store& s) { return s.begin_trial(); }},
      {"trial 1 again", [](Store& s) { return s.begin_trial(); }},
      {"activate 1", [](Store& s) { return s.activate(); }},
      {"stable 1", [](Store& s) { return s.mark_stable(); }},
      {"half of model 2", [](Store& s) { return send_model(s, kChunkBytes + 3000); }},
      {"rest of model 2", [](Store& s) { return send_model(s, kModelBytes); }},
      {"view 2", put_view_of_second},
      {"stage 2", [](Store& s) { return s.stage_release(release(2)); }},
      {"trial 2", [](Store& s) { return s.begin_trial(); }},
      {"give up 2", [](Store& s) { return s.roll_back("alarms", release(2).digest); }},
      {"collect", collect},
      {"view 2 again", put_view_of_second},
      {"stage 2 again", [](Store& s) { return s.stage_release(release(2)); }},
      {"trial 2 again", [](Store& s) { return s.begin_trial(); }},
      {"activate 2", [](Store& s) { return s.activate(); }},
      {"collect under observation", collect},
      {"roll back to 1", [](Store& s) { return s.roll_back("wild", release(2).digest); }},
      {"put 3", [](Store& s) { return put_objects(s, 3); }},
      {"stage 3", [](Store& s) { return s.stage_release(release(3)); }},
      {"collect at last", collect},
  };
}

// States after each step of an undisturbed life; [0] is an empty store.
inline std::vector<JournalState> expected_states() {
  const auto fs = std::make_shared<MemoryFs>();
  auto store = ArtifactStore::open(fs, kPlace, kQuotaBytesDefault);
  EXPECT_TRUE(store.is_ok());
  std::vector<JournalState> states{store.value()->state()};
  for (const Step& step : life()) {
    const Status status = step.run(*store.value());
    EXPECT_TRUE(status.is_ok()) << step.name << ": " << status.to_string();
    states.push_back(store.value()->state());
  }
  return states;
}

// Everything under a final name is whole, and so is every release that the journal names.
inline void expect_whole(ArtifactStore& store, const std::string& where) {
  for (const ObjectInfo& object : store.objects())
    EXPECT_TRUE(store.verify(object.digest).is_ok()) << where;
  const JournalState state = store.state();
  for (const auto* named : {&state.active, &state.previous, &state.candidate}) {
    if (!*named) continue;
    for (const Digest& object : (*named)->objects) {
      const Status status = store.verify(object);
      EXPECT_TRUE(status.is_ok()) << where << ": release " << (*named)->version << ": "
                                  << status.to_string();
    }
  }
}

inline Result<std::shared_ptr<ArtifactStore>> open_store(const std::shared_ptr<Fs>& fs) {
  return ArtifactStore::open(fs, kPlace, kQuotaBytesDefault);
}

}  // namespace edgecore::artifacts
