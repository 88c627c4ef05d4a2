// Views, rows and answers for the tests of this room.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <string>
#include <vector>

#include "base/crc32c.hpp"
#include "base/normalise.hpp"
#include "features/batch.hpp"
#include "features/engine.hpp"

namespace edgecore::features {

inline constexpr std::int64_t kSecond = 1'000'000'000;
inline constexpr std::int64_t kStart = 1'700'000'000 * kSecond;

inline Field number_field(const std::string& name, DType dtype, int scale = 0) {
  Field field;
  field.name = name;
  field.dtype = dtype;
  field.scale = static_cast<std::uint8_t>(scale);
  return field;
}

inline std::shared_ptr<Schema> make_schema(std::vector<Field> fields) {
  auto schema = std::make_shared<Schema>();
  schema->stream = "telemetry";
  Field pump = number_field("pump", DType::kCategory);
  schema->fields.push_back(pump);
  for (auto& field : fields) schema->fields.push_back(std::move(field));
  std::string names;
  for (const auto& field : schema->fields) names += dtype_text(field) + " " + field.name + "\n";
  schema->canonical.assign(as_byte_span(names).begin(), as_byte_span(names).end());
  schema->fingerprint = blake3(schema->canonical);
  return schema;
}

// pump (category), temp decimal(3) in [-40, 150].
inline SchemaPtr pump_schema() {
  Field temp = number_field("temp", DType::kDecimal, 3);
  EXPECT_TRUE(set_range(temp, -40, 150).is_ok());
  return make_schema({temp});
}

inline FeatureSpec feature(Op op, const std::string& field, std::int64_t window_s) {
  FeatureSpec spec;
  spec.op = op;
  for (const Operator& one : operators())
    if (one.op == op) spec.version = one.version;
  spec.field = field;
  spec.window_ns = window_s * kSecond;
  spec.name = field + "_" + std::to_string(static_cast<int>(op)) + "_" + std::to_string(window_s);
  return spec;
}

inline constexpr Op kAggregates[] = {Op::kCount, Op::kSum, Op::kMean, Op::kStd, Op::kMin, Op::kMax};

// Those that look at the ends of a window besides.
inline constexpr Op kOthers[] = {Op::kVariance, Op::kRange, Op::kFirst,
                                 Op::kDelta,    Op::kRate,  Op::kRateOnce};

inline ViewSpec make_view(std::vector<FeatureSpec> features, std::int64_t lateness_s = 30) {
  ViewSpec view;
  view.name = "pump_health";
  view.entity = "pump";
  view.stream = "telemetry";
  view.lateness_ns = lateness_s * kSecond;
  view.features = std::move(features);
  return view;
}

// F20: six aggregates over 1 min, 10 min, 1 h, last, recency.
inline ViewSpec f20_view(std::int64_t lateness_s = 30) {
  std::vector<FeatureSpec> features;
  for (const std::int64_t window : {60, 600, 3600})
    for (const Op op : kAggregates) features.push_back(feature(op, "temp", window));
  features.push_back(feature(Op::kLast, "temp", 0));
  features.push_back(feature(Op::kRecency, "", 0));
  return make_view(std::move(features), lateness_s);
}

inline std::size_t add_row(RowBatch& rows, std::int64_t time, const std::string& entity,
                           std::int64_t value, const std::string& source = "",
                           std::uint64_t sequence = 0) {
  const std::size_t row = rows.add_row(time, source, sequence);
  rows.set_bytes(row, 0, as_byte_span(entity));
  rows.set_i64(row, 1, value);
  return row;
}

struct Reading {
  std::vector<double> values;
  std::vector<std::uint8_t> states;
  std::vector<std::int64_t> ages;
  std::vector<double> coverage;
  std::vector<std::uint8_t> reasons;

  // Equal to the bit; NaNs are the canonical one.
  bool operator==(const Reading& other) const {
    if (values.size() != other.values.size()) return false;
    for (std::size_t i = 0; i < values.size(); ++i)
      if (std::bit_cast<std::uint64_t>(values[i]) != std::bit_cast<std::uint64_t>(other.values[i]))
        return false;
    return states == other.states && ages == other.ages && coverage == other.coverage &&
           reasons == other.reasons;
  }
};

inline Reading read_all(const Engine& engine, const std::string& entity, std::int64_t as_of) {
  Reading out;
  out.values.resize(engine.width());
  out.states.resize(engine.width());
  out.ages.resize(engine.width());
  out.coverage.resize(engine.width());
  out.reasons.resize(engine.width());
  const Status status = engine.read(
      entity, as_of, Answers{out.values, out.states, out.ages, out.coverage, out.reasons});
  EXPECT_TRUE(status.is_ok()) << status.to_string();
  return out;
}

// A snapshot whose last four bytes are made its checksum again.
inline Bytes with_checksum(Bytes bytes) {
  const std::size_t body = bytes.size() - 4;
  store_le(bytes.data() + body, crc32c(ByteSpan(bytes).first(body)));
  return bytes;
}

// A small seeded generator, the same numbers everywhere.
class Chance {
 public:
  explicit Chance(std::uint64_t seed) : state_(seed * 2 + 1) {}
  std::uint64_t next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    std::uint64_t x = state_ ^ state_ >> 31;
    x *= 0xbf58476d1ce4e5b9u;
    return x ^ x >> 27;
  }
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(next() % static_cast<std::uint64_t>(high - low + 1));
  }
  bool one_in(std::uint64_t n) { return next() % n == 0; }

 private:
  std::uint64_t state_;
};

}  // namespace edgecore::features
