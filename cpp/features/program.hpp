// An expression compiled for one schema: a straight program over exact rationals, or over doubles
// where a field has no grid.
//
// Whole numbers: every value is an integer over a denominator that is known when the program is
// made, and so are its bounds, by interval arithmetic over the fields' declared ranges; no step can
// leave 126 bits and the result fits 64. Nothing rounds but `round` and a division with a
// resolution, ties to even. Doubles: the operations as they are written, each rounded once.
//
// A null makes the result null, except where `where` does not choose it; so does a division by zero
// and a double that overflows (Cell::kUndefined, which is counted).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/exact.hpp"
#include "base/rows.hpp"
#include "features/expression.hpp"
#include "features/plan.hpp"

namespace edgecore::features {

enum class Cell : std::uint8_t { kAbsent, kValue, kOutside, kUndefined };

// Immutable; threads may share it.
class Program {
 public:
  // Incompatible: a field that the schema lacks, types that do not go together, or bounds that
  // can't be proven; the message says what to declare.
  static Result<std::shared_ptr<const Program>> compile(const Expression& expression,
                                                        const Schema& schema);

  // Grid, denominator and bounds of the result.
  void describe(SeriesPlan& series) const;
  const std::vector<std::size_t>& fields() const { return fields_; }  // of the schema

  // kOutside: a field's value beyond its declared range. `out` is the result in stored form.
  Cell run(const RowBatch& rows, std::size_t row, std::int64_t& out) const;

 private:
  friend class Compiler;
  static constexpr std::size_t kStackMax = 2 * kExpressionDepthMax + 2;

  enum class Code : std::uint8_t {
    kLoadSigned,
    kLoadUnsigned,
    kLoadSteps,  // of `real`, a float's resolution
    kLoadReal,
    kConstant,
    kSameText,    // of a field and `text`
    kSameFields,  // of a field and field `other`
    kScale,       // the value `other` below the top, by `whole`
    kToReal,      // the value `other` below the top, over `whole`
    kAdd,
    kSubtract,
    kMultiply,
    kDivide,     // round(left * whole / (right * over)) * times
    kRound,      // round(top * whole / over) * times
    kRoundReal,  // round(top / real) * times
    kMin,
    kMax,
    kClip,
    kWhere,
    kBucket,
    kEqual,
    kNotEqual,
    kLess,
    kLessEqual,
    kGreater,
    kGreaterEqual,
  };
  struct Step {
    Code code = Code::kConstant;
    bool real = false;
    std::uint16_t field = 0, other = 0;
    Int128 whole = 0, over = 1;
    std::int64_t times = 1;
    Int128 low = 0, high = 0;  // kLoad*: what a value must lie in
    double number = 0;
    std::string text;
    std::vector<Int128> edges;
    std::vector<double> real_edges;
  };
  enum class Missing : std::uint8_t { kNo, kNull, kUndefined };
  struct Value {
    Int128 whole;
    double real;
    Missing missing;
  };

  static bool load(const Step& step, const RowBatch& rows, std::size_t row, Value& to);
  static void change(const Step& step, Value& top);
  static void combine(const Step& step, Value& left, const Value& right);
  static void clip(const Step& step, Value* values);
  static void compare(const Step& step, Value& left, const Value& right);
  static void divide(const Step& step, Value& left, const Value& right);

  std::vector<Step> steps_;
  std::vector<std::size_t> fields_;
  Grid grid_ = Grid::kInteger;
  std::uint64_t denominator_ = 1;
  std::int64_t low_ = 0, high_ = 0;
};

}  // namespace edgecore::features
