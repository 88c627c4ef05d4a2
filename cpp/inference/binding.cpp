// See binding.hpp. Plain IEEE doubles: a subtraction, a division, a clip, a division, a rounding.
#include "inference/binding.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

namespace edgecore::inference {
namespace {

// y + kRounds rounds |y| < 2^31 to an integer, ties to even, by the spacing of doubles at 2^52; it
// is in the low half of the sum's bits.
constexpr double kRounds = 6755399441055744.0;  // 1.5 * 2^52
constexpr std::int64_t kAnyAge = std::numeric_limits<std::int64_t>::max();

// Two doubles in a register; every processor we build for has such.
using Pair = double __attribute__((vector_size(16)));
using Count = std::int64_t __attribute__((vector_size(16)));

Pair pair(const double* from) {
  Pair out;
  std::memcpy(&out, from, sizeof out);
  return out;
}
Pair least(Pair a, Pair b) {
  return a < b ? a : b;
}
Pair most(Pair a, Pair b) {
  return a > b ? a : b;
}

Status check(const Slot& slot, std::size_t at) {
  const std::string where = "binding slot " + std::to_string(at) + ": ";
  for (const double number : {slot.centre, slot.scale, slot.scale_floor, slot.clip_lo, slot.clip_hi,
                              slot.substitute, slot.unknown, slot.missing})
    if (!std::isfinite(number)) return Status::invalid(where + "a number is not finite");
  if (slot.kind > SlotKind::kCategory) return Status::invalid(where + "unknown kind");
  if (!(slot.scale_floor > 0)) return Status::invalid(where + "the scale floor is not above zero");
  if (!(slot.scale >= 0)) return Status::invalid(where + "the scale is negative");
  if (!(slot.clip_lo < slot.clip_hi)) return Status::invalid(where + "the clip range is empty");
  if (std::adjacent_find(slot.vocabulary.begin(), slot.vocabulary.end(), std::greater_equal<>()) !=
      slot.vocabulary.end())
    return Status::invalid(where + "the vocabulary is not strictly ascending");
  if (slot.max_age_ns < 0 || slot.max_age_ns == kAnyAge)
    return Status::invalid(where + "the max_age is negative, or no bound");
  if (slot.max_age_ns > 0 && slot.kind == SlotKind::kState)
    return Status::invalid(where + "a state has no max_age: it says itself what is stale");
  return {};
}

Status check(const Contract& contract) {
  if (contract.max_age_ns < 0 || contract.max_age_ns == kAnyAge)
    return Status::invalid("binding: the max_age is negative, or no bound");
  if (!(contract.min_full >= 0.0 && contract.min_full <= 1.0))
    return Status::invalid("binding: min_full is a share, 0 to 1");
  return {};
}

double category(const Slot& slot, double value, bool absent) {
  if (absent) return slot.missing;
  const auto found =
      std::lower_bound(slot.vocabulary.begin(), slot.vocabulary.end(), value,
                       [](std::int64_t code, double v) { return static_cast<double>(code) < v; });
  if (found == slot.vocabulary.end() || static_cast<double>(*found) != value) return slot.unknown;
  return static_cast<double>(found - slot.vocabulary.begin());
}

// What a slot makes of its feature: a finite number.
double number_of(const Slot& slot, double value, std::uint8_t state, Quantised& counts) {
  if (slot.kind == SlotKind::kState) return static_cast<double>(state);
  const bool absent = state == kMissing || !std::isfinite(value);
  if (absent) ++counts.substituted;
  if (slot.kind == SlotKind::kCategory) return category(slot, value, absent);
  return absent ? slot.substitute : value;
}

}  // namespace

Binding::Binding(std::vector<Slot> slots, Contract contract)
    : slots_(std::move(slots)), contract_(contract) {
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    const std::int64_t age = slot.max_age_ns > 0 ? slot.max_age_ns : contract.max_age_ns;
    if (age == 0 || slot.kind == SlotKind::kState) continue;
    max_ages_.resize(slots_.size(), kAnyAge);
    max_ages_[i] = age;
  }
  const Slot neutral;
  for (std::size_t i = 0; i < slots_.size() + slots_.size() % 2; ++i) {
    const Slot& slot = i < slots_.size() ? slots_[i] : neutral;
    centres_.push_back(slot.centre);
    divisors_.push_back(std::max(slot.scale, slot.scale_floor));
    clips_lo_.push_back(slot.clip_lo);
    clips_hi_.push_back(slot.clip_hi);
  }
}

