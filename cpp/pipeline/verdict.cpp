// See verdict.hpp.
#include "pipeline/verdict.hpp"

#include <algorithm>
#include <limits>

#include "base/crc32c.hpp"

namespace edgecore::pipeline {
namespace {

constexpr std::uint32_t kSpecMagic = 0x44564345;   // "ECVD"
constexpr std::uint32_t kStateMagic = 0x53564345;  // "ECVS"
constexpr std::uint16_t kVersion = 1;
constexpr std::size_t kSpecBytes = 48;
constexpr std::size_t kStateHead = 8 + kSpecBytes + 8 + 4 * 4 + 8 + 8 + 4;
constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

Status check(const VerdictSpec& spec) {
  if (spec.window == 0 || spec.window > kVerdictWindowMax)
    return Status::invalid("verdict: the window is 1 to 65536 scores");
  if (spec.warmup == 0 || spec.warmup > spec.window)
    return Status::invalid("verdict: the warm-up is 1 score to the window");
  if (spec.quantile_permille > 1000 || spec.exit_permille > 1000)
    return Status::invalid("verdict: a share is above 1000 permille");
  if (spec.factor_permille == 0 || spec.factor_permille > 1'000'000)
    return Status::invalid("verdict: the factor is 1 to 1000000 permille");
  if (spec.enter_count == 0 || spec.exit_count == 0)
    return Status::invalid("verdict: an episode takes at least one score to begin and to end");
  if (spec.floor < 0 || spec.gap_ns < 0)
    return Status::invalid("verdict: floor and gap are not negative");
  return {};
}

// floor(value x permille / 1000) for value >= 0, saturated: exact, without a wider integer.
std::int64_t share(std::int64_t value, std::int64_t permille) {
  std::int64_t whole = 0;
  if (__builtin_mul_overflow(value / 1000, permille, &whole)) return kMost;
  std::int64_t out = 0;
  if (__builtin_add_overflow(whole, value % 1000 * permille / 1000, &out)) return kMost;
  return out;
}

// Whether `later` is more than gap_ns after `earlier`, if there is an earlier one.
bool apart(std::optional<std::int64_t> earlier, std::int64_t later, std::int64_t gap_ns) {
  std::int64_t elapsed = 0;
  if (!earlier || later < *earlier) return false;
  return __builtin_sub_overflow(later, *earlier, &elapsed) || elapsed > gap_ns;
}

void put_time(ByteWriter& writer, std::optional<std::int64_t> time) {
  writer.put(time.value_or(0));
}

}  // namespace

Result<Bytes> verdict_to_bytes(const VerdictSpec& spec) {
  EDGECORE_TRY(check(spec));
  Bytes out;
  ByteWriter writer(out);
  writer.put(kSpecMagic);
  writer.put(kVersion);
  writer.put(std::uint16_t{0});
  writer.put(spec.window);
  writer.put(spec.warmup);
  writer.put(spec.quantile_permille);
  writer.put(spec.exit_permille);
  writer.put(spec.factor_permille);
  writer.put(spec.enter_count);
  writer.put(spec.exit_count);
  writer.put(spec.floor);
  writer.put(spec.gap_ns);
  return out;
}

Result<VerdictSpec> verdict_from_bytes(ByteSpan bytes) {
  ByteReader reader(bytes);
  std::uint32_t magic = 0;
  std::uint16_t version = 0, reserved = 0;
  if (!reader.take(magic) || !reader.take(version) || !reader.take(reserved) || magic != kSpecMagic)
    return Status::corrupt("verdict: not a verdict specification");
  if (version != kVersion || reserved != 0)
    return Status::incompatible("verdict: version " + std::to_string(version) + " is not known");
  VerdictSpec spec;
  const bool complete = reader.take(spec.window) && reader.take(spec.warmup) &&
                        reader.take(spec.quantile_permille) && reader.take(spec.exit_permille) &&
                        reader.take(spec.factor_permille) && reader.take(spec.enter_count) &&
                        reader.take(spec.exit_count) && reader.take(spec.floor) &&
                        reader.take(spec.gap_ns);
  if (!complete || reader.remaining() != 0) return Status::corrupt("verdict: wrong length");
  if (const Status status = check(spec); !status.is_ok()) return Status::corrupt(status.message());
  return spec;
}

Verdict::Verdict(const VerdictSpec& spec)
    : spec_(spec), scores_(spec.window, spec.quantile_permille) {}

Result<Verdict> Verdict::make(const VerdictSpec& spec) {
  EDGECORE_TRY(check(spec));
  return Verdict(spec);
}

std::int64_t Verdict::threshold() const {
  if (scores_.size() == 0) return spec_.floor;
  return std::max(spec_.floor, share(std::max<std::int64_t>(scores_.value(), 0),
                                     static_cast<std::int64_t>(spec_.factor_permille)));
}

bool Verdict::judge(std::int64_t score, std::int64_t threshold, std::int64_t time_ns) {
  if (inside_) {
    calm_ = score <= share(threshold, spec_.exit_permille) ? calm_ + 1 : 0;
    if (calm_ >= spec_.exit_count) {
      inside_ = false;
      above_ = 0;
    }
    return inside_;
  }
  above_ = score > threshold ? above_ + 1 : 0;
  if (above_ < spec_.enter_count) return false;
  const bool anew = !latest_anomaly_ns_ || apart(latest_anomaly_ns_, time_ns, spec_.gap_ns);
  if (anew && episodes_ < UINT32_MAX) ++episodes_;
  inside_ = true;
  calm_ = 0;
  return true;
}

Decision Verdict::decide(std::int64_t score, std::int64_t time_ns) {
  Decision decision;
  decision.threshold = threshold();
  if (apart(latest_ns_, time_ns, spec_.gap_ns)) {
    inside_ = false;
    above_ = 0;
  }
  if (decided_ >= spec_.warmup) {
    const bool anomalous = judge(score, decision.threshold, time_ns);
    decision.verdict = anomalous ? kAnomalous : kNormal;
    if (anomalous) {
      decision.episode = episodes_;
      latest_anomaly_ns_ = std::max(time_ns, latest_anomaly_ns_.value_or(time_ns));
    }
  }
  latest_ns_ = std::max(time_ns, latest_ns_.value_or(time_ns));
  ++decided_;
  scores_.push(score);
  return decision;
}

Bytes Verdict::state() const {
  Bytes out;
  ByteWriter writer(out);
  writer.put(kStateMagic);
  writer.put(kVersion);
  writer.put(static_cast<std::uint16_t>(inside_ ? 1 : 0));
  writer.put_bytes(verdict_to_bytes(spec_).value());
  writer.put(decided_);
  writer.put(above_);
  writer.put(inside_ ? calm_ : 0);
  writer.put(episodes_);
  writer.put(static_cast<std::uint32_t>(scores_.size()));
  put_time(writer, latest_ns_);
  put_time(writer, latest_anomaly_ns_);
  // Oldest first: the state does not show where the ring happened to wrap.
  for (std::size_t i = 0; i < scores_.size(); ++i) writer.put(scores_.score(i));
  writer.put(crc32c(out));
  return out;
}

Status Verdict::restore(ByteSpan state) {
  if (state.size() < kStateHead || crc32c(state.first(state.size() - 4)) !=
                                       load_le<std::uint32_t>(state.data() + state.size() - 4))
    return Status::corrupt("verdict state: checksum");
  ByteReader reader(state.first(state.size() - 4));
  std::uint32_t magic = 0, count = 0;
  std::uint16_t version = 0, inside = 0;
  ByteSpan spec;
  Verdict found(spec_);
  std::int64_t latest = 0, latest_anomaly = 0;
  const bool complete = reader.take(magic) && reader.take(version) && reader.take(inside) &&
                        reader.take_bytes(kSpecBytes, spec) && reader.take(found.decided_) &&
                        reader.take(found.above_) && reader.take(found.calm_) &&
                        reader.take(found.episodes_) && reader.take(count) && reader.take(latest) &&
                        reader.take(latest_anomaly);
  if (!complete || magic != kStateMagic) return Status::corrupt("verdict state: not one");
  if (version != kVersion) return Status::incompatible("verdict state: version not known");
  const Bytes mine = verdict_to_bytes(spec_).value();
  if (!std::equal(mine.begin(), mine.end(), spec.begin()))
    return Status::incompatible("verdict state: of another specification");
  found.inside_ = inside == 1;
  const bool sound =
      inside <= 1 && count == std::min<std::uint64_t>(found.decided_, spec_.window) &&
      reader.remaining() == std::size_t{count} * 8 && found.above_ <= spec_.enter_count &&
      found.calm_ < spec_.exit_count && (found.episodes_ > 0 || !found.inside_);
  if (!sound) return Status::corrupt("verdict state: contradicts itself");
  for (std::uint32_t i = 0; i < count; ++i) {
    std::int64_t score = 0;
    if (!reader.take(score)) return Status::corrupt("verdict state: cut short");
    found.scores_.push(score);
  }
  if (found.decided_ > 0) found.latest_ns_ = latest;
  if (found.episodes_ > 0) found.latest_anomaly_ns_ = latest_anomaly;
  *this = std::move(found);
  return {};
}

}  // namespace edgecore::pipeline
