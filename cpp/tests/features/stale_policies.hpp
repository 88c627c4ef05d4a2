// A policy for stale values, with the ttl that it needs, for features of any kind.
#pragma once

#include <algorithm>

#include "features/spans.hpp"

namespace edgecore::features {

inline constexpr std::int64_t kPolicies = 5;

// Policy number `which`, or another where the feature can't have it.
inline void set_policy(FeatureSpec& spec, std::int64_t which) {
  constexpr std::int64_t kTtl = 50'000'000'000;
  const Family family = operator_of(spec.op).family;
  auto policy = static_cast<OnStale>(which);
  if (family == Family::kRatio || family == Family::kNothing) return;
  if (policy == OnStale::kRecompute && spec.hop_ns > 0) policy = OnStale::kRefuse;
  if (spec.op == Op::kRecency && spec.ttl_ns == 0 && policy > OnStale::kMissing)
    policy = OnStale::kUse;
  spec.on_stale = policy;
  if (policy > OnStale::kMissing && spec.ttl_ns == 0) spec.ttl_ns = kTtl;
  if (policy == OnStale::kRecompute && family != Family::kNewest)
    spec.ttl_ns = std::min(spec.ttl_ns, width_of(spec) / 3);
}

}  // namespace edgecore::features
