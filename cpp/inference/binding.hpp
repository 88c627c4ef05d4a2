// How features become model input, slot by slot, and the float to int8 quantiser, specified to
// the bit in docs/formats/binding.md: it is ours, so that it is the same before every backend.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.hpp"
#include "inference/executor.hpp"

namespace edgecore::inference {

enum class SlotKind : std::uint8_t { kValue = 0, kState = 1, kCategory = 2 };
constexpr std::uint8_t kFresh = 0, kStale = 1, kMissing = 2;

struct Slot {
  std::array<std::byte, 32> feature{};  // fingerprint of the feature this slot reads
  SlotKind kind = SlotKind::kValue;
  double centre = 0.0;
  double scale = 1.0;
  double scale_floor = 1e-6;  // the divisor is max(scale, scale_floor)
  double clip_lo = -8.0;      // after normalisation
  double clip_hi = 8.0;
  double substitute = 0.0;               // in the feature's unit; the centre unless stated
  std::vector<std::int64_t> vocabulary;  // category: the known codes, strictly ascending
  double unknown = -1.0;                 // category: the value of a code outside the vocabulary
  double missing = -2.0;                 // category: the value when there is none
  std::int64_t max_age_ns = 0;           // of a value or category; 0: the contract's
};

// When a row is fit for a decision. What is 0 asks for nothing.
struct Contract {
  std::int64_t max_age_ns = 0;  // of the newest event behind each value and category
  double min_full = 0.0;        // share of the slots that are FRESH and not substituted
};

// Why it is not.
enum class Refusal : std::uint8_t {
  kNone = 0,
  kOld = 1,     // an event is older than max_age, or there is none
  kSparse = 2,  // less than min_full
};

struct Quantised {
  std::uint32_t clipped = 0;
  std::uint32_t substituted = 0;
};

// Immutable after make(); threads may share it.
class Binding {
 public:
  static Result<Binding> make(std::vector<Slot> slots, Contract contract = {});
  std::size_t size() const { return slots_.size(); }
  const std::vector<Slot>& slots() const { return slots_; }
  const Contract& contract() const { return contract_; }
  bool needs_ages() const { return !max_ages_.empty(); }
  // What of its contract a row breaks, first kOld. All spans hold size() elements, but that of ages
  // (ns; negative: no event) may be empty where none are needed. Allocates nothing.
  Refusal refusal(std::span<const double> values, std::span<const std::uint8_t> states,
                  std::span<const std::int64_t> ages_ns) const;
  // values, states, input and normalised all hold size() elements; `normalised` takes the values
  // before the clip, which the reconstruction error needs. Allocates nothing.
  Result<Quantised> quantise(std::span<const double> values, std::span<const std::uint8_t> states,
                             Quantisation to, std::span<std::int8_t> input,
                             std::span<double> normalised) const;

 private:
  Binding(std::vector<Slot> slots, Contract contract);
  std::vector<Slot> slots_;
  Contract contract_;
  std::vector<std::int64_t> max_ages_;  // per slot, kAnyAge where there is no bound; empty: nowhere
  // The same by column, for the arithmetic of two slots at a time; padded to an even size.
  std::vector<double> centres_;
  std::vector<double> divisors_;
  std::vector<double> clips_lo_;
  std::vector<double> clips_hi_;
};

}  // namespace edgecore::inference
