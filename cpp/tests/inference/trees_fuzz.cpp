// Fuzz target: any bytes, their checksum made good, loaded as a tree ensemble and run if they load.
#include <cstdlib>
#include <vector>

#include "base/crc32c.hpp"
#include "inference/trees.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace edgecore;
  const auto given = std::as_bytes(std::span(data, size));
  Bytes bytes(given.begin(), given.end());
  if (size >= 4) store_le(bytes.data() + size - 4, crc32c(ByteSpan(bytes).first(size - 4)));
  const auto made = inference::TreeEnsemble::load(bytes);
  if (!made.is_ok()) {
    const Outcome outcome = made.status().outcome();
    if (outcome != Outcome::kCorrupt && outcome != Outcome::kIncompatible) std::abort();
    return 0;
  }
  const std::vector<double> row(made->features(), 0.25);
  std::vector<double> out(made->outputs());
  inference::TreeScratch scratch;
  if (!made->margins_batch<double>(row, out, scratch).is_ok()) std::abort();
  return 0;
}
