// CBOR into expressions; see expression.hpp. Only what the format has is read: definite lengths in
// their shortest form, unsigned and negative integers, text, arrays, and the two truth values.
#include "features/expression.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

namespace edgecore::features {
namespace {

struct Operator {
  std::string_view name;
  Act act;
  std::size_t operands;
};
constexpr Operator kOperators[] = {
    {"+", Act::kAdd, 2},           {"-", Act::kSubtract, 2},   {"*", Act::kMultiply, 2},
    {"/", Act::kDivide, 2},        {"min", Act::kMin, 2},      {"max", Act::kMax, 2},
    {"clip", Act::kClip, 3},       {"where", Act::kWhere, 3},  {"bucket", Act::kBucket, 1},
    {"round", Act::kRound, 1},     {"==", Act::kEqual, 2},     {"!=", Act::kNotEqual, 2},
    {"<", Act::kLess, 2},          {"<=", Act::kLessEqual, 2}, {">", Act::kGreater, 2},
    {">=", Act::kGreaterEqual, 2},
};

Status bad(const std::string& what) {
  return Status::invalid("expression: " + what);
}

// As RFC 3629 has it: shortest forms, no surrogates, nothing above U+10FFFF.
bool is_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[at + i]); };
    const std::uint8_t first = byte(0);
    const std::size_t size = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (first >= 0x80 && (first < 0xc2 || first > 0xf4)) return false;
    if (text.size() - at < size) return false;
    for (std::size_t i = 1; i < size; ++i)
      if (byte(i) >> 6 != 2) return false;
    if ((first == 0xe0 && byte(1) < 0xa0) || (first == 0xed && byte(1) > 0x9f) ||
        (first == 0xf0 && byte(1) < 0x90) || (first == 0xf4 && byte(1) > 0x8f))
      return false;
    at += size;
  }
  return true;
}

enum Major : std::uint8_t {
  kUnsigned = 0,
  kNegative = 1,
  kTextString = 3,
  kArray = 4,
  kSimple = 7
};
constexpr std::uint8_t kFalse = 20, kTrue = 21;

class Parser {
 public:
  explicit Parser(ByteSpan bytes) : in_(bytes) {}

  Result<Expression> run() {
    std::uint64_t count = 0;
    EDGECORE_TRY(expect(kArray, count));
    std::uint64_t version = 0;
    EDGECORE_TRY(expect(kUnsigned, version));
    if (version != kExpressionVersion)
      return Status::incompatible("expression: version " + std::to_string(version) +
                                  " of the language is not in this build");
    if (count != 2) return bad("a version and a tree are needed");
    EDGECORE_TRY(node(1));
    if (in_.remaining() != 0) return bad("bytes behind its end");
    if (out_.fields.empty()) return bad("it reads no field");
    return std::move(out_);
  }

 private:
  // The next item's head. Refuses lengths in a longer form than they need.
  Status head(std::uint8_t& major, std::uint64_t& value) {
    std::uint8_t first = 0;
    if (!in_.take(first)) return bad("it ends too early");
    major = static_cast<std::uint8_t>(first >> 5);
    value = first & 31u;
    if (value < 24) return Status::ok();
    if (value > 27) return bad("a length without end");
    const std::size_t bytes = std::size_t{1} << (value - 24);
    ByteSpan rest;
    if (!in_.take_bytes(bytes, rest)) return bad("it ends too early");
    value = 0;
    for (const std::byte one : rest) value = value << 8 | static_cast<std::uint64_t>(one);
    const std::uint64_t least = bytes == 1 ? 24 : std::uint64_t{1} << (bytes * 4);
    return value < least ? bad("a number in a longer form than it needs") : Status::ok();
  }

  Status expect(std::uint8_t wanted, std::uint64_t& value) {
    std::uint8_t major = 0;
    EDGECORE_TRY(head(major, value));
    return major == wanted ? Status::ok() : bad("an item of another type than it must be");
  }

  Status text(std::string& out) {
    std::uint64_t size = 0;
    EDGECORE_TRY(expect(kTextString, size));
    if (size > kExpressionTextMax)
      return bad("a text of more than " + std::to_string(kExpressionTextMax) + " bytes");
    ByteSpan bytes;
    if (!in_.take_bytes(size, bytes)) return bad("it ends too early");
    out = as_text(bytes);
    return is_utf8(out) ? Status::ok() : bad("a text that is not UTF-8");
  }

  Status integer(std::int64_t& out) {
    std::uint8_t major = 0;
    std::uint64_t value = 0;
    EDGECORE_TRY(head(major, value));
    if (major > kNegative || value > static_cast<std::uint64_t>(kI64Max))
      return bad("an integer of 64 bits is needed");
    out = static_cast<std::int64_t>(value);
    if (major == kNegative) out = -1 - out;
    return Status::ok();
  }

