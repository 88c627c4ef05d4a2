// Column blocks: what goes in comes out, whatever it is; what is damaged does not.
#include "columns/block.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <random>

#include "base/crc32c.hpp"

namespace edgecore {
namespace {

constexpr std::uint64_t kSeed = 20250117;
using Random = std::mt19937_64;

SchemaPtr schema_of(std::vector<Field> fields) {
  auto schema = std::make_shared<Schema>();
  schema->stream = "test";
  schema->fields = std::move(fields);
  for (std::size_t i = 0; i < schema->fields.size(); ++i) {
    schema->fields[i].name = std::string(1, 'f') + std::to_string(i);
    schema->canonical.push_back(static_cast<std::byte>(schema->fields[i].dtype));
  }
  schema->fingerprint = blake3(schema->canonical);
  return schema;
}

Field field_of(DType dtype) {
  Field field;
  field.dtype = dtype;
  return field;
}

SchemaPtr random_schema(Random& random) {
  std::vector<Field> fields(random() % 6);
  for (Field& field : fields) {
    field.dtype = static_cast<DType>(1 + random() % 15);
    field.scale = static_cast<std::uint8_t>(random() % 19);
    field.required = random() % 3 == 0;
  }
  return schema_of(fields);
}

// The cell of any 64 bits, cut to what the dtype can have.
std::uint64_t cut_to(DType dtype, std::uint64_t raw) {
  switch (dtype) {
    case DType::kBool:
      return raw & 1;
    case DType::kI8:
      return static_cast<std::uint64_t>(static_cast<std::int64_t>(static_cast<std::int8_t>(raw)));
    case DType::kI16:
      return static_cast<std::uint64_t>(static_cast<std::int64_t>(static_cast<std::int16_t>(raw)));
    case DType::kI32:
      return static_cast<std::uint64_t>(static_cast<std::int64_t>(static_cast<std::int32_t>(raw)));
    case DType::kU8:
      return raw & 0xff;
    case DType::kU16:
      return raw & 0xffff;
    case DType::kU32:
      return raw & 0xffffffff;
    default:
      return raw;
  }
}

constexpr double kSpecial[] = {0.0,
                               -0.0,
                               0.1,
                               -20.125,
                               1e300,
                               -5e-324,
                               std::numeric_limits<double>::infinity(),
                               -std::numeric_limits<double>::infinity(),
                               std::numeric_limits<double>::quiet_NaN(),
                               std::numeric_limits<double>::max(),
                               9007199254740993.0,
                               2251799813685248.0,
                               2251799813685247.75,
                               -2251799813685247.75};

// A way in which a column's values follow each other.
struct Habit {
  std::uint64_t kind = 0;
  std::int64_t walk = 0;

