// Rows into series, totals into answers; see entity.hpp.
#include "features/entity.hpp"

#include "features/answer.hpp"
#include "features/cells.hpp"
#include "features/ratios.hpp"
#include "features/spans.hpp"

namespace edgecore::features {
namespace {

// The known share of a window, without the gaps in it.
double known_share(const Series& events, const Totals& totals, std::int64_t window,
                   std::int64_t as_of, const Gaps& gaps) {
  if (gaps.empty() || totals.count == 0) return events.known_share(totals, window, as_of);
  const std::int64_t from = events.known_from(totals, window, as_of);
  const std::int64_t known = saturating_sub(as_of, from) - gaps.within(from, as_of);
  return static_cast<double>(known) / static_cast<double>(window);
}

}  // namespace

void Entity::reset(const Plan& plan) {
  seen_ = false;
  if (!series_) series_ = std::make_unique<Series[]>(plan.series().size());
  for (std::size_t i = 0; i < plan.series().size(); ++i) series_[i].reset(plan.series()[i]);
}

Result<Applied> Entity::apply(const Plan& plan, const RowBatch& rows, std::size_t row,
                              Sources& sources, Computed& computed) {
  const std::int64_t time = rows.time_ns(row);
  const std::int64_t newest = seen_ ? std::max(newest_, time) : time;
  const std::int64_t open = saturating_sub(newest, plan.view().lateness_ns);
  if (time < open) return Applied::kLate;
  const std::uint32_t source = sources.intern(rows.source(row));
  if (source == Sources::kFull)
    return Status::exhausted("features: more than " + std::to_string(kSourcesMax) + " sources");
  // Nothing is applied before everything is known to fit.
  std::int64_t stored = 0;
  computed.values.clear();
  computed.undefined = 0;
  for (std::size_t i = 0; i < plan.series().size(); ++i) {
    const SeriesPlan& series = plan.series()[i];
    const Cell cell = stored_cell(series, rows, row, stored);
    if (cell == Cell::kOutside)
      return Status::invalid(series.name +
                             ": a value outside its declared range reached the features");
    if (series.program) {
      computed.values.push_back({cell == Cell::kValue, stored});
      computed.undefined += cell == Cell::kUndefined;
    }
    if (cell == Cell::kValue && !series_[i].reserve(series, newest))
      return Status::exhausted("features: an entity has more than " + std::to_string(kEventsMax) +
                               " events in its window; shorten the window or thin the source");
  }
  seen_ = true;
  newest_ = newest;
  Event event{time, 0, {rows.source_seq(row), source}};
  const Computed::One* next = computed.values.data();
  for (std::size_t i = 0; i < plan.series().size(); ++i) {
    const SeriesPlan& series = plan.series()[i];
    bool has_value = false;
    if (series.program) {
      has_value = next->has_value;
      event.stored = (next++)->stored;
    } else {
      has_value = stored_cell(series, rows, row, event.stored) == Cell::kValue;
    }
    if (has_value) series_[i].insert(series, event, open, sources);
  }
  return Applied::kYes;
}

Status Entity::read(const Plan& plan, std::int64_t as_of, const Answers& to, const Gaps& gaps) {
  const std::int64_t back = plan.view().lateness_ns + plan.view().rules.hold_ns();
  if (seen_ && as_of < saturating_sub(newest_, back))
    return Status::stale("features: as_of " + std::to_string(as_of) +
                         " is older than the entity's newest event by more than the lateness");
  for (const Group& group : plan.groups()) {
    if (group.window == Group::kNewest)
      read_newest(plan, group, as_of, to);
    else if (group.window == Group::kDecay)
      read_decay(plan, group, as_of, to, gaps);
    else if (group.window == Group::kSpan)
      read_span(plan, group, as_of, to, gaps);
    else if (group.values >= 0)
      read_values(plan, group, as_of, to, gaps);
    else
      read_window(plan, group, as_of, to, gaps);
  }
  answer_constants(plan, to);
  answer_ratios(plan, to);
  return Status::ok();
}

void Entity::read_span(const Plan& plan, const Group& group, std::int64_t as_of, const Answers& to,
                       const Gaps& gaps) {
  Series& events = series_[static_cast<std::size_t>(group.series)];
  const SeriesPlan& series = plan.series()[static_cast<std::size_t>(group.series)];
  answer_span(plan, group,
              {series, events.view(series), events.settled(), events.ranges(),
               events.values_at(group.values)},
              as_of, gaps, to);
}

void Entity::read_newest(const Plan& plan, const Group& group, std::int64_t as_of,
                         const Answers& to) {
  const auto at = static_cast<std::size_t>(group.series);
  answer_newest(plan, group, series_[at].newest(plan.series()[at], as_of), as_of, to);
}

void Entity::read_decay(const Plan& plan, const Group& group, std::int64_t as_of, const Answers& to,
                        const Gaps& gaps) {
  Series& events = series_[static_cast<std::size_t>(group.series)];
  const SeriesPlan& series = plan.series()[static_cast<std::size_t>(group.series)];
  const auto decay = static_cast<std::size_t>(group.decay);
  const std::int64_t width = kPanes * series.decays[decay];
  const Newest newest = events.newest(series, as_of);
  const std::int64_t at = recomputed_at(as_of, newest, width, group.span.recompute_ns);
  Found found;
  found.weighted = events.weighted(series, decay, at);
  found.totals.count = found.weighted.count;
  found.totals.begin = found.weighted.begin;
  const double coverage = known_share(events, found.totals, width, at, gaps);
  answer_window(plan, group, found, newest, coverage, as_of, to);
}

void Entity::read_window(const Plan& plan, const Group& group, std::int64_t as_of,
                         const Answers& to, const Gaps& gaps) {
  Series& events = series_[static_cast<std::size_t>(group.series)];
  const SeriesPlan& series = plan.series()[static_cast<std::size_t>(group.series)];
  const auto window = static_cast<std::size_t>(group.window);
  Totals totals;
  events.totals(series, window, as_of, totals);
  if (!group.ends && to.ages_ns.empty() && to.coverage.empty() && to.reasons.empty() &&
      answer_plain(plan, group, totals, to))
    return;
  Found found;
  found.totals = totals;
  if (group.ends && totals.count > 0) found.ends = events.ends(series, totals);
  const Newest newest = events.newest(series, as_of);
  const double coverage = group.needs_coverage || !to.coverage.empty()
                              ? known_share(events, totals, series.windows[window], as_of, gaps)
                              : 0;
  answer_window(plan, group, found, newest, coverage, as_of, to);
}

void Entity::read_values(const Plan& plan, const Group& group, std::int64_t as_of,
                         const Answers& to, const Gaps& gaps) {
  Series& events = series_[static_cast<std::size_t>(group.series)];
  const SeriesPlan& series = plan.series()[static_cast<std::size_t>(group.series)];
  const auto window = static_cast<std::size_t>(group.window);
  Found found;
  events.totals(series, window, as_of, found.totals);
  const std::uint32_t begin = found.totals.begin;
  const ValueWindow values = events.values(series, static_cast<std::size_t>(group.values), begin,
                                           begin + found.totals.count);
  found.values = &values;
  const double coverage = known_share(events, found.totals, series.windows[window], as_of, gaps);
  answer_window(plan, group, found, events.newest(series, as_of), coverage, as_of, to);
}

std::size_t Entity::memory_bytes(const Plan& plan) const {
  if (!series_) return sizeof(Entity);  // let go
  std::size_t total = sizeof(Entity) + plan.series().size() * sizeof(Series);
  for (std::size_t i = 0; i < plan.series().size(); ++i)
    total += series_[i].memory_bytes(plan.series()[i]);
  return total;
}

std::string_view number_name(DType dtype, const RowBatch& rows, std::size_t row, std::size_t field,
                             std::string& scratch) {
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
