// The fast coding: a stream is an operation and its inner streams, down to bit-packed frames. The
// writer tries the operations that can pay and keeps the smallest.
#include "columns/stream.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <numeric>
#include <utility>

#include "base/exact.hpp"
#include "columns/dense.hpp"

namespace edgecore {
namespace {

enum Operation : std::uint8_t {
  kConstant = 0,  // value
  kPacked = 1,    // frames of 2^shift values: base, width, bits
  kDelta = 2,     // first value, stream of differences
  kRuns = 3,      // number of runs, stream of values, stream of lengths
  kSparse = 4,    // usual value, number of others, stream of gaps, stream of values
  kScaled = 5,    // base, step, stream of multiples
};
constexpr int kDepthMax = 8;
constexpr int kShiftMin = 4;
constexpr int kShiftMax = 16;
// How deep the writer looks: differences of differences, and no operation below a part of one.
constexpr int kDeltasMax = 2;
constexpr std::size_t kScaledMin = 8;

void put_signed(Bytes& out, std::int64_t value) {
  put_varint(out, zigzag(value));
}

[[nodiscard]] bool take_signed(ByteReader& reader, std::int64_t& out) {
  std::uint64_t raw = 0;
  if (!take_varint(reader, raw)) return false;
  out = unzigzag(raw);
  return true;
}

constexpr std::uint64_t mask_of(unsigned width) {
  return width == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << width) - 1;
}

// ---------------------------------------------------------------- frames

void pack(std::span<const std::int64_t> values, std::int64_t base, unsigned width, Bytes& out) {
  const std::size_t start = out.size();
  out.resize(start + (values.size() * width + 7) / 8);
  std::byte* at = out.data() + start;
  UInt128 held = 0;
  unsigned bits = 0;
  for (const std::int64_t value : values) {
    held |= static_cast<UInt128>(static_cast<std::uint64_t>(wrap_sub(value, base))) << bits;
    for (bits += width; bits >= 8; bits -= 8, held >>= 8) *at++ = static_cast<std::byte>(held);
  }
  if (bits > 0) *at = static_cast<std::byte>(held);
}

// Value `index` of those that are packed from here on.
inline std::uint64_t packed_at(const std::byte* from, std::size_t index, unsigned width) {
  const std::size_t bit = index * width;
  const std::byte* at = from + (bit >> 3);
  const unsigned shift = bit & 7;
  std::uint64_t raw = load_le<std::uint64_t>(at) >> shift;
  if (width > 57) raw |= static_cast<std::uint64_t>(at[8]) << 1 << (63 - shift);
  return raw & mask_of(width);
}

// Eight values end on a byte; with the width known, each is a load, a shift and a mask.
template <std::size_t kWidth, std::size_t... kIndex>
void unpack_eight(const std::byte* from, std::int64_t base, std::int64_t* out,
                  std::index_sequence<kIndex...> /*unused*/) {
  ((out[kIndex] = wrap_add(base, static_cast<std::int64_t>(packed_at(from, kIndex, kWidth)))), ...);
}

template <std::size_t kWidth>
void unpack_width(const std::byte* from, std::int64_t base, std::span<std::int64_t> out) {
  std::size_t i = 0;
  for (; i + 8 <= out.size(); i += 8, from += kWidth)
    unpack_eight<kWidth>(from, base, &out[i], std::make_index_sequence<8>());
  for (std::size_t left = 0; i < out.size(); ++i, ++left)
    out[i] = wrap_add(base, static_cast<std::int64_t>(packed_at(from, left, kWidth)));
}

using Unpack = void (*)(const std::byte*, std::int64_t, std::span<std::int64_t>);
constexpr auto kUnpack = []<std::size_t... kWidth>(std::index_sequence<kWidth...>) {
  return std::array<Unpack, sizeof...(kWidth)>{&unpack_width<kWidth>...};
}(std::make_index_sequence<65>());

void put_packed(std::span<const std::int64_t> values, int shift, Bytes& out) {
  out.push_back(std::byte{kPacked});
  out.push_back(static_cast<std::byte>(shift));
  std::int64_t previous = 0;
  const std::size_t frame = std::size_t{1} << shift;
  for (std::size_t at = 0; at < values.size(); at += frame) {
    const auto part = values.subspan(at, std::min(frame, values.size() - at));
    const auto [low, high] = std::minmax_element(part.begin(), part.end());
    const auto range = static_cast<std::uint64_t>(wrap_sub(*high, *low));
    const auto width = static_cast<unsigned>(std::bit_width(range));
    put_signed(out, wrap_sub(*low, previous));
    out.push_back(static_cast<std::byte>(width));
    pack(part, *low, width, out);
    previous = *low;
  }
}

[[nodiscard]] bool take_packed(ByteReader& reader, std::span<std::int64_t> out) {
  std::uint8_t shift = 0;
  if (!reader.take(shift) || shift < kShiftMin || shift > kShiftMax) return false;
  std::int64_t base = 0;
  Bytes tail;
  const std::size_t frame = std::size_t{1} << shift;
  for (std::size_t at = 0; at < out.size(); at += frame) {
    const auto part = out.subspan(at, std::min(frame, out.size() - at));
    std::int64_t step = 0;
    std::uint8_t width = 0;
    if (!take_signed(reader, step) || !reader.take(width) || width > 64) return false;
    base = wrap_add(base, step);
    const std::size_t size = (part.size() * width + 7) / 8;
    const bool padded = reader.remaining() >= size + 9;
    ByteSpan bits;
    if (!reader.take_bytes(size, bits)) return false;
    if (!padded) {  // the last frames of a column: no load may pass its end
      tail.assign(bits.begin(), bits.end());
      tail.resize(size + 9);
      bits = tail;
    }
    kUnpack[width](bits.data(), base, part);
  }
  return true;
}

// ---------------------------------------------------------------- operations

Bytes write_stream(std::span<const std::int64_t> values, int deltas, bool parts);

void append(Bytes& out, const Bytes& part) {
  out.insert(out.end(), part.begin(), part.end());
}

void keep_smaller(Bytes& best, Bytes&& other) {
  if (other.size() < best.size()) best = std::move(other);
}

Bytes write_delta(std::span<const std::int64_t> values, int deltas, bool parts) {
  Integers differences(values.size() - 1);
  for (std::size_t i = 0; i < differences.size(); ++i)
    differences[i] = wrap_sub(values[i + 1], values[i]);
  Bytes out{std::byte{kDelta}};
  put_signed(out, values[0]);
  append(out, write_stream(differences, deltas + 1, parts));
  return out;
}

Bytes write_runs(std::span<const std::int64_t> values) {
  Integers heads, lengths;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i > 0 && values[i] == values[i - 1]) {
      ++lengths.back();
    } else {
      heads.push_back(values[i]);
      lengths.push_back(1);
    }
  }
  Bytes out{std::byte{kRuns}};
  put_varint(out, heads.size());
  append(out, write_stream(heads, kDeltasMax, false));
  append(out, write_stream(lengths, kDeltasMax, false));
  return out;
}

