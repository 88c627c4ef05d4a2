// Streams and cells: every width of frame, and columns read straight to where they are wanted.
#include "columns/stream.hpp"

#include <gtest/gtest.h>

#include <random>

#include "base/exact.hpp"
#include "columns/block.hpp"
#include "columns/decimal.hpp"

namespace edgecore {
namespace {

constexpr std::uint64_t kSeed = 20260211;
using Random = std::mt19937_64;

TEST(Streams, EveryWidthAndLengthComesBackInBothCodings) {
  Random random(kSeed);
  for (unsigned width = 0; width <= 64; ++width) {
    for (const std::size_t count : {1u, 2u, 15u, 127u, 128u, 129u, 500u}) {
      Integers values(count);
      const auto base = static_cast<std::int64_t>(width % 3 == 0 ? 0 : random());
      for (std::int64_t& value : values) {
        const std::uint64_t bits = width == 0 ? 0 : random() >> (64 - width);
        value = wrap_add(base, static_cast<std::int64_t>(bits));
      }
      for (const Coding coding : {Coding::kFast, Coding::kDense}) {
        const auto sink = make_sink(coding);
        sink->put_integers(values);
        const Bytes bytes = sink->finish();
        const auto source = make_source(coding, bytes);
        Integers found(count, -1);
        ASSERT_TRUE(source->take_integers(found)) << width << " bits, " << count;
        ASSERT_EQ(found, values) << width << " bits, " << count;
        ASSERT_TRUE(source->at_end());
      }
    }
  }
}

TEST(Streams, ValuesWithoutOrderCostTheirBitsAndLittleMore) {
  Random random(kSeed + 1);
  Integers values(4000);
  for (std::int64_t& value : values) value = static_cast<std::int64_t>(random());
  const auto sink = make_sink(Coding::kFast);
  sink->put_integers(values);
  EXPECT_LE(sink->finish().size(), values.size() * 8 + 16);
}

TEST(Decimals, GridIntegersBecomeTheDoublesThatOneByOneGives) {
  Random random(kSeed + 4);
  for (const unsigned bits : {10u, 50u, 51u, 52u, 63u, 64u}) {
    for (unsigned scale = 0; scale <= kDecimalScaleMax; ++scale) {
      std::vector<std::uint64_t> cells(33);
      for (std::uint64_t& cell : cells)
        cell = (random() >> (64 - bits)) - (random() >> (64 - bits));
      const std::vector<std::uint64_t> before = cells;
      grid_to_doubles(scale, cells);
      for (std::size_t i = 0; i < cells.size(); ++i)
        ASSERT_EQ(std::bit_cast<double>(cells[i]),
                  grid_to_double(static_cast<std::int64_t>(before[i]), static_cast<int>(scale)));
    }
  }
}

// A float, an integer and a bool, each null in a third of its rows when `nulls`; and a text.
RowBatch some_rows(Random& random, std::size_t count, bool nulls) {
  auto schema = std::make_shared<Schema>();
  schema->stream = "test";
  for (const DType dtype : {DType::kF64, DType::kI32, DType::kBool, DType::kUtf8}) {
    Field field;
    field.name = std::string("f") + std::to_string(schema->fields.size());
    field.dtype = dtype;
    schema->fields.push_back(field);
  }
  RowBatch rows(schema);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t row = rows.add_row(static_cast<std::int64_t>(i * 1000), "s", i);
    rows.set_bytes(row, 3, as_byte_span(std::string_view("text")));
    if (!nulls || random() % 3 != 0) rows.set_f64(row, 0, static_cast<double>(random() % 999) / 8);
    if (!nulls || random() % 3 != 0) rows.set_cell(row, 1, random() % 1000);
    if (!nulls || random() % 3 != 0) rows.set_cell(row, 2, random() % 2);
  }
  return rows;
}

TEST(BlockReader, CellsGoStraightToTheirPlaceAndPresenceIsEmptyWithoutNulls) {
  Random random(kSeed + 2);
  for (const bool nulls : {false, true}) {
    const RowBatch rows = some_rows(random, 700, nulls);
    const Schema& schema = *rows.schema();
    const Arrival arrival{700, 1, 1, 0};
    for (const Coding coding : {Coding::kFast, Coding::kDense}) {
      const auto block = encode_block({{}, 3, 9}, rows, {&arrival, 1}, coding);
      ASSERT_TRUE(block.is_ok());
      auto reader = BlockReader::open(block.value(), schema);
      ASSERT_TRUE(reader.is_ok());
      EXPECT_EQ(reader->header().count, 700u);
      std::vector<std::uint64_t> cells(700, 99);
      std::vector<std::uint8_t> presence(3, 7);
      for (std::size_t f = 0; f < 3; ++f) {
        const auto column = reader->find(schema.fields[f].name);
        ASSERT_TRUE(column.is_ok());
        EXPECT_EQ(reader->dtype(column.value()), schema.fields[f].dtype);
        ASSERT_TRUE(reader->read_cells(column.value(), cells, presence).is_ok());
        ASSERT_EQ(presence.size(), nulls ? 700u : 0u);
        for (std::size_t row = 0; row < 700; ++row) {
          const bool there = rows.present(row, f);
          ASSERT_EQ(cells[row], there ? rows.cell(row, f) : 0);
          ASSERT_EQ(!nulls || presence[row] != 0, there);
        }
      }
      ASSERT_TRUE(reader->read_cells(reader->find("source_seq").value(), cells, presence).is_ok());
      EXPECT_EQ(cells[699], 699u);
    }
  }
}

TEST(BlockReader, CellsOfTextsOrOfAnotherNumberOfRowsAreRefused) {
  Random random(kSeed + 3);
  const RowBatch rows = some_rows(random, 50, false);
  const Arrival arrival{50, 1, 1, 0};
  const auto block = encode_block({{}, 3, 9}, rows, {&arrival, 1}, Coding::kFast);
  auto reader = BlockReader::open(block.value(), *rows.schema());
  ASSERT_TRUE(reader.is_ok());
  std::vector<std::uint64_t> cells(50);
  std::vector<std::uint8_t> presence;
  const std::size_t texts = reader->find("f3").value();
  EXPECT_EQ(reader->read_cells(texts, cells, presence).outcome(), Outcome::kInvalid);
  EXPECT_EQ(reader->read_cells(texts + 1, cells, presence).outcome(), Outcome::kInvalid);
  cells.resize(49);
  const std::size_t time = reader->find("time").value();
  EXPECT_EQ(reader->read_cells(time, cells, presence).outcome(), Outcome::kInvalid);
  EXPECT_EQ(reader->find("arrivals").status().outcome(), Outcome::kInvalid);
}

}  // namespace
}  // namespace edgecore
