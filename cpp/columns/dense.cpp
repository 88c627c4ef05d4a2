// Models of the dense coding. A stream of few different values is coded as symbols under the last
// ones; any other as the widths and leading bits of what a linear prediction left, under how wide
// the last ones were. Both sides run the same templates: a coder gives each bit back.
#include "columns/dense.hpp"

#include <bit>

#include "columns/range_code.hpp"

namespace edgecore {
namespace {

// The logistic function at odds of -12, -11.5 … 12, in 1/65536.
constexpr std::array<int, 49> kLogistic = {
    0,     1,     1,     2,     3,     5,     8,     13,    22,    36,    60,    98,    162,
    267,   439,   720,   1179,  1921,  3108,  4971,  7812,  11955, 17625, 24743, 32768, 40793,
    47911, 53581, 57724, 60565, 62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476,
    65500, 65514, 65523, 65528, 65531, 65533, 65534, 65535, 65535, 65536};

constexpr int logistic(int odds) {
  const int from = odds + 12 * 256;
  const auto at = static_cast<std::size_t>(from >> 7);
  return kLogistic[at] + (((kLogistic[at + 1] - kLogistic[at]) * (from & 127)) >> 7);
}

// The inverse at every 16th probability: the lowest odds that reach it.
struct OddsTable {
  std::array<std::int16_t, 4096> odds{};
  OddsTable() {
    int reached = -kOddsMax;
    for (int i = 0; i < 4096; ++i) {
      while (reached < kOddsMax && logistic(reached) < i * 16 + 8) ++reached;
      odds[static_cast<std::size_t>(i)] = static_cast<std::int16_t>(reached);
    }
  }
};

// A number that no model knows: its width, then its bits.
template <typename Coder>
std::uint64_t code_count(Coder& coder, std::uint64_t value) {
  const auto width =
      static_cast<unsigned>(coder.raw(static_cast<unsigned>(std::bit_width(value)), 7));
  if (width <= 1) return width;
  const unsigned below = std::min(width, 64u) - 1;
  return coder.raw(value, below) | (std::uint64_t{1} << below);
}

// Symbols of at most 8 bits under the 0 to 3 before them.
class SymbolModel {
 public:
  explicit SymbolModel(unsigned bits) : bits_(bits), slots_(kOrders << kSlotBits) {}

  template <typename Coder>
  unsigned code(Coder& coder, unsigned symbol) {
    unsigned node = 1;
    for (unsigned left = bits_; left-- > 0;) {
      std::array<Adaptive*, kOrders> contexts;
      for (unsigned order = 0; order < kOrders; ++order) contexts[order] = slot(order, node);
      node = (node << 1) | mixers_[left].code(coder, (symbol >> left) & 1, contexts);
    }
    symbol = node - (1u << bits_);
    history_ = (history_ << 8) | symbol;
    return symbol;
  }

 private:
  static constexpr unsigned kOrders = 4;
  static constexpr unsigned kSlotBits = 12;

  Adaptive* slot(unsigned order, unsigned node) {
    const std::uint32_t seen = history_ & ((1u << (8 * order)) - 1);
    const std::uint32_t mixed = (seen * 0x9e3779b1u) ^ (node * 0x85ebca6bu);
    const std::uint32_t at = order == 0 ? node : mixed >> (32 - kSlotBits);
    return &slots_[(order << kSlotBits) | at];
  }

  unsigned bits_;
  std::uint32_t history_ = 0;
  std::vector<Adaptive> slots_;
  std::array<Mixer<kOrders>, 8> mixers_;
};

// What is left of a prediction: width 0 to 64, sign, two leading bits, the rest as they are.
class ResidualModel {
 public:
  ResidualModel() : widths_(3 * kContexts * 128), leading_(65 * 4), signs_(65 * 3), mixers_(128) {}

  template <typename Coder>
  std::int64_t code(Coder& coder, std::int64_t residual) {
    const std::uint64_t size = magnitude(residual);
    const unsigned width = code_width(coder, static_cast<unsigned>(std::bit_width(size)));
    if (width == 0) return note(0, 0), 0;
    const unsigned negative =
        signs_[width * 3 + sign_].code(coder, static_cast<unsigned>(residual < 0));
    std::uint64_t out = 1;
    unsigned node = 1;
    unsigned below = width - 1;
    for (int i = 0; i < 2 && below > 0; ++i) {
      --below;
      const unsigned bit =
          leading_[width * 4 + node].code(coder, static_cast<unsigned>((size >> below) & 1));
      node = (node << 1) | bit;
      out = (out << 1) | bit;
    }
    if (below > 0) out = (out << below) | coder.raw(size, below);
    note(width, 1 + negative);
    return static_cast<std::int64_t>(negative != 0 ? ~out + 1 : out);
  }

