// Schemas of streams as the core sees them. The definition itself (names, units, canonical CBOR,
// fingerprint) is made once in edgecore.schema; the core takes it as typed data.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/blake3.hpp"
#include "base/status.hpp"

namespace edgecore {

// Values are on disk and wire: never renumber.
enum class DType : std::uint8_t {
  kBool = 1,
  kI8 = 2,
  kI16 = 3,
  kI32 = 4,
  kI64 = 5,
  kU8 = 6,
  kU16 = 7,
  kU32 = 8,
  kU64 = 9,
  kF32 = 10,
  kF64 = 11,
  kDecimal = 12,   // i64 count of 10^-scale
  kCategory = 13,  // short text from a small set
  kUtf8 = 14,
  kBytes = 15,
};

// Order is the order of worth: sync, retention and sacrifice follow it.
enum class Tier : std::uint8_t {
  kCritical = 0,
  kFeedback = 1,
  kLabeled = 2,
  kDiagnostic = 3,
  kBulk = 4,
};

constexpr bool is_variable(DType dtype) {
  return dtype >= DType::kCategory;
}
constexpr bool is_float(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF64;
}
constexpr bool is_integer(DType dtype) {
  return dtype <= DType::kU64;
}  // bool included
constexpr bool is_unsigned(DType dtype) {
  return dtype >= DType::kU8 && dtype <= DType::kU64;
}

struct Field {
  std::string name;
  DType dtype = DType::kF64;
  std::uint8_t scale = 0;  // kDecimal: digits after the point, 0 to 18
  bool required = false;   // null is Invalid
  bool ratio = false;      // numbers: 0 means none of it, and none is below; the range says so too
  double resolution = 0;   // floats: the declared grid step; 0 = ungridded
  double max_error = 0;    // numbers: what rounding may change (bounded.hpp); 0 = nothing
  // The step that follows from it: digit · 10^exponent, digit 1, 2 or 5; 0 = none.
  std::uint8_t step_digit = 0;
  std::int8_t step_exponent = 0;
  // Inclusive bounds in cell form (see rows.hpp): grid integers for integer and decimal fields,
  // f64 bits for floats. Absent = the dtype's own range.
  std::optional<std::uint64_t> range_min;
  std::optional<std::uint64_t> range_max;
  Digest fingerprint{};  // BLAKE3 of its own definition, unit included
};

// Whether every double is a value of the field, as it is.
inline bool takes_any_double(const Field& field) {
  return field.dtype == DType::kF64 && !field.range_min && !field.range_max &&
         field.step_digit == 0;
}

// Sets the inclusive bounds of a numeric field. Invalid when empty or off the field's grid.
Status set_range(Field& field, double low, double high);

struct Schema {
  std::string stream;
  Tier tier = Tier::kBulk;
  std::uint32_t version = 1;
  std::vector<Field> fields;
  Digest fingerprint{};  // BLAKE3 of `canonical`
  Bytes canonical;       // deterministic CBOR, docs/formats/schema.md

  // Index of the field, or -1.
  int find(std::string_view name) const {
    for (std::size_t i = 0; i < fields.size(); ++i)
      if (fields[i].name == name) return static_cast<int>(i);
    return -1;
  }
};
using SchemaPtr = std::shared_ptr<const Schema>;

}  // namespace edgecore