Bytes write_sparse(std::span<const std::int64_t> values, std::int64_t usual) {
  Integers gaps, others;
  std::size_t next = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i] == usual) continue;
    gaps.push_back(static_cast<std::int64_t>(i - next));
    others.push_back(values[i]);
    next = i + 1;
  }
  Bytes out{std::byte{kSparse}};
  put_signed(out, usual);
  put_varint(out, gaps.size());
  append(out, write_stream(gaps, kDeltasMax, false));
  append(out, write_stream(others, kDeltasMax, false));
  return out;
}

Bytes write_scaled(std::span<const std::int64_t> values, std::uint64_t step) {
  Integers multiples(values.size());
  for (std::size_t i = 0; i < values.size(); ++i)
    multiples[i] = (values[i] - values[0]) / static_cast<std::int64_t>(step);
  Bytes out{std::byte{kScaled}};
  put_signed(out, values[0]);
  put_varint(out, step);
  append(out, write_stream(multiples, 0, true));
  return out;
}

// The value that most of them have, if there is one (Boyer and Moore's majority vote).
std::int64_t likely_majority(std::span<const std::int64_t> values) {
  std::int64_t held = values[0];
  std::size_t votes = 0;
  for (const std::int64_t value : values) {
    if (votes == 0) held = value;
    if (value == held)
      ++votes;
    else
      --votes;
  }
  return held;
}

