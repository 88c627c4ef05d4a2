// History of several streams: what their parts would have answered at each row of the view's own.
#pragma once

#include "features/batch.hpp"
#include "features/joined.hpp"

namespace edgecore::features {

// Events of a stream in (from, to] may be missing: known behind a position in the log of all.
struct GapAt {
  std::uint64_t position = 0;
  std::int64_t from_ns = 0, to_ns = 0;
};

// Rows of one stream, and their positions in the log of all; without positions their times are
// their order, and a row of another stream comes before one of the same time. Without positions
// all gaps of the stream are known from the beginning.
struct History {
  const RowBatch* rows = nullptr;
  std::span<const std::uint64_t> positions;
  std::span<const GapAt> gaps = {};
};

// Answers rows of the view's own stream, which are `choose`n of it. `others`: one of each other
// stream. Final is an answer that no row which comes after all of these could change. Invalid:
// streams or positions that are not there.
Status answer(const PartsPtr& parts, const History& own, std::span<const History> others,
              const Part& part, const Chosen& chosen, const Columns& to, std::uint64_t& late);

}  // namespace edgecore::features
