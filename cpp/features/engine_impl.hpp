// What an engine holds; seen by engine.cpp and snapshot.cpp only.
#pragma once

#include <deque>

#include "features/engine.hpp"
#include "features/entity.hpp"
#include "features/names.hpp"

namespace edgecore::features {

struct Engine::Impl {
  // The number of the entity, new if need be. Exhausted beyond kEntitiesMax.
  Result<std::uint32_t> entity_of(std::string_view name);
  // One row: applied, or set aside by the view's rules or its entity's lateness.
  Result<Applied> apply(const RowBatch& rows, std::size_t row, std::uint64_t at);
  void set_aside(SetAside::Kind kind, std::uint64_t at, std::int64_t time, std::int64_t by);
  // Keeps the state within its bound; entity `id` had `newest` and `bytes` before it changed.
  void keep_bound(std::uint32_t id, std::optional<std::int64_t> newest, std::uint64_t bytes);
  void forget(std::uint32_t id);
  void evict(std::uint32_t id);
  // Where one is unknown: whether it may have been let go within the horizon.
  bool may_be_evicted(std::int64_t as_of) const;
  std::uint64_t bytes_of(std::uint32_t id) const;
  void put_rules(ByteWriter& out) const;
  Status read_head(ByteReader& in);
  Status read_rules(ByteReader& in);
  Status read_entities(ByteReader& in);

  PlanPtr plan;
  Names names;
  std::deque<Entity> entities;  // by number; a deque, so that growth moves none
  Sources sources;
  std::uint64_t position = 0;
  std::uint64_t late_rows = 0, ahead_rows = 0;
  std::uint64_t undefined_values = 0;
  Computed computed;
  std::vector<SetAside> aside;  // a ring of kSetAsideMax from `aside_at` on, when full
  std::size_t aside_at = 0;
  bool last_aside = false;
  Guard guard;
  Watermark watermark;
  Gaps gaps;
  Order order{&names};  // while the plan bounds its state
  std::uint64_t bytes = 0;
  std::uint64_t evicted = 0;
  std::int64_t evicted_newest = INT64_MIN;  // newest event of all that were let go
  std::string scratch;
};

}  // namespace edgecore::features
