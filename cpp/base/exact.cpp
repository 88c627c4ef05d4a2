// Exact decimal conversion and the elementary functions; see exact.hpp for the contract.
#include "base/exact.hpp"

#include <array>
#include <charconv>
#include <limits>

namespace edgecore {
namespace {

constexpr int kScaleMax = 18;
constexpr std::array<double, kScaleMax + 1> kPowersOfTen = {
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8, 1e9,
    1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18};
constexpr std::int64_t kI64Max = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kI64Min = std::numeric_limits<std::int64_t>::min();

constexpr bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// The parts of a decimal number as written: [sign] digits [. digits] [e exponent].
struct DecimalText {
  bool negative = false;
  std::string_view mantissa;  // digits and at most one point, no leading zeros before it
  std::int64_t digits = 0;    // significant digits from the first non-zero one on
  std::int64_t exponent = 0;  // of ten, of the last digit
};

std::optional<std::int64_t> parse_exponent(std::string_view text) {
  bool negative = false;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  if (text.empty()) return std::nullopt;
  std::int64_t exponent = 0;
  for (const char c : text) {
    if (!is_digit(c)) return std::nullopt;
    // Saturates far beyond what any mantissa of a bounded text can bring back.
    if (exponent < 1'000'000'000'000) exponent = exponent * 10 + (c - '0');
  }
  return negative ? -exponent : exponent;
}

std::optional<DecimalText> parse_decimal(std::string_view text) {
  const auto is_blank = [](char c) { return c == ' ' || c == '\t'; };
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  DecimalText out;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    out.negative = text[0] == '-';
    text.remove_prefix(1);
  }
  bool any_digit = false;
  bool point = false;
  std::int64_t after_point = 0;
  std::size_t first = 0;  // index of the first significant digit
  std::size_t i = 0;
  for (; i < text.size(); ++i) {
    if (text[i] == '.') {
      if (point) return std::nullopt;
      point = true;
      continue;
    }
    if (!is_digit(text[i])) break;
    any_digit = true;
    if (out.digits > 0 || text[i] != '0') {
      if (out.digits == 0) first = i;
      ++out.digits;
    }
    if (point) ++after_point;
  }
  if (!any_digit) return std::nullopt;
  out.mantissa = text.substr(first, i - first);
  if (i < text.size()) {
    if (text[i] != 'e' && text[i] != 'E') return std::nullopt;
    const auto exponent = parse_exponent(text.substr(i + 1));
    if (!exponent) return std::nullopt;
    out.exponent = *exponent;
  }
  out.exponent -= after_point;
  return out;
}

std::optional<std::int64_t> with_sign(std::uint64_t magnitude, bool negative) {
  constexpr auto kMax = static_cast<std::uint64_t>(kI64Max);
  if (!negative) {
    if (magnitude > kMax) return std::nullopt;
    return static_cast<std::int64_t>(magnitude);
  }
  if (magnitude > kMax + 1) return std::nullopt;
  return magnitude == kMax + 1 ? kI64Min : -static_cast<std::int64_t>(magnitude);
}

}  // namespace

std::optional<GridValue> grid_from_text(std::string_view text, int scale) {
  if (scale < 0 || scale > kScaleMax) return std::nullopt;
  const auto parsed = parse_decimal(text);
  if (!parsed) return std::nullopt;
  if (parsed->digits == 0) return GridValue{};
  // The first `whole` significant digits are before the grid's point, the others are rounded.
  const std::int64_t whole = parsed->digits + parsed->exponent + scale;
  if (whole > 19) return std::nullopt;
  if (whole < 0) return GridValue{0, true};
  std::uint64_t magnitude = 0;  // below 10^19, so below 2^64
  std::int64_t at = 0;
  int first_dropped = 0;
  bool rest_dropped = false;
  for (const char c : parsed->mantissa) {
    if (c == '.') continue;
    const int digit = c - '0';
    if (at < whole) {
      magnitude = magnitude * 10 + static_cast<std::uint64_t>(digit);
    } else if (at == whole) {
      first_dropped = digit;
    } else {
      rest_dropped = rest_dropped || digit != 0;
    }
    ++at;
  }
  for (; at < whole; ++at) magnitude *= 10;
  const bool up =
      first_dropped > 5 || (first_dropped == 5 && (rest_dropped || (magnitude & 1) != 0));
  const auto value = with_sign(magnitude + (up ? 1 : 0), parsed->negative);
  if (!value) return std::nullopt;
  return GridValue{*value, first_dropped != 0 || rest_dropped};
}

std::optional<GridValue> grid_from_double(double value, int scale) {
  if (scale < 0 || scale > kScaleMax || value - value != 0) return std::nullopt;
  // Fast path. The shortest decimal of `value` is within half an ulp of it, and so is `scaled` of
  // their product: unless that is near to the middle of two points of the grid, k is the point that
  // both round to. The decimal is k / 10^scale itself only if that, correctly rounded, is `value`:
  // no two decimals of at most 15 significant digits round to the same double.
  const double power = kPowersOfTen[static_cast<std::size_t>(scale)];
  const double scaled = value * power;
  if (scaled > -1e15 && scaled < 1e15) {
    const auto k = static_cast<std::int64_t>(scaled + (scaled < 0 ? -0.5 : 0.5));
    const double beyond = scaled - static_cast<double>(k);
    const double distance = beyond < 0 ? -beyond : beyond;
    const double margin = (scaled < 0 ? -scaled : scaled) * 0x1p-50;
    if (distance + margin < 0.5 && k > -1'000'000'000'000'000 && k < 1'000'000'000'000'000)
      return GridValue{k, distance > margin || static_cast<double>(k) / power != value};
  }
  char text[32];
  // Scientific, because the plain form prints all digits of a large integer, not the shortest.
  const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::scientific);
  return grid_from_text({text, static_cast<std::size_t>(end.ptr - text)}, scale);
}

double grid_to_double(std::int64_t value, int scale) {
  EDGECORE_ASSERT(scale >= 0 && scale <= kScaleMax);
  constexpr std::int64_t kExact = std::int64_t{1} << 53;
  if (value >= -kExact && value <= kExact)
    return static_cast<double>(value) / kPowersOfTen[static_cast<std::size_t>(scale)];
  char text[32];  // at most 20 characters, "e-18"
  char* end = std::to_chars(text, text + 24, value).ptr;
  *end = 'e';
  end = std::to_chars(end + 1, text + sizeof text, -scale).ptr;
  double out = 0;
  std::from_chars(text, end, out);
  return out;
}

}  // namespace edgecore
