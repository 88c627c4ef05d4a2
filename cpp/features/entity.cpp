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

double to_value(const SeriesPlan& series, Int128 stored_sum, std::uint32_t count,
                std::uint64_t divisor) {
  if (series.grid == Grid::kUnsigned) stored_sum += static_cast<Int128>(count) << 63;
  const double value = ratio(stored_sum, static_cast<UInt128>(series.denominator) * divisor);
  return series.unit == 1 ? value : value * series.unit;
}
double one_value(const SeriesPlan& series, std::int64_t stored) {
  return series.grid == Grid::kFloat ? float_of_key(stored) : to_value(series, stored, 1, 1);
}

struct Judged {
  double value = kNan;
  State state = State::kMissing;
  Reason reason = Reason::kNever;
};

Judged windowed(const SeriesPlan& series, const FeaturePlan& feature, const Totals& totals) {
  const auto missing = [](Reason reason) { return Judged{kNan, State::kMissing, reason}; };
  const auto fresh = [](double value) { return Judged{value, State::kFresh, Reason::kNone}; };
  const std::uint32_t n = totals.count;
  if (feature.op == Op::kCount) return fresh(static_cast<double>(n));
  if (n == 0) return missing(Reason::kEmptyWindow);
  const bool is_float = series.grid == Grid::kFloat;
  switch (feature.op) {
    case Op::kSum:
      return fresh(is_float ? totals.float_sum : to_value(series, totals.sum, n, 1));
    case Op::kMean:
      return fresh(is_float ? totals.float_sum / static_cast<double>(n)
                            : to_value(series, totals.sum, n, n));
    case Op::kStd:
      if (n < 2) return missing(Reason::kTooFew);
      return fresh(sample_std(n, totals.squares, totals.sum) /
                   static_cast<double>(series.denominator) * series.unit);
    case Op::kMin:
      return fresh(one_value(series, totals.min));
    case Op::kMax:
      return fresh(one_value(series, totals.max));
    default:
      return missing(Reason::kNever);
  }
}

double known_share(const Totals& totals, std::int64_t window, std::int64_t as_of) {
  if (totals.count == 0) return 0;
  if (totals.has_before && totals.before_time > saturating_sub(as_of, 2 * window)) return 1;
  return static_cast<double>(as_of - totals.first_time) / static_cast<double>(window);
}

// Writes feature `index`, after ttl, minimum count and coverage have had their say.
void settle(const FeaturePlan& feature, std::size_t index, Judged judged, std::int64_t age,
            double coverage, std::uint32_t count, const Answers& to) {
  if (age == kNeverNs) {
    judged = {};
    coverage = 0;
  } else if (judged.state == State::kFresh &&
             (coverage < feature.min_coverage || count < feature.min_count)) {
    judged = {kNan, State::kMissing, Reason::kWarming};
  } else if (judged.state == State::kFresh && feature.ttl_ns > 0 && age > feature.ttl_ns) {
    judged.reason = Reason::kTtl;
    judged.state = feature.on_stale == OnStale::kMissing ? State::kMissing : State::kStale;
    if (feature.on_stale == OnStale::kMissing) judged.value = kNan;
    if (feature.on_stale == OnStale::kDefault) judged.value = feature.stale_value;
  }
  to.values[index] = judged.value;
  to.states[index] = static_cast<std::uint8_t>(judged.state);
  if (!to.ages_ns.empty()) to.ages_ns[index] = age;
  if (!to.coverage.empty()) to.coverage[index] = coverage;
  if (!to.reasons.empty()) to.reasons[index] = static_cast<std::uint8_t>(judged.reason);
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
  const auto source = sources.intern(rows.source(row));
  if (!source)
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
  Event event{time, 0, {rows.source_seq(row), *source}};
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
  Totals totals;
  for (const Group& group : plan.groups()) {
    const auto at = static_cast<std::size_t>(group.series);
    const SeriesPlan& series = plan.series()[at];
    const Newest newest = series_[at].newest(series, as_of);
    if (group.window == Group::kNewest) {
      for (const std::uint16_t index : group.features) {
        const FeaturePlan& feature = plan.features()[index];
        const std::int64_t age = age_of(newest, feature, as_of);
        const double value = feature.op == Op::kLast ? one_value(series, newest.stored)
                                                     : static_cast<double>(age) / kNsPerSecond;
        settle(feature, index, {value, State::kFresh, Reason::kNone}, age, 1, 1, to);
      }
      continue;
    }
    const auto window = static_cast<std::size_t>(group.window);
    series_[at].totals(series, window, as_of, totals);
    const double coverage = known_share(totals, series.windows[window], as_of);
    for (const std::uint16_t index : group.features) {
      const FeaturePlan& feature = plan.features()[index];
      settle(feature, index, windowed(series, feature, totals), age_of(newest, feature, as_of),
             coverage, totals.count, to);
    }
  }
  return Status::ok();
}

std::size_t Entity::memory_bytes(const Plan& plan) const {
  std::size_t total = sizeof(Entity) + plan.series().size() * sizeof(Series);
  for (std::size_t i = 0; i < plan.series().size(); ++i)
    total += series_[i].memory_bytes(plan.series()[i]);
  return total;
}

void answer_never(const Plan& plan, const Answers& to) {
  for (std::size_t i = 0; i < plan.width(); ++i)
    settle(plan.features()[i], i, {}, kNeverNs, 0, 0, to);
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