 private:
  static constexpr unsigned kContexts = 66;

  static std::uint64_t magnitude(std::int64_t value) {
    const auto raw = static_cast<std::uint64_t>(value);
    return value < 0 ? ~raw + 1 : raw;
  }
  void note(unsigned width, unsigned sign) {
    last_[1] = last_[0];
    last_[0] = width;
    average_ = (average_ * 7 + width * 16 + 4) / 8;
    sign_ = sign;
  }
  template <typename Coder>
  unsigned code_width(Coder& coder, unsigned width) {
    const std::array<unsigned, 3> context = {0, (average_ + 8) / 16, (last_[0] + last_[1] + 1) / 2};
    unsigned node = 1;
    for (unsigned left = 7; left-- > 0;) {
      std::array<Adaptive*, 3> contexts;
      for (std::size_t i = 0; i < 3; ++i)
        contexts[i] = &widths_[(i * kContexts + context[i]) * 128 + node];
      node = (node << 1) | mixers_[node].code(coder, (width >> left) & 1, contexts);
    }
    return std::min(node - 128, 64u);
  }

  std::vector<Adaptive> widths_;
  std::vector<Adaptive> leading_;
  std::vector<Adaptive> signs_;
  std::vector<Mixer<3>> mixers_;
  std::array<unsigned, 2> last_{};
  unsigned average_ = 0;
  unsigned sign_ = 0;
};

// Predicts from the mean and the last two values: mean + (a · (last - mean) + b · (before - mean))
// / 16. Differences are modulo 2^64: the same on both sides, whatever they are.
class Predictor {
 public:
  Predictor(int a, int b) : a_(a), b_(b) {}
  std::int64_t predict() const {
    const std::int64_t bent =
        wrap_add(wrap_mul(a_, wrap_sub(last_, mean_)), wrap_mul(b_, wrap_sub(before_, mean_)));
    return wrap_add(mean_, bent >> 4);
  }
  void learn(std::int64_t value) {
    if (seen_ == 0) mean_ = last_ = value;
    if (seen_ < 48) ++seen_;
    mean_ = wrap_add(mean_, wrap_sub(value, mean_) / seen_);
    before_ = last_;
    last_ = value;
  }

