// What holds for a view's stream as a whole, beside the lateness of each entity: a guard against
// clocks that jump ahead, the watermark of its sources, the gaps that are known, and the bound of
// its state. All of it follows from the rows in their order of arrival, so that a replay repeats
// it.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "features/names.hpp"

namespace edgecore::features {

// So many rows in a row, none of them from where the stream stood, and time has moved.
inline constexpr std::uint32_t kAheadQuorum = 3;
// Of one view with `idle`: each row looks at all of them.
inline constexpr std::size_t kWatermarkSourcesMax = 1024;
inline constexpr std::size_t kGapsMax = 1024;

// Of a view; 0 everywhere: none of it.
struct Rules {
  // A row further than this ahead of the stream's newest is set aside, not applied.
  std::int64_t max_ahead_ns = 0;
  // Above 0, lateness is also judged by the watermark: the lowest newest time of the sources that
  // have been heard within `idle` of the newest of all, minus the lateness.
  std::int64_t idle_ns = 0;
  // Beyond either, entities go, the least recently updated first.
  std::uint32_t max_entities = 0;
  std::uint64_t max_bytes = 0;

  bool any() const { return max_ahead_ns > 0 || idle_ns > 0 || bounded(); }
  bool bounded() const { return max_entities > 0 || max_bytes > 0; }
  // How much further back than the lateness a read may go, so that what is final can be read.
  std::int64_t hold_ns() const { return idle_ns > 0 ? idle_ns + 1 : 0; }
};

// Tells rows of a clock that has jumped ahead from a stream that goes on after a silence: the
// latter stay.
class Guard {
 public:
  // Whether the row is to be set aside. Counts it towards the quorum if so.
  bool is_ahead(std::int64_t time, std::int64_t max_ahead);
  // The row was applied.
  void accept(std::int64_t time);
  std::int64_t ahead_by(std::int64_t time) const;
  bool any() const { return any_; }  // whether a row was

  void put(ByteWriter& out) const;
  bool take(ByteReader& in);

 private:
  bool any_ = false;
  std::int64_t newest_ = 0;
  std::uint32_t count_ = 0;  // rows ahead that agree, since the last that was not
  std::int64_t ahead_ = 0;   // the newest of them
};

// The time below which no row is applied any more. It never goes back.
class Watermark {
 public:
  // Whether a row of the source can be taken: kWatermarkSourcesMax.
  bool has_room(std::string_view source) const;
  // The row was applied.
  void advance(std::string_view source, std::int64_t time, const Rules& rules,
               std::int64_t lateness);
  std::optional<std::int64_t> low() const { return low_; }

  void put(ByteWriter& out) const;
  bool take(ByteReader& in);

 private:
  using Newest = std::vector<std::pair<std::string, std::int64_t>>;
  Newest::const_iterator find(std::string_view source) const;

  Newest newest_;  // by name
  std::int64_t newest_of_all_ = INT64_MIN;
  std::optional<std::int64_t> low_;
};

// Spans of time in which events may have happened that nobody has, (from, to] each; disjoint and
// ascending.
class Gaps {
 public:
  // Of more than kGapsMax the two oldest become one, with what is between them: then less is known
  // of the past than is true, never more.
  void add(std::int64_t from, std::int64_t to);
  bool empty() const { return spans_.empty(); }
  // How much of (from, to] they take, in ns.
  std::int64_t within(std::int64_t from, std::int64_t to) const;

  void put(ByteWriter& out) const;
  bool take(ByteReader& in);

 private:
  std::vector<std::pair<std::int64_t, std::int64_t>> spans_;
};
inline const Gaps kNoGaps;

// Entities in the order in which they go: by newest event, then by name.
class Order {
 public:
  explicit Order(const Names* names) : entities_(Less{names}) {}
  void insert(std::int64_t newest, std::uint32_t id) { entities_.emplace(newest, id); }
  void erase(std::int64_t newest, std::uint32_t id) { entities_.erase({newest, id}); }
  std::uint32_t first() const { return entities_.begin()->second; }
  bool empty() const { return entities_.empty(); }

 private:
  struct Less {
    const Names* names;
    bool operator()(const std::pair<std::int64_t, std::uint32_t>& a,
                    const std::pair<std::int64_t, std::uint32_t>& b) const {
      if (a.first != b.first) return a.first < b.first;
      return a.second != b.second && names->name(a.second) < names->name(b.second);
    }
  };
  std::set<std::pair<std::int64_t, std::uint32_t>, Less> entities_;
};

}  // namespace edgecore::features
