// Ranks, counts and bins that are asked for; see value_plan.hpp.
#include "features/value_plan.hpp"

#include <algorithm>
#include <limits>

#include "features/answer.hpp"
#include "features/buckets.hpp"
#include "features/grids.hpp"
#include "features/spans.hpp"
#include "features/values.hpp"

namespace edgecore::features {
namespace {

std::uint64_t steps_of(const SeriesPlan& series) {
  return static_cast<std::uint64_t>(series.high) - static_cast<std::uint64_t>(series.low);
}

template <typename T>
void put_once(std::vector<T>& ascending, T value) {
  const auto place = std::lower_bound(ascending.begin(), ascending.end(), value);
  if (place == ascending.end() || *place != value) ascending.insert(place, value);
}

template <typename T>
std::size_t place_of(const std::vector<T>& ascending, T value) {
  return static_cast<std::size_t>(std::lower_bound(ascending.begin(), ascending.end(), value) -
                                  ascending.begin());
}

// Of a ratio scale whose values are more than one to a bucket.
void plan_log_buckets(const SeriesPlan& series, ValuePlan& needs) {
  needs.log = true;
  const std::uint32_t last = log_bucket(series, series.high);
  const std::uint32_t least = last < kLogBuckets ? 0 : last - kLogBuckets + 1;
  needs.bucket_base = std::max(least, log_bucket(series, series.low));
  needs.buckets = last - needs.bucket_base + 1;
}

Status plan_quantile(const FeatureSpec& spec, const SeriesPlan& series, ValuePlan& needs) {
  needs.bucket_steps = steps_of(series) / kBuckets + 1;
  needs.buckets = kBuckets;
  const bool bounded = series.grid == Grid::kFloat
                           ? series.high < float_key(std::numeric_limits<double>::max())
                           : series.declared || series.ratio;
  if (needs.bucket_steps > 1 && !bounded)
    return Status::incompatible("feature '" + spec.name + "': declare the range= of " +
                                series.name + ", which bounds the error of a quantile");
  if (series.ratio && needs.bucket_steps > 1)
    plan_log_buckets(series, needs);
  else if (needs.bucket_steps > 1)
    needs.bucket_inverse = std::numeric_limits<std::uint64_t>::max() / needs.bucket_steps + 1;
  put_once(needs.permilles, spec.permille);
  return Status::ok();
}

// Few values that can differ are counted, also where an estimate would do.
bool is_estimated(const FeatureSpec& spec, const SeriesPlan& series) {
  return spec.op == Op::kDistinct && spec.approx && steps_of(series) >= kDistinctMax;
}

Status plan_bin(const FeatureSpec& spec, const SeriesPlan& series, ValuePlan& needs) {
  for (const auto& edge : {spec.at_least, spec.below}) {
    if (!edge) continue;
    const auto stored = stored_edge(series, *edge);
    if (!stored)
      return Status::invalid("feature '" + spec.name + "': edge " + std::to_string(*edge) +
                             " is not on the grid of " + series.name);
    put_once(needs.edges, *stored);
  }
  return Status::ok();
}

}  // namespace

Status check_value_parameters(const FeatureSpec& spec) {
  const auto name = "feature '" + spec.name + "'";
  const bool quantile = spec.op == Op::kQuantile;
  if (quantile ? spec.permille < 1 || spec.permille > 999 : spec.permille != 0)
    return Status::invalid(name + ": a quantile has a permille, 1 to 999, and nothing else has");
  if (spec.approx && spec.op != Op::kDistinct && spec.op != Op::kStd && spec.op != Op::kVariance)
    return Status::invalid(name + ": approx is of a std, a variance or distinct values");
  if (spec.op != Op::kBin) {
    if (!spec.at_least && !spec.below) return Status::ok();
    return Status::invalid(name + ": at_least and below are those of a bin");
  }
  if (!spec.at_least && !spec.below)
    return Status::invalid(name + ": a bin has at_least, below or both");
  if (spec.at_least && spec.below && !(*spec.at_least < *spec.below))
    return Status::invalid(name + ": a bin's at_least is less than its below");
  return Status::ok();
}

Status plan_values(const FeatureSpec& spec, SeriesPlan& series) {
  const std::size_t at = values_of(series, span_of(spec));
  if (at == series.values.size()) {
    series.values.emplace_back();
    series.values.back().span = span_of(spec);
  }
  ValuePlan& needs = series.values[at];
  const bool estimated = is_estimated(spec, series);
  needs.estimated |= estimated;
  needs.distinct |= spec.op == Op::kDistinct && !estimated;
  needs.modes |= spec.op == Op::kMostFrequent;
  if (spec.op == Op::kQuantile) return plan_quantile(spec, series, needs);
  if (spec.op == Op::kBin) return plan_bin(spec, series, needs);
  return Status::ok();
}

void find_values(const FeatureSpec& spec, const SeriesPlan& series, FeaturePlan& feature) {
  const ValuePlan& needs = series.values[values_of(series, span_of(spec))];
  if (spec.op == Op::kQuantile) {
    feature.part = static_cast<std::uint16_t>(place_of(needs.permilles, spec.permille));
    // The middle of a bucket is at most half of its steps from any of them.
    if (needs.log)
      feature.error = one_value(series, series.high) * kLogError;
    else
      feature.error = static_cast<double>(needs.bucket_steps / 2) /
                      static_cast<double>(series.denominator) * series.unit;
    feature.relative_error = needs.log ? kLogError : 0;
  }
  if (is_estimated(spec, series)) {
    feature.approx = true;
    feature.error = std::numeric_limits<double>::quiet_NaN();
    feature.relative_error = Sketch::kStandardError;
  }
  if (spec.op != Op::kBin) return;
  // Bin b holds the values that b edges are not above.
  const auto bin_from = [&](double edge) {
    return static_cast<std::uint16_t>(place_of(needs.edges, *stored_edge(series, edge)) + 1);
  };
  feature.part = spec.at_least ? bin_from(*spec.at_least) : std::uint16_t{0};
  feature.part_end =
      spec.below ? bin_from(*spec.below) : static_cast<std::uint16_t>(needs.edges.size() + 1);
}

std::size_t values_of(const SeriesPlan& series, const Span& span) {
  const auto found = std::find_if(series.values.begin(), series.values.end(),
                                  [&span](const ValuePlan& one) { return one.span == span; });
  return static_cast<std::size_t>(found - series.values.begin());
}

}  // namespace edgecore::features
