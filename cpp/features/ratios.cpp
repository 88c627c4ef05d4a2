// See ratios.hpp.
#include "features/ratios.hpp"

#include <algorithm>
#include <limits>

namespace edgecore::features {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

void answer_ratio(const Ratio& ratio, const Answers& to) {
  const std::size_t at = ratio.feature;
  const std::size_t above = ratio.numerator;
  const std::size_t below = ratio.denominator;
  to.states[at] = std::max(to.states[above], to.states[below]);
  if (!to.ages_ns.empty()) {
    const bool never = to.ages_ns[above] == kNeverNs || to.ages_ns[below] == kNeverNs;
    to.ages_ns[at] = never ? kNeverNs : std::max(to.ages_ns[above], to.ages_ns[below]);
  }
  if (!to.coverage.empty()) to.coverage[at] = std::min(to.coverage[above], to.coverage[below]);
  // The reason is that of the worse state, of equal ones the numerator's where it has one.
  if (!to.reasons.empty()) {
    const bool first = to.states[above] == to.states[at] && to.reasons[above] != 0;
    to.reasons[at] = to.reasons[first ? above : below];
  }
  to.values[at] = kNan;
  if (to.states[at] == static_cast<std::uint8_t>(State::kMissing)) return;
  const double one = to.values[above];
  const double other = to.values[below];
  if (one != one || other != other) return;  // a default that is NaN: the binding's substitute
  const double quotient = one / other;
  if (other != 0 && quotient == quotient) {
    to.values[at] = quotient;
    return;
  }
  to.states[at] = static_cast<std::uint8_t>(State::kMissing);
  if (!to.reasons.empty()) to.reasons[at] = static_cast<std::uint8_t>(Reason::kTooFew);
}

}  // namespace

Status check_ratio(const FeatureSpec& spec, const std::string& name) {
  if (spec.numerator.empty() || spec.denominator.empty())
    return Status::invalid(name + " names no two features to divide");
  const bool judged = spec.ttl_ns > 0 || spec.on_stale != OnStale::kUse || spec.default_value ||
                      spec.min_coverage > 0 || spec.min_count > 0;
  if (judged || spec.window_ns != 0 || !spec.field.empty() || !spec.expression.empty())
    return Status::invalid(name + ": a ratio has no window, field or judgement of its own; it is " +
                           "judged as the worse of what it divides");
  return Status::ok();
}

Result<Ratio> ratio_of(const std::vector<FeatureSpec>& features, std::size_t at) {
  const FeatureSpec& spec = features[at];
  Ratio out;
  out.feature = static_cast<std::uint16_t>(at);
  for (const bool above : {true, false}) {
    const std::string& wanted = above ? spec.numerator : spec.denominator;
    const auto found =
        std::find_if(features.begin(), features.end(),
                     [&wanted](const FeatureSpec& one) { return one.name == wanted; });
    if (found == features.end())
      return Status::invalid("feature '" + spec.name + "': the view has no feature '" + wanted +
                             "' to divide");
    if (operator_of(found->op).family == Family::kRatio)
      return Status::invalid("feature '" + spec.name + "' divides '" + wanted +
                             "', which is a ratio itself");
    (above ? out.numerator : out.denominator) =
        static_cast<std::uint16_t>(found - features.begin());
  }
  return out;
}

void answer_ratios(const Plan& plan, const Answers& to) {
  for (const Ratio& ratio : plan.ratios()) answer_ratio(ratio, to);
}

}  // namespace edgecore::features
