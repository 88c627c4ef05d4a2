// When a score is an anomaly: a threshold that runs with the past scores, entered and left with
// hysteresis, so that alerts come as episodes. Everything is an integer on the score grid, so the
// same scores give the same verdicts on every machine, and after a restore().
//
// The threshold is a multiple of a quantile of the last `window` scores, never below the floor
// that training found; the score being judged joins the window only afterwards (causal). A
// multiple of the median stands still while up to half of the window is anomalous.
#pragma once

#include <cstdint>
#include <optional>

#include "base/bytes.hpp"
#include "base/status.hpp"
#include "pipeline/quantile.hpp"

namespace edgecore::pipeline {

inline constexpr std::uint32_t kVerdictWindowMax = 1u << 16;

struct VerdictSpec {
  std::uint32_t window = 1024;            // past scores that the quantile is of
  std::uint32_t warmup = 32;              // the first scores, not judged; at most `window`
  std::uint16_t quantile_permille = 500;  // which quantile of them
  std::uint16_t exit_permille = 500;      // calm: a score at or below this share of the threshold
  std::uint32_t factor_permille = 12000;  // threshold ÷ quantile
  std::uint32_t enter_count = 6;  // scores above the threshold in a row that begin an episode
  std::uint32_t exit_count = 12;  // calm scores in a row that end it
  std::int64_t floor = 0;         // the least threshold
  std::int64_t gap_ns = 0;  // an episode within this of the last one continues it; silence for
                            // longer ends one
  bool operator==(const VerdictSpec&) const = default;
};

enum : std::uint8_t { kNormal = 0, kAnomalous = 1, kNotJudged = 2 };

struct Decision {
  std::int64_t threshold = 0;  // in force for this score
  std::uint8_t verdict = kNotJudged;
  std::uint32_t episode = 0;  // number of the episode that this event belongs to; 0 = none
  bool operator==(const Decision&) const = default;
};

// docs/formats/verdict.md. Invalid: a number out of range.
Result<Bytes> verdict_to_bytes(const VerdictSpec& spec);
Result<VerdictSpec> verdict_from_bytes(ByteSpan bytes);  // Corrupt, Incompatible

// Not thread-safe; memory is 16 bytes x window, allocated in make().
class Verdict {
 public:
  static Result<Verdict> make(const VerdictSpec& spec);  // Invalid
  Decision decide(std::int64_t score, std::int64_t time_ns);
  const VerdictSpec& spec() const { return spec_; }

  Bytes state() const;
  // Corrupt; Incompatible for the state of another spec. On failure nothing has changed.
  Status restore(ByteSpan state);

 private:
  explicit Verdict(const VerdictSpec& spec);
  std::int64_t threshold() const;
  bool judge(std::int64_t score, std::int64_t threshold, std::int64_t time_ns);

  VerdictSpec spec_;
  RunningQuantile scores_;
  std::uint64_t decided_ = 0;
  std::uint32_t above_ = 0;  // scores above the threshold in a row, outside an episode
  std::uint32_t calm_ = 0;   // calm scores in a row, inside one
  std::uint32_t episodes_ = 0;
  bool inside_ = false;
  std::optional<std::int64_t> latest_ns_;          // of all events
  std::optional<std::int64_t> latest_anomaly_ns_;  // of anomalous ones
};

}  // namespace edgecore::pipeline
