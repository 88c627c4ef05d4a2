#include "features/joined_batch.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

#include "features/entity.hpp"

namespace edgecore::features {
namespace {

// Where a row stands among all: unsigned, in the order of positions or of times.
std::uint64_t place_of(const History& of, std::uint32_t row) {
  if (!of.positions.empty()) return of.positions[row];
  return static_cast<std::uint64_t>(of.rows->time_ns(row)) ^ (std::uint64_t{1} << 63);
}

// Rows of another stream, given to the parts up to a place in order.
class Feed {
 public:
  explicit Feed(const History& of) : of_(of), order_(of.rows->count()) {
    std::iota(order_.begin(), order_.end(), 0u);
    std::stable_sort(order_.begin(), order_.end(),
                     [this](std::uint32_t a, std::uint32_t b) { return key(a) < key(b); });
  }

  Status take(Joined& engines, std::uint64_t upto, std::uint64_t& step) {
    for (; at_ < order_.size() && key(order_[at_]) <= upto; ++at_)
      EDGECORE_TRY(engines.update(*of_.rows, order_[at_], 1, ++step));
    return Status::ok();
  }

 private:
  std::uint64_t key(std::uint32_t row) const { return place_of(of_, row); }

  const History& of_;
  std::vector<std::uint32_t> order_;
  std::size_t at_ = 0;
};

// Gaps of all streams, given to the parts up to a place in order.
class GapFeed {
 public:
  GapFeed(const History& own, std::span<const History> others) : timeless_(own.positions.empty()) {
    add(own);
    for (const History& one : others) add(one);
    std::stable_sort(all_.begin(), all_.end(),
                     [](const One& a, const One& b) { return a.gap.position < b.gap.position; });
  }

  Status take(Joined& engines, std::uint64_t before, std::uint64_t& step) {
    for (; at_ < all_.size() && (timeless_ || all_[at_].gap.position < before); ++at_)
      EDGECORE_TRY(
          engines.gap(all_[at_].stream, all_[at_].gap.from_ns, all_[at_].gap.to_ns, ++step));
    return Status::ok();
  }

 private:
  struct One {
    std::string_view stream;
    GapAt gap;
  };
  void add(const History& of) {
    for (const GapAt& gap : of.gaps) all_.push_back({of.rows->schema()->stream, gap});
  }

  bool timeless_;
  std::vector<One> all_;
  std::size_t at_ = 0;
};

Status check(const Parts& parts, const History& own, std::span<const History> others,
             const Part& part) {
  const auto fits = [&](const History& one) {
    return one.positions.size() == (part.arrival ? one.rows->count() : 0);
  };
  bool whole = fits(own);
  for (const History& one : others) whole = whole && fits(one);
  if (!whole) return Status::invalid("backfill: a position for each row is needed");
  EDGECORE_TRY(check_schema(parts.own(), *own.rows));
  for (const SchemaPtr& schema : parts.others()) {
    const auto found = std::count_if(others.begin(), others.end(), [&](const History& one) {
      return one.rows->schema()->fingerprint == schema->fingerprint;
    });
    if (found != 1)
      return Status::invalid("view '" + parts.own().view().name + "' also reads stream '" +
                             schema->stream + "': give its rows");
  }
  return Status::ok();
}

// What may still change an answer is told by all rows there are, those behind the last answered
// too.
Status find_final(Joined& engines, const RowBatch& rows, const Chosen& chosen,
                  std::vector<Feed>& feeds, std::uint64_t step, const Columns& to) {
  if (chosen.order.empty()) return Status::ok();
  for (Feed& feed : feeds) EDGECORE_TRY(feed.take(engines, UINT64_MAX, step));
  const std::vector<std::uint32_t> order = total_order(rows);
  auto rest = std::find(order.begin(), order.end(), chosen.order.back());
  while (++rest != order.end()) EDGECORE_TRY(engines.update(rows, *rest, 1, ++step));
  std::string scratch;
  for (std::size_t i = 0; i < to.numbers.size(); ++i)
    to.final[i] = engines.is_final(entity_name(engines.parts().own(), rows, to.numbers[i], scratch),
                                   to.times[i]);
  return Status::ok();
}

}  // namespace

Status answer(const PartsPtr& parts, const History& own, std::span<const History> others,
              const Part& part, const Chosen& chosen, const Columns& to, std::uint64_t& late) {
  EDGECORE_TRY(check(*parts, own, others, part));
  EDGECORE_ASSIGN(const auto engines, Joined::create(parts));
  std::vector<Feed> feeds;
  for (const History& one : others) feeds.emplace_back(one);
  GapFeed gaps(own, others);
  const std::size_t width = parts->width();
  std::string scratch;
  std::uint64_t step = 0;
  std::size_t at = 0;
  std::fill(to.values.begin(), to.values.end(), std::numeric_limits<double>::quiet_NaN());
  std::fill(to.states.begin(), to.states.end(), static_cast<std::uint8_t>(State::kMissing));
  std::fill(to.final.begin(), to.final.end(), std::uint8_t{0});
  for (std::size_t i = 0; i < chosen.order.size(); ++i) {
    const std::uint32_t row = chosen.order[i];
    EDGECORE_TRY(gaps.take(*engines, place_of(own, row), step));
    for (Feed& feed : feeds) EDGECORE_TRY(feed.take(*engines, place_of(own, row), step));
    EDGECORE_TRY(engines->update(*own.rows, row, 1, ++step));
    if (!chosen.answered.empty() && chosen.answered[i] == 0) continue;
    const Answers here{
        to.values.subspan(at * width, width), to.states.subspan(at * width, width), {}, {}, {}};
    to.times[at] = own.rows->time_ns(row);
    to.numbers[at++] = row;
    if (!engines->was_set_aside())
      EDGECORE_TRY(engines->read(entity_name(parts->own(), *own.rows, row, scratch),
                                 own.rows->time_ns(row), here));
  }
  if (!part.arrival) return find_final(*engines, *own.rows, chosen, feeds, step, to);
  late = engines->late_rows() + engines->ahead_rows();  // nothing was final on arrival
  return Status::ok();
}

}  // namespace edgecore::features
