// Indices of events, ascending, as a deque: two bytes each while they fit, which they do but for
// series of many events.
#pragma once

#include <cstdint>
#include <limits>

#include "features/sliding.hpp"

namespace edgecore::features {

class Indices {
 public:
  std::uint32_t begin() const { return is_wide_ ? wide_.begin() : narrow_.begin(); }
  std::uint32_t end() const { return is_wide_ ? wide_.end() : narrow_.end(); }
  bool empty() const { return begin() == end(); }
  std::uint32_t operator[](std::uint32_t at) const { return is_wide_ ? wide_[at] : narrow_[at]; }
  std::uint32_t front() const { return is_wide_ ? wide_.front() : narrow_.front(); }
  std::uint32_t back() const { return is_wide_ ? wide_.back() : narrow_.back(); }

  void push_back(std::uint32_t index) {
    if (!is_wide_ && index > std::numeric_limits<std::uint16_t>::max()) widen();
    if (is_wide_)
      wide_.push_back(index);
    else
      narrow_.push_back(static_cast<std::uint16_t>(index));
  }
  void pop_back() { is_wide_ ? wide_.pop_back() : narrow_.pop_back(); }
  void pop_front() { is_wide_ ? wide_.pop_front() : narrow_.pop_front(); }
  void clear() {
    is_wide_ = false;
    wide_ = {};
    narrow_.clear();
  }
  // Every index goes down by `shift`.
  void shift(std::uint32_t shift) {
    for (auto at = wide_.begin(); at < wide_.end(); ++at) wide_[at] -= shift;
    for (auto at = narrow_.begin(); at < narrow_.end(); ++at)
      narrow_[at] = static_cast<std::uint16_t>(narrow_[at] - shift);
  }

  std::size_t memory_bytes() const { return wide_.memory_bytes() + narrow_.memory_bytes(); }

 private:
  void widen() {
    is_wide_ = true;
    for (auto at = narrow_.begin(); at < narrow_.end(); ++at) wide_.push_back(narrow_[at]);
    narrow_ = {};
  }

  bool is_wide_ = false;
  Sliding<std::uint16_t> narrow_;  // one of the two is empty
  Sliding<std::uint32_t> wide_;
};

}  // namespace edgecore::features
