// Entities by name, rows to entities; snapshots are in snapshot.cpp.
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
std::size_t Engine::entities() const {
  return impl_->entities.size();
}

std::size_t Engine::memory_bytes() const {
  std::size_t total = 0;
  for (const Entity& entity : impl_->entities) total += entity.memory_bytes(*impl_->plan);
  return total;
}

Result<std::uint32_t> Engine::Impl::entity_of(std::string_view name) {
  std::uint32_t id = names.find(name);
  if (id == Names::kNone) {
    if (entities.size() >= kEntitiesMax)
      return Status::exhausted("features: view '" + plan->view().name + "' has more than " +
                               std::to_string(kEntitiesMax) + " entities");
    id = names.add(name);
    entities.emplace_back();
    entities.back().reset(*plan);
  }
  names.remember(id);
  return id;
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
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t row = first + i;
    EDGECORE_ASSIGN(const std::uint32_t id,
                    impl.entity_of(entity_name(*impl.plan, rows, row, impl.scratch)));
    EDGECORE_ASSIGN(const Applied applied,
                    impl.entities[id].apply(*impl.plan, rows, row, impl.sources));
    if (applied == Applied::kLate) ++impl.late_rows;
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
    answer_never(*impl.plan, to);
    return Status::ok();
  }
  return impl.entities[id].read(*impl.plan, as_of_ns, to);
}

}  // namespace edgecore::features