 private:
  std::int64_t a_, b_;
  std::int64_t mean_ = 0, last_ = 0, before_ = 0;
  std::int64_t seen_ = 0;
};

constexpr std::array<int, 8> kFirst = {0, 5, 10, 13, 16, 21, 26, 32};
constexpr std::array<int, 4> kSecond = {-16, -8, 0, 6};

// The pair of coefficients that leaves the fewest bits, in 1/16 of a bit.
unsigned best_predictor(std::span<const std::int64_t> values) {
  unsigned best = 0;
  std::uint64_t least = ~std::uint64_t{0};
  for (unsigned choice = 0; choice < kFirst.size() * kSecond.size(); ++choice) {
    Predictor predictor(kFirst[choice / 4], kSecond[choice % 4]);
    std::uint64_t cost = 0;
    for (const std::int64_t value : values) {
      const std::uint64_t left = zigzag(wrap_sub(value, predictor.predict()));
      const auto width = static_cast<unsigned>(std::bit_width(left));
      const std::uint64_t head = width > 5 ? left >> (width - 5) : left << (5 - width);
      cost += width * 16 + (head & 15);
      predictor.learn(value);
    }
    if (cost < least) {
      least = cost;
      best = choice;
    }
  }
  return best;
}

constexpr unsigned kSymbolBitsMax = 6;

// One stream. An encoder reads `values`, a decoder fills them.
template <typename Coder>
bool code_symbols(Coder& coder, std::span<std::int64_t> multiples) {
  std::uint64_t most = 0;
  if constexpr (!Coder::kDecodes)
    for (const std::int64_t value : multiples)
      most = std::max(most, static_cast<std::uint64_t>(value));
  const auto bits =
      static_cast<unsigned>(coder.raw(static_cast<unsigned>(std::bit_width(most)), 3));
  SymbolModel model(std::max(1u, std::min(bits, 8u)));
  for (std::int64_t& value : multiples)
    value = static_cast<std::int64_t>(model.code(coder, static_cast<unsigned>(value)));
  return true;
}

template <typename Coder>
bool code_numbers(Coder& coder, std::span<std::int64_t> multiples) {
  unsigned choice = 0;
  if constexpr (!Coder::kDecodes) choice = best_predictor(multiples);
  choice = static_cast<unsigned>(coder.raw(choice, 5));
  Predictor predictor(kFirst[choice / 4], kSecond[choice % 4]);
  ResidualModel model;
  for (std::int64_t& value : multiples) {
    const std::int64_t expected = predictor.predict();
    value = wrap_add(expected, model.code(coder, wrap_sub(value, expected)));
    predictor.learn(value);
    if constexpr (Coder::kDecodes)
      if (coder.overrun()) return false;
  }
  return true;
}

template <typename Coder>
bool code_stream(Coder& coder, std::span<std::int64_t> values) {
  if (values.empty()) return true;
  std::int64_t low = values[0];
  std::uint64_t step = 0, range = 0;
  if constexpr (!Coder::kDecodes) {
    const auto [least, most] = std::minmax_element(values.begin(), values.end());
    range = static_cast<std::uint64_t>(wrap_sub(*most, *least));
    low = *least;
    step = common_step(values);
  }
  low = unzigzag(code_count(coder, zigzag(low)));
  step = code_count(coder, step);
  if (step == 0) {  // all equal
    std::fill(values.begin(), values.end(), low);
    return true;
  }
  if constexpr (!Coder::kDecodes)
    for (std::int64_t& value : values)
      value = static_cast<std::int64_t>(static_cast<std::uint64_t>(wrap_sub(value, low)) / step);
  const bool few = range / step < (1u << kSymbolBitsMax);
  const bool symbols = coder.raw(few ? 1 : 0, 1) != 0;
  if (!(symbols ? code_symbols(coder, values) : code_numbers(coder, values))) return false;
  for (std::int64_t& value : values)
    value = wrap_add(low, wrap_mul(value, static_cast<std::int64_t>(step)));
  return true;
}

class DenseSink final : public StreamSink {
 public:
  void put_count(std::uint64_t count) override { code_count(coder_, count); }
  void put_integers(std::span<const std::int64_t> values) override {
    Integers copy(values.begin(), values.end());
    code_stream(coder_, copy);
  }
  void put_bytes(ByteSpan bytes) override {
    if (bytes.empty()) return;
    SymbolModel model(8);
    for (const std::byte byte : bytes) model.code(coder_, static_cast<unsigned>(byte));
  }
  Bytes finish() override { return coder_.finish(); }

 private:
  RangeEncoder coder_;
};

class DenseSource final : public StreamSource {
 public:
  explicit DenseSource(ByteSpan bytes) : coder_(bytes) {}
  bool take_count(std::uint64_t& out) override {
    out = code_count(coder_, 0);
    return !coder_.overrun();
  }
  bool take_integers(std::span<std::int64_t> out) override {
    return code_stream(coder_, out) && !coder_.overrun();
  }
  bool take_bytes(std::size_t count, Bytes& out) override {
    if (count == 0) return true;
    SymbolModel model(8);
    for (std::size_t i = 0; i < count && !coder_.overrun(); ++i)
      out.push_back(static_cast<std::byte>(model.code(coder_, 0)));
    return !coder_.overrun();
  }
  bool at_end() const override { return coder_.at_end(); }

 private:
  RangeDecoder coder_;
};

}  // namespace

int odds_of(std::uint32_t one) {
  static const OddsTable table;
  return table.odds[one >> 4];
}

std::uint32_t one_of(int odds) {
  return static_cast<std::uint32_t>(logistic(odds));
}

std::unique_ptr<StreamSink> make_dense_sink() {
  return std::make_unique<DenseSink>();
}

std::unique_ptr<StreamSource> make_dense_source(ByteSpan bytes) {
  return std::make_unique<DenseSource>(bytes);
}

}  // namespace edgecore
