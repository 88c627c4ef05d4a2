// One value into one cell: the same cell from text and from a double, refusals that name the field.
#include "base/normalise.hpp"

#include <gtest/gtest.h>

#include "base/bounded.hpp"

namespace edgecore {
namespace {

SchemaPtr one_field(DType dtype, int scale = 0, bool required = false) {
  auto schema = std::make_shared<Schema>();
  Field field;
  field.name = "x";
  field.dtype = dtype;
  field.scale = static_cast<std::uint8_t>(scale);
  field.required = required;
  if (dtype == DType::kDecimal) {
    EXPECT_TRUE(set_range(field, -40, 150).is_ok());
  }
  schema->fields.push_back(field);
  return schema;
}

TEST(Normalise, TextAndDoubleGiveTheSameCell) {
  RowBatch batch(one_field(DType::kDecimal, 1));
  NormaliseCounts counts;
  batch.add_row(1);
  batch.add_row(2);
  ASSERT_TRUE(cell_from_text(batch, 0, 0, "20.25", counts).is_ok());
  ASSERT_TRUE(cell_from_double(batch, 1, 0, 20.25, counts).is_ok());
  EXPECT_EQ(batch.i64(0, 0), 202);
  EXPECT_EQ(batch.i64(1, 0), 202);
  EXPECT_EQ(counts.off_grid, 2u);
}

TEST(Normalise, ABoundedFieldIsRoundedOnceHoweverItsValueComes) {
  auto schema = std::make_shared<Schema>(*one_field(DType::kF64));
  ASSERT_TRUE(set_max_error(schema->fields[0], 0.01).is_ok());
  EXPECT_FALSE(takes_any_double(schema->fields[0]));
  RowBatch batch(schema);
  NormaliseCounts counts;
  for (int row = 0; row < 4; ++row) batch.add_row(row);
  ASSERT_TRUE(cell_from_double(batch, 0, 0, 20.013, counts).is_ok());
  ASSERT_TRUE(cell_from_text(batch, 1, 0, "20.013", counts).is_ok());
  ASSERT_TRUE(cell_from_double(batch, 2, 0, batch.f64(0, 0), counts).is_ok());
  ASSERT_TRUE(cell_from_int(batch, 3, 0, 20, counts).is_ok());
  EXPECT_EQ(batch.f64(0, 0), 20.02);
  EXPECT_EQ(batch.cell(1, 0), batch.cell(0, 0));
  EXPECT_EQ(batch.cell(2, 0), batch.cell(0, 0));
  EXPECT_EQ(batch.f64(3, 0), 20);
  EXPECT_EQ(counts.off_grid, 2u);
}

TEST(Normalise, OutOfRangeIsInvalidAndLeavesANull) {
  RowBatch batch(one_field(DType::kDecimal, 1));
  NormaliseCounts counts;
  batch.add_row(1);
  const Status status = cell_from_double(batch, 0, 0, 150.1, counts);
  EXPECT_EQ(status.outcome(), Outcome::kInvalid);
  EXPECT_NE(status.message().find("'x': 150.1"), std::string::npos) << status.message();
  EXPECT_FALSE(batch.present(0, 0));
}

TEST(Normalise, IntegerTakesWholeNumbersOfItsWidthOnly) {
  RowBatch batch(one_field(DType::kI8));
  NormaliseCounts counts;
  batch.add_row(1);
  EXPECT_TRUE(cell_from_double(batch, 0, 0, -128.0, counts).is_ok());
  EXPECT_EQ(batch.i64(0, 0), -128);
  EXPECT_FALSE(cell_from_double(batch, 0, 0, 1.5, counts).is_ok());
  EXPECT_FALSE(cell_from_int(batch, 0, 0, 128, counts).is_ok());
  EXPECT_FALSE(cell_from_text(batch, 0, 0, "1.5", counts).is_ok());
  EXPECT_FALSE(cell_from_bool(batch, 0, 0, true).is_ok());
}

TEST(Normalise, EmptyTextIsANullUnlessRequired) {
  NormaliseCounts counts;
  RowBatch optional(one_field(DType::kF64));
  optional.add_row(1);
  EXPECT_TRUE(cell_from_text(optional, 0, 0, " ", counts).is_ok());
  EXPECT_FALSE(optional.present(0, 0));
  RowBatch required(one_field(DType::kF64, 0, true));
  required.add_row(1);
  EXPECT_FALSE(cell_from_text(required, 0, 0, "", counts).is_ok());
}

}  // namespace
}  // namespace edgecore