Result<Binding> Binding::make(std::vector<Slot> slots, Contract contract) {
  if (slots.empty()) return Status::invalid("a binding needs at least one slot");
  for (std::size_t i = 0; i < slots.size(); ++i) EDGECORE_TRY(check(slots[i], i));
  EDGECORE_TRY(check(contract));
  return Binding(std::move(slots), contract);
}

Refusal Binding::refusal(std::span<const double> values, std::span<const std::uint8_t> states,
                         std::span<const std::int64_t> ages_ns) const {
  for (std::size_t i = 0; i < max_ages_.size(); ++i)
    if (max_ages_[i] != kAnyAge && (ages_ns[i] < 0 || ages_ns[i] > max_ages_[i]))
      return Refusal::kOld;
  if (contract_.min_full == 0.0) return Refusal::kNone;
  std::size_t full = 0;
  for (std::size_t i = 0; i < slots_.size(); ++i)
    full += states[i] == kFresh && (slots_[i].kind == SlotKind::kState || std::isfinite(values[i]));
  const double share = static_cast<double>(full) / static_cast<double>(slots_.size());
  return share < contract_.min_full ? Refusal::kSparse : Refusal::kNone;
}

Result<Quantised> Binding::quantise(std::span<const double> values,
                                    std::span<const std::uint8_t> states, Quantisation to,
                                    std::span<std::int8_t> input,
                                    std::span<double> normalised) const {
  const std::size_t n = slots_.size();
  if (values.size() != n || states.size() != n || input.size() != n || normalised.size() != n)
    return Status::invalid("the binding has " + std::to_string(n) + " slots, got " +
                           std::to_string(values.size()) + " values and " +
                           std::to_string(states.size()) + " states");
  for (const std::uint8_t state : states)
    if (state > kMissing) return Status::invalid("a state is not fresh, stale or missing");
  Quantised counts;
  Count clipped = {0, 0};
  const double scale = static_cast<double>(to.scale);
  const auto code = [&](std::int64_t bits) {
    const std::int32_t q = static_cast<std::int32_t>(bits) + to.zero_point;
    return static_cast<std::int8_t>(std::clamp(q, -128, 127));
  };
  for (std::size_t i = 0; i < n; i += 2) {
    const bool both = i + 1 < n;
    Pair x = {number_of(slots_[i], values[i], states[i], counts), 0.0};
    if (both) x[1] = number_of(slots_[i + 1], values[i + 1], states[i + 1], counts);
    x = (x - pair(&centres_[i])) / pair(&divisors_[i]);
    const Pair c = least(most(x, pair(&clips_lo_[i])), pair(&clips_hi_[i]));
    clipped -= c != x;
    // This clamp only keeps the rounding exact; the last one is int8's range.
    const Pair y = least(most(c / scale, Pair{-1024.0, -1024.0}), Pair{1024.0, 1024.0});
    const auto bits = std::bit_cast<Count>(y + kRounds);
    normalised[i] = x[0];
    input[i] = code(bits[0]);
    if (!both) break;
    normalised[i + 1] = x[1];
    input[i + 1] = code(bits[1]);
  }
  counts.clipped = static_cast<std::uint32_t>(clipped[0] + clipped[1]);
  return counts;
}

}  // namespace edgecore::inference
