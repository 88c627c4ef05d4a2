// Blocks of the sums that ranges.hpp names.
#include "features/ranges.hpp"

#include "features/answer.hpp"

namespace edgecore::features {
namespace {

// From the predecessor of an event to it; 0 for the first there is.
std::uint64_t step_to(const EventView& events, std::uint32_t at) {
  return at == events.begin ? 0 : between(events.times[at - 1], events.times[at]);
}

}  // namespace

void Ranges::Integers::merge(const Integers& other) {
  sum = sum.value() + other.sum.value();
  squares = squares.value() + other.squares.value();
  extremes.merge(other.extremes);
}

void Ranges::Floats::merge(const Floats& other) {
  sum.merge(other.sum);
  extremes.merge(other.extremes);
}

void Ranges::reset(const SeriesPlan& plan) {
  integers_.clear();
  floats_.clear();
  squares_.clear();
  steps_.clear();
  held_.clear();
  held_.resize(plan.holds.size());
}

void Ranges::shift(std::uint32_t shift) {
  integers_.shift(shift);
  floats_.shift(shift);
  squares_.shift(shift);
  steps_.shift(shift);
  for (auto& one : held_) one.shift(shift);
}

void Ranges::change(std::uint32_t at) {
  integers_.change(at);
  floats_.change(at);
  squares_.change(at);
  steps_.change(at);
  for (auto& one : held_) one.change(at);
}

void Ranges::forget(std::uint32_t upto) {
  integers_.forget(upto);
  floats_.forget(upto);
  squares_.forget(upto);
  steps_.forget(upto);
  for (auto& one : held_) one.forget(upto);
}

void Ranges::totals(const SeriesPlan& plan, const EventView& events, std::uint32_t begin,
                    std::uint32_t end, Totals& out) {
  if (plan.grid == Grid::kNone) return;
  Extremes extremes;
  if (plan.grid == Grid::kFloat) {
    const auto one = [&events](std::uint32_t at, Floats& to) {
      const std::int64_t stored = events.stored(at);
      to.sum.add(float_of_key(stored));
      to.extremes.add(stored);
    };
    const Floats found = floats_.sum(events.begin, begin, end, one);
    out.float_sum = found.sum.rounded();
    if (plan.float_squares && end - begin > 1) {
      const auto square = [&events](std::uint32_t at, Squares& to) {
        to.sum.add(float_of_key(events.stored(at)));
      };
      const Squares squares = squares_.sum(events.begin, begin, end, square);
      out.deviation = deviation_of(end - begin, squares.sum, found.sum);
    }
    extremes = found.extremes;
  } else {
    const auto one = [&events](std::uint32_t at, Integers& to) {
      const Int128 stored = events.stored(at);
      to.sum = to.sum.value() + static_cast<UInt128>(stored);
      to.squares = to.squares.value() + static_cast<UInt128>(stored * stored);
      to.extremes.add(static_cast<std::int64_t>(stored));
    };
    const Integers found = integers_.sum(events.begin, begin, end, one);
    out.sum = found.sum;
    out.squares = found.squares;
    extremes = found.extremes;
  }
  out.low = extremes.low;
  out.high = extremes.high;
  out.lowest = one_value(plan, out.low);
  out.highest = one_value(plan, out.high);
}

std::uint32_t Ranges::session_begin(const EventView& events, std::uint32_t begin, std::uint32_t end,
                                    std::int64_t gap) {
  const auto longest = static_cast<std::uint64_t>(gap);
  const auto one = [&events](std::uint32_t at, Longest& to) {
    to.step = std::max(to.step, step_to(events, at));
  };
  const auto is = [&](std::uint32_t at) { return step_to(events, at) > longest; };
  const auto may = [longest](const Longest& steps) { return steps.step > longest; };
  return steps_.last(events.begin, begin + 1, end, one, is, may).value_or(begin);
}

Held Ranges::held(const SeriesPlan& plan, const EventView& events, std::uint32_t begin,
                  std::uint32_t end, std::int64_t hold) {
  const auto which = std::find(plan.holds.begin(), plan.holds.end(), hold) - plan.holds.begin();
  const auto most = static_cast<std::uint64_t>(hold);
  // An event's own part is the time before it, in which its predecessor held.
  const auto one = [&events, most](std::uint32_t at, Held& to) {
    if (at > events.begin) to.add(events.stored(at - 1), std::min(step_to(events, at), most));
  };
  return held_[static_cast<std::size_t>(which)].sum(events.begin, begin + 1, end, one);
}

std::size_t Ranges::memory_bytes() const {
  std::size_t total = sizeof(Ranges) + integers_.memory_bytes() + floats_.memory_bytes() +
                      squares_.memory_bytes() + steps_.memory_bytes();
  for (const auto& one : held_) total += sizeof(one) + one.memory_bytes();
  return total;
}

}  // namespace edgecore::features
