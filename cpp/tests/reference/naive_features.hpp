// The definition of the features, word by word and in no hurry: all events ever applied, filtered
// and summed anew for every answer. What the engine is measured against.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "base/exact.hpp"
#include "features/plan.hpp"

namespace edgecore::features::reference {

__extension__ typedef __float128 Quad;  // 113 bits: what is rounded from it is the nearest double

struct NaiveEvent {
  std::int64_t time;
  std::string source;
  std::uint64_t sequence;
  bool present;
  std::int64_t value;  // grid integer
};

struct NaiveAnswer {
  double value = std::numeric_limits<double>::quiet_NaN();
  State state = State::kMissing;
  Reason reason = Reason::kNever;
  std::int64_t age = -1;
  double coverage = 0;
};

// One entity and one decimal field.
class NaiveEntity {
 public:
  explicit NaiveEntity(std::int64_t lateness) : lateness_(lateness) {}

  bool apply(const NaiveEvent& event) {
    if (!all_.empty() && event.time < newest() - lateness_) return false;
    all_.push_back(event);
    return true;
  }
  std::int64_t newest() const {
    std::int64_t out = std::numeric_limits<std::int64_t>::min();
    for (const auto& event : all_) out = std::max(out, event.time);
    return out;
  }
  bool empty() const { return all_.empty(); }

  NaiveAnswer read(const FeatureSpec& spec, int scale, std::int64_t asked) const {
    std::int64_t as_of = asked;
    while (spec.hop_ns > 0 && as_of % spec.hop_ns != 0) as_of -= as_of % spec.hop_ns;
    const bool newest_only = spec.op == Op::kLast || spec.op == Op::kRecency;
    const std::int64_t window = spec.window_ns != 0 ? spec.window_ns : kLastWindowNs;
    const bool decays = spec.op == Op::kEwma;
    const std::int64_t pane = spec.window_ns / 8;
    const std::int64_t width = decays ? 128 * pane : window;
    const bool recomputed = spec.on_stale == OnStale::kRecompute && !newest_only;
    const std::int64_t horizon =
        newest_only ? window : std::max(2 * width, spec.ttl_ns) + (recomputed ? width : 0);
    std::vector<NaiveEvent> events;  // what the answer may depend on
    for (const auto& event : all_)
      if (event.time <= as_of && event.time > as_of - horizon &&
          (event.present || spec.field.empty()))
        events.push_back(event);
    NaiveAnswer out;
    if (events.empty()) return out;
    std::sort(events.begin(), events.end(), [](const NaiveEvent& a, const NaiveEvent& b) {
      return std::tie(a.time, a.source, a.sequence, a.value) <
             std::tie(b.time, b.source, b.sequence, b.value);
    });
    out.age = asked - events.back().time;
    if (recomputed && out.age > spec.ttl_ns && events.back().time > as_of - width)
      as_of = events.back().time;
    std::size_t count = 1;
    out.reason = Reason::kNone;
    if (newest_only) {
      out.coverage = 1;
      out.value = spec.op == Op::kLast ? grid_to_double(events.back().value, scale)
                                       : static_cast<double>(out.age) / 1e9;
    } else {
      std::vector<NaiveEvent> inside;
      bool before = false;
      for (const auto& event : events) {
        if (decays ? event.time >= (as_of / pane - 127) * pane : event.time > as_of - width)
          inside.push_back(event);
        else
          before = before || event.time > as_of - 2 * width;
      }
      if (spec.gap_ns > 0) before = session(spec.gap_ns, as_of, before, inside);
      count = inside.size();
      if (spec.gap_ns > 0 && before)
        out.coverage = 1;
      else if (!inside.empty())
        out.coverage =
            before ? 1
                   : static_cast<double>(as_of - inside.front().time) / static_cast<double>(width);
      if (decays)
        decay(inside, as_of / pane, pane, scale, out);
      else
        aggregate(spec.op, inside, scale, out);
    }
    judge(spec, count, out);
    return out;
  }

 private:
  // Keeps the session that goes on of a window's events; whether an event before it is known.
  static bool session(std::int64_t gap, std::int64_t as_of, bool before,
                      std::vector<NaiveEvent>& inside) {
    std::vector<NaiveEvent> kept;
    std::int64_t next = as_of;
    while (!inside.empty() && next - inside.back().time <= gap) {
      next = inside.back().time;
      kept.insert(kept.begin(), inside.back());
      inside.pop_back();
    }
    before = before || !inside.empty();
    inside = std::move(kept);
    return before;
  }

