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
    const Slot& slot = slots_[i];
    if (states[i] > kMissing) return Status::invalid("a state is not fresh, stale or missing");
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
    const double x = (v - slot.centre) / std::max(slot.scale, slot.scale_floor);
    normalised[i] = x;
    const double clipped = std::clamp(x, slot.clip_lo, slot.clip_hi);
    if (clipped != x) ++counts.clipped;
    // The second clamp only keeps the rounding exact; the third is int8's range.
    const double y = std::clamp(clipped / static_cast<double>(to.scale), -1024.0, 1024.0);
    const int q = static_cast<int>(round_even(y)) + to.zero_point;
    input[i] = static_cast<std::int8_t>(std::clamp(q, -128, 127));
  }
  return counts;
}

}  // namespace edgecore::inference
