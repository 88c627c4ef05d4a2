// What makes a program of an expression; seen by compiler.cpp and compiler_operators.cpp only.
#pragma once

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "features/program.hpp"

namespace edgecore::features {

inline constexpr Int128 kBound = Int128{1} << 126;  // every value of a program is below it
inline constexpr std::int64_t kDenominatorMax = std::int64_t{1} << 62;
inline constexpr double kInfinite = std::numeric_limits<double>::infinity();

inline Status refused(const std::string& what) {
  return Status::incompatible("expression: " + what);
}
inline Status too_large(Act act) {
  return refused(std::string("'") + act_text(act) +
                 "' may be larger than what is exact; declare a narrower range= of its fields, or "
                 "round() to a coarser resolution");
}

// False beyond kBound.
inline bool multiply(Int128 a, Int128 b, Int128& out) {
  return !__builtin_mul_overflow(a, b, &out) && out < kBound && out > -kBound;
}

inline Int128 gcd(Int128 a, Int128 b) {
  while (b != 0) {
    const Int128 rest = a % b;
    a = b;
    b = rest;
  }
  return a < 0 ? -a : a;
}

// Bounds of whole numbers.
struct Interval {
  Int128 low = 0, high = 0;
};

// Of all products of one of each; false beyond kBound.
inline bool product(const Interval& a, const Interval& b, Interval& out) {
  Int128 corners[4];
  if (!multiply(a.low, b.low, corners[0]) || !multiply(a.low, b.high, corners[1]) ||
      !multiply(a.high, b.low, corners[2]) || !multiply(a.high, b.high, corners[3]))
    return false;
  const auto [low, high] = std::minmax_element(std::begin(corners), std::end(corners));
  out = {*low, *high};
  return true;
}

// What a place of the stack holds.
struct Typed {
  enum Kind : std::uint8_t { kWhole, kReal, kText } kind = kWhole;
  bool truth = false;                         // whole, 0 or 1: a comparison or a bool
  bool constant = false;                      // a number: its bounds are its value
  bool fixed = false;                         // a text: not of a field
  std::int64_t over = 1;                      // whole: the denominator
  Interval bounds;                            // whole
  double low = -kInfinite, high = kInfinite;  // real
  std::size_t begin = 0;                      // of its steps
};

// Walks the nodes with a stack of types and bounds, as the program will with values.
class Compiler {
 public:
  Compiler(const Expression& expression, const Schema& schema)
      : expression_(expression), schema_(schema), made_(std::make_shared<Program>()) {}

  Result<std::shared_ptr<const Program>> run();

 private:
  using Code = Program::Code;
  using Step = Program::Step;

  Step& emit(Code code) {
    made_->steps_.emplace_back();
    made_->steps_.back().code = code;
    return made_->steps_.back();
  }
  void push(Typed typed) {  // what the last step gives
    typed.begin = made_->steps_.size() - 1;
    stack_.push_back(typed);
  }
  Typed& top(std::size_t below = 0) { return stack_[stack_.size() - 1 - below]; }
  Status compile(const Node& node);
  Status constant(const Node& node);
  Status column(const Node& node);
  Status decimal_unit(const Field& field, double unit);
  Status scale_top(std::size_t below, Int128 factor, Act act);
  void make_real(std::size_t below);
  Status unify(std::size_t count, Act act);
  Status binary(Act act);
  static Status unbounded(Typed& value);
  static Status in_bound(const Typed& value, Act act);
  static void set_truth(Typed& value);
  Status multiply_two();
  static Int128 constant_of(const Typed& left, const Typed& right);
  Status shrink(Typed& value, Int128 factor);
  Status compare_texts(Act act);
  Status clip();
  Status where();
  Status bucket(const Node& node);
  Status round(const Rational& step_size);
  Status round_real(const Rational& step_size);
  Status rounded(const Interval& steps, const Rational& size, Act act);
  Status divide(const Node& node);
  Status divide_whole(const Rational& size);
  Status divide_by_constant(const Rational& size);
  void fold();
  Status finish();

  const Expression& expression_;
  const Schema& schema_;
  std::shared_ptr<Program> made_;
  std::vector<Typed> stack_;
};

}  // namespace edgecore::features
