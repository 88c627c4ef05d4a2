// A prediction: an answer with what it answers, as a row of `edgecore.prediction`
// (docs/formats/prediction-lineage.md). The schema comes from edgecore.streams; here its fields
// are found by name once.
#pragma once

#include "base/rows.hpp"
#include "pipeline/role.hpp"

namespace edgecore::pipeline {

// Why the roles did not answer that were asked before the one that did, or all of them.
using Reasons = std::array<Why, kParts>;

struct Prediction {
  Part part = Part::kActive;
  std::uint32_t context = 0;
  std::uint64_t position = 0;  // of the row it answers
  std::int64_t as_of = 0;      // that row's event time, ns
  Answer answer;
  Reasons why{};
};

// As it is recorded: "active:stale fallback:old", or "uncounted"; empty: there is nothing to say.
std::string reason_text(const Reasons& why);
Reasons reasons_of(std::string_view text);

// The columns of a prediction schema. Immutable.
class PredictionColumns {
 public:
  // Incompatible: a field is missing or of another type.
  static Result<PredictionColumns> find(const Schema& schema);
  // Adds a row to `out`, whose schema is the one given to find().
  void put(const Prediction& prediction, std::string_view entity, RowBatch& out) const;
  // The inverse; which part it was is said by its context, and left alone here.
  Prediction take(const RowBatch& rows, std::size_t row) const;
  std::string_view entity(const RowBatch& rows, std::size_t row) const {
    return rows.text(row, at_[1]);
  }

 private:
  static constexpr std::size_t kCount = 13;
  std::array<std::size_t, kCount> at_{};
};

}  // namespace edgecore::pipeline