// `deltas` differences are taken already; `parts`: runs and sparse may be tried.
Bytes write_stream(std::span<const std::int64_t> values, int deltas, bool parts) {
  if (values.empty()) return {};
  const std::size_t count = values.size();
  const auto first = values[0];
  if (std::all_of(values.begin(), values.end(), [&](auto v) { return v == first; })) {
    Bytes out{std::byte{kConstant}};
    put_signed(out, first);
    return out;
  }
  if (deltas == 0 && count >= kScaledMin) {
    const std::uint64_t step = common_step(values);
    if (step > 1) return write_scaled(values, step);
  }
  Bytes best;
  put_packed(values, 7, best);
  if (count > 128) {
    Bytes whole;
    put_packed(values, kShiftMax, whole);
    keep_smaller(best, std::move(whole));
  }
  if (deltas < kDeltasMax) keep_smaller(best, write_delta(values, deltas, parts));
  if (!parts) return best;
  std::size_t runs = 1;
  for (std::size_t i = 1; i < count; ++i) runs += values[i] != values[i - 1];
  if (runs <= count / 3) keep_smaller(best, write_runs(values));
  const std::int64_t usual = likely_majority(values);
  const auto usuals = std::count(values.begin(), values.end(), usual);
  if (static_cast<std::size_t>(usuals) >= count / 2)
    keep_smaller(best, write_sparse(values, usual));
  return best;
}

[[nodiscard]] bool read_stream(ByteReader& reader, std::span<std::int64_t> out, int depth);

[[nodiscard]] bool take_delta(ByteReader& reader, std::span<std::int64_t> out, int depth) {
  if (!take_signed(reader, out[0]) || !read_stream(reader, out.subspan(1), depth)) return false;
  std::int64_t sum = out[0];
  for (std::size_t i = 1; i < out.size(); ++i) out[i] = sum = wrap_add(sum, out[i]);
  return true;
}

// Two inner streams of `count` integers.
[[nodiscard]] bool take_pair(ByteReader& reader, std::size_t most, int depth, Integers& left,
                             Integers& right) {
  std::uint64_t count = 0;
  if (!take_varint(reader, count) || count > most) return false;
  left.resize(count);
  right.resize(count);
  return read_stream(reader, left, depth) && read_stream(reader, right, depth);
}

[[nodiscard]] bool take_runs(ByteReader& reader, std::span<std::int64_t> out, int depth) {
  Integers heads, lengths;
  if (!take_pair(reader, out.size(), depth, heads, lengths)) return false;
  std::size_t at = 0;
  for (std::size_t i = 0; i < heads.size(); ++i) {
    const auto length = static_cast<std::uint64_t>(lengths[i]);
    if (length == 0 || length > out.size() - at) return false;
    std::fill_n(out.data() + at, length, heads[i]);
    at += length;
  }
  return at == out.size();
}

[[nodiscard]] bool take_sparse(ByteReader& reader, std::span<std::int64_t> out, int depth) {
  std::int64_t usual = 0;
  Integers gaps, others;
  if (!take_signed(reader, usual) || !take_pair(reader, out.size(), depth, gaps, others))
    return false;
  std::fill(out.begin(), out.end(), usual);
  std::size_t next = 0;
  for (std::size_t i = 0; i < gaps.size(); ++i) {
    const auto gap = static_cast<std::uint64_t>(gaps[i]);
    if (gap >= out.size() - next) return false;
    out[next + gap] = others[i];
    next += gap + 1;
  }
  return true;
}

