// Rows as columns of a table: from blocks and from rows alike, whatever they are.
#include "columns/table.hpp"

#include <gtest/gtest.h>

#include <random>

#include "base/crc32c.hpp"
#include "tests/columns/arrow_cells.hpp"

namespace edgecore {
namespace {

constexpr std::uint64_t kSeed = 20260131;
using Random = std::mt19937_64;
using Rows = std::vector<std::vector<std::string>>;

SchemaPtr schema_of(std::vector<Field> fields, std::uint32_t version = 1) {
  auto schema = std::make_shared<Schema>();
  schema->stream = "test";
  schema->version = version;
  schema->fields = std::move(fields);
  schema->canonical.push_back(static_cast<std::byte>(version));
  for (const Field& field : schema->fields)
    schema->canonical.push_back(static_cast<std::byte>(field.dtype));
  schema->fingerprint = blake3(schema->canonical);
  return schema;
}

Field field_of(const std::string& name, DType dtype, unsigned scale = 0) {
  Field field;
  field.name = name;
  field.dtype = dtype;
  field.scale = static_cast<std::uint8_t>(scale);
  return field;
}

// One field of every dtype.
SchemaPtr every_dtype() {
  std::vector<Field> fields;
  for (int dtype = 1; dtype <= 15; ++dtype)
    fields.push_back(
        field_of(std::string("f").append(std::to_string(dtype)), static_cast<DType>(dtype), 3));
  return schema_of(fields);
}

std::uint64_t random_cell(DType dtype, Random& random) {
  const std::uint64_t raw = random() % 3 == 0 ? random() : random() % 1000;
  const auto value = static_cast<std::int64_t>(raw);
  switch (dtype) {
    case DType::kBool:
      return raw & 1;
    case DType::kI8:
      return static_cast<std::uint64_t>(static_cast<std::int8_t>(value));
    case DType::kI16:
      return static_cast<std::uint64_t>(static_cast<std::int16_t>(value));
    case DType::kI32:
      return static_cast<std::uint64_t>(static_cast<std::int32_t>(value));
    case DType::kU8:
      return raw & 0xff;
    case DType::kU16:
      return raw & 0xffff;
    case DType::kU32:
      return raw & 0xffffffff;
    case DType::kF32:
      return std::bit_cast<std::uint64_t>(static_cast<double>(static_cast<float>(value) / 8));
    case DType::kF64:
      return std::bit_cast<std::uint64_t>(static_cast<double>(value) / 1000);
    default:
      return raw;
  }
}

RowBatch random_rows(const SchemaPtr& schema, std::size_t count, unsigned nulls, Random& random) {
  RowBatch rows(schema);
  for (std::size_t i = 0; i < count; ++i) {
    const std::string source(random() % 4, 's');
    const std::size_t row =
        rows.add_row(static_cast<std::int64_t>(random() % 100), source, random() % 3);
    for (std::size_t f = 0; f < schema->fields.size(); ++f) {
      if (nulls > 0 && random() % nulls == 0) continue;
      const DType dtype = schema->fields[f].dtype;
      if (!is_variable(dtype))
        rows.set_cell(row, f, random_cell(dtype, random));
      else
        rows.set_bytes(row, f, as_byte_span(std::string(random() % 4, 'a')));
    }
  }
  return rows;
}

// What the table must say of a row.
std::string cell_of(const RowBatch& rows, std::size_t row, std::size_t f) {
  const Field& field = rows.schema()->fields[f];
  if (!rows.present(row, f)) return "null";
  if (is_variable(field.dtype)) return quoted(rows.text(row, f));
  if (field.dtype == DType::kDecimal) return decimal_text(rows.i64(row, f), field.scale);
  if (is_unsigned(field.dtype) || is_float(field.dtype)) return std::to_string(rows.cell(row, f));
  return std::to_string(rows.i64(row, f));
}

void add_expected(const RowBatch& rows, std::uint64_t first, TimeSpan times, Rows& out) {
  for (std::size_t row = 0; row < rows.count(); ++row) {
    if (rows.time_ns(row) < times.first || rows.time_ns(row) > times.last) continue;
    std::vector<std::string> cells = {
        "3",
        std::to_string(first + row),
        std::to_string(1000 + first + row),
        std::to_string(rows.time_ns(row)),
        rows.source(row).empty() ? "null" : quoted(rows.source(row)),
        rows.source_seq(row) == 0 ? "null" : std::to_string(rows.source_seq(row))};
    for (std::size_t f = 0; f < rows.schema()->fields.size(); ++f)
      cells.push_back(cell_of(rows, row, f));
    out.push_back(std::move(cells));
  }
}

Bytes block_of(const RowBatch& rows, std::uint64_t first, Coding coding) {
  std::vector<Arrival> arrivals;
  for (std::uint32_t row = 0; row < rows.count(); row += 7)  // appended by sevens
    arrivals.push_back({std::min(7u, static_cast<std::uint32_t>(rows.count()) - row),
                        1000 + first + row, first + row, 0});
  return encode_block({{}, 3, first}, rows, arrivals, coding).value();
}

TableBuilder builder_of(const SchemaPtr& schema, TimeSpan times = {}) {
  return TableBuilder(table_columns({schema}, {}).value(), times);
}

TEST(Table, BlocksAndRowsOfEveryDtypeGiveTheirValues) {
  std::uint64_t seed = kSeed;
  for (const unsigned nulls : {0u, 3u, 1u})
    for (const TimeSpan times : {TimeSpan{}, TimeSpan{20, 60}, TimeSpan{-5, -1}}) {
      SCOPED_TRACE("seed " + std::to_string(++seed));
      Random random(seed);
      const auto schema = every_dtype();
      TableBuilder builder = builder_of(schema, times);
      Rows expected;
      std::uint64_t first = 1;
      for (int part = 0; part < 6; ++part) {
        const RowBatch rows = random_rows(schema, 1 + random() % 90, nulls, random);
        add_expected(rows, first, times, expected);
        const RowPlaces place{0, rows.count(), 3, first, 1000 + first};
        if (part % 3 == 2) {
          builder.add_rows(rows, std::span(&place, 1));
        } else {
          const Bytes block = block_of(rows, first, part % 3 == 0 ? Coding::kFast : Coding::kDense);
          ASSERT_TRUE(builder.add_block(schema, block, place).is_ok());
        }
        first += rows.count();
      }
      EXPECT_EQ(builder.rows(), expected.size());
      EXPECT_EQ(arrow_rows(builder.type(), builder.finish()), expected);
      EXPECT_EQ(builder.finish().length, 0);
    }
}

TEST(Table, BlockThatCannotBeReadLeavesNothing) {
  Random random(kSeed);
  const auto schema = every_dtype();
  const RowBatch rows = random_rows(schema, 50, 4, random);
  const RowPlaces place{0, 50, 3, 1, 1001};
  const Bytes whole = block_of(rows, 1, Coding::kFast);
  TableBuilder builder = builder_of(schema);
  Rows expected;
  int refused = 0;
  for (std::size_t at = whole.size() - 600; at < whole.size(); ++at) {
    Bytes wrong = whole;
    wrong[at] ^= std::byte{0xff};  // and a checksum that says it is right
    store_le(wrong.data() + 122,
             crc32c(ByteSpan(wrong).subspan(126), crc32c(ByteSpan(wrong).first(122))));
    const std::size_t before = builder.rows();
    if (builder.add_block(schema, wrong, place).is_ok()) {
      static_cast<void>(builder.finish());  // other values: nobody can tell
      expected.clear();
      continue;
    }
    ++refused;
    EXPECT_EQ(builder.rows(), before);
    ASSERT_TRUE(builder.add_block(schema, whole, place).is_ok());
    add_expected(rows, 1, {}, expected);
  }
  EXPECT_GT(refused, 20);
  EXPECT_EQ(builder.add_block(schema, whole, {0, 50, 3, 2, 1002}).outcome(), Outcome::kCorrupt);
  EXPECT_EQ(arrow_rows(builder.type(), builder.finish()), expected);
}

TEST(Table, ColumnsAreTheNewestSchemasFirstAndFieldsNamedAsKeysAreTold) {
  const auto old = schema_of({field_of("gone", DType::kU8), field_of("d", DType::kDecimal, 3)}, 1);
  const auto now =
      schema_of({field_of("d", DType::kDecimal, 5), field_of("position", DType::kI32)}, 2);
  const auto columns = table_columns({old, now}, {}).value();
  std::vector<std::string> names, formats;
  for (const TableColumn& column : columns) {
    names.push_back(column.name);
    formats.push_back(column.type().format);
  }
  EXPECT_EQ(names, (std::vector<std::string>{"partition", "sequence", "position", "time", "source",
                                             "source_seq", "d", "values.position", "gone"}));
  EXPECT_EQ(formats,
            (std::vector<std::string>{"I", "L", "L", "tsn:UTC", "i", "L", "d:21,5", "i", "C"}));
  const auto some = table_columns({old, now}, {"values.position", "time", "time"}).value();
  EXPECT_EQ(some.size(), 3u);
  EXPECT_EQ(some[0].field, "position");
  EXPECT_EQ(table_columns({now}, {"gone"}).status().outcome(), Outcome::kInvalid);
  EXPECT_EQ(table_columns({now}, {"arrivals"}).status().outcome(), Outcome::kInvalid);
}

TEST(Table, RowsOfTwoSchemasAreUnifiedByNameOrRefusedByIt) {
  const auto old = schema_of({field_of("a", DType::kI32), field_of("d", DType::kDecimal, 1)}, 1);
  const auto now = schema_of({field_of("d", DType::kDecimal, 3), field_of("b", DType::kUtf8)}, 2);
  TableBuilder builder(table_columns({old, now}, {"a", "d", "b"}).value());
  RowBatch first(old), second(now);
  first.add_row(1);
  first.set_i64(0, 0, -7);
  first.set_i64(0, 1, 25);
  second.add_row(2);
  second.set_i64(0, 0, -1234);
  second.set_bytes(0, 1, as_byte_span("x"));
  const RowPlaces place{0, 1, 3, 1, 1001};
  builder.add_rows(first, std::span(&place, 1));
  ASSERT_TRUE(builder.add_block(now, block_of(second, 1, Coding::kFast), place).is_ok());
  EXPECT_EQ(arrow_rows(builder.type(), builder.finish()),
            (Rows{{"-7", "2500e-3", "null"}, {"null", "-1234e-3", "'x'"}}));

  const auto other = schema_of({field_of("a", DType::kF64)}, 3);
  const Status refused = table_columns({old, other}, {}).status();
  EXPECT_EQ(refused.outcome(), Outcome::kIncompatible);
  EXPECT_EQ(refused.message().find("field a: f64 and i32"), 0u) << refused.message();
  EXPECT_TRUE(table_columns({old, other}, {"time", "d"}).is_ok());  // it is not asked for
}

TEST(Table, DictionaryGoesOnOverBatchesUntilItIsLarge) {
  const auto schema = schema_of({field_of("c", DType::kCategory)});
  TableBuilder builder(table_columns({schema}, {"c"}).value());
  const auto batch = [&](int from, int to) {
    RowBatch rows(schema);
    for (int i = from; i < to; ++i)
      rows.set_bytes(rows.add_row(i), 0, as_byte_span("text " + std::to_string(i)));
    const RowPlaces place{0, rows.count(), 3, 1, 1};
    builder.add_rows(rows, std::span(&place, 1));
    return builder.finish().children[0];
  };
  const ArrowData first = batch(0, 3), second = batch(1, 3), third = batch(2, 5);
  EXPECT_EQ(first.dictionary, second.dictionary);  // the very same
  EXPECT_EQ(first.dictionary->length, 3);          // as it was given away
  EXPECT_EQ(third.dictionary->length, 5);
  EXPECT_EQ(batch(0, 40'000).dictionary->length, 40'000);
  EXPECT_EQ(batch(7, 9).dictionary->length, 2);
}

TEST(Table, TextThatIsNotUtf8IsReplacedAsWhenRowsAreRead) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"plain text of more than eight", "plain text of more than eight"},
      {"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80",
       "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80"},
      {"\xff", "?"},
      {"a\x80z", "a?z"},
      {"\xc3", "?"},                 // cut short
      {"\xc0\xaf", "??"},            // overlong
      {"\xe0\x80\x80", "???"},       //
      {"\xed\xa0\x80", "???"},       // a surrogate
      {"\xf4\x90\x80\x80", "????"},  // beyond the last
      {"12345678\xe2\x82", "12345678??"}};
  for (const auto& [text, expected] : cases) {
    std::string wanted;
    for (const char c : expected) wanted.append(c == '?' ? "\xef\xbf\xbd" : std::string(1, c));
    Bytes out;
    add_text(text, out);
    EXPECT_EQ(as_text(out), wanted);
  }
}

}  // namespace
}  // namespace edgecore
