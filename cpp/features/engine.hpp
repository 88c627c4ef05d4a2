// The feature engine: events in, features at a stated time out. Every answer is computed from
// exact integers, so that stream, batch and restored state agree bit for bit, in any order of
// arrival within the declared lateness.
//
// State of an entity is the events that may still matter (see series.hpp); sums, minima and
// cursors are derived from them.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/bytes.hpp"
#include "base/rows.hpp"
#include "features/plan.hpp"

namespace edgecore::features {

inline constexpr std::uint32_t kSourcesMax = 1u << 16;
inline constexpr std::int64_t kNeverNs = -1;  // the age where there is no event

// Where answers go: all spans hold width() elements, but the last three may be empty.
struct Answers {
  std::span<double> values;         // MISSING = NaN
  std::span<std::uint8_t> states;   // State
  std::span<std::int64_t> ages_ns;  // as_of - newest event of the field, kNeverNs if none
  std::span<double> coverage;       // known span / window, 0 to 1
  std::span<std::uint8_t> reasons;  // Reason
};

// A row that was not applied, and by how much: behind the time from which on rows count, or ahead
// of where the stream stood.
struct SetAside {
  enum class Kind : std::uint8_t { kLate = 1, kAhead = 2 };
  std::uint64_t position = 0;
  std::int64_t time_ns = 0;
  std::int64_t by_ns = 0;
  Kind kind = Kind::kLate;
  std::uint16_t part = 0;  // of the view, where it reads several streams
};
inline constexpr std::size_t kSetAsideMax = 4096;  // that an engine remembers; all are counted

// Not thread-safe: one owner, also for reads, which move cursors.
class Engine {
 public:
  static Result<std::unique_ptr<Engine>> create(PlanPtr plan);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const Plan& plan() const;
  std::size_t width() const;  // features per read

  // Applies rows [first, first + count) of the plan's schema; `position` is that of rows[first],
  // above position(). A row older than its entity's newest event minus the lateness, or than the
  // watermark, or further ahead than the view's guard allows is counted and not applied. Invalid:
  // other schema, position not ahead. Exhausted: a limit; rows before it are applied, and
  // position() says up to which.
  Status update(const RowBatch& rows, std::size_t first, std::size_t count, std::uint64_t position);

  // Events in (from, to] may be missing: they count as not known in every coverage. `position`
  // as in update.
  Status gap(std::int64_t from_ns, std::int64_t to_ns, std::uint64_t position);
  // Likewise, of a history without positions of its own.
  Status gap(std::int64_t from_ns, std::int64_t to_ns);

  // Features of one entity as of a time. An entity never seen is all MISSING. Stale: as_of is
  // older than the entity's newest event minus the lateness, where state is no longer whole.
  // Invalid: a span of the wrong size.
  Status read(std::string_view entity, std::int64_t as_of_ns, std::span<double> values,
              std::span<std::uint8_t> states, std::span<std::int64_t> ages_ns,
              std::span<double> coverage) const;
  Status read(std::string_view entity, std::int64_t as_of_ns, const Answers& to) const;

  std::uint64_t position() const;  // of the last row applied or counted; 0 = none
  // Since creation, restores included: rows beyond lateness; rows too far ahead; entities let go.
  std::uint64_t late_rows() const;
  std::uint64_t ahead_rows() const;
  std::uint64_t evicted() const;
  // Values of expressions that were no number, in rows applied since it was made or restored.
  std::uint64_t undefined_values() const;
  // Answers as of a time before it never change: no row of such a time is applied any more. None
  // without `idle`, and before the first row.
  std::optional<std::int64_t> final_before() const;
  // Likewise of one entity: what its newest event says where there is no `idle`.
  bool is_final(std::string_view entity, std::int64_t as_of_ns) const;
  // Whether the last row was, late or ahead: there is no answer as of its time.
  bool was_set_aside() const;
  // What was set aside since the last call, the newest kSetAsideMax of them.
  std::vector<SetAside> take_set_aside();
  std::size_t entities() const;
  std::uint64_t state_bytes() const;  // what max_bytes bounds; 0 without it
  std::size_t memory_bytes() const;   // heap held by entities, an estimate from capacities

  // The same events give the same bytes. docs/formats/feature-snapshot.md.
  Bytes snapshot() const;
  // Corrupt: damaged bytes. Incompatible: of another plan, or a later version.
  static Result<std::unique_ptr<Engine>> restore(PlanPtr plan, ByteSpan bytes);

 private:
  struct Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace edgecore::features