  Status rational(Rational& out) {
    EDGECORE_TRY(integer(out.numerator));
    EDGECORE_TRY(integer(out.denominator));
    if (out.denominator < 1 || out.numerator == std::numeric_limits<std::int64_t>::min() ||
        std::gcd(out.numerator, out.denominator) != 1)
      return bad("a number that is not a fraction in lowest terms");
    return Status::ok();
  }

  Status node(std::size_t depth) {
    if (depth > kExpressionDepthMax)
      return bad("deeper than " + std::to_string(kExpressionDepthMax) + " levels");
    std::uint8_t major = 0;
    std::uint64_t count = 0;
    EDGECORE_TRY(head(major, count));
    Node made;
    if (major == kSimple && (count == kFalse || count == kTrue)) {
      made.act = Act::kTruth;
      made.number.numerator = count == kTrue;
      return add(std::move(made));
    }
    if (major != kArray || count == 0) return bad("a node is an array that begins with its name");
    std::string name;
    EDGECORE_TRY(text(name));
    if (name == "col") return column(count);
    if (name == "num") {
      if (count != 3) return bad("num has a numerator and a denominator");
      EDGECORE_TRY(rational(made.number));
      return add(std::move(made));
    }
    if (name == "text") {
      if (count != 2) return bad("text has one text");
      made.act = Act::kText;
      EDGECORE_TRY(text(made.text));
      return add(std::move(made));
    }
    const auto* found = std::find_if(std::begin(kOperators), std::end(kOperators),
                                     [&](const Operator& one) { return one.name == name; });
    if (found == std::end(kOperators))
      return Status::incompatible("expression: operator '" + name + "' is not in this build");
    return operation(*found, count - 1, depth);
  }

  Status column(std::uint64_t count) {
    if (count != 2 && count != 3) return bad("col has a name and at most a unit");
    Node made;
    made.act = Act::kColumn;
    std::string name;
    EDGECORE_TRY(text(name));
    std::string unit;  // judged where definitions are made
    if (count == 3) EDGECORE_TRY(text(unit));
    const auto place = std::find(out_.fields.begin(), out_.fields.end(), name);
    made.field = static_cast<std::uint16_t>(place - out_.fields.begin());
    if (place == out_.fields.end()) out_.fields.push_back(std::move(name));
    return add(std::move(made));
  }

  Status operation(const Operator& op, std::uint64_t parts, std::size_t depth) {
    const bool resolved = op.act == Act::kRound || (op.act == Act::kDivide && parts != op.operands);
    const std::size_t extra = resolved ? 2 : op.act == Act::kBucket ? 1 : 0;
    if (parts != op.operands + extra)
      return bad(std::string(op.name) + " has " + std::to_string(op.operands + extra) + " parts");
    for (std::size_t i = 0; i < op.operands; ++i) EDGECORE_TRY(node(depth + 1));
    Node made;
    made.act = op.act;
    if (op.act == Act::kBucket) EDGECORE_TRY(edges(made.edges));
    if (resolved) {
      EDGECORE_TRY(rational(made.number));
      if (made.number.numerator < 1) return bad("a resolution is above 0");
    }
    return add(std::move(made));
  }

  Status edges(std::vector<Rational>& out) {
    std::uint64_t count = 0;
    EDGECORE_TRY(expect(kArray, count));
    if (count < 1 || count > kBucketEdgesMax)
      return bad("bucket has 1 to " + std::to_string(kBucketEdgesMax) + " edges");
    for (std::uint64_t i = 0; i < count; ++i) {
      std::uint64_t two = 0;
      EDGECORE_TRY(expect(kArray, two));
      if (two != 2) return bad("an edge is a numerator and a denominator");
      Rational edge;
      EDGECORE_TRY(rational(edge));
      if (!out.empty() && !is_below(out.back(), edge)) return bad("edges of a bucket ascend");
      out.push_back(edge);
    }
    return Status::ok();
  }

  static bool is_below(const Rational& a, const Rational& b) {
    return Int128{a.numerator} * b.denominator < Int128{b.numerator} * a.denominator;
  }

  Status add(Node made) {
    if (out_.nodes.size() == kExpressionNodesMax)
      return bad("more than " + std::to_string(kExpressionNodesMax) + " nodes");
    out_.nodes.push_back(std::move(made));
    return Status::ok();
  }

  static constexpr std::int64_t kI64Max = std::numeric_limits<std::int64_t>::max();
  ByteReader in_;
  Expression out_;
};

}  // namespace

const char* act_text(Act act) {
  for (const Operator& one : kOperators)
    if (one.act == act) return one.name.data();
  return "a field or constant";
}

Result<Expression> parse_expression(ByteSpan bytes) {
  if (bytes.size() > kExpressionBytesMax)
    return bad(std::to_string(bytes.size()) + " bytes, at most " +
               std::to_string(kExpressionBytesMax));
  return Parser(bytes).run();
}

}  // namespace edgecore::features
