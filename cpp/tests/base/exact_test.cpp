// Grid conversion and the elementary functions against values known independently.
#include "base/exact.hpp"

#include <gtest/gtest.h>

#include <charconv>
#include <cmath>
#include <random>

namespace edgecore {
namespace {

TEST(Grid, TieGoesToTheEvenNeighbour) {
  EXPECT_EQ(grid_from_text("0.25", 1)->value, 2);
  EXPECT_EQ(grid_from_text("0.35", 1)->value, 4);
  EXPECT_EQ(grid_from_text("-0.25", 1)->value, -2);
  EXPECT_EQ(grid_from_text("0.2500000000000000000000001", 1)->value, 3);
  EXPECT_EQ(grid_from_double(0.35, 1)->value, 4);  // by its decimal, not by its binary value
  EXPECT_TRUE(grid_from_double(0.35, 1)->off_grid);
}

TEST(Grid, ValueOnTheGridIsNotCounted) {
  EXPECT_FALSE(grid_from_double(20.1, 1)->off_grid);
  EXPECT_FALSE(grid_from_text("20.1000", 1)->off_grid);
  EXPECT_EQ(grid_from_text("2.01e1", 1)->value, 201);
}

TEST(Grid, TheEndsOfTheRangeFitAndTheNextDoesNot) {
  EXPECT_EQ(grid_from_text("9223372036854775807", 0)->value, INT64_MAX);
  EXPECT_EQ(grid_from_text("-9223372036854775808", 0)->value, INT64_MIN);
  EXPECT_FALSE(grid_from_text("9223372036854775808", 0).has_value());
  EXPECT_FALSE(grid_from_text("1e999999999999999999999", 18).has_value());
  EXPECT_EQ(grid_from_text("1e-999999999999999999999", 18)->value, 0);
}

TEST(Grid, TextThatIsNoNumberIsRefused) {
  for (const char* text : {"", " ", ".", "-", "e5", "1e", "1.2.3", "nan", "inf", "0x10", "1,5"})
    EXPECT_FALSE(grid_from_text(text, 3).has_value()) << text;
}

TEST(Grid, GridValueReturnsThroughItsDouble) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 100000; ++i) {
    const auto scale = static_cast<int>(random() % 13);
    const auto value =
        static_cast<std::int64_t>(random() % 2'000'000'000'000'000) - 1'000'000'000'000'000 + 1;
    const auto back = grid_from_double(grid_to_double(value, scale), scale);
    ASSERT_TRUE(back.has_value());
    ASSERT_EQ(back->value, value) << "seed 7, scale " << scale;
    ASSERT_FALSE(back->off_grid);
  }
}

TEST(Grid, DoubleOffTheGridRoundsAsItsShortestDecimal) {
  const std::uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (int i = 0; i < 400'000; ++i) {
    const int scale = static_cast<int>(random() % 19);
    // Sizes from far below the grid to beyond it; a third next to the middle of two points.
    const double spread = std::ldexp(1.0, static_cast<int>(random() % 90) - 40);
    double value = (static_cast<double>(random() >> 11) * 0x1p-52 - 1.0) * spread;
    if (i % 3 == 0) {
      const auto point = static_cast<std::int64_t>(random() % (1u << random() % 31));
      value = (static_cast<double>(point) + 0.5) / std::pow(10.0, scale);
      if (i % 2 == 0) value = std::nextafter(value, i % 4 == 0 ? -1e300 : 1e300);
    }
    char text[40];
    *std::to_chars(text, text + sizeof text, value, std::chars_format::scientific).ptr = '\0';
    const auto expected = grid_from_text(text, scale);
    const auto found = grid_from_double(value, scale);
    ASSERT_EQ(found.has_value(), expected.has_value()) << text << " " << scale;
    if (!found) continue;
    ASSERT_EQ(found->value, expected->value) << text << " " << scale;
    ASSERT_EQ(found->off_grid, expected->off_grid) << text << " " << scale;
  }
}

// Distance in units of the last place of the long-double reference.
template <typename Reference>
double worst_ulp(double (*ours)(double), Reference reference, double low, double high) {
  std::mt19937_64 random(11);
  std::uniform_real_distribution<double> draw(low, high);
  double worst = 0;
  for (int i = 0; i < 200000; ++i) {
    const double x = draw(random);
    const long double truth = reference(static_cast<long double>(x));
    const double near = std::abs(static_cast<double>(truth));
    const double ulp = std::nextafter(near, INFINITY) - near;
    const auto error = static_cast<double>(std::abs(static_cast<long double>(ours(x)) - truth));
    worst = std::max(worst, error / ulp);
  }
  return worst;
}

TEST(ExactFunctions, ErrorIsBelowTwoUnitsInTheLastPlace) {
  const auto exp_of = [](long double x) { return std::exp(x); };
  const auto exp2_of = [](long double x) { return std::exp2(x); };
  const auto tanh_of = [](long double x) { return std::tanh(x); };
  EXPECT_LT(worst_ulp(exact_exp, exp_of, -740, 709), 2);
  EXPECT_LT(worst_ulp(exact_exp, exp_of, -1, 1), 2);
  EXPECT_LT(worst_ulp(exact_exp2, exp2_of, -1070, 1023), 2);
  EXPECT_LT(worst_ulp(exact_exp2, exp2_of, -1, 1), 2);
  EXPECT_LT(worst_ulp(exact_tanh, tanh_of, -20, 20), 2);
  EXPECT_LT(worst_ulp(exact_tanh, tanh_of, -0.05, 0.05), 2);
}

TEST(ExactFunctions, SpecialArguments) {
  EXPECT_EQ(exact_exp(0), 1);
  EXPECT_EQ(exact_exp2(10), 1024);
  EXPECT_EQ(exact_exp2(-1074), 5e-324);
  EXPECT_EQ(exact_exp2(5000), exact_exp2(1023));
  EXPECT_EQ(exact_tanh(100), 1);
  EXPECT_EQ(exact_tanh(-100), -1);
  EXPECT_TRUE(std::signbit(exact_tanh(-0.0)));
  EXPECT_NE(exact_exp(NAN), exact_exp(NAN));
}

}  // namespace
}  // namespace edgecore
