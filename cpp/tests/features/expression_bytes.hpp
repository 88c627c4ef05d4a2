// Expressions in their encoding (docs/formats/feature-definition.md), for tests.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

namespace edgecore::features::encoded {

// Of fewer than 24.
inline std::string whole(std::size_t value) {
  return std::string(1, static_cast<char>(value));
}
inline std::string text(std::string_view value) {
  std::string out(1, static_cast<char>(0x60 + value.size()));
  return out.append(value);
}
inline std::string list(std::initializer_list<std::string> items) {
  std::string out(1, static_cast<char>(0x80 + items.size()));
  for (const std::string& item : items) out.append(item);
  return out;
}

inline std::string column(std::string_view name) {
  return list({text("col"), text(name)});
}
inline std::string number(std::size_t numerator, std::size_t denominator) {
  return list({text("num"), whole(numerator), whole(denominator)});
}
inline std::string node(std::string_view op, const std::string& one, const std::string& two) {
  return list({text(op), one, two});
}
inline std::string expression(const std::string& tree) {
  return list({whole(1), tree});
}

}  // namespace edgecore::features::encoded
