// Events of a series as arrays, in order: what the operators beyond sums read, in a stream and in a
// batch alike.
#pragma once

#include <algorithm>
#include <cstdint>

namespace edgecore::features {

// Either `narrow` (values above `low`), or `wide`, or neither: rows alone. Borrowed.
struct EventView {
  const std::int64_t* times = nullptr;
  const std::uint32_t* narrow = nullptr;
  const std::int64_t* wide = nullptr;
  std::int64_t low = 0;
  std::uint32_t begin = 0, end = 0;  // indices of the events there are

  std::int64_t stored(std::uint32_t at) const {
    if (narrow != nullptr) return low + static_cast<std::int64_t>(narrow[at]);
    return wide != nullptr ? wide[at] : 0;
  }
  // The first event after `bound`.
  std::uint32_t after(std::int64_t bound) const {
    return static_cast<std::uint32_t>(std::upper_bound(times + begin, times + end, bound) - times);
  }
};

}  // namespace edgecore::features
