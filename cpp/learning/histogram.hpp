// Mergeable histogram of real values for the calibration of activation ranges. A bucket is named
// by the top bits of the f32 pattern (sign, exponent, three bits of mantissa: 12 % wide), so that
// no range need be known beforehand, counts of different devices add up exactly, and a hub can
// quantise a model without seeing data.
#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.hpp"
#include "base/status.hpp"

namespace edgecore {

struct Range {
  double low = 0;
  double high = 0;
};

class RangeHistogram {
 public:
  static constexpr std::size_t kBuckets = 4096;

  RangeHistogram() : counts_(kBuckets, 0) {}
  void add(double value);  // NaN is not counted
  void merge(const RangeHistogram& other);
  std::uint64_t total() const { return total_; }
  // The narrowest range by bucket edges that leaves at most `outside` of the values out, half at
  // each end; always contains 0.
  Range range(double outside) const;

  Bytes to_bytes() const;  // sparse: u16 bucket, u64 count, ascending
  static Result<RangeHistogram> from_bytes(ByteSpan bytes);

 private:
  std::vector<std::uint64_t> counts_;  // in order of value
  std::uint64_t total_ = 0;
};

}  // namespace edgecore
