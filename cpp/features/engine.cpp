// Entities by name, rows to entities; snapshots are in snapshot.cpp.
#include <algorithm>
#include <utility>

#include "features/answer.hpp"
#include "features/engine_impl.hpp"

namespace edgecore::features {

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

Result<std::unique_ptr<Engine>> Engine::create(PlanPtr plan) {
  if (!plan) return Status::invalid("features: an engine needs a plan");
  auto impl = std::make_unique<Impl>();
  impl->plan = std::move(plan);
  return std::unique_ptr<Engine>(new Engine(std::move(impl)));
}

const Plan& Engine::plan() const {
  return *impl_->plan;
}
std::size_t Engine::width() const {
  return impl_->plan->width();
}
std::uint64_t Engine::position() const {
  return impl_->position;
}
std::uint64_t Engine::late_rows() const {
  return impl_->late_rows;
}
std::uint64_t Engine::ahead_rows() const {
  return impl_->ahead_rows;
}
std::uint64_t Engine::undefined_values() const {
  return impl_->undefined_values;
}
std::uint64_t Engine::evicted() const {
  return impl_->evicted;
}
bool Engine::was_set_aside() const {
  return impl_->last_aside;
}
std::uint64_t Engine::state_bytes() const {
  return impl_->bytes;
}
std::optional<std::int64_t> Engine::final_before() const {
  return impl_->watermark.low();
}
bool Engine::is_final(std::string_view entity, std::int64_t as_of_ns) const {
  const ViewSpec& view = impl_->plan->view();
  if (view.rules.idle_ns > 0) return impl_->watermark.low() && as_of_ns < *impl_->watermark.low();
  const std::uint32_t id = impl_->names.find(entity);
  return id != Names::kNone &&
         as_of_ns < saturating_sub(impl_->entities[id].newest(), view.lateness_ns);
}
std::size_t Engine::entities() const {
  return impl_->names.count();
}

std::vector<SetAside> Engine::take_set_aside() {
  Impl& impl = *impl_;
  std::rotate(impl.aside.begin(), impl.aside.begin() + static_cast<std::ptrdiff_t>(impl.aside_at),
              impl.aside.end());
  impl.aside_at = 0;
  return std::exchange(impl.aside, {});
}

std::size_t Engine::memory_bytes() const {
  std::size_t total = 0;
  for (const Entity& entity : impl_->entities) total += entity.memory_bytes(*impl_->plan);
  return total;
}

Result<std::uint32_t> Engine::Impl::entity_of(std::string_view name) {
  std::uint32_t id = names.find(name);
  if (id == Names::kNone) {
    if (names.count() >= kEntitiesMax)
      return Status::exhausted("features: view '" + plan->view().name + "' has more than " +
                               std::to_string(kEntitiesMax) + " entities");
    id = names.add(name);
    if (id == entities.size()) entities.emplace_back();
    entities[id].reset(*plan);
  }
  names.remember(id);
  return id;
}

void Engine::Impl::set_aside(SetAside::Kind kind, std::uint64_t at, std::int64_t time,
                             std::int64_t by) {
  ++(kind == SetAside::Kind::kLate ? late_rows : ahead_rows);
  const SetAside one{at, time, by, kind, 0};
  if (aside.size() < kSetAsideMax) {
    aside.push_back(one);
    return;
  }
  aside[aside_at] = one;
  aside_at = (aside_at + 1) % kSetAsideMax;
}

Result<Applied> Engine::Impl::apply(const RowBatch& rows, std::size_t row, std::uint64_t at) {
  const Rules& rules = plan->view().rules;
  const std::int64_t time = rows.time_ns(row);
  if (rules.max_ahead_ns > 0 && guard.is_ahead(time, rules.max_ahead_ns)) {
    set_aside(SetAside::Kind::kAhead, at, time, guard.ahead_by(time));
    return Applied::kAhead;
  }
  if (watermark.low() && time < *watermark.low()) {
    set_aside(SetAside::Kind::kLate, at, time, saturating_sub(*watermark.low(), time));
    return Applied::kLate;
  }
  if (rules.idle_ns > 0 && !watermark.has_room(rows.source(row)))
    return Status::exhausted("features: view '" + plan->view().name +
                             "' with idle= has more than " + std::to_string(kWatermarkSourcesMax) +
                             " sources");
  EDGECORE_ASSIGN(const std::uint32_t id, entity_of(entity_name(*plan, rows, row, scratch)));
  Entity& entity = entities[id];
  std::optional<std::int64_t> newest;
  if (entity.seen()) newest = entity.newest();
  const std::uint64_t held = newest && rules.max_bytes > 0 ? bytes_of(id) : 0;
  Result<Applied> found = entity.apply(*plan, rows, row, sources, computed);
  if (!found.is_ok()) {
    if (!newest) forget(id);
    return found.status();
  }
  const Applied applied = found.value();
  if (applied == Applied::kLate) {
    const std::int64_t open = saturating_sub(entity.newest(), plan->view().lateness_ns);
    set_aside(SetAside::Kind::kLate, at, time, saturating_sub(open, time));
    return applied;
  }
  if (rules.max_ahead_ns > 0) guard.accept(time);
  if (rules.idle_ns > 0) watermark.advance(rows.source(row), time, rules, plan->view().lateness_ns);
  if (rules.bounded()) keep_bound(id, newest, held);
  return applied;
}

// ---------------------------------------------------------------- bounded state

// Of an entity in a snapshot, so that it does not depend on what buffers happen to hold.
std::uint64_t Engine::Impl::bytes_of(std::uint32_t id) const {
  return entities[id].state_bytes(*plan) + names.name(id).size();
}

void Engine::Impl::keep_bound(std::uint32_t id, std::optional<std::int64_t> newest,
                              std::uint64_t held) {
  const Rules& rules = plan->view().rules;
  if (newest) order.erase(*newest, id);
  order.insert(entities[id].newest(), id);
  if (rules.max_bytes > 0) bytes += bytes_of(id) - held;
  while ((rules.max_entities > 0 && names.count() > rules.max_entities) ||
         (rules.max_bytes > 0 && bytes > rules.max_bytes && !order.empty()))
    evict(order.first());
}

void Engine::Impl::forget(std::uint32_t id) {
  entities[id] = Entity();
  names.remove(id);
}

void Engine::Impl::evict(std::uint32_t id) {
  const std::int64_t newest = entities[id].newest();
  if (plan->view().rules.max_bytes > 0) bytes -= bytes_of(id);
  order.erase(newest, id);
  forget(id);
  ++evicted;
  evicted_newest = std::max(evicted_newest, newest);
}

bool Engine::Impl::may_be_evicted(std::int64_t as_of) const {
  return evicted > 0 && evicted_newest > saturating_sub(as_of, plan->horizon_ns());
}

Status Engine::gap(std::int64_t from_ns, std::int64_t to_ns, std::uint64_t position) {
  Impl& impl = *impl_;
  if (position <= impl.position)
    return Status::invalid("features: position " + std::to_string(position) +
                           " was applied already; the engine is at " +
                           std::to_string(impl.position));
  EDGECORE_TRY(gap(from_ns, to_ns));
  impl.position = position;
  return Status::ok();
}

Status Engine::gap(std::int64_t from_ns, std::int64_t to_ns) {
  if (to_ns < from_ns) return Status::invalid("features: a gap ends before it begins");
  impl_->gaps.add(from_ns, to_ns);
  return Status::ok();
}

Status Engine::update(const RowBatch& rows, std::size_t first, std::size_t count,
                      std::uint64_t position) {
  Impl& impl = *impl_;
  EDGECORE_TRY(check_schema(*impl.plan, rows));
  if (first > rows.count() || count > rows.count() - first)
    return Status::invalid("features: rows beyond the end of the batch");
  if (count == 0) return Status::ok();
  if (position <= impl.position)
    return Status::invalid("features: position " + std::to_string(position) +
                           " was applied already; the engine is at " +
                           std::to_string(impl.position));
  if (count - 1 > UINT64_MAX - position)
    return Status::invalid("features: " + std::to_string(count) + " rows from position " +
                           std::to_string(position) + " on have positions beyond 2^64 - 1");
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t row = first + i;
    EDGECORE_ASSIGN(const Applied applied, impl.apply(rows, row, position + i));
    impl.last_aside = applied != Applied::kYes;
    if (!impl.last_aside) impl.undefined_values += impl.computed.undefined;
    impl.position = position + i;
  }
  return Status::ok();
}

Status Engine::read(std::string_view entity, std::int64_t as_of_ns, std::span<double> values,
                    std::span<std::uint8_t> states, std::span<std::int64_t> ages_ns,
                    std::span<double> coverage) const {
  return read(entity, as_of_ns, Answers{values, states, ages_ns, coverage, {}});
}

Status Engine::read(std::string_view entity, std::int64_t as_of_ns, const Answers& to) const {
  Impl& impl = *impl_;
  const std::size_t width = impl.plan->width();
  const auto fits = [width](std::size_t size) { return size == width || size == 0; };
  if (to.values.size() != width || to.states.size() != width || !fits(to.ages_ns.size()) ||
      !fits(to.coverage.size()) || !fits(to.reasons.size()))
    return Status::invalid("features: room for " + std::to_string(width) + " answers is needed");
  const std::uint32_t id = impl.names.find(entity);
  if (id == Names::kNone) {
    const bool evicted = impl.may_be_evicted(as_of_ns);
    answer_never(*impl.plan, to, evicted ? Reason::kEvicted : Reason::kNever);
    return Status::ok();
  }
  return impl.entities[id].read(*impl.plan, as_of_ns, to, impl.gaps);
}

}  // namespace edgecore::features
