// See arena.hpp.
#include "inference/arena.hpp"

#include <algorithm>
#include <numeric>

#include "inference/stage.hpp"

namespace edgecore::inference {

std::size_t lay_out(std::vector<Life>& lives) {
  std::vector<std::size_t> order(lives.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return lives[a].bytes > lives[b].bytes; });
  std::vector<std::size_t> placed;  // ascending by offset
  std::size_t end = 0;
  for (const std::size_t one : order) {
    Life& life = lives[one];
    std::size_t offset = 0;
    for (const std::size_t other : placed) {
      const Life& beside = lives[other];
      if (beside.last < life.first || life.last < beside.first) continue;
      if (offset + life.bytes <= beside.offset) break;
      offset = std::max(offset, round_up(beside.offset + beside.bytes, kAlign));
    }
    life.offset = offset;
    end = std::max(end, offset + life.bytes);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), one,
                                   [&](std::size_t a, std::size_t b) {
                                     return lives[a].offset < lives[b].offset;
                                   }),
                  one);
  }
  return round_up(end, kAlign);
}

}  // namespace edgecore::inference
