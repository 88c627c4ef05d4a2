// Totals into values and states; see answer.hpp.
#include "features/answer.hpp"

#include <limits>

#include "features/pairs.hpp"
#include "features/ratios.hpp"
#include "features/spans.hpp"

namespace edgecore::features {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kNsPerSecond = 1e9;
constexpr std::int64_t kSecond = 1'000'000'000;

[[gnu::noinline]] double wide_value(const SeriesPlan& series, const Wide& sum, std::uint32_t count,
                                    std::uint64_t divisor) {
  Int128 stored = sum.signed_value();
  if (series.grid == Grid::kUnsigned) stored += static_cast<Int128>(count) << 63;
  const double value = ratio(stored, static_cast<UInt128>(series.denominator) * divisor);
  return series.unit == 1 ? value : value * series.unit;
}

// The sum of `count` stored values, over `divisor`, in the field's unit.
double to_value(const SeriesPlan& series, const Wide& sum, std::uint32_t count,
                std::uint64_t divisor) {
  const std::int64_t low = sum.as_i64();
  if (!series.small || !sum.fits_i64() || low > kWhole || low < -kWhole)
    return wide_value(series, sum, count, divisor);
  return static_cast<double>(low) /
         static_cast<double>(static_cast<std::int64_t>(series.denominator * divisor));
}

// b - a in the field's unit.
double difference(const SeriesPlan& series, std::int64_t a, std::int64_t b) {
  const Int128 steps = static_cast<Int128>(b) - a;
  const double value = ratio(steps, series.denominator);
  return series.unit == 1 ? value : value * series.unit;
}

double rate(const SeriesPlan& series, const Ends& ends) {
  const Int128 steps = static_cast<Int128>(ends.last) - ends.first;
  const std::uint64_t span = between(ends.first_time, ends.last_time);
  return ratio(steps * kSecond, span) / static_cast<double>(series.denominator) * series.unit;
}

// rate@2: the nearest double of the quotient, where rate@1 rounds twice. Steps take 65 bits, a
// second's nanoseconds 30, a span of at most 183 days 54 and a denominator 60.
double rate_once(const SeriesPlan& series, const Ends& ends) {
  const Int128 steps = static_cast<Int128>(ends.last) - ends.first;
  const std::uint64_t span = between(ends.first_time, ends.last_time);
  return ratio(steps * kSecond, static_cast<UInt128>(span) * series.denominator) * series.unit;
}

// What is wrong with the window, kNone where the operator is defined.
Reason missing_reason(Op op, const Found& window) {
  const std::uint32_t n = window.totals.count;
  if (op == Op::kCount || op == Op::kDistinct || op == Op::kBin) return Reason::kNone;
  if (op == Op::kTimeIn && window.any_held) return Reason::kNone;
  if (n == 0) return Reason::kEmptyWindow;
  const bool rate = op == Op::kRate || op == Op::kRateOnce;
  const bool two = op == Op::kStd || op == Op::kVariance || op == Op::kDelta || rate;
  if (two && n < 2) return Reason::kTooFew;
  if (rate && window.ends.first_time == window.ends.last_time) return Reason::kTooFew;
  return Reason::kNone;
}

// The same of Family::kValues.
double of_values(const SeriesPlan& series, const FeaturePlan& feature, const ValueWindow& window) {
  Values& values = *window.values;
  switch (feature.op) {
    case Op::kQuantile:
      return one_value(series, values.quantile(series, *window.needs, window.events, feature.part));
    case Op::kDistinct:
      return static_cast<double>(feature.approx ? values.about_distinct(*window.needs)
                                                : values.distinct(*window.needs));
    case Op::kMostFrequent:
      return one_value(series, values.mode());
    case Op::kBin:
      return static_cast<double>(values.in_bins(feature.part, feature.part_end));
    default:
      return kNan;
  }
}

bool is_approximate(const FeaturePlan& feature, const Found& window) {
  if (feature.op == Op::kQuantile)
    return window.values->values->is_approximate(*window.values->needs);
  return feature.approx && window.values->values->is_estimate(*window.values->needs);
}

// The operator over a window for which missing_reason is kNone.
double windowed(const SeriesPlan& series, const FeaturePlan& feature, const Found& window) {
  const Totals& totals = window.totals;
  const std::uint32_t n = totals.count;
  const bool is_float = series.grid == Grid::kFloat;
  switch (feature.op) {
    case Op::kCount:
      return static_cast<double>(n);
    case Op::kSum:
      return is_float ? totals.float_sum : to_value(series, totals.sum, n, 1);
    case Op::kMean:
      return is_float ? totals.float_sum / static_cast<double>(n)
                      : to_value(series, totals.sum, n, n);
    case Op::kStd:
      if (is_float) return totals.deviation.std;
      return sample_std(n, totals.squares, totals.sum) / static_cast<double>(series.denominator) *
             series.unit;
    case Op::kMin:
      return totals.lowest;
    case Op::kMax:
      return totals.highest;
    case Op::kVariance: {
      if (is_float) return totals.deviation.variance;
      const auto one = static_cast<double>(series.denominator);
      return sample_variance(n, totals.squares, totals.sum) / one / one * series.unit * series.unit;
    }
    case Op::kRange:
      return difference(series, totals.low, totals.high);
    case Op::kFirst:
      return one_value(series, window.ends.first);
    case Op::kDelta:
      return difference(series, window.ends.first, window.ends.last);
    case Op::kRate:
      return rate(series, window.ends);
    case Op::kRateOnce:
      return rate_once(series, window.ends);
    case Op::kEwma:
      return weighted_mean(series, window.weighted);
    case Op::kTimeIn:
      return ratio(static_cast<Int128>(window.on_ns), kSecond);
    default:
      return of_values(series, feature, *window.values);
  }
}

struct Judged {
  double value = kNan;
  State state = State::kMissing;
  Reason reason = Reason::kNever;
};

// What ttl, minimum count and minimum coverage make of a value.
Judged judge(const FeaturePlan& feature, double value, std::int64_t age, double coverage,
             std::uint32_t count) {
  if (coverage < feature.min_coverage || count < feature.min_count)
    return {kNan, State::kMissing, Reason::kWarming};
  if (feature.ttl_ns == 0 || age <= feature.ttl_ns) return {value, State::kFresh, Reason::kNone};
  switch (feature.on_stale) {
    case OnStale::kUse:
      return {value, State::kStale, Reason::kTtl};
    case OnStale::kDefault:
      return {feature.stale_value, State::kStale, Reason::kTtl};
    case OnStale::kRecompute:  // as of the newest event, unless the window has none
      if (count == 0) return {kNan, State::kMissing, Reason::kEmptyWindow};
      return {value, State::kStale, Reason::kTtl};
    case OnStale::kRefuse:
      return {kNan, State::kStale, Reason::kTtl};
    default:
      return {kNan, State::kMissing, Reason::kTtl};
  }
}

void write(const Answers& to, std::size_t index, const Judged& judged, std::int64_t age,
           double coverage) {
  to.values[index] = judged.value;
  to.states[index] = static_cast<std::uint8_t>(judged.state);
  if (!to.ages_ns.empty()) to.ages_ns[index] = age;
  if (!to.coverage.empty()) to.coverage[index] = coverage;
  if (!to.reasons.empty()) to.reasons[index] = static_cast<std::uint8_t>(judged.reason);
}

std::int64_t age_of(const Newest& newest, const FeaturePlan& feature, std::int64_t as_of) {
  const std::int64_t reach = feature.horizon_ns - feature.hop_ns;
  if (!newest.any || newest.time <= saturating_sub(hop_before(as_of, feature.hop_ns), reach))
    return kNeverNs;
  return saturating_sub(as_of, newest.time);
}

}  // namespace

