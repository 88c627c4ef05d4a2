// Where the tensors of a network lie: those that are alive at the same time never share a byte.
#pragma once

#include <cstdint>
#include <vector>

namespace edgecore::inference {

// A tensor in the arena: from the stage that makes it to the last one that reads it.
struct Life {
  std::size_t bytes = 0;
  std::int32_t first = 0, last = 0;  // stages, both counted
  std::size_t offset = 0;            // given by lay_out
};

// Gives every life its offset, a multiple of kAlign, largest first in the lowest gap that fits
// ("greedy by size", Pisarchyk and Lee, 2020). Returns the bytes of the arena.
std::size_t lay_out(std::vector<Life>& lives);

}  // namespace edgecore::inference
