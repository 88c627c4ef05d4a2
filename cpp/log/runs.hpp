// Runs: what leaves the device. A run is consecutive sequences of one partition and one schema, as
// canonical rows with their arrival (position, hybrid clock, clock trust) run-length coded.
#pragma once

#include "columns/canonical.hpp"
#include "log/reader.hpp"

namespace edgecore {

struct Run {
  std::uint32_t partition = 0;
  std::uint64_t first = 0;
  std::uint32_t count = 0;
  Digest schema{};
  Bytes rows;
  std::vector<Arrival> arrivals;
  std::uint64_t position = 0;  // of its last row
  Bytes block;  // instead of rows and arrivals: the column block that the run is stored as
};

struct RunRequest {
  std::uint32_t partition = 0;
  std::uint64_t after = 0;          // sequences above this
  std::uint64_t position_from = 0;  // no such sequence stands at or below this position
  std::uint64_t position_max = 0;   // rows above this position stay (not durable yet)
  std::size_t bytes_max = 0;        // of rows, or blocks; one row or block is always taken
  bool blocks = false;              // what is sealed comes as it is stored, where whole blocks do
};

// In order of sequence. A record whose schema is not attached can't be cut between rows: it comes
// whole, also with rows that are not above `after`, or waits until all of it may come.
Result<std::vector<Run>> collect_runs(LogReader reader, const RunRequest& request);

// The last sequence of a partition at or below a position; 0 when there is none.
Result<std::uint64_t> sequence_at(LogReader reader, std::uint32_t partition,
                                  std::uint64_t position);

}  // namespace edgecore
