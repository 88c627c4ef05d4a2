// See binding.hpp. Plain IEEE doubles: a subtraction, a division, a clip, a division, a rounding.
#include "inference/binding.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

namespace edgecore::inference {
namespace {

// Ties to even for |y| < 2^51, by the spacing of doubles at 2^52.
double round_even(double y) {
  constexpr double kShift = 6755399441055744.0;  // 1.5 * 2^52
  return (y + kShift) - kShift;
}

// One instruction each where they are written so; no NaN comes here.
double least(double a, double b) {
  return a < b ? a : b;
}
double most(double a, double b) {
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

}  // namespace

Binding::Binding(std::vector<Slot> slots) : slots_(std::move(slots)) {
  for (const Slot& slot : slots_) {
    centres_.push_back(slot.centre);
    divisors_.push_back(std::max(slot.scale, slot.scale_floor));
    clips_lo_.push_back(slot.clip_lo);
    clips_hi_.push_back(slot.clip_hi);
  }
}

Result<Binding> Binding::make(std::vector<Slot> slots) {
  if (slots.empty()) return Status::invalid("a binding needs at least one slot");
  for (std::size_t i = 0; i < slots.size(); ++i) EDGECORE_TRY(check(slots[i], i));
  return Binding(std::move(slots));
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
  Quantised counts;
  for (std::size_t i = 0; i < n; ++i) {
    if (states[i] > kMissing) return Status::invalid("a state is not fresh, stale or missing");
    const Slot& slot = slots_[i];
    const bool absent = states[i] == kMissing || !std::isfinite(values[i]);
    double v = values[i];
    if (slot.kind == SlotKind::kState) {
      v = static_cast<double>(states[i]);
    } else {
      if (absent) ++counts.substituted;
      if (slot.kind == SlotKind::kCategory)
        v = category(slot, v, absent);
      else if (absent)
        v = slot.substitute;
    }
    normalised[i] = v;
  }
  counts.clipped = normalise(normalised, to, input);
  return counts;
}

// Values to what they are before the clip, in place, and to codes; returns how many were clipped.
// The divisions stand in loops of their own, where every processor does several at once.
std::uint32_t Binding::normalise(std::span<double> values, Quantisation to,
                                 std::span<std::int8_t> input) const {
  constexpr std::size_t kBlock = 64;
  const double scale = static_cast<double>(to.scale);
  std::uint32_t clipped = 0;
  for (std::size_t from = 0; from < values.size(); from += kBlock) {
    const std::size_t n = std::min(kBlock, values.size() - from);
    double* const x = values.data() + from;
    const double *const centre = &centres_[from], *const divisor = &divisors_[from];
    const double *const lo = &clips_lo_[from], *const hi = &clips_hi_[from];
    double within[kBlock], code[kBlock];
    for (std::size_t i = 0; i < n; ++i) x[i] = (x[i] - centre[i]) / divisor[i];
    for (std::size_t i = 0; i < n; ++i) within[i] = least(most(x[i], lo[i]), hi[i]);
    for (std::size_t i = 0; i < n; ++i) code[i] = within[i] / scale;
    for (std::size_t i = 0; i < n; ++i) {
      clipped += within[i] != x[i] ? 1u : 0u;
      // This clamp only keeps the rounding exact; the last one is int8's range.
      const double y = round_even(least(most(code[i], -1024.0), 1024.0));
      const std::int32_t q = static_cast<std::int32_t>(y) + to.zero_point;
      input[from + i] = static_cast<std::int8_t>(std::clamp(q, -128, 127));
    }
  }
  return clipped;
}

}  // namespace edgecore::inference
