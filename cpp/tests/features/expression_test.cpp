// Programs of random trees stay within the bounds that were proven for them, at the ends of what
// rows may hold; no prefix or mutation of an encoding is taken for more than it is.
#include "features/expression.hpp"

#include <gtest/gtest.h>

#include "expression_bytes.hpp"
#include "features/plan.hpp"
#include "features/program.hpp"
#include "parity_matrix.hpp"

namespace edgecore::features {
namespace {

using matrix::Numbers;

// A row of the matrix' schema at an end of each range, or in between, or null.
RowBatch ends(Numbers& numbers, std::size_t count) {
  RowBatch rows(matrix::schema());
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t row = rows.add_row(matrix::kStart, "", i);
    const auto pick = [&](std::int64_t low, std::int64_t high) {
      const std::int64_t chosen[] = {low, high, 0, 1, -1, numbers.between(low, high)};
      return std::clamp(chosen[numbers.next() % 6], low, high);
    };
    const auto some = [&numbers] { return !numbers.one_in(13); };
    if (some()) rows.set_i64(row, 1, pick(-40'000, 150'000));
    if (some()) rows.set_f64(row, 2, matrix::finite(numbers));
    if (some()) rows.set_f64(row, 3, static_cast<double>(pick(-9'999'999'999, 9'999'999'999)) / 10);
    if (some()) rows.set_i64(row, 4, pick(-1000, 1000));
    if (some()) rows.set_cell(row, 5, numbers.one_in(3) ? ~std::uint64_t{0} : numbers.next() % 3);
    if (some()) rows.set_i64(row, 6, pick(0, 1));
    if (some()) rows.set_bytes(row, 7, as_byte_span(numbers.one_in(2) ? "run" : "idle"));
  }
  return rows;
}

std::string number(Numbers& numbers) {
  const std::size_t numerator = numbers.next() % 24;
  return encoded::number(numerator, numerator % 2 != 0 ? 2 : 1);
}

// Of numbers; now and then of truths and texts.
std::string tree(Numbers& numbers, int depth) {
  using encoded::list, encoded::node, encoded::text, encoded::whole;
  static const char* const names[] = {"temp", "flow", "code", "wide", "on", "load"};
  if (depth == 0)
    return numbers.one_in(4) ? number(numbers) : encoded::column(names[numbers.next() % 6]);
  const std::string one = tree(numbers, depth - 1), two = tree(numbers, depth - 1);
  switch (numbers.next() % 8) {
    case 0:
      return node("+", one, two);
    case 1:
      return node("-", one, two);
    case 2:
      return node("*", one, two);
    case 3:
      return list({text("/"), one, two, whole(1), whole(10)});
    case 4:
      return node(numbers.one_in(2) ? "min" : "max", one, two);
    case 5:
      return list({text("round"), one, whole(3), whole(7)});
    case 6:
      return list({text("clip"), one, number(numbers), two});
    default:
      return list({text("where"), node(numbers.one_in(2) ? "<" : "==", one, two), two, one});
  }
}

TEST(Expression, ResultsStayWithinTheirProvenBoundsAtTheEndsOfEveryRange) {
  Numbers numbers(23);
  const RowBatch rows = ends(numbers, 40);
  std::size_t served = 0;
  for (int i = 0; i < 4000; ++i) {
    const auto parsed =
        parse_expression(as_byte_span(encoded::expression(tree(numbers, 1 + i % 5))));
    if (!parsed.is_ok()) continue;  // constants alone
    const auto made = Program::compile(parsed.value(), *rows.schema());
    if (!made.is_ok()) {
      ASSERT_EQ(made.status().outcome(), Outcome::kIncompatible) << made.status().message();
      continue;
    }
    ++served;
    SeriesPlan series;
    made.value()->describe(series);
    for (std::size_t row = 0; row < rows.count(); ++row) {
      std::int64_t out = 0;
      if (made.value()->run(rows, row, out) != Cell::kValue) continue;
      ASSERT_GE(out, series.low) << "expression " << i << ", row " << row;
      ASSERT_LE(out, series.high) << "expression " << i << ", row " << row;
    }
  }
  EXPECT_GT(served, 1000u);
}

TEST(Expression, NoPrefixAndNoMutationOfAnEncodingIsMoreThanItIs) {
  Numbers numbers(29);
  for (int i = 0; i < 300; ++i) {
    const std::string whole = encoded::expression(tree(numbers, 3));
    for (std::size_t size = 0; size < whole.size(); ++size)
      EXPECT_FALSE(parse_expression(as_byte_span(whole.substr(0, size))).is_ok()) << size;
    EXPECT_FALSE(parse_expression(as_byte_span(whole + '\0')).is_ok());
    std::string changed = whole;
    for (int n = 0; n < 3; ++n)
      changed[numbers.next() % changed.size()] = static_cast<char>(numbers.next());
    const auto parsed = parse_expression(as_byte_span(changed));
    if (!parsed.is_ok()) continue;
    EXPECT_LE(parsed.value().nodes.size(), kExpressionNodesMax);
    static_cast<void>(Program::compile(parsed.value(), *matrix::schema()));
  }
}

}  // namespace
}  // namespace edgecore::features
