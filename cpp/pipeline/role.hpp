// A role: one way of answering events. It holds a binding, an executor, a score and a running
// verdict, and takes feature values to an Answer in three steps, so that a batch meets each step
// once: quantise (per row), run (all rows), finish (per row, in order, the only step with memory).
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/blake3.hpp"
#include "features/joined.hpp"
#include "inference/binding.hpp"
#include "inference/executor.hpp"
#include "inference/score.hpp"
#include "pipeline/verdict.hpp"

namespace edgecore::pipeline {

// Values are in snapshots: never renumber.
enum class Part : std::uint8_t {
  kActive = 0,    // serves
  kShadow = 1,    // answers beside it, recorded, never served
  kFallback = 2,  // a standby that keeps its verdict warm and serves a row the active one fails
  kRule = 3,      // no model: serves what no model could
};
inline constexpr std::size_t kParts = 4;
inline constexpr std::size_t kModelParts = 3;  // those that have an executor and a verdict

constexpr std::string_view part_word(Part part) {
  constexpr std::string_view kWords[] = {"active", "shadow", "fallback", "rule"};
  return kWords[static_cast<std::size_t>(part)];
}

// Why a role did not answer a row, or that no role could.
enum class Why : std::uint8_t {
  kNone = 0,
  kStale = 1,      // it reads a stale value that the view refuses (features::OnStale::kRefuse)
  kOld = 2,        // its binding's max_age
  kSparse = 3,     // its binding's min_full
  kFailed = 4,     // the model gave no answer
  kUncounted = 5,  // the row has no features: it is late, or ahead, or was refused
};
constexpr std::string_view why_word(Why why) {
  constexpr std::string_view kWords[] = {"", "stale", "old", "sparse", "failed", "uncounted"};
  return kWords[static_cast<std::size_t>(why)];
}
// A refusal is of the row, and the same whenever the row is met again; a failure is of the model.
constexpr bool is_refusal(Why why) {
  return why >= Why::kStale && why <= Why::kSparse;
}

struct RoleSpec {
  std::uint32_t context = 0;           // its row of edgecore.context
  std::vector<std::uint32_t> aliases;  // contexts of the same run under earlier opens of the log
  Digest run{};                        // names the run: under it a snapshot keeps the verdict
  // The verdict has seen every row in (since, at], and behind that the rows the role answered.
  std::uint64_t since = 0;
  std::uint64_t at = 0;
  std::shared_ptr<const inference::Binding> binding;
  std::shared_ptr<const inference::Executor> executor;  // null: the rule
  inference::ScoreKind score = inference::ScoreKind::kReconstruction;
  std::optional<VerdictSpec> verdict;  // absent for the rule
  std::int64_t limit = 0;              // rule: a score (mean square) at or above it is anomalous

  bool has_context(std::uint32_t other) const {
    return other == context || std::find(aliases.begin(), aliases.end(), other) != aliases.end();
  }
};

struct Answer {
  bool scored = false;  // else score and threshold mean nothing and the verdict is kNotJudged
  std::int64_t score = 0;
  std::int64_t threshold = 0;
  std::uint8_t verdict = kNotJudged;
  std::uint32_t episode = 0;
  std::uint16_t clipped = 0;
  std::uint16_t substituted = 0;
  Digest input{};   // BLAKE3 of the int8 input (rule: of the normalised doubles)
  Digest output{};  // BLAKE3 of the int8 output (no output: of nothing)
};

// The answer where there is none: not judged, of no input.
Answer unjudged();

// Not thread-safe. After make() nothing is allocated for batches of at most `rows_max` rows.
class Role {
 public:
  // Incompatible: a slot reads a feature that the view has not, or the sizes of binding, executor
  // and score do not fit together.
  static Result<Role> make(RoleSpec spec, const features::Parts& parts, std::size_t rows_max);

  const RoleSpec& spec() const { return spec_; }
  bool is_rule() const { return spec_.executor == nullptr; }

  // Feature values, states and ages of the whole view; MISSING values may be NaN, and ages empty
  // where needs_ages() is false. A row that is not fit for a decision is refused: not answered().
  void quantise(std::size_t row, std::span<const double> values,
                std::span<const std::uint8_t> states, std::span<const std::int64_t> ages_ns);
  bool needs_ages() const { return spec_.binding->needs_ages(); }
  void skip(std::size_t row) { why_[row] = Why::kUncounted; }  // has no features
  // Runs, scores and hashes rows [0, count); a row whose run failed is answered() no more.
  void run(std::size_t count);
  bool answered(std::size_t row) const { return why_[row] == Why::kNone; }
  Why why(std::size_t row) const { return why_[row]; }  // it is not answered
  const Status& failure() const { return failure_; }    // the last one
  std::uint64_t failures() const { return failures_; }
  // The answer to an answered row. Rows are finished in the order of the stream.
  Answer finish(std::size_t row, std::int64_t time_ns);

  // How far the verdict has come: the position of the last row it saw or passed over.
  std::uint64_t folded_to() const { return folded_to_; }
  void fold_to(std::uint64_t position) { folded_to_ = position; }
  Bytes verdict_state() const { return verdict_ ? verdict_->state() : Bytes(); }
  // The verdict that a snapshot kept; resume() puts it in place.
  Result<Verdict> verdict_from(ByteSpan state) const;
  void resume(Verdict verdict, std::uint64_t position);

  // A standby that failed once is out of service until it is set again.
  bool retired() const { return retired_; }
  void retire() { retired_ = true; }

 private:
  Role(RoleSpec spec, std::vector<std::uint32_t> columns, std::size_t rows_max);
  void fail(std::size_t row, const Status& status);
  void run_model(std::size_t count);
  Answer finish_rule(std::size_t row) const;

  RoleSpec spec_;
  std::optional<Verdict> verdict_;
  std::vector<std::uint32_t> columns_;  // slot -> feature of the view
  bool straight_ = true;                // the slots are the view's features, in order
  // Features that the view refuses when they are stale, of those that slots read or are made of.
  std::vector<std::uint32_t> refusing_;
  inference::Quantisation input_scale_;
  inference::Quantisation output_scale_;
  std::size_t slots_ = 0;
  std::size_t outputs_ = 0;
  std::vector<double> values_;  // one row, gathered
  std::vector<std::uint8_t> states_;
  std::vector<std::int64_t> ages_;
  std::vector<std::int8_t> input_;
  std::vector<std::int8_t> output_;
  std::vector<double> normalised_;
  std::vector<inference::Quantised> counts_;
  std::vector<std::int64_t> scores_;
  std::vector<Digest> input_hashes_;
  std::vector<Digest> output_hashes_;
  std::vector<Why> why_;
  inference::Scratch scratch_;
  Status failure_;
  std::uint64_t failures_ = 0;
  std::uint64_t folded_to_ = 0;
  bool retired_ = false;
};

}  // namespace edgecore::pipeline
