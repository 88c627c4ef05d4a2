#include "pipeline/rebuild.hpp"

#include <algorithm>

#include "pipeline/gap.hpp"

namespace edgecore::pipeline {
namespace {

// Everything that moves while the log is walked.
struct Walk {
  const RebuildPlan& plan;
  const Recordings& recordings;
  Role& role;
  std::vector<std::pair<Part, Role>>& others;
  features::Joined& engine;
  std::uint64_t wanted;
  Rebuilt& out;
  bool found = false;

  std::string_view entity_of(const RowBatch& rows, std::size_t row) const {
    const int field = plan.parts->own().entity_field();
    return field < 0 ? std::string_view() : rows.text(row, static_cast<std::size_t>(field));
  }

  void finish(const RowBatch& rows, std::size_t row, std::uint64_t position, const Answer& answer) {
    found = true;
    out.entity = std::string(entity_of(rows, row));
    out.prediction.part = plan.part;
    out.prediction.context = plan.role.context;
    out.prediction.position = position;
    out.prediction.as_of = rows.time_ns(row);
    out.prediction.answer = answer;
  }

  // What the roles say that the prediction names beside its own.
  void refuse() {
    for (auto& [part, one] : others) {
      one.quantise(0, out.values, out.states, out.ages_ns);
      if (is_refusal(one.why(0))) out.prediction.why[static_cast<std::size_t>(part)] = one.why(0);
    }
  }

  Status step(const RowBatch& rows, std::size_t row, std::uint64_t position) {
    // Refused then as it is now.
    const bool counts = engine.update(rows, row, 1, position).is_ok() && !engine.was_set_aside();
    const bool last = position == wanted;
    if (!last && (plan.part == Part::kRule || !recordings.judged(position, plan.part, plan.role)))
      return Status::ok();
    const features::Answers to{out.values, out.states, out.ages_ns, {}, {}};
    if (!counts || !engine.read(entity_of(rows, row), rows.time_ns(row), to).is_ok()) {
      if (last) finish(rows, row, position, unjudged());
      if (last) out.prediction.why.fill(Why::kUncounted);
      return Status::ok();
    }
    if (last) refuse();
    role.quantise(0, out.values, out.states, out.ages_ns);
    role.run(1);
    if (role.answered(0)) {
      const Answer answer = role.finish(0, rows.time_ns(row));
      if (last) finish(rows, row, position, answer);
    } else if (last && is_refusal(role.why(0))) {
      finish(rows, row, position, unjudged());
      out.prediction.why[static_cast<std::size_t>(plan.part)] = role.why(0);
    } else if (last) {
      return Status::corrupt("the role can't answer: " + role.failure().message());
    }
    return Status::ok();
  }
};

}  // namespace

Result<Found> find_prediction(LogReader reader, const SchemaPtr& schema, std::uint32_t partition,
                              std::uint64_t sequence) {
  EDGECORE_ASSIGN(const PredictionColumns columns, PredictionColumns::find(*schema));
  std::optional<Found> found;
  Status status;
  const auto step = [&](const RecordView& record) {
    if (record.head.partition != partition || sequence < record.head.first ||
        sequence >= record.head.first + record.head.count)
      return true;
    const CatalogueEntry* entry = reader.catalogue().find(record.head.schema);
    if (entry == nullptr || entry->fingerprint != schema->fingerprint) return false;
    RowBatch rows(schema);
    status = decode_rows(record.payload, record.head.count, rows);
    if (!status.is_ok()) return false;
    const auto row = static_cast<std::size_t>(sequence - record.head.first);
    found = Found{columns.take(rows, row), std::string(columns.entity(rows, row)),
                  record.position + row};
    return false;
  };
  EDGECORE_TRY(reader.visit(0, step));
  EDGECORE_TRY(status);
  if (!found)
    return Status::invalid("no prediction has the identity " + std::to_string(partition) + ":" +
                           std::to_string(sequence));
  return *found;
}

Result<Rebuilt> rebuild(LogReader reader, const RebuildPlan& plan, std::uint64_t position) {
  // From fewer rows than it was made of, another answer would come out, and look like a forgery.
  EDGECORE_ASSIGN(bool whole, reader.is_whole(plan.source->stream));
  std::vector<SchemaPtr> streams = plan.parts->others();
  if (plan.gap) streams.push_back(plan.gap);
  for (std::size_t at = 0; whole && at < streams.size(); ++at) {
    EDGECORE_ASSIGN(whole, reader.is_whole(streams[at]->stream));
  }
  if (!whole)
    return Status::unavailable("rows of " + plan.source->stream + ", or of what is read with it," +
                               " were released or dropped: nothing can be rebuilt from the rest");
  EDGECORE_ASSIGN(Role role, Role::make(plan.role, *plan.parts, 1));
  std::vector<std::pair<Part, Role>> others;
  for (const auto& [part, binding] : plan.others) {
    RoleSpec spec;
    spec.binding = binding;
    EDGECORE_ASSIGN(Role one, Role::make(std::move(spec), *plan.parts, 1));
    others.emplace_back(part, std::move(one));
  }
  EDGECORE_ASSIGN(auto engine, features::Joined::create(plan.parts));
  EDGECORE_ASSIGN(const Recordings recordings,
                  Recordings::read(reader, plan.prediction, plan.role.since, plan.serving));
  Rebuilt out;
  out.values.resize(plan.parts->width());
  out.states.resize(plan.parts->width());
  out.ages_ns.resize(plan.parts->width());
  Walk walk{plan, recordings, role, others, *engine, position, out};
  const auto visit = [&](const RowBatch& rows, std::size_t first, std::uint64_t at) {
    for (std::size_t row = first; row < rows.count(); ++row, ++at)
      EDGECORE_TRY(walk.step(rows, row, at));
    return Status::ok();
  };
  GapColumns gaps;
  if (plan.gap) {
    EDGECORE_ASSIGN(gaps, GapColumns::find(*plan.gap));
  }
  const auto take_gaps = [&](const RowBatch& rows, std::size_t first, std::uint64_t at) {
    return gaps.apply(rows, first, at, 0, *engine);
  };
  // Refused then as it is now.
  const auto take_other = [&](const RowBatch& rows, std::size_t first, std::uint64_t at) {
    for (std::size_t row = first; row < rows.count(); ++row, ++at)
      static_cast<void>(engine->take(rows, row, 1, at));
    return Status::ok();
  };
  std::vector<Visit> visits{{plan.source, visit}, {plan.gap, take_gaps}};
  for (const SchemaPtr& other : plan.parts->others()) visits.push_back({other, take_other});
  EDGECORE_TRY(visit_rows(reader, visits, 0, position));
  if (!walk.found)
    return Status::invalid("the log holds no row of " + plan.source->stream + " at position " +
                           std::to_string(position));
  return out;
}

}  // namespace edgecore::pipeline