double one_wide_value(const SeriesPlan& series, std::int64_t stored) {
  if (series.grid == Grid::kFloat) return float_of_key(stored);
  return wide_value(series, static_cast<UInt128>(Int128{stored}), 1, 1);
}

double weighted_mean(const SeriesPlan& series, const Weighted& found) {
  Int128 values = found.values;
  if (series.grid == Grid::kUnsigned) values += static_cast<Int128>(found.weights) << 63;
  return ratio(values, found.weights) / static_cast<double>(series.denominator) * series.unit;
}

void answer_plain(const Plan& plan, const Group& group, const ValueWindow& window,
                  std::span<double> values) {
  const SeriesPlan& series = plan.series()[static_cast<std::size_t>(group.series)];
  for (const std::uint16_t index : group.features)
    values[index] = of_values(series, plan.features()[index], window);
}

bool answer_plain(const Plan& plan, const Group& group, const Totals& totals, const Answers& to) {
  const SeriesPlan& series = plan.series()[static_cast<std::size_t>(group.series)];
  const std::int64_t sum = totals.sum.as_i64();
  if (!series.small || !group.plain || totals.count < 2 || !totals.sum.fits_i64() || sum > kWhole ||
      sum < -kWhole)
    return false;
  const auto n = static_cast<double>(totals.count);
  const auto one = static_cast<double>(static_cast<std::int64_t>(series.denominator));
  const auto whole = static_cast<double>(sum);
  const Pair sums = both(whole) / Pair{one, n * one};
  const double deviation =
      series.needs_squares ? sample_std(totals.count, totals.squares, totals.sum) / one : 0;
  // By operator number, from kCount on.
  const double found[] = {n, sums[0], sums[1], deviation, totals.lowest, totals.highest};
  for (const std::uint16_t index : group.features) {
    to.values[index] = found[static_cast<std::size_t>(plan.features()[index].op) - 1];
    to.states[index] = static_cast<std::uint8_t>(State::kFresh);
  }
  return true;
}

