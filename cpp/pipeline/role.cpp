#include "pipeline/role.hpp"

#include <algorithm>

#include "base/exact.hpp"

namespace edgecore::pipeline {
namespace {

Result<std::vector<std::uint32_t>> columns_of(const inference::Binding& binding,
                                              const features::Parts& parts) {
  const auto& features = parts.fingerprints();
  const features::ViewSpec& view = parts.own().view();
  std::vector<std::uint32_t> columns;
  for (const inference::Slot& slot : binding.slots()) {
    const auto found = std::find(features.begin(), features.end(), slot.feature);
    if (found == features.end())
      return Status::incompatible(
          "slot " + std::to_string(columns.size()) + " of the binding reads feature " +
          to_hex(slot.feature).substr(0, 12) + ", which view '" + view.name + "' over stream '" +
          view.stream + "' does not have: another operator version, parameter, field or time rule");
    columns.push_back(static_cast<std::uint32_t>(found - features.begin()));
  }
  return columns;
}

std::vector<std::uint32_t> refusing_of(const std::vector<std::uint32_t>& columns,
                                       const features::Parts& parts) {
  std::vector<std::uint32_t> out;
  for (const features::StreamPart& part : parts.all()) {
    const features::Plan& plan = *part.plan;
    const auto add = [&](std::size_t at) {
      if (plan.features()[at].on_stale == features::OnStale::kRefuse)
        out.push_back(part.columns[at]);
    };
    for (std::size_t at = 0; at < part.columns.size(); ++at) {
      if (std::find(columns.begin(), columns.end(), part.columns[at]) == columns.end()) continue;
      add(at);
      for (const features::Ratio& ratio : plan.ratios()) {
        if (ratio.feature != at) continue;
        add(ratio.numerator);
        add(ratio.denominator);
      }
    }
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

Status check_sizes(const RoleSpec& spec) {
  if (spec.binding == nullptr) return Status::invalid("a role needs a binding");
  if (spec.executor == nullptr) return Status::ok();
  const std::size_t slots = spec.binding->size();
  if (!spec.verdict) return Status::invalid("a role with a model needs a verdict");
  if (spec.executor->input_size() != slots)
    return Status::incompatible("the model takes " + std::to_string(spec.executor->input_size()) +
                                " values, the binding gives " + std::to_string(slots));
  if (spec.executor->input_element() != inference::Element::kInt8 ||
      spec.executor->output_element() != inference::Element::kInt8)
    return Status::incompatible("a role's model takes and gives int8");
  if (spec.executor->output_size() == 0) return Status::incompatible("the model gives no output");
  if (spec.score == inference::ScoreKind::kReconstruction && spec.executor->output_size() != slots)
    return Status::incompatible("a reconstruction needs as many outputs as inputs, the model has " +
                                std::to_string(spec.executor->output_size()) + " and " +
                                std::to_string(slots));
  return Status::ok();
}

Why why_of(inference::Refusal refusal) {
  switch (refusal) {
    case inference::Refusal::kOld:
      return Why::kOld;
    case inference::Refusal::kSparse:
      return Why::kSparse;
    default:
      return Why::kNone;
  }
}

std::uint16_t saturated(std::uint32_t count) {
  return static_cast<std::uint16_t>(std::min<std::uint32_t>(count, 0xffff));
}

}  // namespace

Answer unjudged() {
  Answer none;
  none.input = none.output = blake3({});
  return none;
}

Result<Role> Role::make(RoleSpec spec, const features::Parts& parts, std::size_t rows_max) {
  EDGECORE_TRY(check_sizes(spec));
  EDGECORE_ASSIGN(auto columns, columns_of(*spec.binding, parts));
  Role role(std::move(spec), std::move(columns), rows_max);
  if (role.spec_.verdict) {
    EDGECORE_ASSIGN(role.verdict_, Verdict::make(*role.spec_.verdict));
  }
  role.refusing_ = refusing_of(role.columns_, parts);
  role.straight_ = role.columns_.size() == parts.width();
  for (std::size_t i = 0; i < role.columns_.size(); ++i)
    if (role.columns_[i] != i) role.straight_ = false;
  return role;
}

Role::Role(RoleSpec spec, std::vector<std::uint32_t> columns, std::size_t rows_max)
    : spec_(std::move(spec)), columns_(std::move(columns)), folded_to_(spec_.since) {
  slots_ = spec_.binding->size();
  if (spec_.executor != nullptr) {
    outputs_ = spec_.executor->output_size();
    input_scale_ = spec_.executor->input_quantisation();
    output_scale_ = spec_.executor->output_quantisation();
    scratch_.memory.reserve(spec_.executor->arena_bytes());
  }
  values_.resize(slots_);
  states_.resize(slots_);
  ages_.resize(slots_);
  input_.resize(slots_ * rows_max);
  normalised_.resize(slots_ * rows_max);
  output_.resize(outputs_ * rows_max);
  counts_.resize(rows_max);
  scores_.resize(rows_max);
  input_hashes_.resize(rows_max);
  output_hashes_.resize(rows_max);
  why_.resize(rows_max, Why::kUncounted);
}

void Role::fail(std::size_t row, const Status& status) {
  why_[row] = Why::kFailed;
  failure_ = status;
  ++failures_;
}

void Role::quantise(std::size_t row, std::span<const double> values,
                    std::span<const std::uint8_t> states, std::span<const std::int64_t> ages_ns) {
  for (const std::uint32_t feature : refusing_)
    if (states[feature] == inference::kStale) {
      why_[row] = Why::kStale;
      return;
    }
  if (!straight_) {
    for (std::size_t i = 0; i < slots_; ++i) {
      values_[i] = values[columns_[i]];
      states_[i] = states[columns_[i]];
      if (needs_ages()) ages_[i] = ages_ns[columns_[i]];
    }
    values = values_;
    states = states_;
    ages_ns = ages_;
  }
  why_[row] = why_of(spec_.binding->refusal(values, states, ages_ns));
  if (!answered(row)) return;
  const auto counts =
      spec_.binding->quantise(values, states, input_scale_, {&input_[row * slots_], slots_},
                              {&normalised_[row * slots_], slots_});
  if (!counts.is_ok()) return fail(row, counts.status());
  counts_[row] = counts.value();
}

// A batch that fails is run again row by row, so that a row's fate is its own, as in a stream.
void Role::run_model(std::size_t count) {
  const inference::Executor& model = *spec_.executor;
  const bool whole = std::all_of(why_.begin(), why_.begin() + static_cast<std::ptrdiff_t>(count),
                                 [](Why why) { return why == Why::kNone; });
  if (whole && count > 1 && model.run_batch(input_.data(), output_.data(), count, scratch_).is_ok())
    return;
  for (std::size_t row = 0; row < count; ++row) {
    if (!answered(row)) continue;
    const Status status = model.run(&input_[row * slots_], &output_[row * outputs_], scratch_);
    if (!status.is_ok()) fail(row, status);
  }
}

void Role::run(std::size_t count) {
  if (is_rule()) return;
  run_model(count);
  for (std::size_t row = 0; row < count; ++row) {
    if (!answered(row)) continue;
    const auto score = inference::score(spec_.score, {&normalised_[row * slots_], slots_},
                                        {&output_[row * outputs_], outputs_}, output_scale_);
    EDGECORE_ASSERT(score.is_ok());  // its sizes were checked by make()
    scores_[row] = score.value();
  }
  // Side by side, those of rows that failed among them: their hashes are not looked at.
  blake3_many(std::as_bytes(std::span(input_).first(count * slots_)), slots_,
              std::span(input_hashes_).first(count));
  blake3_many(std::as_bytes(std::span(output_).first(count * outputs_)), outputs_,
              std::span(output_hashes_).first(count));
}

Answer Role::finish_rule(std::size_t row) const {
  const std::span<const double> normalised{&normalised_[row * slots_], slots_};
  double sum = 0.0;
  for (const double value : normalised) sum += value * value;
  const auto grid = grid_from_double(sum / static_cast<double>(slots_), inference::kScoreScale);
  Answer answer;
  answer.scored = true;
  answer.score = grid ? grid->value : INT64_MAX;
  answer.threshold = spec_.limit;
  answer.verdict = answer.score >= spec_.limit ? kAnomalous : kNormal;
  answer.input = blake3(std::as_bytes(normalised));
  answer.output = blake3({});
  return answer;
}

Answer Role::finish(std::size_t row, std::int64_t time_ns) {
  Answer answer;
  if (is_rule()) {
    answer = finish_rule(row);
  } else {
    const Decision decision = verdict_->decide(scores_[row], time_ns);
    answer.scored = true;
    answer.score = scores_[row];
    answer.threshold = decision.verdict == kNotJudged ? 0 : decision.threshold;
    answer.verdict = decision.verdict;
    answer.episode = decision.episode;
    answer.input = input_hashes_[row];
    answer.output = output_hashes_[row];
  }
  answer.clipped = saturated(counts_[row].clipped);
  answer.substituted = saturated(counts_[row].substituted);
  return answer;
}

Result<Verdict> Role::verdict_from(ByteSpan state) const {
  EDGECORE_ASSERT(spec_.verdict.has_value());
  EDGECORE_ASSIGN(Verdict verdict, Verdict::make(*spec_.verdict));
  EDGECORE_TRY(verdict.restore(state));
  return verdict;
}

void Role::resume(Verdict verdict, std::uint64_t position) {
  verdict_ = std::move(verdict);
  folded_to_ = position;
}

}  // namespace edgecore::pipeline
