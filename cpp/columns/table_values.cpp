#include "columns/table_values.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <new>
#include <string>
#include <unordered_map>

#include "base/exact.hpp"
#include "base/rows.hpp"

namespace edgecore {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kDictionaryEntriesMax = 1u << 15;  // when a batch begins: else a new one
constexpr std::size_t kDictionaryBytesMax = 1u << 20;

constexpr std::size_t padded(std::size_t size) {
  return (size + kAlignment - 1) / kAlignment * kAlignment;
}

std::shared_ptr<const void> hold(Bytes bytes) {
  bytes.resize(std::max<std::size_t>(bytes.size(), 1));  // a buffer is never null
  auto held = std::make_shared<const Bytes>(std::move(bytes));
  const void* data = held->data();
  return {std::move(held), data};
}

// ---------------------------------------------------------------- fixed width

template <typename T>
T value_of(std::uint64_t cell) {
  if constexpr (std::is_same_v<T, float>)
    return static_cast<float>(std::bit_cast<double>(cell));
  else
    return static_cast<T>(cell);
}

template <typename T>
class Numbers final : public ColumnValues {
 public:
  std::span<std::uint64_t> place(std::size_t at, std::size_t rows) override {
    if constexpr (std::is_same_v<T, std::uint64_t>) return {values() + at, rows};
    return {};
  }

 private:
  T* values() const { return reinterpret_cast<T*>(buffer_.data()); }
  void grow(std::size_t rows, std::size_t used) override {
    buffer_.reserve(rows * sizeof(T), used * sizeof(T));
  }
  void put_values(std::size_t at, const Column& column, unsigned) override {
    std::transform(column.cells.begin(), column.cells.end(), values() + at, value_of<T>);
  }
  void finish_values(std::size_t, ArrowData& out) override {
    out.buffers.push_back(buffer_.finish());
  }

  ArrowBuffer buffer_;
};

class Bools final : public ColumnValues {
  void grow(std::size_t rows, std::size_t used) override {
    buffer_.reserve((rows + 7) / 8, (used + 7) / 8);
  }
  void put_values(std::size_t at, const Column& column, unsigned) override {
    auto* bits = reinterpret_cast<std::uint8_t*>(buffer_.data());
    for (std::size_t i = 0; i < column.cells.size(); ++i) {
      const std::size_t row = at + i;
      if (row % 8 == 0) bits[row / 8] = 0;
      const unsigned bit = 1u << (row % 8);
      const unsigned kept = bits[row / 8] & ~bit;
      bits[row / 8] = static_cast<std::uint8_t>(column.cells[i] != 0 ? kept | bit : kept);
    }
  }
  void finish_values(std::size_t, ArrowData& out) override {
    out.buffers.push_back(buffer_.finish());
  }

  ArrowBuffer buffer_;
};

class Decimals final : public ColumnValues {
 public:
  explicit Decimals(unsigned scale) : scale_(scale) {}

 private:
  void grow(std::size_t rows, std::size_t used) override { buffer_.reserve(rows * 16, used * 16); }
  void put_values(std::size_t at, const Column& column, unsigned scale) override {
    Int128 factor = 1;
    for (unsigned i = scale; i < scale_; ++i) factor *= 10;
    std::byte* out = buffer_.data() + at * 16;
    for (const std::uint64_t cell : column.cells) {
      store_le(out, Int128{static_cast<std::int64_t>(cell)} * factor);
      out += 16;
    }
  }
  void finish_values(std::size_t, ArrowData& out) override {
    out.buffers.push_back(buffer_.finish());
  }

  unsigned scale_;
  ArrowBuffer buffer_;
};

// ---------------------------------------------------------------- texts

class Texts final : public ColumnValues {
 public:
  explicit Texts(bool utf8) : utf8_(utf8) {}
  std::size_t text_bytes() const override { return bytes_.size(); }

 private:
  std::int32_t* ends() const { return reinterpret_cast<std::int32_t*>(offsets_.data()); }
  void grow(std::size_t rows, std::size_t used) override {
    offsets_.reserve((rows + 1) * 4, used == 0 ? 0 : (used + 1) * 4);
    if (used == 0) ends()[0] = 0;
  }
  void put_values(std::size_t at, const Column& column, unsigned) override {
    bytes_.resize(static_cast<std::size_t>(ends()[at]));
    for (std::size_t row = 0; row < column.cells.size(); ++row) {
      const ByteSpan text = column.text(row);
      if (utf8_)
        add_text(as_text(text), bytes_);
      else
        bytes_.insert(bytes_.end(), text.begin(), text.end());
      ends()[at + row + 1] = static_cast<std::int32_t>(bytes_.size());
    }
  }
  void finish_values(std::size_t rows, ArrowData& out) override {
    bytes_.resize(static_cast<std::size_t>(ends()[rows]));
    out.buffers.push_back(offsets_.finish());
    out.buffers.push_back(hold(std::move(bytes_)));
    bytes_ = {};
  }

