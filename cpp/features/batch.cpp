// Backfill: rows grouped by entity; each entity's rows swept in columns, or streamed where they
// can't be.
#include "features/batch.hpp"

#include <algorithm>
#include <limits>
#include <memory>
#include <numeric>

#include "features/entity.hpp"
#include "features/names.hpp"
#include "features/sweep.hpp"

namespace edgecore::features {
namespace {

bool is_before(const RowBatch& rows, std::uint32_t a, std::uint32_t b) {
  if (rows.time_ns(a) != rows.time_ns(b)) return rows.time_ns(a) < rows.time_ns(b);
  const int sources = rows.source(a).compare(rows.source(b));
  if (sources != 0) return sources < 0;
  return rows.source_seq(a) < rows.source_seq(b);
}

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Room for the answers to the row at `place`, all MISSING.
Answers missing_at(std::size_t place, std::size_t width, std::span<double> values,
                   std::span<std::uint8_t> states) {
  const Answers to{
      values.subspan(place * width, width), states.subspan(place * width, width), {}, {}, {}};
  std::fill(to.values.begin(), to.values.end(), kNan);
  std::fill(to.states.begin(), to.states.end(), static_cast<std::uint8_t>(State::kMissing));
  return to;
}

// One entity's rows through one warm state, each answered as it comes.
class Stream {
 public:
  Stream(const Plan& plan, const RowBatch& rows, std::span<const std::uint32_t> order,
         std::span<double> values, std::span<std::uint8_t> states, std::uint64_t* late)
      : plan_(plan), rows_(rows), order_(order), values_(values), states_(states), late_(late) {}

  Status run(std::span<const std::uint32_t> places) {
    entity_.reset(plan_);
    for (const std::size_t place : places) {
      const std::size_t row = order_[place];
      EDGECORE_ASSIGN(const Applied applied, entity_.apply(plan_, rows_, row, sources_, computed_));
      const Answers to = missing_at(place, plan_.width(), values_, states_);
      if (applied != Applied::kLate)
        EDGECORE_TRY(entity_.read(plan_, rows_.time_ns(row), to));
      else if (late_ == nullptr)
        return Status::invalid("backfill: rows are not in order");
      else
        ++*late_;
    }
    return Status::ok();
  }

 private:
  const Plan& plan_;
  const RowBatch& rows_;
  std::span<const std::uint32_t> order_;
  std::span<double> values_;
  std::span<std::uint8_t> states_;
  std::uint64_t* late_;
  Entity entity_;
  Sources sources_;
  Computed computed_;
};

}  // namespace

Grouped group_by_entity(const Plan& plan, const RowBatch& rows,
                        std::span<const std::uint32_t> order) {
  Names names;
  std::vector<std::uint32_t> ids(order.size());
  std::string scratch;
  const int field = plan.entity_field();
  const bool stays =  // a name stays where it is, when the next one is read
      field >= 0 && is_variable(plan.schema()->fields[static_cast<std::size_t>(field)].dtype);
  std::string_view before;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const std::string_view name = entity_name(plan, rows, order[i], scratch);
    if (stays && i > 0 && same_name(name, before)) {
      ids[i] = ids[i - 1];
      continue;
    }
    const std::uint32_t id = names.find(name);
    ids[i] = id == Names::kNone ? names.add(name) : id;
    names.remember(ids[i]);
    before = name;
  }
  Grouped out;
  out.places.resize(order.size());
  if (names.size() <= 1) {
    std::iota(out.places.begin(), out.places.end(), 0u);
    out.bounds = {0, static_cast<std::uint32_t>(order.size())};
    return out;
  }
  out.bounds.assign(names.size() + 1, 0);
  for (const std::uint32_t id : ids) ++out.bounds[id + 1];
  std::partial_sum(out.bounds.begin(), out.bounds.end(), out.bounds.begin());
  std::vector<std::uint32_t> next(out.bounds.begin(), out.bounds.end() - 1);
  for (std::uint32_t i = 0; i < ids.size(); ++i) out.places[next[ids[i]]++] = i;
  return out;
}

