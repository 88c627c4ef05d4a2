#include "learning/histogram.hpp"

#include <algorithm>
#include <bit>

namespace edgecore {
namespace {

constexpr int kDropBits = 32 - 12;

// Order-preserving: negative patterns are reversed below the positive ones.
std::size_t bucket_of(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t ordered = (bits & 0x80000000u) ? ~bits : bits | 0x80000000u;
  return ordered >> kDropBits;
}

float edge_of(std::uint32_t ordered) {
  const std::uint32_t bits = (ordered & 0x80000000u) ? ordered & 0x7fffffffu : ~ordered;
  return std::bit_cast<float>(bits);
}

double low_edge(std::size_t bucket) {
  return static_cast<double>(edge_of(static_cast<std::uint32_t>(bucket) << kDropBits));
}

double high_edge(std::size_t bucket) {
  const auto first = static_cast<std::uint32_t>(bucket) << kDropBits;
  return static_cast<double>(edge_of(first | ((1u << kDropBits) - 1)));
}

}  // namespace

void RangeHistogram::add(double value) {
  if (value != value) return;
  const double clamped = std::clamp(value, -1e30, 1e30);
  ++counts_[bucket_of(static_cast<float>(clamped))];
  ++total_;
}

void RangeHistogram::merge(const RangeHistogram& other) {
  for (std::size_t i = 0; i < kBuckets; ++i) counts_[i] += other.counts_[i];
  total_ += other.total_;
}

Range RangeHistogram::range(double outside) const {
  Range found;
  const auto skip =
      static_cast<std::uint64_t>(static_cast<double>(total_) * std::clamp(outside, 0.0, 1.0) / 2);
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < kBuckets; ++i) {
    seen += counts_[i];
    if (counts_[i] > 0 && seen > skip) {
      found.low = std::min(0.0, low_edge(i));
      break;
    }
  }
  seen = 0;
  for (std::size_t i = kBuckets; i-- > 0;) {
    seen += counts_[i];
    if (counts_[i] > 0 && seen > skip) {
      found.high = std::max(0.0, high_edge(i));
      break;
    }
  }
  return found;
}

Bytes RangeHistogram::to_bytes() const {
  Bytes out;
  ByteWriter writer(out);
  for (std::size_t i = 0; i < kBuckets; ++i) {
    if (counts_[i] == 0) continue;
    writer.put(static_cast<std::uint16_t>(i));
    writer.put(counts_[i]);
  }
  return out;
}

Result<RangeHistogram> RangeHistogram::from_bytes(ByteSpan bytes) {
  RangeHistogram out;
  ByteReader reader(bytes);
  int last = -1;
  while (reader.remaining() > 0) {
    std::uint16_t bucket = 0;
    std::uint64_t count = 0;
    if (!reader.take(bucket) || !reader.take(count) || bucket >= kBuckets || bucket <= last ||
        count == 0 || count > UINT64_MAX - out.total_)
      return Status::corrupt("range histogram: malformed");
    last = bucket;
    out.counts_[bucket] = count;
    out.total_ += count;
  }
  return out;
}

}  // namespace edgecore