  bool utf8_;
  ArrowBuffer offsets_;
  Bytes bytes_;
};

struct TextHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const {
    return std::hash<std::string_view>{}(text);
  }
};

// Texts by number, over all batches: numbers keep their meaning until it grows too large.
class Dictionary final : public ColumnValues {
  void grow(std::size_t rows, std::size_t used) override { keys_.reserve(rows * 4, used * 4); }

  void put_values(std::size_t at, const Column& column, unsigned) override {
    auto* out = reinterpret_cast<std::int32_t*>(keys_.data()) + at;
    // A block's rows of one text have the same cell.
    std::array<std::pair<std::uint64_t, std::int32_t>, 64> known;
    known.fill({UINT64_MAX, 0});
    for (std::size_t row = 0; row < column.cells.size(); ++row) {
      const std::uint64_t cell = column.cells[row];
      if (!column.presence.empty() && column.presence[row] == 0) {
        out[row] = 0;
        continue;
      }
      auto& [last, key] = known[(cell * 0x9e3779b97f4a7c15u) >> 58];
      if (last != cell) key = key_of(as_text(column.text(row)));
      last = cell;
      out[row] = key;
    }
  }

  std::int32_t key_of(std::string_view text) {
    const auto found = keys_of_.find(text);
    if (found != keys_of_.end()) return found->second;
    const auto key = static_cast<std::int32_t>(keys_of_.size());
    keys_of_.emplace(text, key);
    add_text(text, bytes_);
    ends_.push_back(static_cast<std::int32_t>(bytes_.size()));
    made_.reset();
    return key;
  }

  void finish_values(std::size_t, ArrowData& out) override {
    out.buffers.push_back(keys_.finish());
    if (made_ == nullptr) {
      const auto* raw = reinterpret_cast<const std::byte*>(ends_.data());
      ArrowData texts;
      texts.length = static_cast<std::int64_t>(ends_.size()) - 1;
      texts.buffers = {nullptr, hold(Bytes(raw, raw + ends_.size() * 4)), hold(bytes_)};
      made_ = std::make_shared<const ArrowData>(std::move(texts));
    }
    out.dictionary = made_;
    if (ends_.size() <= kDictionaryEntriesMax && bytes_.size() <= kDictionaryBytesMax) return;
    keys_of_.clear();
    ends_.assign(1, 0);
    bytes_.clear();
    made_.reset();
  }

  ArrowBuffer keys_;
  std::unordered_map<std::string, std::int32_t, TextHash, std::equal_to<>> keys_of_;
  std::vector<std::int32_t> ends_{0};
  Bytes bytes_;
  std::shared_ptr<const ArrowData> made_;  // of all there is now
};

// ---------------------------------------------------------------- UTF-8

// The length of the first character, or 0 when it is none.
std::size_t character(std::string_view text) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = at(0);
  if (first < 0x80) return 1;
  const std::size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < size) return 0;
  for (std::size_t i = 1; i < size; ++i)
    if ((at(i) & 0xc0u) != 0x80) return 0;
  const unsigned second = at(1);
  const bool wrong = (first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
                     (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f);
  return wrong ? 0 : size;
}

// How much from the front is ASCII, by eights.
std::size_t ascii(std::string_view text) {
  std::size_t at = 0;
  for (; at + 8 <= text.size(); at += 8) {
    std::uint64_t eight = 0;
    std::memcpy(&eight, text.data() + at, 8);
    if ((eight & 0x8080808080808080u) != 0) break;
  }
  return at;
}

std::size_t count_bits(const std::byte* bits, std::size_t count) {
  std::size_t out = 0;
  for (; count >= 64; count -= 64, bits += 8)
    out += static_cast<std::size_t>(std::popcount(load_le<std::uint64_t>(bits)));
  for (std::size_t i = 0; i < count; ++i)
    out += static_cast<std::size_t>(bits[i / 8] >> (i % 8) & std::byte{1});
  return out;
}

}  // namespace