// Most rows come in order: those that don't are sorted and merged in. Of equal rows the one that
// came in order is the earlier one.
std::vector<std::uint32_t> total_order(const RowBatch& rows) {
  const auto less = [&rows](std::uint32_t a, std::uint32_t b) { return is_before(rows, a, b); };
  std::vector<std::uint32_t> order;
  std::vector<std::uint32_t> behind;
  order.reserve(rows.count());
  for (std::uint32_t row = 0; row < rows.count(); ++row) {
    const bool is_behind = !order.empty() && less(row, order.back());
    (is_behind ? behind : order).push_back(row);
  }
  if (behind.empty()) return order;
  std::stable_sort(behind.begin(), behind.end(), less);
  std::vector<std::uint32_t> out(rows.count());
  std::merge(order.begin(), order.end(), behind.begin(), behind.end(), out.begin(), less);
  return out;
}

namespace {

// `grouped`: by entity, where that is known already.
Status fill(const PlanPtr& plan, const RowBatch& rows, std::span<const std::uint32_t> order,
            const Grouped* grouped, std::span<double> values, std::span<std::uint8_t> states,
            std::uint64_t* late, std::span<const GapBefore> gaps) {
  EDGECORE_TRY(check_schema(*plan, rows));
  const std::size_t width = plan->width();
  if (values.size() != order.size() * width || states.size() != values.size())
    return Status::invalid("backfill: room for rows x features answers is needed");
  for (const std::uint32_t row : order)
    if (row >= rows.count()) return Status::invalid("backfill: a row beyond the batch");
  // Where entities are not alone what becomes of one is seen by others; gaps are of all of them.
  if (plan->view().rules.any() || !gaps.empty()) {
    EDGECORE_ASSIGN(const auto engine, Engine::create(plan));
    EDGECORE_TRY(follow(*engine, rows, order, 1, values, states, gaps));
    if (late != nullptr) *late = engine->late_rows() + engine->ahead_rows();
    return Status::ok();
  }
  Grouped here;
  if (grouped == nullptr) here = group_by_entity(*plan, rows, order);
  const Grouped& entities = grouped == nullptr ? here : *grouped;
  Sweep sweep(*plan, rows, order, values, states);
  Stream stream(*plan, rows, order, values, states, late);
  for (std::size_t e = 0; e + 1 < entities.bounds.size(); ++e) {
    const std::size_t first = entities.bounds[e];
    const auto places = std::span(entities.places).subspan(first, entities.bounds[e + 1] - first);
    if (!sweep.run(places)) EDGECORE_TRY(stream.run(places));
  }
  return Status::ok();
}

}  // namespace

Status backfill(const PlanPtr& plan, const RowBatch& rows, std::span<const std::uint32_t> order,
                std::span<double> values, std::span<std::uint8_t> states, std::uint64_t* late,
                std::span<const GapBefore> gaps) {
  return fill(plan, rows, order, nullptr, values, states, late, gaps);
}

Status follow(Engine& engine, const RowBatch& rows, std::span<const std::uint32_t> order,
              std::uint64_t position, std::span<double> values, std::span<std::uint8_t> states,
              std::span<const GapBefore> gaps) {
  const Plan& plan = engine.plan();
  if (values.size() != order.size() * plan.width() || states.size() != values.size())
    return Status::invalid("features: room for rows x features answers is needed");
  std::string scratch;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const std::size_t row = order[i];
    for (; !gaps.empty() && gaps.front().row <= row; gaps = gaps.subspan(1))
      EDGECORE_TRY(engine.gap(gaps.front().from_ns, gaps.front().to_ns));
    EDGECORE_TRY(engine.update(rows, row, 1, position + i));
    const Answers to = missing_at(i, plan.width(), values, states);
    if (!engine.was_set_aside())
      EDGECORE_TRY(engine.read(entity_name(plan, rows, row, scratch), rows.time_ns(row), to));
  }
  return Status::ok();
}

Chosen choose(const Plan& plan, const RowBatch& rows, const Part& part) {
  Chosen out;
  if (part.arrival) {
    out.order.resize(rows.count());
    std::iota(out.order.begin(), out.order.end(), 0u);
  } else {
    out.order = total_order(rows);
  }
  out.count = out.order.size();
  if (part.since == INT64_MIN && part.until == INT64_MAX) return out;
  const std::int64_t warm =
      saturating_sub(saturating_sub(part.since, plan.horizon_ns()), plan.view().lateness_ns);
  const auto is_answered = [&part](std::int64_t time) {
    return time >= part.since && (time < part.until || part.until == INT64_MAX);
  };
  std::erase_if(out.order, [&](std::uint32_t row) { return rows.time_ns(row) < warm; });
  // What came after the last that is answered is not asked for.
  while (!out.order.empty() && !is_answered(rows.time_ns(out.order.back()))) out.order.pop_back();
  out.answered.reserve(out.order.size());
  for (const std::uint32_t row : out.order) out.answered.push_back(is_answered(rows.time_ns(row)));
  out.count = static_cast<std::size_t>(std::count(out.answered.begin(), out.answered.end(), 1));
  return out;
}

