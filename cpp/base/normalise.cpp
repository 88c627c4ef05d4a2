// Value to cell, by dtype; see normalise.hpp.
#include "base/normalise.hpp"

#include <array>
#include <charconv>
#include <limits>

#include "base/bounded.hpp"
#include "base/exact.hpp"

namespace edgecore {
namespace {

constexpr double kTwo63 = 9223372036854775808.0;
constexpr double kTwo64 = 18446744073709551616.0;

std::string number_text(double value) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, value).ptr};
}

Status refuse(const Field& field, const std::string& value, const char* why) {
  return Status::invalid("field '" + field.name + "': " + value + " " + why + " (" +
                         dtype_text(field) + ")");
}

// Width of an integer dtype in bits; bool is not among them.
int integer_bits(DType dtype) {
  constexpr std::array<int, 10> kBits = {0, 0, 8, 16, 32, 64, 8, 16, 32, 64};
  return kBits[static_cast<std::size_t>(dtype)];
}

bool in_range(const Field& field, std::int64_t value) {
  return (!field.range_min || value >= static_cast<std::int64_t>(*field.range_min)) &&
         (!field.range_max || value <= static_cast<std::int64_t>(*field.range_max));
}
bool in_range(const Field& field, std::uint64_t value) {
  return (!field.range_min || value >= *field.range_min) &&
         (!field.range_max || value <= *field.range_max);
}
// NaN is outside of any declared range.
bool in_range(const Field& field, double value) {
  return (!field.range_min || value >= std::bit_cast<double>(*field.range_min)) &&
         (!field.range_max || value <= std::bit_cast<double>(*field.range_max));
}

bool in_dtype(const Field& field, std::int64_t value) {
  if (field.dtype == DType::kDecimal) return true;
  const std::int64_t highest =
      std::numeric_limits<std::int64_t>::max() >> (64 - integer_bits(field.dtype));
  return value <= highest && value >= -highest - 1;
}
bool in_dtype(const Field& field, std::uint64_t value) {
  const int bits = integer_bits(field.dtype);
  return bits == 64 || value >> bits == 0;
}
bool in_dtype(const Field& /*field*/, double /*value*/) {
  return true;
}

// What is stored of a value that the field may have. Rounding never leaves the range.
template <typename Value>
Value within_error(const Field& field, Value value, NormaliseCounts& counts) {
  if (field.step_digit == 0) return value;
  const Value rounded = nearest_step(field, value);
  if (!in_dtype(field, rounded) || !in_range(field, rounded)) return value;
  if (rounded < value || rounded > value) ++counts.off_grid;
  return rounded;
}

Status set_float(RowBatch& batch, std::size_t row, std::size_t index, double value,
                 NormaliseCounts& counts) {
  const Field& field = batch.schema()->fields[index];
  if (field.dtype == DType::kF32) {
    constexpr double kMax = std::numeric_limits<float>::max();
    const bool finite = value - value == 0;
    if (finite && (value > kMax || value < -kMax))
      return refuse(field, number_text(value), "is out of range");
    value = static_cast<double>(static_cast<float>(value));
  }
  if (!in_range(field, value)) return refuse(field, number_text(value), "is out of range");
  batch.set_f64(row, index, within_error(field, value, counts));
  return Status::ok();
}

Status set_unsigned(RowBatch& batch, std::size_t row, std::size_t index, std::uint64_t value,
                    NormaliseCounts& counts) {
  const Field& field = batch.schema()->fields[index];
  if (!in_dtype(field, value) || !in_range(field, value))
    return refuse(field, std::to_string(value), "is out of range");
  batch.set_cell(row, index, within_error(field, value, counts));
  return Status::ok();
}

Status set_signed(RowBatch& batch, std::size_t row, std::size_t index, std::int64_t value,
                  NormaliseCounts& counts) {
  const Field& field = batch.schema()->fields[index];
  if (!in_dtype(field, value) || !in_range(field, value))
    return refuse(field, std::to_string(value), "is out of range");
  batch.set_i64(row, index, within_error(field, value, counts));
  return Status::ok();
}

Status set_grid(RowBatch& batch, std::size_t row, std::size_t index, std::string_view shown,
                const std::optional<GridValue>& grid, NormaliseCounts& counts) {
  const Field& field = batch.schema()->fields[index];
  if (!grid || !in_range(field, grid->value))
    return refuse(field, std::string(shown), "is not finite or out of range");
  NormaliseCounts rounded;
  const std::int64_t value = within_error(field, grid->value, rounded);
  counts.off_grid += grid->off_grid || rounded.off_grid != 0 ? 1 : 0;
  batch.set_i64(row, index, value);
  return Status::ok();
}

Status wrong_type(const Field& field, const std::string& value) {
  return refuse(field, value, "has the wrong type");
}

std::string shown_text(std::string_view text) {
  constexpr std::size_t kShownMax = 40;
  std::string shown = "'";
  shown.append(text.substr(0, kShownMax)).append(text.size() > kShownMax ? "…'" : "'");
  return shown;
}

Status float_from_text(RowBatch& batch, std::size_t row, std::size_t index, std::string_view text,
                       NormaliseCounts& counts) {
  const Field& field = batch.schema()->fields[index];
  std::string_view digits = text;
  if (!digits.empty() && digits.front() == '+') digits.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error == std::errc::result_out_of_range)
    return refuse(field, shown_text(text), "is out of range");
  if (error != std::errc{} || end != digits.data() + digits.size())
    return refuse(field, shown_text(text), "is not a number");
  return set_float(batch, row, index, value, counts);
}

