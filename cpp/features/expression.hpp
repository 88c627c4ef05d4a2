// Expressions over the fields of one row, as data: what a feature may read in a field's place
// (docs/formats/feature-definition.md). Read here from CBOR into a flat list of nodes, every bound
// checked before memory is taken; typed and compiled against a schema in program.hpp.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "base/exact.hpp"
#include "base/status.hpp"

namespace edgecore::features {

inline constexpr std::uint64_t kExpressionVersion = 1;
inline constexpr std::size_t kExpressionBytesMax = 16u << 10;
inline constexpr std::size_t kExpressionNodesMax = 256;
inline constexpr std::size_t kExpressionDepthMax = 32;
inline constexpr std::size_t kExpressionTextMax = 255;  // bytes of a name or text
inline constexpr std::size_t kBucketEdgesMax = 64;

enum class Act : std::uint8_t {
  kColumn,
  kNumber,
  kText,
  kTruth,
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kMin,
  kMax,
  kClip,
  kWhere,
  kBucket,
  kRound,
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
};

// In lowest terms, the denominator above 0.
struct Rational {
  std::int64_t numerator = 0;
  std::int64_t denominator = 1;
};

struct Node {
  Act act = Act::kNumber;
  std::uint16_t field = 0;  // kColumn: index of Expression::fields
  Rational number;          // kNumber; kTruth: 0 or 1; kRound, kDivide: the resolution, 0 = none
  std::string text;         // kText
  std::vector<Rational> edges;  // kBucket, ascending
};

// How an operator is written.
const char* act_text(Act act);

struct Expression {
  std::vector<Node> nodes;          // postfix: operands before their operator
  std::vector<std::string> fields;  // in the order of their first use, at least one
};

// Invalid: no expression, or beyond a limit. Incompatible: an operator or a version of the language
// that this build lacks.
Result<Expression> parse_expression(ByteSpan bytes);

}  // namespace edgecore::features
