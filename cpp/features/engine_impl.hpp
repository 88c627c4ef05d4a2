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
  Status read_head(ByteReader& in);
  Status read_entities(ByteReader& in);

  PlanPtr plan;
  Names names;
  std::deque<Entity> entities;  // by number; a deque, so that growth moves none
  Sources sources;
  std::uint64_t position = 0;
  std::uint64_t late_rows = 0;
  std::string scratch;
};

}  // namespace edgecore::features
