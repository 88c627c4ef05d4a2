// Reading Arrow data as its consumers do, a value at a time, as text to compare.
#pragma once

#include <cstring>
#include <string>
#include <string_view>

#include "base/arrow.hpp"
#include "base/bytes.hpp"
#include "base/exact.hpp"

namespace edgecore {

template <typename T>
T arrow_at(const ArrowArray& array, int buffer, std::size_t index) {
  return load_le<T>(static_cast<const std::byte*>(array.buffers[buffer]) + index * sizeof(T));
}

inline bool arrow_bit(const void* bits, std::size_t index) {
  return (static_cast<const std::uint8_t*>(bits)[index / 8] >> (index % 8) & 1) != 0;
}

inline std::string decimal_text(Int128 value, unsigned scale) {
  std::string out;
  auto rest = value < 0 ? UInt128{0} - static_cast<UInt128>(value) : static_cast<UInt128>(value);
  while (rest > 0 || out.size() <= scale) {
    out.insert(out.begin(), static_cast<char>('0' + static_cast<int>(rest % 10)));
    rest /= 10;
  }
  if (value < 0) out.insert(out.begin(), '-');
  return out.append("e-").append(std::to_string(scale));
}

inline std::string quoted(std::string_view text) {
  return std::string(1, '\'').append(text).append(1, '\'');
}

// "null", whole numbers, floats as their bits, texts in quotes.
inline std::string arrow_cell(const ArrowSchema& schema, const ArrowArray& array, std::size_t row) {
  if (array.buffers[0] != nullptr && !arrow_bit(array.buffers[0], row)) return "null";
  const std::string_view format = schema.format;
  if (schema.dictionary != nullptr)
    return arrow_cell(*schema.dictionary, *array.dictionary,
                      static_cast<std::size_t>(arrow_at<std::int32_t>(array, 1, row)));
  if (format == "b") return arrow_bit(array.buffers[1], row) ? "1" : "0";
  if (format == "c") return std::to_string(arrow_at<std::int8_t>(array, 1, row));
  if (format == "s") return std::to_string(arrow_at<std::int16_t>(array, 1, row));
  if (format == "i") return std::to_string(arrow_at<std::int32_t>(array, 1, row));
  if (format == "l" || format == "tsn:UTC")
    return std::to_string(arrow_at<std::int64_t>(array, 1, row));
  if (format == "C") return std::to_string(arrow_at<std::uint8_t>(array, 1, row));
  if (format == "S") return std::to_string(arrow_at<std::uint16_t>(array, 1, row));
  if (format == "I") return std::to_string(arrow_at<std::uint32_t>(array, 1, row));
  if (format == "L") return std::to_string(arrow_at<std::uint64_t>(array, 1, row));
  if (format == "f") {
    const double wide = arrow_at<float>(array, 1, row);
    return std::to_string(std::bit_cast<std::uint64_t>(wide));
  }
  if (format == "g") return std::to_string(arrow_at<std::uint64_t>(array, 1, row));
  if (format.starts_with("d:")) {
    const auto scale = static_cast<unsigned>(std::stoi(std::string(format.substr(5))));
    return decimal_text(arrow_at<Int128>(array, 1, row), scale);
  }
  const auto from = static_cast<std::size_t>(arrow_at<std::int32_t>(array, 1, row));
  const auto to = static_cast<std::size_t>(arrow_at<std::int32_t>(array, 1, row + 1));
  const std::string_view text(static_cast<const char*>(array.buffers[2]) + from, to - from);
  return quoted(text);
}

// All rows of a batch, each as its cells.
inline std::vector<std::vector<std::string>> arrow_rows(const ArrowType& type,
                                                        const ArrowData& data) {
  Released<ArrowSchema> schema;
  Released<ArrowArray> array;
  export_schema(type, schema.value);
  export_array(data, array.value);
  std::vector<std::vector<std::string>> out(static_cast<std::size_t>(data.length));
  for (std::size_t c = 0; c < type.children.size(); ++c)
    for (std::size_t row = 0; row < out.size(); ++row)
      out[row].push_back(arrow_cell(*schema.value.children[c], *array.value.children[c], row));
  return out;
}

}  // namespace edgecore
