// Fuzz target: any bytes, parsed as an expression, compiled for a schema of every dtype, and run
// over rows at the ends of their ranges.
#include <cstdlib>

#include "features/expression.hpp"
#include "features/plan.hpp"
#include "features/program.hpp"
#include "parity_matrix.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace edgecore;
  using namespace edgecore::features;
  static const RowBatch rows = matrix::history(64, 1);
  const auto parsed = parse_expression(std::as_bytes(std::span(data, size)));
  if (!parsed.is_ok()) {
    const Outcome outcome = parsed.status().outcome();
    if (outcome != Outcome::kInvalid && outcome != Outcome::kIncompatible) std::abort();
    return 0;
  }
  const auto made = Program::compile(parsed.value(), *rows.schema());
  if (!made.is_ok()) {
    if (made.status().outcome() != Outcome::kIncompatible) std::abort();
    return 0;
  }
  SeriesPlan series;
  made.value()->describe(series);
  for (std::size_t row = 0; row < rows.count(); ++row) {
    std::int64_t out = 0;
    if (made.value()->run(rows, row, out) != Cell::kValue) continue;
    if (out < series.low || out > series.high) std::abort();
  }
  return 0;
}
