#include "pipeline/history.hpp"

#include <algorithm>

namespace edgecore::pipeline {

Status visit_rows(LogReader& reader, const SchemaPtr& schema, std::uint64_t after,
                  std::uint64_t until, const RowsVisitor& visit) {
  return visit_rows(reader, {{schema, visit}}, after, until);
}

Status visit_rows(LogReader& reader, const std::vector<Visit>& wanted, std::uint64_t after,
                  std::uint64_t until) {
  struct One {
    std::uint32_t number;
    RowBatch rows;
    const RowsVisitor* visit;
  };
  std::vector<One> found;
  for (const Visit& one : wanted)
    for (const CatalogueEntry& entry : reader.catalogue().entries)  // or it was never written here
      if (one.schema && entry.fingerprint == one.schema->fingerprint) {
        found.push_back({entry.number, RowBatch(one.schema), &one.rows});
        break;
      }
  if (found.empty()) return Status::ok();
  Status status;
  const auto step = [&](const RecordView& record) {
    if (record.position > until) return false;
    const auto entry = std::find_if(found.begin(), found.end(), [&](const One& one) {
      return one.number == record.head.schema;
    });
    if (entry == found.end()) return true;
    RowBatch& rows = entry->rows;
    rows.clear();
    status = decode_rows(record.payload, record.head.count, rows);
    std::size_t first = 0;
    if (record.position <= after) first = static_cast<std::size_t>(after + 1 - record.position);
    // A record that straddles `until` is cut there.
    while (rows.count() > 0 && record.position + rows.count() - 1 > until) rows.drop_last_row();
    if (status.is_ok() && first < rows.count())
      status = (*entry->visit)(rows, first, record.position + first);
    return status.is_ok();
  };
  EDGECORE_TRY(reader.visit(after, step));
  return status;
}

Result<std::vector<Context>> read_contexts(LogReader reader, const SchemaPtr& schema) {
  const int number = schema->find("context"), body = schema->find("body");
  if (number < 0 || body < 0)
    return Status::incompatible(schema->stream + " has no fields context and body");
  std::vector<Context> out;
  const auto add = [&](const RowBatch& rows, std::size_t first, std::uint64_t position) {
    for (std::size_t row = first; row < rows.count(); ++row, ++position) {
      const ByteSpan bytes = rows.bytes(row, static_cast<std::size_t>(body));
      out.push_back({static_cast<std::uint32_t>(rows.cell(row, static_cast<std::size_t>(number))),
                     position, Bytes(bytes.begin(), bytes.end())});
    }
    return Status::ok();
  };
  EDGECORE_TRY(visit_rows(reader, schema, 0, reader.position_max(), add));
  return out;
}

Result<Recordings> Recordings::read(LogReader reader, const SchemaPtr& prediction,
                                    std::uint64_t after, const std::set<std::uint32_t>& serving) {
  EDGECORE_ASSIGN(const PredictionColumns columns, PredictionColumns::find(*prediction));
  Recordings out;
  out.serving_ = serving;
  // A prediction stands behind the row it answers, so nothing wanted is at or before `after`.
  const auto add = [&](const RowBatch& rows, std::size_t first, std::uint64_t) {
    for (std::size_t row = first; row < rows.count(); ++row) {
      const Prediction found = columns.take(rows, row);
      if (found.position > after)
        out.sorted_.push_back({found.position, found.context, found.answer.scored});
    }
    return Status::ok();
  };
  EDGECORE_TRY(visit_rows(reader, prediction, after, reader.position_max(), add));
  std::sort(out.sorted_.begin(), out.sorted_.end(),
            [](const One& a, const One& b) { return a.position < b.position; });
  return out;
}

template <typename Test>
bool Recordings::any(std::uint64_t position, const Test& test) const {
  auto at = std::lower_bound(sorted_.begin(), sorted_.end(), position,
                             [](const One& one, std::uint64_t p) { return one.position < p; });
  for (; at != sorted_.end() && at->position == position; ++at)
    if (test(*at)) return true;
  return false;
}

std::uint64_t Recordings::last_served() const {
  for (auto at = sorted_.rbegin(); at != sorted_.rend(); ++at)
    if (serving_.contains(at->context)) return at->position;
  return 0;
}

bool Recordings::served(std::uint64_t position) const {
  return any(position, [&](const One& one) { return serving_.contains(one.context); });
}

bool Recordings::has(std::uint64_t position, const RoleSpec& by) const {
  return any(position, [&](const One& one) { return by.has_context(one.context); });
}

bool Recordings::judged(std::uint64_t position, Part part, const RoleSpec& run) const {
  if (position <= run.since) return false;
  if (part != Part::kActive || position <= run.at || !served(position)) return true;
  return any(position, [&](const One& one) { return one.scored && run.has_context(one.context); });
}

}  // namespace edgecore::pipeline