  static void decay(const std::vector<NaiveEvent>& events, std::int64_t now, std::int64_t pane,
                    int scale, NaiveAnswer& out) {
    if (events.empty()) {
      out.reason = Reason::kEmptyWindow;
      return;
    }
    Quad values = 0;
    Quad weights = 0;
    for (const auto& event : events) {
      const std::int64_t old = now - event.time / pane;
      const long double eighth = 16 - static_cast<long double>(old % 8) / 8;
      const Quad weight = static_cast<Quad>(std::llround(std::exp2(eighth))) *
                          static_cast<Quad>(1 << (15 - old / 8));
      values += weight * static_cast<Quad>(event.value);
      weights += weight;
    }
    double power = 1;
    for (int i = 0; i < scale; ++i) power *= 10;
    out.value = static_cast<double>(values / weights) / power;
  }

  static void aggregate(Op op, const std::vector<NaiveEvent>& events, int scale, NaiveAnswer& out) {
    const auto n = static_cast<std::int64_t>(events.size());
    double power = 1;
    for (int i = 0; i < scale; ++i) power *= 10;
    if (op == Op::kCount) {
      out.value = static_cast<double>(n);
      return;
    }
    if (n == 0) {
      out.reason = Reason::kEmptyWindow;
      return;
    }
    Int128 sum = 0;
    std::int64_t low = events.front().value;
    std::int64_t high = low;
    for (const auto& event : events) {
      sum += event.value;
      low = std::min(low, event.value);
      high = std::max(high, event.value);
    }
    const auto total = static_cast<double>(static_cast<std::int64_t>(sum));
    if (op == Op::kSum) out.value = total / power;
    if (op == Op::kMean) out.value = total / (static_cast<double>(n) * power);
    if (op == Op::kMin) out.value = grid_to_double(low, scale);
    if (op == Op::kMax) out.value = grid_to_double(high, scale);
    const NaiveEvent& first = events.front();
    const NaiveEvent& last = events.back();
    const auto change = static_cast<double>(last.value - first.value);
    if (op == Op::kRange) out.value = static_cast<double>(high - low) / power;
    if (op == Op::kFirst) out.value = grid_to_double(first.value, scale);
    const bool rate = op == Op::kRate || op == Op::kRateOnce;
    const bool two = op == Op::kStd || op == Op::kVariance || op == Op::kDelta || rate;
    if (!two) return;
    if (n < 2 || (rate && last.time == first.time)) {
      out.reason = Reason::kTooFew;
      return;
    }
    if (op == Op::kDelta) out.value = change / power;
    if (op == Op::kRate)
      out.value = static_cast<double>(static_cast<Quad>(last.value - first.value) * 1e9 /
                                      static_cast<Quad>(last.time - first.time)) /
                  power;
    if (op == Op::kRateOnce)
      out.value = static_cast<double>(
          static_cast<Quad>(last.value - first.value) * 1e9 /
          (static_cast<Quad>(last.time - first.time) * static_cast<Quad>(power)));
    if (op == Op::kDelta || rate) return;
    // The sum over pairs of squared differences is n times the sum of squared deviations.
    Int128 pairs = 0;
    for (std::size_t i = 0; i < events.size(); ++i)
      for (std::size_t j = 0; j < i; ++j) {
        const Int128 difference = events[i].value - events[j].value;
        pairs += difference * difference;
      }
    const double variance = static_cast<double>(pairs) / static_cast<double>(n * (n - 1));
    out.value = op == Op::kStd ? std::sqrt(variance) / power : variance / power / power;
  }

  static void judge(const FeatureSpec& spec, std::size_t count, NaiveAnswer& out) {
    if (out.reason != Reason::kNone) return;
    out.state = State::kFresh;
    const double nan = std::numeric_limits<double>::quiet_NaN();
    if (out.coverage < spec.min_coverage || count < spec.min_count) {
      out.value = nan;
      out.state = State::kMissing;
      out.reason = Reason::kWarming;
    } else if (spec.ttl_ns > 0 && out.age > spec.ttl_ns) {
      out.reason = Reason::kTtl;
      out.state = spec.on_stale == OnStale::kMissing ? State::kMissing : State::kStale;
      if (spec.on_stale == OnStale::kMissing) out.value = nan;
      if (spec.on_stale == OnStale::kDefault) out.value = spec.default_value.value_or(nan);
      if (spec.on_stale == OnStale::kRefuse) out.value = nan;
      const bool windowed = spec.op != Op::kLast && spec.op != Op::kRecency;
      if (spec.on_stale == OnStale::kRecompute && windowed && count == 0) {
        out.value = nan;
        out.state = State::kMissing;
        out.reason = Reason::kEmptyWindow;
      }
    }
  }

  std::int64_t lateness_;
  std::vector<NaiveEvent> all_;
};

}  // namespace edgecore::features::reference
