// Running a program over one row; it is made in compiler.cpp.
#include "features/program.hpp"

#include <algorithm>
#include <bit>

#include "features/finish.hpp"
#include "features/rounding.hpp"

namespace edgecore::features {

void Program::describe(SeriesPlan& series) const {
  series.grid = grid_;
  series.denominator = denominator_;
  series.low = low_;
  series.high = high_;
  series.declared = true;
}

// False: outside of what the bounds were proven from.
bool Program::load(const Step& step, const RowBatch& rows, std::size_t row, Value& to) {
  to.missing = rows.present(row, step.field) ? Missing::kNo : Missing::kNull;
  if (to.missing != Missing::kNo) return true;
  switch (step.code) {
    case Code::kLoadSigned:
      to.whole = rows.i64(row, step.field);
      break;
    case Code::kLoadUnsigned:
      to.whole = static_cast<Int128>(rows.cell(row, step.field));
      break;
    case Code::kLoadSteps: {
      const auto steps = steps_of(rows.f64(row, step.field), step.number);
      if (!steps) return false;
      to.whole = *steps;
      break;
    }
    case Code::kLoadReal:
      to.real = rows.f64(row, step.field);
      if (!is_finite(to.real)) to.missing = Missing::kNull;
      return true;
    case Code::kSameText:
      to.whole = rows.text(row, step.field) == step.text;
      return true;
    default:  // kSameFields
      if (!rows.present(row, step.other))
        to.missing = Missing::kNull;
      else
        to.whole = rows.text(row, step.field) == rows.text(row, step.other);
      return true;
  }
  return to.whole >= step.low && to.whole <= step.high;
}

// Operators of one value.
void Program::change(const Step& step, Value& top) {
  switch (step.code) {
    case Code::kScale:
      top.whole *= step.whole;
      break;
    case Code::kToReal:
      top.real = ratio(top.whole, static_cast<UInt128>(step.whole));
      break;
    case Code::kRound:
      top.whole = round_half_even(top.whole * step.whole, step.over) * step.times;
      break;
    case Code::kRoundReal:
      // The bounds of the value are proven to hold fewer steps than steps_of takes.
      top.whole = Int128{steps_of(top.real, step.number).value_or(0)} * step.times;
      break;
    default: {  // kBucket
      std::size_t at = 0;
      if (step.real)
        while (at < step.real_edges.size() && step.real_edges[at] <= top.real) ++at;
      else
        while (at < step.edges.size() && step.edges[at] <= top.whole) ++at;
      top.whole = static_cast<Int128>(at);
    }
  }
}

void Program::divide(const Step& step, Value& left, const Value& right) {
  if (step.real ? right.real == 0 : right.whole == 0) {
    left.missing = Missing::kUndefined;
  } else if (step.real) {
    left.real = left.real / right.real;
  } else {
    const Int128 sign = right.whole < 0 ? -1 : 1;
    left.whole = round_half_even(sign * left.whole * step.whole, sign * right.whole * step.over) *
                 step.times;
  }
}

void Program::compare(const Step& step, Value& left, const Value& right) {
  const bool below = step.real ? left.real < right.real : left.whole < right.whole;
  const bool above = step.real ? left.real > right.real : left.whole > right.whole;
  switch (step.code) {
    case Code::kEqual:
      left.whole = !below && !above;
      break;
    case Code::kNotEqual:
      left.whole = below || above;
      break;
    case Code::kLess:
      left.whole = below;
      break;
    case Code::kLessEqual:
      left.whole = !above;
      break;
    case Code::kGreater:
      left.whole = above;
      break;
    default:
      left.whole = !below;
  }
}

// Operators of two values; the result takes the place of the left one.
void Program::combine(const Step& step, Value& left, const Value& right) {
  left.missing = std::max(left.missing, right.missing);
  if (left.missing != Missing::kNo) return;
  switch (step.code) {
    case Code::kAdd:
      if (step.real)
        left.real = left.real + right.real;
      else
        left.whole += right.whole;
      break;
    case Code::kSubtract:
      if (step.real)
        left.real = left.real - right.real;
      else
        left.whole -= right.whole;
      break;
    case Code::kMultiply:
      if (step.real)
        left.real = left.real * right.real;
      else
        left.whole *= right.whole;
      break;
    case Code::kDivide:
      divide(step, left, right);
      break;
    case Code::kMin:
      if (step.real ? right.real < left.real : right.whole < left.whole) left = right;
      return;
    case Code::kMax:
      if (step.real ? right.real > left.real : right.whole > left.whole) left = right;
      return;
    default:
      compare(step, left, right);
      return;
  }
  if (step.real && left.missing == Missing::kNo && !is_finite(left.real))
    left.missing = Missing::kUndefined;
}

// Of a value, the lower and the upper end; the lower end holds where they are crossed.
void Program::clip(const Step& step, Value* values) {
  Value& value = values[0];
  const Value& low = values[1];
  const Value& high = values[2];
  value.missing = std::max({value.missing, low.missing, high.missing});
  if (value.missing != Missing::kNo) return;
  if (step.real) {
    value.real = std::max(std::min(value.real, high.real), low.real);
  } else {
    value.whole = std::max(std::min(value.whole, high.whole), low.whole);
  }
}

Cell Program::run(const RowBatch& rows, std::size_t row, std::int64_t& out) const {
  Value stack[kStackMax];
  Value* top = stack;  // one beyond the last value
  for (const Step& step : steps_) {
    switch (step.code) {
      case Code::kLoadSigned:
      case Code::kLoadUnsigned:
      case Code::kLoadSteps:
      case Code::kLoadReal:
      case Code::kSameText:
      case Code::kSameFields:
        if (!load(step, rows, row, *top)) return Cell::kOutside;
        ++top;
        break;
      case Code::kConstant:
        *top++ = {step.whole, step.number, Missing::kNo};
        break;
      case Code::kScale:
      case Code::kToReal:
      case Code::kRound:
      case Code::kRoundReal:
      case Code::kBucket:
        if (Value& value = top[-1 - step.other]; value.missing == Missing::kNo) change(step, value);
        break;
      case Code::kWhere: {
        top -= 2;
        Value& condition = top[-1];
        if (condition.missing == Missing::kNo) condition = condition.whole != 0 ? top[0] : top[1];
        break;
      }
      case Code::kClip:
        top -= 2;
        clip(step, top - 1);
        break;
      default:
        --top;
        combine(step, top[-1], top[0]);
    }
  }
  const Value& result = stack[0];
  if (result.missing != Missing::kNo)
    return result.missing == Missing::kNull ? Cell::kAbsent : Cell::kUndefined;
  out = grid_ == Grid::kFloat ? float_key(result.real) : static_cast<std::int64_t>(result.whole);
  return Cell::kValue;
}

}  // namespace edgecore::features
