// Types and bounds of an expression over a schema, and the program they allow; see program.hpp.
#include "features/compiler.hpp"

#include <bit>
#include <numeric>

#include "features/finish.hpp"
#include "features/grids.hpp"

namespace edgecore::features {

Result<std::shared_ptr<const Program>> Compiler::run() {
  for (const std::string& name : expression_.fields) {
    const int field = schema_.find(name);
    if (field < 0) return refused("stream '" + schema_.stream + "' has no field '" + name + "'");
    made_->fields_.push_back(static_cast<std::size_t>(field));
  }
  for (const Node& node : expression_.nodes) {
    EDGECORE_TRY(compile(node));
    fold();
    if (stack_.size() > Program::kStackMax) return refused("it holds too many values at once");
  }
  EDGECORE_TRY(finish());
  return std::shared_ptr<const Program>(made_);
}

Status Compiler::compile(const Node& node) {
  switch (node.act) {
    case Act::kColumn:
      return column(node);
    case Act::kNumber:
    case Act::kTruth:
      return constant(node);
    case Act::kText: {
      emit(Code::kSameText).text = node.text;
      Typed typed;
      typed.kind = Typed::kText;
      push(typed);
      top().fixed = true;
      return Status::ok();
    }
    case Act::kWhere:
      return where();
    case Act::kClip:
      return clip();
    case Act::kBucket:
      return bucket(node);
    case Act::kRound:
      return round(node.number);
    case Act::kDivide:
      return divide(node);
    default:
      return binary(node.act);
  }
}

Status Compiler::constant(const Node& node) {
  Step& step = emit(Code::kConstant);
  step.whole = node.number.numerator;
  Typed typed;
  typed.truth = node.act == Act::kTruth;
  typed.constant = true;
  typed.over = node.number.denominator;
  typed.bounds = {node.number.numerator, node.number.numerator};
  push(typed);
  return Status::ok();
}

Status Compiler::column(const Node& node) {
  const std::size_t at = made_->fields_[node.field];
  const Field& field = schema_.fields[at];
  if (field.dtype == DType::kBytes) return refused("field '" + field.name + "' is bytes");
  Typed typed;
  if (is_variable(field.dtype)) {
    typed.kind = Typed::kText;
    emit(Code::kSameText).field = static_cast<std::uint16_t>(at);
    push(typed);
    return Status::ok();
  }
  SeriesPlan series;
  EDGECORE_TRY(set_grid(field, series));
  if (series.grid == Grid::kFloat) {
    emit(Code::kLoadReal).field = static_cast<std::uint16_t>(at);
    typed.kind = Typed::kReal;
    if (field.range_min) typed.low = std::bit_cast<double>(*field.range_min);
    if (field.range_max) typed.high = std::bit_cast<double>(*field.range_max);
    push(typed);
    return Status::ok();
  }
  typed.truth = field.dtype == DType::kBool;
  typed.bounds = {series.low, series.high};
  Code code = Code::kLoadSigned;
  if (series.grid == Grid::kUnsigned) {
    code = Code::kLoadUnsigned;
    constexpr Int128 kHalf = Int128{1} << 63;
    typed.bounds = {series.low + kHalf, series.high + kHalf};
  } else if (series.resolution > 0) {
    code = Code::kLoadSteps;
  }
  Step& step = emit(code);
  step.field = static_cast<std::uint16_t>(at);
  step.number = series.resolution;
  step.low = typed.bounds.low;
  step.high = typed.bounds.high;
  typed.over = static_cast<std::int64_t>(series.denominator);
  push(typed);
  return series.unit == 1 ? Status::ok() : decimal_unit(field, series.unit);
}

// A step that divides no whole number is taken as the decimal that was written.
Status Compiler::decimal_unit(const Field& field, double unit) {
  const auto decimal = decimal_of(unit);
  if (!decimal)
    return refused("the resolution of field '" + field.name + "' is no decimal that is exact here");
  const std::int64_t common = std::gcd(decimal->value, decimal->power);
  top().over = decimal->power / common;
  return scale_top(0, decimal->value / common, Act::kColumn);
}

Status Compiler::scale_top(std::size_t below, Int128 factor, Act act) {
  if (factor == 1) return Status::ok();
  if (!product(top(below).bounds, {factor, factor}, top(below).bounds)) return too_large(act);
  Step& step = emit(Code::kScale);
  step.other = static_cast<std::uint16_t>(below);
  step.whole = factor;
  return Status::ok();
}

void Compiler::make_real(std::size_t below) {
  Typed& typed = top(below);
  if (typed.kind == Typed::kReal) return;
  const auto over = static_cast<UInt128>(typed.over);
  Step& step = emit(Code::kToReal);
  step.other = static_cast<std::uint16_t>(below);
  step.whole = typed.over;
  typed.kind = Typed::kReal;
  typed.low = ratio(typed.bounds.low, over);
  typed.high = ratio(typed.bounds.high, over);
}

// The `count` topmost numbers: all doubles, or whole numbers over one denominator.
Status Compiler::unify(std::size_t count, Act act) {
  bool real = false;
  for (std::size_t i = 0; i < count; ++i) {
    if (top(i).kind == Typed::kText)
      return refused(std::string("'") + act_text(act) +
                     "' takes numbers; text can be compared "
                     "with == and != alone, with text");
    real = real || top(i).kind == Typed::kReal;
  }
  if (real) {
    for (std::size_t i = 0; i < count; ++i) make_real(i);
    return Status::ok();
  }
  std::int64_t common = 1;
  for (std::size_t i = 0; i < count; ++i) {
    const Int128 next = Int128{common} / std::gcd(common, top(i).over) * top(i).over;
    if (next > kDenominatorMax) return too_large(act);
    common = static_cast<std::int64_t>(next);
  }
  for (std::size_t i = 0; i < count; ++i) {
    EDGECORE_TRY(scale_top(i, common / top(i).over, act));
    top(i).over = common;
  }
  return Status::ok();
}

// Operators of constants are a constant: one step.
void Compiler::fold() {
  if (!top().constant) return;
  made_->steps_.resize(top().begin);
  emit(Code::kConstant).whole = top().bounds.low;
}

Status Compiler::finish() {
  const Typed& result = top();
  if (result.kind == Typed::kText) return refused("it gives a text; a feature needs a number");
  if (result.kind == Typed::kReal) {
    constexpr double kMax = std::numeric_limits<double>::max();
    made_->grid_ = Grid::kFloat;
    made_->low_ = float_key(-kMax);
    made_->high_ = float_key(kMax);
    return Status::ok();
  }
  constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
  if (result.bounds.low < -kMax || result.bounds.high > kMax)
    return refused("its result may be beyond 2^63 steps of 1/" + std::to_string(result.over) +
                   "; declare a narrower range= of its fields, or round() it");
  made_->denominator_ = static_cast<std::uint64_t>(result.over);
  made_->low_ = static_cast<std::int64_t>(result.bounds.low);
  made_->high_ = static_cast<std::int64_t>(result.bounds.high);
  return Status::ok();
}

Result<std::shared_ptr<const Program>> Program::compile(const Expression& expression,
                                                        const Schema& schema) {
  return Compiler(expression, schema).run();
}

}  // namespace edgecore::features
