// A gap: a span of event time in which rows of a stream may be missing, as a row of `edgecore.gap`
// (docs/formats/gap.md). It holds from its position on, so every replay meets it where the stream
// did. The schema comes from edgecore.streams; here its fields are found by name once.
#pragma once

#include <array>

#include "base/rows.hpp"
#include "features/joined.hpp"

namespace edgecore::pipeline {

struct Gap {
  std::int64_t begin = 0, end = 0;  // (begin, end]
  // Above 0: rows up to this position went. Who has met them has them still.
  std::uint64_t through = 0;
};

// The columns of a gap schema. Immutable.
class GapColumns {
 public:
  // Incompatible: a field is missing or of another type.
  static Result<GapColumns> find(const Schema& schema);
  // Applies rows [first, end) at positions from `position` on, those alone that are of a stream
  // which the engines read and that they have not met. Rows at positions up to `met` were met by
  // their history.
  Status apply(const RowBatch& rows, std::size_t first, std::uint64_t position, std::uint64_t met,
               features::Joined& engine) const;

 private:
  static constexpr std::size_t kCount = 4;
  std::array<std::size_t, kCount> at_{};
};

}  // namespace edgecore::pipeline
