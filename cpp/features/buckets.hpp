// Buckets that the values of a window are counted in for their quantiles, by their bounds alone.
//
// Linear ones are equal parts of the field's range. Those of a field on a ratio scale are equal
// parts of an octave: 32 between a power of two and the next, of whole grid steps by their leading
// bits, of doubles by the bits that follow their exponent. So half a bucket is at most 1/64 of any
// value in it. Of doubles 64 octaves count, down from the range's end; what is below is one bucket.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "base/exact.hpp"
#include "features/finish.hpp"
#include "features/plan.hpp"

namespace edgecore::features {

inline constexpr std::uint32_t kBuckets = 1024;  // linear ones
inline constexpr unsigned kOctaveBits = 5;
inline constexpr std::uint32_t kLogBuckets = 64u << kOctaveBits;  // at most
inline constexpr double kLogError = 1.0 / 64;                     // of a value, half a bucket
inline constexpr unsigned kKeyBits = 52 - kOctaveBits;            // of a double's key, in a bucket

inline std::uint32_t above_low(const SeriesPlan& plan, std::int64_t stored) {
  return static_cast<std::uint32_t>(static_cast<std::uint64_t>(stored) -
                                    static_cast<std::uint64_t>(plan.low));
}

// A whole number's bucket, numbered from that of 0, which has no other in it: below 64 each is one.
constexpr std::uint32_t octave_bucket(std::uint64_t steps) {
  constexpr std::uint64_t kAlone = std::uint64_t{2} << kOctaveBits;
  if (steps < kAlone) return static_cast<std::uint32_t>(steps);
  const auto drop = static_cast<unsigned>(std::bit_width(steps)) - 1 - kOctaveBits;
  return (drop << kOctaveBits) + static_cast<std::uint32_t>(steps >> drop);
}
// The least number in it.
constexpr std::uint64_t octave_first(std::uint32_t bucket) {
  if (bucket < 2u << kOctaveBits) return bucket;
  const unsigned drop = (bucket >> kOctaveBits) - 1;
  const std::uint32_t lead = (1u << kOctaveBits) + (bucket & ((1u << kOctaveBits) - 1));
  return std::uint64_t{lead} << drop;
}

// Of a value of a ratio scale; not from the plan's base.
inline std::uint32_t log_bucket(const SeriesPlan& plan, std::int64_t stored) {
  if (plan.grid == Grid::kFloat) return static_cast<std::uint32_t>(stored >> kKeyBits);
  const auto steps = static_cast<std::uint64_t>(stored);
  return octave_bucket(plan.grid == Grid::kUnsigned ? steps ^ std::uint64_t{1} << 63 : steps);
}

// The inverse divides exactly: neither takes more than 32 bits.
inline std::uint32_t bucket_of(const SeriesPlan& plan, const ValuePlan& needs,
                               std::int64_t stored) {
  if (needs.log) {
    const std::uint32_t number = log_bucket(plan, stored);
    return number > needs.bucket_base ? number - needs.bucket_base : 0;
  }
  if (plan.narrow) {
    const std::uint32_t above = above_low(plan, stored);
    return needs.bucket_inverse == 0
               ? above
               : static_cast<std::uint32_t>(static_cast<UInt128>(above) * needs.bucket_inverse >>
                                            64);
  }
  return static_cast<std::uint32_t>(
      (static_cast<std::uint64_t>(stored) - static_cast<std::uint64_t>(plan.low)) /
      needs.bucket_steps);
}

// The least value of a bucket.
inline std::int64_t first_of(const SeriesPlan& plan, const ValuePlan& needs, std::uint32_t bucket) {
  if (bucket == 0) return plan.low;
  if (!needs.log)
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(plan.low) +
                                     bucket * needs.bucket_steps);
  const std::uint32_t number = bucket + needs.bucket_base;
  if (plan.grid == Grid::kFloat)
    return static_cast<std::int64_t>(std::uint64_t{number} << kKeyBits);
  const std::uint64_t steps = octave_first(number);
  return plan.grid == Grid::kUnsigned ? flip_sign_bit(steps) : static_cast<std::int64_t>(steps);
}

// The value that answers for a bucket: the middle, rounded down, of those that the range leaves.
inline std::int64_t middle_of(const SeriesPlan& plan, const ValuePlan& needs,
                              std::uint32_t bucket) {
  const auto first = static_cast<std::uint64_t>(first_of(plan, needs, bucket));
  const auto last = static_cast<std::uint64_t>(
      bucket + 1 == needs.buckets ? plan.high : first_of(plan, needs, bucket + 1) - 1);
  return static_cast<std::int64_t>(first + (last - first) / 2);
}

}  // namespace edgecore::features
