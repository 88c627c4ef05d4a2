// Lineage: a prediction made again from the log and its release, with fresh features and a fresh
// verdict. Reads only. Who asks compares what was recorded with what comes out.
#pragma once

#include <set>
#include <string>

#include "features/joined.hpp"
#include "pipeline/history.hpp"

namespace edgecore::pipeline {

struct Found {
  Prediction prediction;  // as recorded
  std::string entity;
  std::uint64_t position = 0;  // of the prediction itself
};

// The prediction with this identity. Invalid: there is none.
Result<Found> find_prediction(LogReader reader, const SchemaPtr& schema, std::uint32_t partition,
                              std::uint64_t sequence);

struct Rebuilt {
  Prediction prediction;
  std::string entity;
  std::vector<double> values;  // of the view, as the model met them
  std::vector<std::uint8_t> states;
  std::vector<std::int64_t> ages_ns;
};

struct RebuildPlan {
  features::PartsPtr parts;
  SchemaPtr source;
  SchemaPtr prediction;
  std::set<std::uint32_t> serving;  // contexts in the log whose role serves
  Part part = Part::kActive;
  RoleSpec role;
  SchemaPtr gap = nullptr;  // of edgecore.gap; null: there are none
  // Of roles that did not answer before it: whether they refuse the row is seen again.
  std::vector<std::pair<Part, std::shared_ptr<const inference::Binding>>> others{};
};

// The answer to the source row at `position`, or why there is none. Invalid: no such row is in the
// log. Corrupt: the role's model can't answer it.
Result<Rebuilt> rebuild(LogReader reader, const RebuildPlan& plan, std::uint64_t position);

}  // namespace edgecore::pipeline
