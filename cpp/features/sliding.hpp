// Growable buffers whose live part slides forward: pushed at the end, dropped from the front, moved
// back to the start when the end is reached. Contiguous, so that windows are plain index ranges,
// and hardly larger than what has been live.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <type_traits>

namespace edgecore::features {

// Capacity for `live` elements and some more.
constexpr std::uint32_t roomy(std::uint32_t live) {
  return live + std::max<std::uint32_t>(4, live / 12);
}
// Whether so many at the front, no longer live, are worth moving the rest for: of a buffer that is
// roomy, all that were room once.
constexpr bool worth_moving(std::uint32_t gone, std::uint32_t capacity) {
  return gone > 0 && gone >= capacity / 16;
}

template <typename T>
class Sliding {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  std::uint32_t begin() const { return begin_; }
  std::uint32_t end() const { return end_; }
  std::uint32_t size() const { return end_ - begin_; }
  bool empty() const { return begin_ == end_; }
  T& operator[](std::uint32_t at) { return data_[at]; }
  const T& operator[](std::uint32_t at) const { return data_[at]; }
  const T& front() const { return data_[begin_]; }
  const T& back() const { return data_[end_ - 1]; }
  std::size_t memory_bytes() const { return capacity_ * sizeof(T); }

  void push_back(T value) {
    if (end_ == capacity_) make_room();
    data_[end_++] = value;
  }
  void pop_back() { --end_; }
  void pop_front() { ++begin_; }
  void clear() { begin_ = end_ = 0; }
  // Before element `at`, which may be end().
  void insert(std::uint32_t at, T value) {
    const std::uint32_t from_end = end_ - at;
    push_back(value);  // may move everything
    if (from_end == 0) return;
    T* place = data_.get() + end_ - 1 - from_end;
    std::memmove(place + 1, place, from_end * sizeof(T));
    *place = value;
  }

 private:
  void make_room() {
    const std::uint32_t live = size();
    if (worth_moving(begin_, capacity_)) {
      std::memmove(data_.get(), data_.get() + begin_, live * sizeof(T));
    } else {
      capacity_ = roomy(live);
      auto grown = std::make_unique_for_overwrite<T[]>(capacity_);
      if (live > 0) std::memcpy(grown.get(), data_.get() + begin_, live * sizeof(T));
      data_ = std::move(grown);
    }
    begin_ = 0;
    end_ = live;
  }

  std::unique_ptr<T[]> data_;
  std::uint32_t begin_ = 0, end_ = 0, capacity_ = 0;
};

}  // namespace edgecore::features