Status integer_from_text(RowBatch& batch, std::size_t row, std::size_t index, std::string_view text,
                         NormaliseCounts& counts) {
  const Field& field = batch.schema()->fields[index];
  if (const auto grid = grid_from_text(text, 0)) {
    if (grid->off_grid) return refuse(field, shown_text(text), "is not a whole number");
    return cell_from_int(batch, row, index, grid->value, counts);
  }
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc{} && end == text.data() + text.size())
    return cell_from_unsigned(batch, row, index, value, counts);
  return refuse(field, shown_text(text), "is not a number or out of range");
}

}  // namespace

std::string dtype_text(const Field& field) {
  constexpr std::array<const char*, 16> kNames = {
      "",    "bool", "i8",  "i16", "i32",     "i64",      "u8",   "u16",
      "u32", "u64",  "f32", "f64", "decimal", "category", "utf8", "bytes"};
  std::string name = kNames[static_cast<std::size_t>(field.dtype)];
  if (field.dtype == DType::kDecimal) name.append("(").append(std::to_string(field.scale)) += ')';
  return name;
}

Status cell_from_double(RowBatch& batch, std::size_t row, std::size_t index, double value,
                        NormaliseCounts& counts) {
  const Field& field = batch.schema()->fields[index];
  if (takes_any_double(field)) {
    batch.set_f64(row, index, value);
    return Status::ok();
  }
  if (is_float(field.dtype)) return set_float(batch, row, index, value, counts);
  if (field.dtype == DType::kDecimal) {
    const auto grid = grid_from_double(value, field.scale);
    const bool fits = grid && in_range(field, grid->value);  // only then no text is made
    return set_grid(batch, row, index, fits ? std::string() : number_text(value), grid, counts);
  }
  if (is_variable(field.dtype) || field.dtype == DType::kBool)
    return wrong_type(field, number_text(value));
  if (!(value >= -kTwo63 && value < kTwo64))
    return refuse(field, number_text(value), "is not finite or out of range");
  if (value >= kTwo63)
    return cell_from_unsigned(batch, row, index, static_cast<std::uint64_t>(value), counts);
  const auto whole = static_cast<std::int64_t>(value);
  if (static_cast<double>(whole) != value)
    return refuse(field, number_text(value), "is not a whole number");
  return cell_from_int(batch, row, index, whole, counts);
}

Status cell_from_int(RowBatch& batch, std::size_t row, std::size_t index, std::int64_t value,
                     NormaliseCounts& counts) {
  const Field& field = batch.schema()->fields[index];
  if (is_float(field.dtype))
    return set_float(batch, row, index, static_cast<double>(value), counts);
  if (field.dtype == DType::kDecimal) {
    const std::string text = std::to_string(value);
    return set_grid(batch, row, index, text, grid_from_text(text, field.scale), counts);
  }
  if (is_variable(field.dtype) || field.dtype == DType::kBool)
    return wrong_type(field, std::to_string(value));
  if (!is_unsigned(field.dtype)) return set_signed(batch, row, index, value, counts);
  if (value < 0) return refuse(field, std::to_string(value), "is out of range");
  return set_unsigned(batch, row, index, static_cast<std::uint64_t>(value), counts);
}

Status cell_from_unsigned(RowBatch& batch, std::size_t row, std::size_t index, std::uint64_t value,
                          NormaliseCounts& counts) {
  const Field& field = batch.schema()->fields[index];
  if (value <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    return cell_from_int(batch, row, index, static_cast<std::int64_t>(value), counts);
  if (is_float(field.dtype))
    return set_float(batch, row, index, static_cast<double>(value), counts);
  if (is_unsigned(field.dtype)) return set_unsigned(batch, row, index, value, counts);
  return refuse(field, std::to_string(value), "is out of range");
}

Status cell_from_bool(RowBatch& batch, std::size_t row, std::size_t index, bool value) {
  const Field& field = batch.schema()->fields[index];
  if (field.dtype != DType::kBool) return wrong_type(field, value ? "true" : "false");
  batch.set_cell(row, index, value ? 1 : 0);
  return Status::ok();
}

Status cell_from_bytes(RowBatch& batch, std::size_t row, std::size_t index, ByteSpan value) {
  const Field& field = batch.schema()->fields[index];
  if (!is_variable(field.dtype)) return wrong_type(field, shown_text(as_text(value)));
  if (value.size() > kTextValueBytesMax)
    return refuse(field, std::to_string(value.size()) + " bytes", "are over the limit of 64 KiB");
  if (batch.blob_bytes() + value.size() > kBatchBlobBytesMax)
    return Status::exhausted("a batch holds at most 64 MiB of text and bytes");
  batch.set_bytes(row, index, value);
  return Status::ok();
}

Status cell_from_text(RowBatch& batch, std::size_t row, std::size_t index, std::string_view text,
                      NormaliseCounts& counts) {
  const Field& field = batch.schema()->fields[index];
  if (is_variable(field.dtype) && !text.empty())
    return cell_from_bytes(batch, row, index, as_byte_span(text));
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  if (text.empty()) {
    if (field.required) return Status::invalid("field '" + field.name + "': null, but required");
    return Status::ok();
  }
  if (field.dtype == DType::kBool) {
    if (text == "1" || text == "true" || text == "True")
      return cell_from_bool(batch, row, index, true);
    if (text == "0" || text == "false" || text == "False")
      return cell_from_bool(batch, row, index, false);
    return refuse(field, shown_text(text), "is neither true nor false");
  }
  if (is_float(field.dtype)) return float_from_text(batch, row, index, text, counts);
  if (field.dtype == DType::kDecimal)
    return set_grid(batch, row, index, shown_text(text), grid_from_text(text, field.scale), counts);
  return integer_from_text(batch, row, index, text, counts);
}

}  // namespace edgecore
