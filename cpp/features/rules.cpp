// Guard, watermark and gaps of a view; see rules.hpp.
#include "features/rules.hpp"

#include <algorithm>

#include "features/finish.hpp"

namespace edgecore::features {

// ---------------------------------------------------------------- guard

bool Guard::is_ahead(std::int64_t time, std::int64_t max_ahead) {
  if (max_ahead == 0 || !any_ || time <= newest_ || saturating_sub(time, newest_) <= max_ahead) {
    // Old rows say nothing of where the stream stands.
    if (any_ && saturating_sub(newest_, time) <= max_ahead) count_ = 0;
    return false;
  }
  const bool agrees = count_ > 0 && (time > ahead_ ? saturating_sub(time, ahead_)
                                                   : saturating_sub(ahead_, time)) <= max_ahead;
  ahead_ = agrees ? std::max(ahead_, time) : time;
  const std::uint32_t agreeing = agrees ? count_ + 1 : 1;
  count_ = std::min(agreeing, kAheadQuorum - 1);
  return agreeing < kAheadQuorum;
}

void Guard::accept(std::int64_t time) {
  if (any_ && time <= newest_) return;
  any_ = true;
  newest_ = time;
  count_ = 0;
}

std::int64_t Guard::ahead_by(std::int64_t time) const {
  return saturating_sub(time, newest_);
}

void Guard::put(ByteWriter& out) const {
  out.put(static_cast<std::uint8_t>(any_));
  out.put(newest_);
  out.put(count_);
  out.put(count_ > 0 ? ahead_ : std::int64_t{0});
}

bool Guard::take(ByteReader& in) {
  std::uint8_t any = 0;
  if (!in.take(any) || !in.take(newest_) || !in.take(count_) || !in.take(ahead_)) return false;
  any_ = any == 1;
  return any <= 1 && count_ < kAheadQuorum && (any_ || (newest_ == 0 && count_ == 0)) &&
         (count_ > 0 || ahead_ == 0);
}

// ---------------------------------------------------------------- watermark

Watermark::Newest::const_iterator Watermark::find(std::string_view source) const {
  return std::lower_bound(
      newest_.begin(), newest_.end(), source,
      [](const auto& one, std::string_view name) { return std::string_view(one.first) < name; });
}

bool Watermark::has_room(std::string_view source) const {
  if (newest_.size() < kWatermarkSourcesMax) return true;
  const auto place = find(source);
  return place != newest_.end() && place->first == source;
}

void Watermark::advance(std::string_view source, std::int64_t time, const Rules& rules,
                        std::int64_t lateness) {
  auto place = newest_.begin() + (find(source) - newest_.cbegin());
  if (place == newest_.end() || place->first != source)
    place = newest_.emplace(place, std::string(source), time);
  place->second = std::max(place->second, time);
  newest_of_all_ = std::max(newest_of_all_, time);
  std::int64_t lowest = newest_of_all_;
  for (const auto& [name, newest] : newest_)
    if (saturating_sub(newest_of_all_, newest) <= rules.idle_ns) lowest = std::min(lowest, newest);
  const std::int64_t low = saturating_sub(lowest, lateness);
  low_ = low_ ? std::max(*low_, low) : low;
}

void Watermark::put(ByteWriter& out) const {
  out.put(static_cast<std::uint8_t>(low_.has_value()));
  out.put(low_.value_or(0));
  out.put(static_cast<std::uint32_t>(newest_.size()));
  for (const auto& [name, newest] : newest_) {
    out.put(static_cast<std::uint32_t>(name.size()));
    out.put_text(name);
    out.put(newest);
  }
}

bool Watermark::take(ByteReader& in) {
  std::uint8_t any = 0;
  std::int64_t low = 0;
  std::uint32_t count = 0;
  if (!in.take(any) || any > 1 || !in.take(low) || !in.take(count)) return false;
  if (count > kWatermarkSourcesMax || (any == 1) != (count > 0)) return false;
  if (any == 0) return low == 0;
  low_ = low;
  for (std::uint32_t i = 0; i < count; ++i) {
    std::uint32_t size = 0;
    ByteSpan text;
    std::int64_t newest = 0;
    if (!in.take(size) || !in.take_bytes(size, text) || !in.take(newest)) return false;
    std::string name(as_text(text));
    if (!newest_.empty() && newest_.back().first >= name) return false;
    newest_.emplace_back(std::move(name), newest);
    newest_of_all_ = std::max(newest_of_all_, newest);
  }
  return low <= newest_of_all_;  // or no row of the stream would be in time again
}

// ---------------------------------------------------------------- gaps

void Gaps::add(std::int64_t from, std::int64_t to) {
  if (to <= from) return;
  auto first = std::find_if(spans_.begin(), spans_.end(),
                            [&](const auto& span) { return span.second >= from; });
  auto last = first;
  for (; last != spans_.end() && last->first <= to; ++last) {
    from = std::min(from, last->first);
    to = std::max(to, last->second);
  }
  spans_.insert(spans_.erase(first, last), {from, to});
  if (spans_.size() <= kGapsMax) return;
  spans_[1].first = spans_[0].first;
  spans_.erase(spans_.begin());
}

std::int64_t Gaps::within(std::int64_t from, std::int64_t to) const {
  std::int64_t total = 0;
  auto at =
      std::upper_bound(spans_.begin(), spans_.end(), from,
                       [](std::int64_t time, const auto& span) { return time < span.second; });
  for (; at != spans_.end() && at->first < to; ++at)  // disjoint: in all no more than (from, to]
    total += std::min(at->second, to) - std::max(at->first, from);
  return total;
}

void Gaps::put(ByteWriter& out) const {
  out.put(static_cast<std::uint32_t>(spans_.size()));
  for (const auto& [from, to] : spans_) {
    out.put(from);
    out.put(to);
  }
}

bool Gaps::take(ByteReader& in) {
  std::uint32_t count = 0;
  if (!in.take(count) || count > kGapsMax) return false;
  for (std::uint32_t i = 0; i < count; ++i) {
    std::int64_t from = 0;
    std::int64_t to = 0;
    if (!in.take(from) || !in.take(to) || to <= from) return false;
    if (!spans_.empty() && spans_.back().second >= from) return false;
    spans_.emplace_back(from, to);
  }
  return true;
}

}  // namespace edgecore::features
