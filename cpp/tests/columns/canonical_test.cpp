// Canonical rows: what is encoded comes back, whether rows are uniform or not; any bytes at all are
// rows or refused.
#include "columns/canonical.hpp"

#include <gtest/gtest.h>

#include <random>

namespace edgecore {
namespace {

constexpr std::uint64_t kSeed = 51;
constexpr int kRounds = 3000;

SchemaPtr random_schema(std::mt19937_64& rng) {
  const std::uint64_t dtypes = rng() % 3 == 0 ? 15 : 12;  // 12: of fixed width
  auto schema = std::make_shared<Schema>();
  const std::size_t count = 1 + rng() % 6;
  for (std::size_t i = 0; i < count; ++i) {
    Field field;
    field.name = std::string(1, static_cast<char>('a' + i));
    field.dtype = static_cast<DType>(1 + rng() % dtypes);
    schema->fields.push_back(field);
  }
  return schema;
}

void set_random(RowBatch& rows, std::size_t row, std::size_t index, std::mt19937_64& rng) {
  const DType dtype = rows.schema()->fields[index].dtype;
  if (is_variable(dtype))
    rows.set_bytes(row, index, as_byte_span("hello"));
  else if (dtype == DType::kBool)
    rows.set_cell(row, index, rng() & 1);
  else if (is_float(dtype))
    rows.set_f64(row, index, static_cast<double>(static_cast<float>(rng())));
  else if (is_unsigned(dtype))
    rows.set_cell(row, index, rng() & 0xff);
  else
    rows.set_i64(row, index, static_cast<std::int8_t>(rng()));
}

RowBatch random_rows(std::mt19937_64& rng) {
  RowBatch rows(random_schema(rng));
  const bool nulls = rng() % 2 == 0, sources = rng() % 4 == 0;
  for (std::uint64_t left = rng() % 5; left > 0; --left) {
    const std::string_view source = sources && rng() % 2 == 0 ? "north" : "";
    const std::size_t row = rows.add_row(static_cast<std::int64_t>(rng()), source, rng());
    for (std::size_t f = 0; f < rows.width(); ++f)
      if (!nulls || rng() % 3 != 0) set_random(rows, row, f, rng);
  }
  return rows;
}

bool has_null_source_bool_or_text(const RowBatch& rows) {
  for (std::size_t f = 0; f < rows.width(); ++f) {
    const DType dtype = rows.schema()->fields[f].dtype;
    if (is_variable(dtype) || dtype == DType::kBool) return true;
    for (std::size_t row = 0; row < rows.count(); ++row)
      if (!rows.present(row, f) || !rows.source(row).empty()) return true;
  }
  return false;
}

void expect_same(const RowBatch& rows, const RowBatch& back) {
  ASSERT_EQ(back.count(), rows.count());
  for (std::size_t row = 0; row < rows.count(); ++row) {
    EXPECT_EQ(back.time_ns(row), rows.time_ns(row));
    EXPECT_EQ(back.source(row), rows.source(row));
    EXPECT_EQ(back.source_seq(row), rows.source_seq(row));
    for (std::size_t f = 0; f < rows.width(); ++f) {
      ASSERT_EQ(back.present(row, f), rows.present(row, f));
      if (is_variable(rows.schema()->fields[f].dtype))
        EXPECT_EQ(back.text(row, f), rows.text(row, f));
      else
        EXPECT_EQ(back.cell(row, f), rows.cell(row, f));
    }
  }
}

TEST(Canonical, EncodedRowsComeBackAndUniformOnesAreKnown) {
  std::mt19937_64 rng(kSeed);
  int uniform = 0;
  for (int round = 0; round < kRounds; ++round) {
    SCOPED_TRACE("seed " + std::to_string(kSeed) + ", round " + std::to_string(round));
    const RowBatch rows = random_rows(rng);
    Bytes bytes;
    encode_rows(rows, 0, rows.count(), bytes);
    RowBatch back(rows.schema());
    ASSERT_TRUE(decode_rows(bytes, rows.count(), back).is_ok());
    expect_same(rows, back);
    const bool even = UniformRows::are(*rows.schema(), bytes, rows.count());
    EXPECT_EQ(even, !has_null_source_bool_or_text(rows));
    if (!even) continue;
    ++uniform;
    const UniformRows found(*rows.schema(), bytes);
    for (std::size_t row = 0; row < rows.count(); ++row) {
      EXPECT_EQ(found.time_ns(row), rows.time_ns(row));
      EXPECT_EQ(found.source_seq(row), rows.source_seq(row));
      for (std::size_t f = 0; f < rows.width(); ++f)
        EXPECT_EQ(found.cell(row, f), rows.cell(row, f));
    }
  }
  EXPECT_GT(uniform, kRounds / 20);
}

TEST(Canonical, DamagedRowsAreRefusedOrAreOtherRowsThatComeBack) {
  std::mt19937_64 rng(kSeed + 1);
  for (int round = 0; round < kRounds; ++round) {
    SCOPED_TRACE("seed " + std::to_string(kSeed + 1) + ", round " + std::to_string(round));
    const RowBatch rows = random_rows(rng);
    Bytes bytes;
    encode_rows(rows, 0, rows.count(), bytes);
    if (bytes.empty()) continue;
    bytes[rng() % bytes.size()] ^= static_cast<std::byte>(1 + rng() % 255);
    if (rng() % 3 == 0) bytes.resize(rng() % bytes.size());
    bytes.shrink_to_fit();  // so that a sanitizer sees every step beyond the end
    RowBatch back(rows.schema());
    if (!decode_rows(bytes, rows.count(), back).is_ok()) continue;
    Bytes again;
    encode_rows(back, 0, back.count(), again);
    EXPECT_EQ(again.size(), bytes.size());
  }
}

}  // namespace
}  // namespace edgecore
