// Numbers that are the same bits on every machine: conversion of text and doubles to a declared
// grid, wide integers, and the few transcendental functions that reach a stored value. Nothing
// here calls libm, and the core is compiled with -ffp-contract=off.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/status.hpp"

namespace edgecore {

__extension__ typedef __int128 Int128;
__extension__ typedef unsigned __int128 UInt128;

struct GridValue {
  std::int64_t value = 0;  // count of 10^-scale
  bool off_grid = false;   // the input was not on the grid and has been rounded, ties to even
};

// Exact decimal conversion: the true decimal value of the input is rounded once, ties to even.
// nullopt: not a finite number, or outside i64 at this scale. A double is first taken as its
// shortest round-trip decimal (what Python's repr and a CSV file show), so text and double agree
// and 20.1 is on the decimal(1) grid.
std::optional<GridValue> grid_from_text(std::string_view text, int scale);
std::optional<GridValue> grid_from_double(double value, int scale);
// value / 10^scale, correctly rounded: the double whose shortest decimal is the grid value (when
// it has at most 15 digits).
double grid_to_double(std::int64_t value, int scale);

// Correctly specified elementary functions in doubles: +, -, *, / and table lookups in a fixed
// order. Error below 1 ulp (exp, exp2) and 2.5 ulp (tanh), measured against long double.
double exact_exp(double x);   // x clamped to [-745, 709]
double exact_exp2(double x);  // x clamped to [-1074, 1023]
double exact_tanh(double x);

}  // namespace edgecore
