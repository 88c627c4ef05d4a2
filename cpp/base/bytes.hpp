// Little-endian bytes in and out. The reader is the only way the core takes apart bytes that came
// from a disk, a wire or a file: every take is bounds-checked first, nothing is allocated on the
// word of a length field.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

namespace edgecore {

static_assert(std::endian::native == std::endian::little, "byte formats are little-endian");

using Bytes = std::vector<std::byte>;
using ByteSpan = std::span<const std::byte>;

inline ByteSpan as_byte_span(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}
inline std::string_view as_text(ByteSpan bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

template <typename T>
T load_le(const std::byte* from) {
  static_assert(std::is_trivially_copyable_v<T>);
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}
template <typename T>
void store_le(std::byte* to, T value) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::memcpy(to, &value, sizeof(T));
}

// Appends to a caller-owned buffer.
class ByteWriter {
 public:
  explicit ByteWriter(Bytes& out) : out_(out) {}
  template <typename T>
  void put(T value) {
    static_assert(std::is_arithmetic_v<T>);
    const std::size_t at = out_.size();
    out_.resize(at + sizeof(T));
    store_le(out_.data() + at, value);
  }
  void put_bytes(ByteSpan bytes) { out_.insert(out_.end(), bytes.begin(), bytes.end()); }
  void put_text(std::string_view text) { put_bytes(as_byte_span(text)); }
  void put_zeros(std::size_t count) { out_.resize(out_.size() + count); }
  std::size_t size() const { return out_.size(); }

 private:
  Bytes& out_;
};

// A cursor over borrowed bytes, which must outlive it. A take that does not fit returns false and
// moves nothing.
class ByteReader {
 public:
  explicit ByteReader(ByteSpan bytes) : bytes_(bytes) {}
  std::size_t remaining() const { return bytes_.size() - at_; }
  std::size_t position() const { return at_; }

  template <typename T>
  [[nodiscard]] bool take(T& out) {
    static_assert(std::is_arithmetic_v<T>);
    if (remaining() < sizeof(T)) return false;
    out = load_le<T>(bytes_.data() + at_);
    at_ += sizeof(T);
    return true;
  }
  [[nodiscard]] bool take_bytes(std::size_t count, ByteSpan& out) {
    if (remaining() < count) return false;
    out = bytes_.subspan(at_, count);
    at_ += count;
    return true;
  }
  [[nodiscard]] bool skip(std::size_t count) {
    ByteSpan ignored;
    return take_bytes(count, ignored);
  }

 private:
  ByteSpan bytes_;
  std::size_t at_ = 0;
};

}  // namespace edgecore
