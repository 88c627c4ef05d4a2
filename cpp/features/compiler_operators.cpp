// Operators of expressions: what their results are at most, and the steps that make them.
#include <numeric>

#include "features/compiler.hpp"
#include "features/finish.hpp"
#include "features/rounding.hpp"

namespace edgecore::features {

Status Compiler::binary(Act act) {
  if (act >= Act::kEqual && top(0).kind == Typed::kText && top(1).kind == Typed::kText)
    return compare_texts(act);
  if (act == Act::kMultiply) return multiply_two();
  EDGECORE_TRY(unify(2, act));
  const Typed right = top(0);
  stack_.pop_back();
  Typed& left = top();
  const auto offset = static_cast<int>(act) - static_cast<int>(Act::kEqual);
  const bool real = left.kind == Typed::kReal;
  left.constant = left.constant && right.constant;
  if (act >= Act::kEqual) {
    emit(static_cast<Code>(static_cast<int>(Code::kEqual) + offset)).real = real;
    set_truth(left);
    left.constant = false;
    return Status::ok();
  }
  emit(act == Act::kAdd        ? Code::kAdd
       : act == Act::kSubtract ? Code::kSubtract
       : act == Act::kMin      ? Code::kMin
                               : Code::kMax)
      .real = real;
  const Interval a = left.bounds;
  const Interval b = right.bounds;
  left.truth = left.truth && right.truth && (act == Act::kMin || act == Act::kMax);
  if (act == Act::kMin || act == Act::kMax) {
    const bool min = act == Act::kMin;
    left.bounds = {min ? std::min(a.low, b.low) : std::max(a.low, b.low),
                   min ? std::min(a.high, b.high) : std::max(a.high, b.high)};
    left.low = min ? std::min(left.low, right.low) : std::max(left.low, right.low);
    left.high = min ? std::min(left.high, right.high) : std::max(left.high, right.high);
    return Status::ok();
  }
  if (real) return unbounded(left);
  left.bounds = act == Act::kAdd ? Interval{a.low + b.low, a.high + b.high}
                                 : Interval{a.low - b.high, a.high - b.low};
  return in_bound(left, act);
}

Status Compiler::unbounded(Typed& value) {
  value.low = -kInfinite;
  value.high = kInfinite;
  return Status::ok();
}

Status Compiler::in_bound(const Typed& value, Act act) {
  return value.bounds.low > -kBound && value.bounds.high < kBound ? Status::ok() : too_large(act);
}

void Compiler::set_truth(Typed& value) {
  value.kind = Typed::kWhole;
  value.truth = true;
  value.over = 1;
  value.bounds = {0, 1};
}

Status Compiler::multiply_two() {
  for (std::size_t i = 0; i < 2; ++i)
    if (top(i).kind == Typed::kText) return unify(2, Act::kMultiply);
  const bool real = top(0).kind == Typed::kReal || top(1).kind == Typed::kReal;
  if (real) EDGECORE_TRY(unify(2, Act::kMultiply));
  const Typed right = top(0);
  stack_.pop_back();
  Typed& left = top();
  emit(Code::kMultiply).real = real;
  left.truth = false;
  if (real) return unbounded(left);
  const Int128 over = Int128{left.over} * right.over;
  // A constant shares factors with the other's denominator: 5/9 of tenths are eighteenths. Taken
  // before the product takes the place of the left one's bounds.
  Int128 shared = 1;
  if (left.constant || right.constant) shared = gcd(over, constant_of(left, right));
  if (!product(left.bounds, right.bounds, left.bounds)) return too_large(Act::kMultiply);
  left.constant = left.constant && right.constant;
  if (over / shared > kDenominatorMax) return too_large(Act::kMultiply);
  left.over = static_cast<std::int64_t>(over / shared);
  return shrink(left, shared);
}

// The constant's numerator, 0 for a product that is always 0.
Int128 Compiler::constant_of(const Typed& left, const Typed& right) {
  return right.constant ? right.bounds.low : left.bounds.low;
}

// Divides the top, which `factor` is known to divide.
Status Compiler::shrink(Typed& value, Int128 factor) {
  if (factor == 1) return Status::ok();
  value.bounds = {value.bounds.low / factor, value.bounds.high / factor};
  Step& step = emit(Code::kRound);  // exact: nothing is left to round
  step.whole = 1;
  step.over = factor;
  return Status::ok();
}

Status Compiler::compare_texts(Act act) {
  if (act != Act::kEqual && act != Act::kNotEqual)
    return refused("text can be compared with == and != alone");
  const Typed right = top(0);
  stack_.pop_back();
  Typed& left = top();
  Step two = std::move(made_->steps_.back());
  made_->steps_.pop_back();
  Step& one = made_->steps_.back();
  if (left.fixed && right.fixed) return refused("two constant texts are compared");
  if (left.fixed) {
    two.text = std::move(one.text);
    one = std::move(two);
  } else if (right.fixed) {
    one.text = std::move(two.text);
  } else {
    one.code = Code::kSameFields;
    one.other = two.field;
  }
  set_truth(left);
  left.fixed = false;
  if (act == Act::kEqual) return Status::ok();
  emit(Code::kConstant);
  push({});
  return binary(Act::kEqual);
}

Status Compiler::clip() {  // of the lower end last, so that it holds where they are crossed
  const Typed value = top(2), low = top(1), high = top(0);
  if (low.constant && high.constant && low.kind == Typed::kWhole && high.kind == Typed::kWhole &&
      low.bounds.low * high.over > high.bounds.low * low.over)
    return refused("clip from a higher to a lower number");
  EDGECORE_TRY(unify(3, Act::kClip));
  const Typed upper = top(0), lower = top(1), clipped = top(2);
  const bool real = upper.kind == Typed::kReal;
  stack_.resize(stack_.size() - 2);
  Typed& left = top();
  emit(Code::kClip).real = real;
  left.truth = value.truth && low.truth && high.truth;
  left.constant = false;
  left.bounds = {std::max(std::min(clipped.bounds.low, upper.bounds.low), lower.bounds.low),
                 std::max(std::min(clipped.bounds.high, upper.bounds.high), lower.bounds.high)};
  left.low = std::max(std::min(clipped.low, upper.low), lower.low);
  left.high = std::max(std::min(clipped.high, upper.high), lower.high);
  return Status::ok();
}

Status Compiler::where() {
  if (!top(2).truth)
    return refused("'where' chooses by a comparison or a bool, not by a number or a text");
  const bool truth = top(0).truth && top(1).truth;
  EDGECORE_TRY(unify(2, Act::kWhere));
  const Typed otherwise = top(0), chosen = top(1);
  stack_.resize(stack_.size() - 2);
  emit(Code::kWhere);
  Typed& out = top();
  out = chosen;
  out.truth = truth;
  out.constant = false;
  out.bounds = {std::min(chosen.bounds.low, otherwise.bounds.low),
                std::max(chosen.bounds.high, otherwise.bounds.high)};
  out.low = std::min(chosen.low, otherwise.low);
  out.high = std::max(chosen.high, otherwise.high);
  return Status::ok();
}

Status Compiler::bucket(const Node& node) {
  if (top().kind == Typed::kText) return unify(1, Act::kBucket);
  Typed& value = top();
  std::int64_t common = value.over;
  const bool real = value.kind == Typed::kReal;
  if (!real) {
    for (const Rational& edge : node.edges) {
      const Int128 next = Int128{common} / std::gcd(common, edge.denominator) * edge.denominator;
      if (next > kDenominatorMax) return too_large(Act::kBucket);
      common = static_cast<std::int64_t>(next);
    }
    EDGECORE_TRY(scale_top(0, common / value.over, Act::kBucket));
  }
  Step& step = emit(Code::kBucket);
  step.real = real;
  for (const Rational& edge : node.edges) {
    if (real)
      step.real_edges.push_back(
          ratio(edge.numerator, static_cast<UInt128>(Int128{edge.denominator})));
    else
      step.edges.push_back(Int128{edge.numerator} * (common / edge.denominator));
  }
  set_truth(value);
  value.truth = false;
  value.constant = false;
  value.bounds.high = static_cast<Int128>(node.edges.size());
  return Status::ok();
}

// To multiples of p/q: x = n/d is round(n q / (d p)) * p over q.
Status Compiler::round(const Rational& step_size) {
  if (top().kind == Typed::kText) return unify(1, Act::kRound);
  Typed& value = top();
  if (value.kind == Typed::kReal) return round_real(step_size);
  const std::int64_t shared = std::gcd(step_size.denominator, value.over);
  Int128 over = 0;
  Interval scaled;
  const Int128 factor = step_size.denominator / shared;
  if (!multiply(value.over / shared, step_size.numerator, over) ||
      !product(value.bounds, {factor, factor}, scaled))
    return too_large(Act::kRound);
  Step& step = emit(Code::kRound);
  step.whole = factor;
  step.over = over;
  return rounded({round_half_even(scaled.low, over), round_half_even(scaled.high, over)}, step_size,
                 Act::kRound);
}

Status Compiler::round_real(const Rational& step_size) {
  const double resolution =
      ratio(step_size.numerator, static_cast<UInt128>(Int128{step_size.denominator}));
  const auto low = steps_of(top().low, resolution);
  const auto high = steps_of(top().high, resolution);
  if (!low || !high)
    return refused("round() of a float needs bounds of fewer than 2^51 steps: clip() it first");
  emit(Code::kRoundReal).number = resolution;
  return rounded({*low, *high}, step_size, Act::kRound);
}

// The step that was just made gives this many steps of p/q.
Status Compiler::rounded(const Interval& steps, const Rational& size, Act act) {
  Typed& value = top();
  value.kind = Typed::kWhole;
  value.truth = value.constant = false;
  value.over = size.denominator;
  if (size.denominator > kDenominatorMax ||
      !product(steps, {size.numerator, size.numerator}, value.bounds))
    return too_large(act);
  made_->steps_.back().times = size.numerator;
  return Status::ok();
}

Status Compiler::divide(const Node& node) {
  for (std::size_t i = 0; i < 2; ++i)
    if (top(i).kind == Typed::kText) return unify(2, Act::kDivide);
  if (top(0).kind == Typed::kReal || top(1).kind == Typed::kReal) {
    EDGECORE_TRY(unify(2, Act::kDivide));
    stack_.pop_back();
    emit(Code::kDivide).real = true;
    top().truth = top().constant = false;
    EDGECORE_TRY(unbounded(top()));
    return node.number.numerator == 0 ? Status::ok() : round_real(node.number);
  }
  if (top(0).constant) return divide_by_constant(node.number);
  if (node.number.numerator == 0)
    return refused("a division needs the resolution of its result, e.g. round(a / b, 0.001)");
  return divide_whole(node.number);
}

// (a / m) / (b / n) in steps of p/q is round(a n q / (b m p)).
Status Compiler::divide_whole(const Rational& size) {
  const Typed right = top(0);
  stack_.pop_back();
  Typed& left = top();
  const Int128 up = Int128{right.over} * size.denominator;
  const Int128 down = Int128{left.over} * size.numerator;
  const Int128 shared = gcd(up, down);
  Interval over, under;
  if (!product(left.bounds, {up / shared, up / shared}, over) ||
      !product(right.bounds, {down / shared, down / shared}, under))
    return too_large(Act::kDivide);
  Step& step = emit(Code::kDivide);
  step.whole = up / shared;
  step.over = down / shared;
  left.constant = false;
  // Between the divisors nearest to and farthest from 0, of each sign, the quotient is monotone.
  Interval steps;
  for (Int128 divisor : {right.bounds.low, right.bounds.high, Int128{-1}, Int128{1}}) {
    if (divisor == 0 || divisor < right.bounds.low || divisor > right.bounds.high) continue;
    const Int128 sign = divisor < 0 ? -1 : 1;
    for (const Int128 end : {over.low, over.high}) {
      const Int128 found = round_half_even(sign * end, sign * divisor * step.over);
      steps.low = std::min(steps.low, found);
      steps.high = std::max(steps.high, found);
    }
  }
  return rounded(steps, size, Act::kDivide);
}

Status Compiler::divide_by_constant(const Rational& size) {
  Typed& divisor = top(0);  // one step, kConstant: see fold
  const Int128 number = divisor.bounds.low;
  if (number == 0) return refused("a division by the constant 0");
  const Int128 sign = number < 0 ? -1 : 1;
  const Int128 shared = gcd(number, divisor.over);
  if (sign * number / shared > kDenominatorMax) return too_large(Act::kDivide);
  const Int128 inverse = sign * divisor.over / shared;
  divisor.over = static_cast<std::int64_t>(sign * number / shared);
  divisor.bounds = {inverse, inverse};
  made_->steps_.back().whole = inverse;
  EDGECORE_TRY(multiply_two());
  return size.numerator == 0 ? Status::ok() : round(size);
}

}  // namespace edgecore::features