void answer_newest(const Plan& plan, const Group& group, const Newest& newest, std::int64_t as_of,
                   const Answers& to) {
  const SeriesPlan& series = plan.series()[static_cast<std::size_t>(group.series)];
  for (const std::uint16_t index : group.features) {
    const FeaturePlan& feature = plan.features()[index];
    const std::int64_t age = age_of(newest, feature, as_of);
    if (age == kNeverNs) {
      write(to, index, {}, age, 0);
      continue;
    }
    const double value = feature.op == Op::kLast ? one_value(series, newest.stored)
                                                 : static_cast<double>(age) / kNsPerSecond;
    write(to, index, judge(feature, value, age, 1, 1), age, 1);
  }
}

void answer_window(const Plan& plan, const Group& group, const Found& window, const Newest& newest,
                   double coverage, std::int64_t as_of, const Answers& to) {
  const SeriesPlan& series = plan.series()[static_cast<std::size_t>(group.series)];
  for (const std::uint16_t index : group.features) {
    const FeaturePlan& feature = plan.features()[index];
    const std::int64_t age = age_of(newest, feature, as_of);
    if (age == kNeverNs) {
      write(to, index, {}, age, 0);
      continue;
    }
    const Reason reason = missing_reason(feature.op, window);
    if (reason != Reason::kNone) {
      write(to, index, {kNan, State::kMissing, reason}, age, coverage);
      continue;
    }
    const double value = windowed(series, feature, window);
    Judged judged = feature.plain ? Judged{value, State::kFresh, Reason::kNone}
                                  : judge(feature, value, age, coverage, window.totals.count);
    if (judged.reason == Reason::kNone && is_approximate(feature, window))
      judged.reason = Reason::kApproximate;
    write(to, index, judged, age, coverage);
  }
}

void answer_constants(const Plan& plan, const Answers& to) {
  for (const Constant& one : plan.constants())
    write(to, one.feature, {one.value, State::kFresh, Reason::kNone}, 0, 1);
}

void answer_never(const Plan& plan, const Answers& to, Reason reason) {
  for (std::size_t i = 0; i < plan.width(); ++i)
    write(to, i, {kNan, State::kMissing, reason}, kNeverNs, 0);
  answer_constants(plan, to);
  answer_ratios(plan, to);
}

}  // namespace edgecore::features
