// What a log says of the past of a pipeline: its source rows, its contexts, its predictions. Reads
// only; the log must have been flushed for what was appended last to be seen.
#pragma once

#include <functional>
#include <set>

#include "log/reader.hpp"
#include "pipeline/prediction.hpp"

namespace edgecore::pipeline {

// Rows of one record, in order: `first` is the index of the first row wanted, `position` its
// position. A bad status ends the walk and is its result.
using RowsVisitor =
    std::function<Status(const RowBatch& rows, std::size_t first, std::uint64_t position)>;

// The rows of exactly this schema at positions in (after, until].
Status visit_rows(LogReader& reader, const SchemaPtr& schema, std::uint64_t after,
                  std::uint64_t until, const RowsVisitor& visit);

// Of several schemas, in order of position.
struct Visit {
  SchemaPtr schema;  // null: none of these
  RowsVisitor rows;
};
Status visit_rows(LogReader& reader, const std::vector<Visit>& wanted, std::uint64_t after,
                  std::uint64_t until);

struct Context {
  std::uint32_t number = 0;
  std::uint64_t position = 0;  // where it stands in the log
  Bytes body;
};

// Every row of the context schema (fields `context` and `body`). Incompatible: fields are missing.
Result<std::vector<Context>> read_contexts(LogReader reader, const SchemaPtr& schema);

// The predictions that stand in a log: which rows they answer, and in which contexts.
class Recordings {
 public:
  // Those that answer rows behind `after`. `serving` are the contexts of roles that serve.
  static Result<Recordings> read(LogReader reader, const SchemaPtr& prediction, std::uint64_t after,
                                 const std::set<std::uint32_t>& serving);
  std::uint64_t last_served() const;                           // row with a serving prediction
  bool served(std::uint64_t position) const;                   // by any role that serves
  bool has(std::uint64_t position, const RoleSpec& by) const;  // in any context of this run
  // Whether the verdict of a run saw the row. An active one did not see those that another role
  // answered in its place; a standby sees all.
  bool judged(std::uint64_t position, Part part, const RoleSpec& run) const;

 private:
  template <typename Test>
  bool any(std::uint64_t position, const Test& test) const;
  struct One {
    std::uint64_t position;
    std::uint32_t context;
    bool scored;
  };
  std::vector<One> sorted_;  // by position
  std::set<std::uint32_t> serving_;
};

}  // namespace edgecore::pipeline
