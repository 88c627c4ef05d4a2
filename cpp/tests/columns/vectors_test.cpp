// docs/formats/vectors/column-block.txt, read and written by the core. tests/columns reads the same
// with code of its own.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "base/bounded.hpp"
#include "columns/block.hpp"

namespace edgecore {
namespace {

Bytes from_hex(const std::string& text) {
  Bytes out;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2)
    out.push_back(static_cast<std::byte>(std::stoi(text.substr(i, 2), nullptr, 16)));
  return out;
}

DType dtype_of(const std::string& name) {
  constexpr const char* kNames[] = {"bool", "i8",  "i16", "i32", "i64",      "u8",   "u16",  "u32",
                                    "u64",  "f32", "f64", "",    "category", "utf8", "bytes"};
  for (std::size_t i = 0; i < std::size(kNames); ++i)
    if (name == kNames[i]) return static_cast<DType>(i + 1);
  return DType::kDecimal;
}

struct Case {
  std::string name;
  std::shared_ptr<Schema> schema = std::make_shared<Schema>();
  BlockIdentity identity;
  std::vector<Arrival> arrivals;
  Bytes rows, fast, dense;
};

void take_line(const std::string& word, std::istringstream& rest, Case& out) {
  std::string text;
  if (word == "field") {
    Field field;
    std::string dtype;
    rest >> field.name >> dtype >> field.required;
    field.dtype = dtype_of(dtype);
    double bound = 0;
    if (rest >> bound) {
      EXPECT_TRUE(set_max_error(field, bound).is_ok());
    }
    out.schema->fields.push_back(field);
  } else if (word == "run") {
    rest >> out.identity.partition >> out.identity.first;
  } else if (word == "arrival") {
    Arrival arrival;
    int trust = 0;
    rest >> arrival.rows >> arrival.position >> arrival.hlc >> trust;
    arrival.clock_trust = static_cast<std::uint8_t>(trust);
    out.arrivals.push_back(arrival);
  } else if (rest >> text; word == "fingerprint") {
    std::memcpy(out.schema->fingerprint.data(), from_hex(text).data(), 32);
  } else if (word == "store") {
    std::memcpy(out.identity.store.data(), from_hex(text).data(), 16);
  } else if (word == "rows") {
    out.rows = from_hex(text);
  } else if (word == "fast") {
    out.fast = from_hex(text);
  } else if (word == "dense") {
    out.dense = from_hex(text);
  }
}

std::vector<Case> read_cases() {
  std::ifstream file(std::string(EDGECORE_VECTORS) + "/column-block.txt");
  std::vector<Case> out;
  for (std::string line, word; std::getline(file, line);) {
    std::istringstream rest(line);
    rest >> word;
    if (word == "case") {
      out.emplace_back();
      rest >> out.back().name;
    } else if (word != "#") {
      take_line(word, rest, out.back());
    }
  }
  return out;
}

TEST(ColumnBlockVectors, AreReadAndWritten) {
  const auto cases = read_cases();
  ASSERT_EQ(cases.size(), 4u);
  for (const Case& one : cases) {
    std::size_t count = 0;
    for (const Arrival& arrival : one.arrivals) count += arrival.rows;
    RowBatch rows(one.schema);
    ASSERT_TRUE(decode_rows(one.rows, count, rows).is_ok()) << one.name;
    for (const Coding coding : {Coding::kFast, Coding::kDense}) {
      const Bytes& bytes = coding == Coding::kFast ? one.fast : one.dense;
      auto decoded = decode_block(bytes, one.schema);
      ASSERT_TRUE(decoded.is_ok()) << one.name << decoded.status().to_string();
      Bytes canonical;
      encode_rows(decoded->rows, 0, count, canonical);
      EXPECT_EQ(canonical, one.rows) << one.name;
      EXPECT_EQ(decoded->arrivals, one.arrivals) << one.name;
      auto written = encode_block(one.identity, rows, one.arrivals, coding);
      ASSERT_TRUE(written.is_ok());
      EXPECT_EQ(written.value(), bytes) << one.name;
    }
  }
}

}  // namespace
}  // namespace edgecore
