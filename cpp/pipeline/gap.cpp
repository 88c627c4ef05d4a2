#include "pipeline/gap.hpp"

namespace edgecore::pipeline {
namespace {

struct Wanted {
  const char* name;
  DType dtype;
};
enum Column : std::size_t { kStream, kBegin, kEnd, kThrough };
constexpr Wanted kWanted[] = {{"stream", DType::kCategory},
                              {"begin", DType::kI64},
                              {"end", DType::kI64},
                              {"through", DType::kU64}};

}  // namespace

Result<GapColumns> GapColumns::find(const Schema& schema) {
  static_assert(std::size(kWanted) == kCount);
  GapColumns out;
  for (std::size_t i = 0; i < kCount; ++i) {
    const int at = schema.find(kWanted[i].name);
    if (at < 0 || schema.fields[static_cast<std::size_t>(at)].dtype != kWanted[i].dtype)
      return Status::incompatible(schema.stream + " has no field " + kWanted[i].name +
                                  " of the type that gaps have");
    out.at_[i] = static_cast<std::size_t>(at);
  }
  return out;
}

Status GapColumns::apply(const RowBatch& rows, std::size_t first, std::uint64_t position,
                         std::uint64_t met, features::Joined& engine) const {
  for (std::size_t row = first; row < rows.count(); ++row, ++position) {
    const Gap gap{rows.i64(row, at_[kBegin]), rows.i64(row, at_[kEnd]),
                  rows.present(row, at_[kThrough]) ? rows.cell(row, at_[kThrough]) : 0};
    if (gap.end <= gap.begin || (gap.through > 0 && gap.through <= met)) continue;
    EDGECORE_TRY(engine.gap(rows.text(row, at_[kStream]), gap.begin, gap.end, position));
  }
  return Status::ok();
}

}  // namespace edgecore::pipeline