namespace {

// By row number whether the answer of a row is final; `order` and `grouped` are of all rows.
Status find_final(const Plan& plan, const RowBatch& rows, std::span<const std::uint32_t> order,
                  const Grouped& grouped, std::span<std::uint8_t> out) {
  const std::int64_t lateness = plan.view().lateness_ns;
  const Rules& rules = plan.view().rules;
  if (rules.idle_ns == 0) {
    for (std::size_t e = 0; e + 1 < grouped.bounds.size(); ++e) {
      if (grouped.bounds[e] == grouped.bounds[e + 1]) continue;
      const std::int64_t newest = rows.time_ns(order[grouped.places[grouped.bounds[e + 1] - 1]]);
      const std::int64_t bound = saturating_sub(newest, lateness);
      for (std::size_t at = grouped.bounds[e]; at < grouped.bounds[e + 1]; ++at) {
        const std::uint32_t row = order[grouped.places[at]];
        out[row] = rows.time_ns(row) < bound;
      }
    }
    return Status::ok();
  }
  Watermark watermark;
  Guard guard;
  for (const std::uint32_t row : order) {
    const std::int64_t time = rows.time_ns(row);
    if (rules.max_ahead_ns > 0 && guard.is_ahead(time, rules.max_ahead_ns)) continue;
    guard.accept(time);
    if (!watermark.has_room(rows.source(row)))
      return Status::exhausted("features: more sources than a view with idle= may have");
    watermark.advance(rows.source(row), time, rules, lateness);
  }
  for (const std::uint32_t row : order) out[row] = rows.time_ns(row) < *watermark.low();
  return Status::ok();
}

// Of all rows that were taken, those that are answered.
void keep_answered(const Chosen& chosen, std::size_t width, const double* values,
                   const std::uint8_t* states, const Columns& to) {
  std::size_t at = 0;
  for (std::size_t i = 0; i < chosen.order.size(); ++i) {
    if (chosen.answered[i] == 0) continue;
    std::copy_n(values + i * width, width, &to.values[at * width]);
    std::copy_n(states + i * width, width, &to.states[at * width]);
    to.numbers[at++] = chosen.order[i];
  }
}

}  // namespace

Status answer(const PlanPtr& plan, const RowBatch& rows, const Part& part, const Chosen& chosen,
              const Columns& to, std::uint64_t& late) {
  const std::size_t width = plan->width();
  const bool all = chosen.answered.empty();
  std::uint64_t* count_late = part.arrival ? &late : nullptr;
  EDGECORE_TRY(check_schema(*plan, rows));
  Grouped grouped;
  if (all) {
    grouped = group_by_entity(*plan, rows, chosen.order);
    std::copy(chosen.order.begin(), chosen.order.end(), to.numbers.begin());
    EDGECORE_TRY(
        fill(plan, rows, chosen.order, &grouped, to.values, to.states, count_late, part.gaps));
  } else {
    const std::size_t room = chosen.order.size() * width;
    const auto values = std::make_unique_for_overwrite<double[]>(room);
    const auto states = std::make_unique_for_overwrite<std::uint8_t[]>(room);
    EDGECORE_TRY(fill(plan, rows, chosen.order, nullptr, {values.get(), room}, {states.get(), room},
                      count_late, part.gaps));
    keep_answered(chosen, width, values.get(), states.get(), to);
  }
  for (std::size_t i = 0; i < to.numbers.size(); ++i) to.times[i] = rows.time_ns(to.numbers[i]);
  std::fill(to.final.begin(), to.final.end(), std::uint8_t{0});
  if (part.arrival || rows.count() == 0) return Status::ok();  // nothing was final on arrival
  std::vector<std::uint8_t> final(rows.count());
  if (all) {
    EDGECORE_TRY(find_final(*plan, rows, chosen.order, grouped, final));
  } else {
    const std::vector<std::uint32_t> order = total_order(rows);
    EDGECORE_TRY(find_final(*plan, rows, order, group_by_entity(*plan, rows, order), final));
  }
  for (std::size_t i = 0; i < to.numbers.size(); ++i) to.final[i] = final[to.numbers[i]];
  return Status::ok();
}

}  // namespace edgecore::features
