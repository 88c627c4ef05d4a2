#include "pipeline/prediction.hpp"

#include <algorithm>

namespace edgecore::pipeline {
namespace {

struct Wanted {
  const char* name;
  DType dtype;
};

enum Column : std::size_t {
  kContext,
  kEntity,
  kAsOf,
  kPosition,
  kScore,
  kThreshold,
  kVerdict,
  kEpisode,
  kClipped,
  kSubstituted,
  kInputHash,
  kOutputHash,
  kReason,
};

constexpr Wanted kWanted[] = {
    {"context", DType::kU32},     {"entity", DType::kCategory},  {"as_of", DType::kI64},
    {"position", DType::kU64},    {"score", DType::kDecimal},    {"threshold", DType::kDecimal},
    {"verdict", DType::kU8},      {"episode", DType::kU32},      {"clipped", DType::kU16},
    {"substituted", DType::kU16}, {"input_hash", DType::kBytes}, {"output_hash", DType::kBytes},
    {"reason", DType::kCategory},
};

Digest digest_of(ByteSpan bytes) {
  Digest digest{};
  if (bytes.size() == digest.size()) std::copy(bytes.begin(), bytes.end(), digest.begin());
  return digest;
}

// Written into `room`: nothing is allocated for a row.
using Room = std::array<char, 64>;
std::string_view write_reasons(const Reasons& why, Room& room) {
  std::size_t size = 0;
  const auto put = [&](std::string_view text) {
    EDGECORE_ASSERT(size + text.size() <= room.size());
    std::copy(text.begin(), text.end(), room.begin() + static_cast<std::ptrdiff_t>(size));
    size += text.size();
  };
  for (const Part part : {Part::kActive, Part::kFallback, Part::kRule}) {
    const Why one = why[static_cast<std::size_t>(part)];
    if (one == Why::kNone) continue;
    if (one == Why::kUncounted) return why_word(one);  // by all
    if (size > 0) put(" ");
    put(part_word(part));
    put(":");
    put(why_word(one));
  }
  return {room.data(), size};
}

}  // namespace

std::string reason_text(const Reasons& why) {
  Room room;
  return std::string(write_reasons(why, room));
}

Reasons reasons_of(std::string_view text) {
  Reasons out{};
  if (text == why_word(Why::kUncounted)) {
    out.fill(Why::kUncounted);
    return out;
  }
  while (!text.empty()) {
    const std::string_view one = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(text.size(), one.size() + 1));
    for (const Part part : {Part::kActive, Part::kFallback, Part::kRule})
      for (const Why why : {Why::kStale, Why::kOld, Why::kSparse, Why::kFailed})
        if (one.size() == part_word(part).size() + 1 + why_word(why).size() &&
            one.starts_with(part_word(part)) && one.ends_with(why_word(why)))
          out[static_cast<std::size_t>(part)] = why;
  }
  return out;
}

Result<PredictionColumns> PredictionColumns::find(const Schema& schema) {
  static_assert(std::size(kWanted) == kCount);
  PredictionColumns out;
  for (std::size_t i = 0; i < kCount; ++i) {
    const int at = schema.find(kWanted[i].name);
    if (at < 0) return Status::incompatible(schema.stream + " has no field " + kWanted[i].name);
    const Field& field = schema.fields[static_cast<std::size_t>(at)];
    const bool scaled = field.dtype != DType::kDecimal || field.scale == inference::kScoreScale;
    if (field.dtype != kWanted[i].dtype || !scaled)
      return Status::incompatible(schema.stream + ": field " + field.name + " has another type");
    out.at_[i] = static_cast<std::size_t>(at);
  }
  return out;
}

void PredictionColumns::put(const Prediction& prediction, std::string_view entity,
                            RowBatch& out) const {
  const Answer& answer = prediction.answer;
  const std::size_t row = out.add_row(prediction.as_of);
  out.set_cell(row, at_[kContext], prediction.context);
  out.set_bytes(row, at_[kEntity], as_byte_span(entity));
  out.set_i64(row, at_[kAsOf], prediction.as_of);
  out.set_cell(row, at_[kPosition], prediction.position);
  if (answer.scored) {
    out.set_i64(row, at_[kScore], answer.score);
    if (answer.verdict != kNotJudged) out.set_i64(row, at_[kThreshold], answer.threshold);
  }
  out.set_cell(row, at_[kVerdict], answer.verdict);
  if (answer.episode != 0) out.set_cell(row, at_[kEpisode], answer.episode);
  out.set_cell(row, at_[kClipped], answer.clipped);
  out.set_cell(row, at_[kSubstituted], answer.substituted);
  out.set_bytes(row, at_[kInputHash], answer.input);
  out.set_bytes(row, at_[kOutputHash], answer.output);
  Room room;
  const std::string_view reason = write_reasons(prediction.why, room);
  if (!reason.empty()) out.set_bytes(row, at_[kReason], as_byte_span(reason));
}

Prediction PredictionColumns::take(const RowBatch& rows, std::size_t row) const {
  Prediction out;
  out.context = static_cast<std::uint32_t>(rows.cell(row, at_[kContext]));
  out.as_of = rows.i64(row, at_[kAsOf]);
  out.position = rows.cell(row, at_[kPosition]);
  Answer& answer = out.answer;
  answer.scored = rows.present(row, at_[kScore]);
  answer.score = rows.i64(row, at_[kScore]);
  answer.threshold = rows.i64(row, at_[kThreshold]);
  answer.verdict = static_cast<std::uint8_t>(rows.cell(row, at_[kVerdict]));
  answer.episode = static_cast<std::uint32_t>(rows.cell(row, at_[kEpisode]));
  answer.clipped = static_cast<std::uint16_t>(rows.cell(row, at_[kClipped]));
  answer.substituted = static_cast<std::uint16_t>(rows.cell(row, at_[kSubstituted]));
  answer.input = digest_of(rows.bytes(row, at_[kInputHash]));
  answer.output = digest_of(rows.bytes(row, at_[kOutputHash]));
  if (rows.present(row, at_[kReason])) out.why = reasons_of(rows.text(row, at_[kReason]));
  return out;
}

}  // namespace edgecore::pipeline
