// The answers of the reference kernels, in docs/formats/vectors, as the tests read them.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "base/bytes.hpp"

namespace edgecore::inference::testing {

using Codes = std::vector<std::int8_t>;

inline Codes from_hex(const std::string& text) {
  const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  Codes out;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2)
    out.push_back(static_cast<std::int8_t>(digit(text[i]) * 16 + digit(text[i + 1])));
  return out;
}

inline ByteSpan bytes_of(const Codes& codes) {
  return std::as_bytes(std::span(codes));
}

inline std::ifstream open_vectors(const std::string& name) {
  std::ifstream file(std::string(EDGECORE_VECTORS) + "/" + name);
  EXPECT_TRUE(file.good()) << name;
  return file;
}

}  // namespace edgecore::inference::testing