void add_text(std::string_view text, Bytes& out) {
  static constexpr std::string_view kReplacement = "\xef\xbf\xbd";
  std::size_t good = ascii(text);  // so much from the front is to be added as it is
  while (good < text.size()) {
    const std::size_t size = character(text.substr(good));
    good += size;
    if (size > 0) continue;
    for (const std::string_view part : {text.substr(0, good), kReplacement}) {
      const ByteSpan bytes = as_byte_span(part);
      out.insert(out.end(), bytes.begin(), bytes.end());
    }
    text = text.substr(good + 1);
    good = 0;
  }
  const ByteSpan bytes = as_byte_span(text);
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void ArrowBuffer::reserve(std::size_t size, std::size_t kept) {
  const std::size_t wanted = padded(std::max<std::size_t>(size, 1));
  if (wanted <= capacity_) return;
  const std::align_val_t alignment{kAlignment};
  std::shared_ptr<std::byte> larger(
      static_cast<std::byte*>(::operator new(wanted, alignment)),
      [alignment](std::byte* bytes) { ::operator delete(bytes, alignment); });
  if (kept > 0) std::memcpy(larger.get(), bytes_.get(), kept);
  bytes_ = std::move(larger);
  capacity_ = wanted;
}

std::shared_ptr<const void> ArrowBuffer::finish() {
  capacity_ = 0;
  return std::exchange(bytes_, nullptr);
}

void ColumnValues::make_room(std::size_t rows, std::size_t used) {
  if (rows <= room_) return;
  grow(rows, used);
  if (has_nulls_) valid_.reserve((rows + 7) / 8, (used + 7) / 8);
  room_ = rows;
}

void ColumnValues::put(std::size_t at, const Column& column, unsigned scale) {
  put_values(at, column, scale);
  put_presence(at, column.cells.size(), column.presence);
}

std::span<std::uint64_t> ColumnValues::place(std::size_t, std::size_t) {
  return {};
}

void ColumnValues::put_presence(std::size_t at, std::size_t rows,
                                std::span<const std::uint8_t> presence) {
  const bool nulls = std::find(presence.begin(), presence.end(), 0) != presence.end();
  if (!nulls && !has_nulls_) return;
  if (!has_nulls_) {
    valid_.reserve((room_ + 7) / 8, 0);
    std::memset(valid_.data(), 0xff, (at + 7) / 8);
    has_nulls_ = true;
  }
  auto* bits = reinterpret_cast<std::uint8_t*>(valid_.data());
  for (std::size_t i = 0; i < rows; ++i) {
    const std::size_t row = at + i;
    if (row % 8 == 0) bits[row / 8] = 0;
    const unsigned bit = 1u << (row % 8);
    const unsigned kept = bits[row / 8] & ~bit;
    const bool present = presence.empty() || presence[i] != 0;
    bits[row / 8] = static_cast<std::uint8_t>(present ? kept | bit : kept);
  }
}

ArrowData ColumnValues::finish(std::size_t rows) {
  make_room(std::max<std::size_t>(rows, 1), rows);  // an empty batch has buffers too
  ArrowData out;
  out.length = static_cast<std::int64_t>(rows);
  out.buffers.push_back(nullptr);
  if (has_nulls_) {
    out.null_count = static_cast<std::int64_t>(rows - count_bits(valid_.data(), rows));
    out.buffers[0] = valid_.finish();
  }
  finish_values(rows, out);
  has_nulls_ = false;
  room_ = 0;
  return out;
}

std::unique_ptr<ColumnValues> make_values(DType dtype, unsigned scale) {
  switch (dtype) {
    case DType::kBool:
      return std::make_unique<Bools>();
    case DType::kI8:
    case DType::kU8:
      return std::make_unique<Numbers<std::uint8_t>>();
    case DType::kI16:
    case DType::kU16:
      return std::make_unique<Numbers<std::uint16_t>>();
    case DType::kI32:
    case DType::kU32:
      return std::make_unique<Numbers<std::uint32_t>>();
    case DType::kF32:
      return std::make_unique<Numbers<float>>();
    case DType::kDecimal:
      return std::make_unique<Decimals>(scale);
    case DType::kCategory:
      return std::make_unique<Dictionary>();
    case DType::kUtf8:
    case DType::kBytes:
      return std::make_unique<Texts>(dtype == DType::kUtf8);
    default:
      return std::make_unique<Numbers<std::uint64_t>>();
  }
}

}  // namespace edgecore
