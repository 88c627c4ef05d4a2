// One entity: its series, fed row by row and read as of a time. What the engine keeps per entity
// and the batch kernel one at a time.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/rows.hpp"
#include "features/engine.hpp"
#include "features/series.hpp"

namespace edgecore::features {

enum class Applied : std::uint8_t { kYes, kLate, kAhead };

// What the expressions of a plan make of one row, in the order of their series.
struct Computed {
  struct One {
    bool has_value = false;
    std::int64_t stored = 0;
  };
  std::vector<One> values;
  std::uint64_t undefined = 0;  // of them: divisions by zero, overflows
};

class Entity {
 public:
  // Empties it; `plan` is the one every later call takes.
  void reset(const Plan& plan);

  // All series take the row, or none does. kLate: older than the lateness allows, not applied.
  // Invalid: a value outside its declared range. Exhausted: kEventsMax, kSourcesMax. `computed` is
  // written where the row is applied.
  Result<Applied> apply(const Plan& plan, const RowBatch& rows, std::size_t row, Sources& sources,
                        Computed& computed);

  // Stale: see Engine::read. Spans have the right sizes.
  Status read(const Plan& plan, std::int64_t as_of, const Answers& to, const Gaps& gaps = kNoGaps);

  bool seen() const { return seen_; }
  std::int64_t newest() const { return newest_; }
  void set_newest(std::int64_t newest) {
    newest_ = newest;
    seen_ = true;
  }
  Series& series(std::size_t at) { return series_[at]; }
  const Series& series(std::size_t at) const { return series_[at]; }
  std::size_t memory_bytes(const Plan& plan) const;
  // Its bytes in a snapshot, but for its name.
  std::uint64_t state_bytes(const Plan& plan) const;

 private:
  void read_span(const Plan& plan, const Group& group, std::int64_t as_of, const Answers& to,
                 const Gaps& gaps);
  void read_newest(const Plan& plan, const Group& group, std::int64_t as_of, const Answers& to);
  void read_decay(const Plan& plan, const Group& group, std::int64_t as_of, const Answers& to,
                  const Gaps& gaps);
  void read_values(const Plan& plan, const Group& group, std::int64_t as_of, const Answers& to,
                   const Gaps& gaps);
  void read_window(const Plan& plan, const Group& group, std::int64_t as_of, const Answers& to,
                   const Gaps& gaps);

  bool seen_ = false;
  std::int64_t newest_ = 0;
  std::unique_ptr<Series[]> series_;
};

// The row's entity as text: the field's bytes, or its integer in decimal; null is "". `scratch`
// holds the digits.
std::string_view number_name(DType dtype, const RowBatch& rows, std::size_t row, std::size_t field,
                             std::string& scratch);
inline std::string_view entity_name(const Plan& plan, const RowBatch& rows, std::size_t row,
                                    std::string& scratch) {
  if (plan.entity_field() < 0) return {};
  const auto field = static_cast<std::size_t>(plan.entity_field());
  if (!rows.present(row, field)) return {};
  const DType dtype = plan.schema()->fields[field].dtype;
  if (is_variable(dtype)) return rows.text(row, field);
  return number_name(dtype, rows, row, field, scratch);
}

// Invalid unless the rows are of the plan's schema.
Status check_schema(const Plan& plan, const RowBatch& rows);

}  // namespace edgecore::features