[[nodiscard]] bool take_scaled(ByteReader& reader, std::span<std::int64_t> out, int depth) {
  std::int64_t base = 0;
  std::uint64_t step = 0;
  if (!take_signed(reader, base) || !take_varint(reader, step)) return false;
  if (!read_stream(reader, out, depth)) return false;
  for (std::int64_t& value : out)
    value = wrap_add(base, wrap_mul(value, static_cast<std::int64_t>(step)));
  return true;
}

bool read_stream(ByteReader& reader, std::span<std::int64_t> out, int depth) {
  if (out.empty()) return true;
  std::uint8_t operation = 0;
  if (depth >= kDepthMax || !reader.take(operation)) return false;
  switch (operation) {
    case kConstant: {
      std::int64_t value = 0;
      if (!take_signed(reader, value)) return false;
      std::fill(out.begin(), out.end(), value);
      return true;
    }
    case kPacked:
      return take_packed(reader, out);
    case kDelta:
      return take_delta(reader, out, depth + 1);
    case kRuns:
      return take_runs(reader, out, depth + 1);
    case kSparse:
      return take_sparse(reader, out, depth + 1);
    case kScaled:
      return take_scaled(reader, out, depth + 1);
    default:
      return false;
  }
}

class FastSink final : public StreamSink {
 public:
  void put_count(std::uint64_t count) override { put_varint(out_, count); }
  void put_integers(std::span<const std::int64_t> values) override {
    append(out_, write_stream(values, 0, true));
  }
  void put_bytes(ByteSpan bytes) override { out_.insert(out_.end(), bytes.begin(), bytes.end()); }
  Bytes finish() override { return std::move(out_); }

 private:
  Bytes out_;
};

class FastSource final : public StreamSource {
 public:
  explicit FastSource(ByteSpan bytes) : reader_(bytes) {}
  bool take_count(std::uint64_t& out) override { return take_varint(reader_, out); }
  bool take_integers(std::span<std::int64_t> out) override { return read_stream(reader_, out, 0); }
  bool take_bytes(std::size_t count, Bytes& out) override {
    ByteSpan bytes;
    if (!reader_.take_bytes(count, bytes)) return false;
    out.insert(out.end(), bytes.begin(), bytes.end());
    return true;
  }
  bool at_end() const override { return reader_.remaining() == 0; }

 private:
  ByteReader reader_;
};

}  // namespace

void put_varint(Bytes& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<std::byte>(value | 0x80));
  out.push_back(static_cast<std::byte>(value));
}

bool take_varint(ByteReader& reader, std::uint64_t& out) {
  out = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    std::uint8_t byte = 0;
    if (!reader.take(byte) || (shift == 63 && byte > 1)) return false;
    out |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

std::uint64_t common_step(std::span<const std::int64_t> values) {
  std::uint64_t step = 0;
  for (const std::int64_t value : values) {
    std::int64_t difference = 0;
    if (__builtin_sub_overflow(value, values[0], &difference)) return 1;
    if (difference == std::numeric_limits<std::int64_t>::min()) return 1;
    step = std::gcd(step, static_cast<std::uint64_t>(difference < 0 ? -difference : difference));
    if (step == 1) return 1;
  }
  return step;
}

std::unique_ptr<StreamSink> make_sink(Coding coding) {
  if (coding == Coding::kDense) return make_dense_sink();
  return std::make_unique<FastSink>();
}

std::unique_ptr<StreamSource> make_source(Coding coding, ByteSpan bytes) {
  if (coding == Coding::kDense) return make_dense_source(bytes);
  return std::make_unique<FastSource>(bytes);
}

}  // namespace edgecore