  explicit Habit(Random& random) : kind(random() % 6), walk(static_cast<std::int64_t>(random())) {}
  std::uint64_t next(Random& random) {
    if (kind == 0) return random();
    if (kind == 1) return random() % 3;
    if (kind == 2) return random() % 5 == 0 ? random() : 7;
    if (kind == 3) return static_cast<std::uint64_t>(walk = wrap_add(walk, 1000));
    if (kind == 4) walk = wrap_add(walk, static_cast<std::int64_t>(random() % 41) - 20);
    if (kind == 5 && random() % 20 == 0) walk = static_cast<std::int64_t>(random() % 100);
    return static_cast<std::uint64_t>(walk);
  }
  double next_double(Random& random) {
    if (kind == 1) return kSpecial[random() % std::size(kSpecial)];
    if (kind == 0 || kind == 2) return std::bit_cast<double>(random());
    const double near = static_cast<double>(static_cast<std::int64_t>(next(random)) % 100000) / 1e3;
    return random() % 4 == 0 ? near * 1.1 / 1.1 : near;
  }
};

void fill(Random& random, RowBatch& rows, std::size_t row, std::size_t f, Habit& habit) {
  const Field& field = rows.schema()->fields[f];
  if (!field.required && random() % 5 == 0) return;
  if (is_float(field.dtype)) {
    const double value = habit.next_double(random);
    rows.set_f64(
        row, f,
        field.dtype == DType::kF32 ? static_cast<double>(static_cast<float>(value)) : value);
  } else if (is_variable(field.dtype)) {
    std::string text = std::to_string(habit.next(random) % 100);
    if (random() % 10 == 0) text.clear();
    if (random() % 50 == 0) text.assign(300, 'x');
    rows.set_bytes(row, f, as_byte_span(text));
  } else {
    rows.set_cell(row, f, cut_to(field.dtype, habit.next(random)));
  }
}

RowBatch random_rows(Random& random, SchemaPtr schema, std::size_t count) {
  RowBatch rows(schema);
  std::vector<Habit> habits;
  for (std::size_t f = 0; f < schema->fields.size() + 3; ++f) habits.emplace_back(random);
  const std::size_t keys = schema->fields.size();
  for (std::size_t i = 0; i < count; ++i) {
    const auto time = static_cast<std::int64_t>(habits[keys].next(random));
    const bool named = habits[keys + 1].next(random) % 2 == 0;
    const std::size_t row = rows.add_row(time, named ? "pump" : "", habits[keys + 2].next(random));
    for (std::size_t f = 0; f < keys; ++f) fill(random, rows, row, f, habits[f]);
  }
  return rows;
}

std::vector<Arrival> random_arrivals(Random& random, std::size_t count) {
  std::vector<Arrival> out;
  std::uint64_t position = 1 + random() % 1000;
  while (count > 0) {
    const auto rows = static_cast<std::uint32_t>(1 + random() % count);
    out.push_back({rows, position, random(), static_cast<std::uint8_t>(random() % 3)});
    position += rows + random() % 3;
    count -= rows;
  }
  return out;
}

Bytes canonical_of(const RowBatch& rows) {
  Bytes out;
  encode_rows(rows, 0, rows.count(), out);
  return out;
}

const BlockIdentity kIdentity{StoreId{std::byte{1}, std::byte{2}}, 3, 41};

Bytes encoded(const RowBatch& rows, std::span<const Arrival> arrivals, Coding coding) {
  auto block = encode_block(kIdentity, rows, arrivals, coding);
  EXPECT_TRUE(block.is_ok()) << block.status().to_string();
  return std::move(block).value();
}

// A damaged block whose checksum is right again.
void mend(Bytes& block) {
  if (block.size() < 126) return;
  store_le(block.data() + 118, static_cast<std::uint32_t>(block.size() - 126));
  store_le(block.data() + 122,
           crc32c(ByteSpan(block).subspan(126), crc32c(ByteSpan(block).first(122))));
}

void expect_round_trip(const RowBatch& rows, std::span<const Arrival> arrivals, Coding coding) {
  const Bytes block = encoded(rows, arrivals, coding);
  auto decoded = decode_block(block, rows.schema());
  ASSERT_TRUE(decoded.is_ok()) << decoded.status().to_string();
  EXPECT_EQ(canonical_of(decoded->rows), canonical_of(rows));
  EXPECT_EQ(decoded->arrivals, std::vector<Arrival>(arrivals.begin(), arrivals.end()));
}

TEST(ColumnBlock, RandomSchemasAndValuesComeBackBitForBit) {
  Random random(kSeed);
  RecordProperty("seed", std::to_string(kSeed));
  for (int round = 0; round < 400; ++round) {
    const std::size_t count = 1 + random() % (round % 10 == 0 ? 1500 : 60);
    const RowBatch rows = random_rows(random, random_schema(random), count);
    const auto arrivals = random_arrivals(random, count);
    for (const Coding coding : {Coding::kFast, Coding::kDense})
      expect_round_trip(rows, arrivals, coding);
    if (HasFailure()) FAIL() << "round " << round << " of seed " << kSeed;
  }
}

TEST(ColumnBlock, BothCodingsNameTheSameContent) {
  Random random(kSeed + 1);
  const RowBatch rows = random_rows(random, random_schema(random), 200);
  const auto arrivals = random_arrivals(random, 200);
  const Bytes fast = encoded(rows, arrivals, Coding::kFast);
  const Bytes dense = encoded(rows, arrivals, Coding::kDense);
  const auto a = read_block_header(fast), b = read_block_header(dense);
  ASSERT_TRUE(a.is_ok() && b.is_ok());
  EXPECT_EQ(a.value().digest, b.value().digest);
  EXPECT_NE(a.value().coding, b.value().coding);
  EXPECT_EQ(a.value().digest, run_digest(kIdentity.store, kIdentity.partition, kIdentity.first, 200,
                                         rows.schema()->fingerprint, canonical_of(rows)));
}

TEST(ColumnBlock, ARegularGridAndAConstantCostNextToNothing) {
  RowBatch rows(schema_of({field_of(DType::kF64)}));
  for (int i = 0; i < 10000; ++i) rows.set_f64(rows.add_row(i * 1'000'000'000LL), 0, 21.5);
  const Arrival arrival{10000, 1, 99, 1};
  for (const Coding coding : {Coding::kFast, Coding::kDense}) {
    EXPECT_LT(encoded(rows, {&arrival, 1}, coding).size(), 260u);
    expect_round_trip(rows, {&arrival, 1}, coding);
  }
}

TEST(ColumnBlock, InterleavedSeriesAreEachPredictedFromThemselves) {
  const auto schema = schema_of({field_of(DType::kCategory), field_of(DType::kI64)});
  RowBatch rows(schema);
  for (int i = 0; i < 1200; ++i) {
    const std::size_t row = rows.add_row(i);
    rows.set_bytes(row, 0, as_byte_span(i % 3 == 0 ? "a" : i % 3 == 1 ? "b" : "c"));
    rows.set_i64(row, 1, (i % 3) * 1'000'000'000LL + i / 3 * 17);
  }
  const Arrival arrival{1200, 1, 99, 1};
  EXPECT_LT(encoded(rows, {&arrival, 1}, Coding::kFast).size(), 700u);
  for (const Coding coding : {Coding::kFast, Coding::kDense})
    expect_round_trip(rows, {&arrival, 1}, coding);
}

TEST(ColumnBlock, OneColumnIsReadWithoutTheOthers) {
  Random random(kSeed + 2);
  const auto schema =
      schema_of({field_of(DType::kCategory), field_of(DType::kF64), field_of(DType::kI32)});
  const RowBatch rows = random_rows(random, schema, 300);
  const auto arrivals = random_arrivals(random, 300);
  for (const Coding coding : {Coding::kFast, Coding::kDense}) {
    const Bytes block = encoded(rows, arrivals, coding);
    for (std::size_t f = 0; f < 3; ++f) {
      const auto column = decode_column(block, *schema, schema->fields[f].name);
      ASSERT_TRUE(column.is_ok());
      for (std::size_t row = 0; row < 300; ++row) {
        ASSERT_EQ(column.value().presence[row] != 0, rows.present(row, f));
        if (!rows.present(row, f)) continue;
        if (f == 0)
          ASSERT_EQ(as_text(column.value().text(row)), rows.text(row, f));
        else
          ASSERT_EQ(column.value().cells[row], rows.cell(row, f));
      }
    }
    EXPECT_EQ(decode_column(block, *schema, "none").status().outcome(), Outcome::kInvalid);
  }
}

TEST(ColumnBlock, WhatCanNotBeABlockIsRefusedWhenWritten) {
  RowBatch rows(schema_of({}));
  EXPECT_EQ(encode_block(kIdentity, rows, {}, Coding::kFast).status().outcome(), Outcome::kInvalid);
  rows.add_row(1);
  const Arrival two{2, 1, 1, 0};
  EXPECT_EQ(encode_block(kIdentity, rows, {&two, 1}, Coding::kFast).status().outcome(),
            Outcome::kInvalid);
  const Arrival one{1, 1, 1, 0};
  EXPECT_EQ(encode_block({{}, 1, 0}, rows, {&one, 1}, Coding::kFast).status().outcome(),
            Outcome::kInvalid);
}

class Damage : public ::testing::TestWithParam<Coding> {
 protected:
  void SetUp() override {
    Random random(kSeed + 3);
    const auto schema =
        schema_of({field_of(DType::kCategory), field_of(DType::kF64), field_of(DType::kI16),
                   field_of(DType::kUtf8), field_of(DType::kF32), field_of(DType::kDecimal)});
    rows_.emplace(random_rows(random, schema, 40));
    block_ = encoded(*rows_, random_arrivals(random, 40), GetParam());
  }
  // Right rows, or a word that says why not.
  void expect_right_or_refused(const Bytes& block) {
    const auto decoded = decode_block(block, rows_->schema());
    if (decoded.is_ok())
      ASSERT_EQ(canonical_of(decoded.value().rows), canonical_of(*rows_));
    else
      ASSERT_TRUE(decoded.status().outcome() == Outcome::kCorrupt ||
                  decoded.status().outcome() == Outcome::kIncompatible);
  }
  std::optional<RowBatch> rows_;
  Bytes block_;
};

TEST_P(Damage, EveryFlippedBitAndEveryTruncationIsNoticed) {
  for (std::size_t at = 0; at < block_.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      Bytes damaged = block_;
      damaged[at] ^= static_cast<std::byte>(1 << bit);
      ASSERT_FALSE(decode_block(damaged, rows_->schema()).is_ok()) << at << " " << bit;
    }
    ASSERT_FALSE(decode_block(ByteSpan(block_).first(at), rows_->schema()).is_ok()) << at;
  }
}

TEST_P(Damage, EveryTruncationWithAMendedChecksumIsNoticed) {
  for (std::size_t size = 126; size < block_.size(); ++size) {
    Bytes cut(block_.begin(), block_.begin() + static_cast<std::ptrdiff_t>(size));
    mend(cut);
    ASSERT_FALSE(decode_block(cut, rows_->schema()).is_ok()) << size;
  }
}

TEST_P(Damage, TwentyThousandMendedMutantsGiveTheRowsOrARefusal) {
  Random random(kSeed + 4);
  for (int i = 0; i < 20000; ++i) {
    Bytes mutant = block_;
    for (auto changes = 1 + random() % 3; changes > 0; --changes) {
      const auto at = static_cast<std::ptrdiff_t>(random() % mutant.size());
      switch (random() % 4) {
        case 0:
          mutant[static_cast<std::size_t>(at)] = static_cast<std::byte>(random());
          break;
        case 1:
          mutant[static_cast<std::size_t>(at)] ^= static_cast<std::byte>(1 << (random() % 8));
          break;
        case 2:
          mutant.erase(mutant.begin() + at);
          break;
        default:
          mutant.insert(mutant.begin() + at,
                        random() % 2 == 0 ? std::byte{0xff} : static_cast<std::byte>(random()));
      }
    }
    mend(mutant);
    expect_right_or_refused(mutant);
    if (HasFatalFailure()) FAIL() << "mutant " << i << " of seed " << kSeed + 4;
  }
}

TEST_P(Damage, AnotherVersionOrSchemaIsRefusedNotGuessed) {
  for (const std::size_t at : {4u, 6u, 8u}) {  // version, coding, required features
    Bytes other = block_;
    other[at] = std::byte{9};
    mend(other);
    EXPECT_EQ(decode_block(other, rows_->schema()).status().outcome(), Outcome::kIncompatible);
  }
  EXPECT_EQ(decode_block(block_, schema_of({})).status().outcome(), Outcome::kIncompatible);
}

INSTANTIATE_TEST_SUITE_P(Codings, Damage, ::testing::Values(Coding::kFast, Coding::kDense));

}  // namespace
}  // namespace edgecore
