// Rows into series, totals into answers; see entity.hpp.
#include "features/entity.hpp"

#include <limits>

namespace edgecore::features {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kNsPerSecond = 1e9;

// ---------------------------------------------------------------- rows in

enum class Cell : std::uint8_t { kAbsent, kValue, kOutside };

// Null is absent, and so are infinities and NaN of a float without a grid: no sum holds them.
Cell stored_cell(const SeriesPlan& series, const RowBatch& rows, std::size_t row,
                 std::int64_t& out) {
  if (series.field < 0) return Cell::kValue;
  const auto field = static_cast<std::size_t>(series.field);
  if (!rows.present(row, field)) return Cell::kAbsent;
  if (series.grid == Grid::kNone) return Cell::kValue;
  if (series.grid == Grid::kFloat) {
    const double value = rows.f64(row, field);
    if (value - value != 0) return Cell::kAbsent;
    out = float_key(value);
    return Cell::kValue;
  }
  if (series.grid == Grid::kUnsigned) {
    out = flip_sign_bit(rows.cell(row, field));
  } else if (series.resolution > 0) {
    const auto steps = steps_of(rows.f64(row, field), series.resolution);
    if (!steps) return Cell::kOutside;
    out = *steps;
  } else {
    out = rows.i64(row, field);
  }
  return out >= series.low && out <= series.high ? Cell::kValue : Cell::kOutside;
}

// ---------------------------------------------------------------- answers out

constexpr std::int64_t kWhole = std::int64_t{1} << 53;  // every integer up to it is a double

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

double one_value(const SeriesPlan& series, std::int64_t stored) {
  if (series.small)
    return static_cast<double>(stored) /
           static_cast<double>(static_cast<std::int64_t>(series.denominator));
  if (series.grid == Grid::kFloat) return float_of_key(stored);
  return wide_value(series, static_cast<UInt128>(Int128{stored}), 1, 1);
}

// What is wrong with n events in the window, kNone where the operator is defined.
Reason missing_reason(Op op, std::uint32_t n) {
  if (op == Op::kCount) return Reason::kNone;
  if (n == 0) return Reason::kEmptyWindow;
  return op == Op::kStd && n < 2 ? Reason::kTooFew : Reason::kNone;
}

// The operator over a window for which missing_reason is kNone.
double windowed(const SeriesPlan& series, Op op, const Totals& totals) {
  const std::uint32_t n = totals.count;
  const bool is_float = series.grid == Grid::kFloat;
  switch (op) {
    case Op::kCount:
      return static_cast<double>(n);
    case Op::kSum:
      return is_float ? totals.float_sum : to_value(series, totals.sum, n, 1);
    case Op::kMean:
      return is_float ? totals.float_sum / static_cast<double>(n)
                      : to_value(series, totals.sum, n, n);
    case Op::kStd:
      return sample_std(n, totals.squares, totals.sum) / static_cast<double>(series.denominator) *
             series.unit;
    case Op::kMin:
      return one_value(series, totals.min);
    case Op::kMax:
      return one_value(series, totals.max);
    default:
      return kNan;
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

// The common case without a branch per feature: small numbers, two events or more in the window,
// nothing to judge. Each operator is one division; the same operations as `windowed`.
bool write_plain(const Plan& plan, const SeriesPlan& series, const Group& group,
                 const Totals& totals, const Answers& to) {
  const std::int64_t sum = totals.sum.as_i64();
  if (!series.small || !group.plain || totals.count < 2 || !totals.sum.fits_i64() || sum > kWhole ||
      sum < -kWhole)
    return false;
  const auto n = static_cast<double>(totals.count);
  const auto one = static_cast<double>(static_cast<std::int64_t>(series.denominator));
  const auto whole = static_cast<double>(sum);
  const double deviation =
      series.needs_squares ? sample_std(totals.count, totals.squares, totals.sum) : 0;
  // By operator number, from kCount on.
  const double numerators[] = {
      n, whole, whole, deviation, static_cast<double>(totals.min), static_cast<double>(totals.max)};
  const double denominators[] = {1, one, n * one, one, one, one};
  for (const std::uint16_t index : group.features) {
    const auto op = static_cast<std::size_t>(plan.features()[index].op) - 1;
    to.values[index] = numerators[op] / denominators[op];
    to.states[index] = static_cast<std::uint8_t>(State::kFresh);
  }
  return true;
}

std::int64_t age_of(const Newest& newest, const FeaturePlan& feature, std::int64_t as_of) {
  if (!newest.any || newest.time <= saturating_sub(as_of, feature.horizon_ns)) return kNeverNs;
  return saturating_sub(as_of, newest.time);
}

}  // namespace

void Entity::reset(const Plan& plan) {
  seen_ = false;
  if (!series_) series_ = std::make_unique<Series[]>(plan.series().size());
  for (std::size_t i = 0; i < plan.series().size(); ++i) series_[i].reset(plan.series()[i]);
}

Result<Applied> Entity::apply(const Plan& plan, const RowBatch& rows, std::size_t row,
                              Sources& sources) {
  const std::int64_t time = rows.time_ns(row);
  const std::int64_t newest = seen_ ? std::max(newest_, time) : time;
  const std::int64_t open = saturating_sub(newest, plan.view().lateness_ns);
  if (time < open) return Applied::kLate;
  const std::uint32_t source = sources.intern(rows.source(row));
  if (source == Sources::kFull)
    return Status::exhausted("features: more than " + std::to_string(kSourcesMax) + " sources");
  // Nothing is applied before everything is known to fit.
  std::int64_t stored = 0;
  for (std::size_t i = 0; i < plan.series().size(); ++i) {
    const SeriesPlan& series = plan.series()[i];
    const Cell cell = stored_cell(series, rows, row, stored);
    if (cell == Cell::kOutside)
      return Status::invalid("field '" +
                             plan.schema()->fields[static_cast<std::size_t>(series.field)].name +
                             "': a value outside its declared range reached the features");
    if (cell == Cell::kValue && !series_[i].reserve(series, newest))
      return Status::exhausted("features: an entity has more than " + std::to_string(kEventsMax) +
                               " events in its window; shorten the window or thin the source");
  }
  seen_ = true;
  newest_ = newest;
  Event event{time, 0, {rows.source_seq(row), source}};
  for (std::size_t i = 0; i < plan.series().size(); ++i) {
    const SeriesPlan& series = plan.series()[i];
    if (stored_cell(series, rows, row, event.stored) == Cell::kValue)
      series_[i].insert(series, event, open, sources);
  }
  return Applied::kYes;
}

Status Entity::read(const Plan& plan, std::int64_t as_of, const Answers& to) {
  if (seen_ && as_of < saturating_sub(newest_, plan.view().lateness_ns))
    return Status::stale("features: as_of " + std::to_string(as_of) +
                         " is older than the entity's newest event by more than the lateness");
  for (const Group& group : plan.groups()) {
    if (group.window == Group::kNewest)
      read_newest(plan, group, as_of, to);
    else
      read_window(plan, group, as_of, to);
  }
  return Status::ok();
}

void Entity::read_newest(const Plan& plan, const Group& group, std::int64_t as_of,
                         const Answers& to) {
  const auto at = static_cast<std::size_t>(group.series);
  const SeriesPlan& series = plan.series()[at];
  const Newest newest = series_[at].newest(series, as_of);
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

void Entity::read_window(const Plan& plan, const Group& group, std::int64_t as_of,
                         const Answers& to) {
  Series& events = series_[static_cast<std::size_t>(group.series)];
  const SeriesPlan& series = plan.series()[static_cast<std::size_t>(group.series)];
  const auto window = static_cast<std::size_t>(group.window);
  Totals totals;
  events.totals(series, window, as_of, totals);
  if (to.ages_ns.empty() && to.coverage.empty() && to.reasons.empty() &&
      write_plain(plan, series, group, totals, to))
    return;
  const Newest newest = events.newest(series, as_of);
  const double coverage = group.needs_coverage || !to.coverage.empty()
                              ? events.known_share(totals, series.windows[window], as_of)
                              : 0;
  for (const std::uint16_t index : group.features) {
    const FeaturePlan& feature = plan.features()[index];
    const std::int64_t age = age_of(newest, feature, as_of);
    if (age == kNeverNs) {
      write(to, index, {}, age, 0);
      continue;
    }
    const Reason reason = missing_reason(feature.op, totals.count);
    if (reason != Reason::kNone) {
      write(to, index, {kNan, State::kMissing, reason}, age, coverage);
      continue;
    }
    const double value = windowed(series, feature.op, totals);
    const Judged judged = feature.plain ? Judged{value, State::kFresh, Reason::kNone}
                                        : judge(feature, value, age, coverage, totals.count);
    write(to, index, judged, age, coverage);
  }
}

std::size_t Entity::memory_bytes(const Plan& plan) const {
  std::size_t total = sizeof(Entity) + plan.series().size() * sizeof(Series);
  for (std::size_t i = 0; i < plan.series().size(); ++i)
    total += series_[i].memory_bytes(plan.series()[i]);
  return total;
}

void answer_never(const Plan& plan, const Answers& to) {
  for (std::size_t i = 0; i < plan.width(); ++i) write(to, i, {}, kNeverNs, 0);
}

std::string_view entity_name(const Plan& plan, const RowBatch& rows, std::size_t row,
                             std::string& scratch) {
  if (plan.entity_field() < 0) return {};
  const auto field = static_cast<std::size_t>(plan.entity_field());
  if (!rows.present(row, field)) return {};
  const DType dtype = plan.schema()->fields[field].dtype;
  if (is_variable(dtype)) return rows.text(row, field);
  scratch = is_unsigned(dtype) ? std::to_string(rows.cell(row, field))
                               : std::to_string(rows.i64(row, field));
  return scratch;
}

Status check_schema(const Plan& plan, const RowBatch& rows) {
  const Schema& have = *rows.schema();
  const Schema& want = *plan.schema();
  if (&have == &want ||
      (have.fingerprint == want.fingerprint && have.fields.size() == want.fields.size()))
    return Status::ok();
  return Status::invalid("features: rows of stream '" + have.stream + "' version " +
                         std::to_string(have.version) + " do not fit view '" + plan.view().name +
                         "'");
}

}  // namespace edgecore::features
