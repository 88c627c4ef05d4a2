#include "features/joined.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/blake3.hpp"

namespace edgecore::features {
namespace {

constexpr char kMagic[] = {'E', 'C', 'J', 'O', 'I', 'N', 'E', 'D'};
constexpr std::uint16_t kVersion = 1;

std::string_view stream_of(const StreamPart& part) {
  return part.plan->view().stream;
}

// The snapshots of `count` engines.
Result<std::vector<ByteSpan>> unpack(ByteSpan bytes, std::size_t count) {
  if (bytes.size() < sizeof kMagic || std::memcmp(bytes.data(), kMagic, sizeof kMagic) != 0)
    return Status::incompatible(
        "feature snapshot: of a view of one stream; replay the log instead");
  const Status damaged = Status::corrupt("feature snapshot: its checksum fails");
  if (bytes.size() < sizeof kMagic + sizeof(Digest)) return damaged;
  const ByteSpan body = bytes.first(bytes.size() - sizeof(Digest));
  const Digest seal = blake3(body);
  if (std::memcmp(seal.data(), bytes.data() + body.size(), sizeof seal) != 0) return damaged;
  ByteReader reader(body.subspan(sizeof kMagic));
  std::uint16_t version = 0, parts = 0;
  if (!reader.take(version) || version != kVersion || !reader.take(parts) || parts != count)
    return Status::incompatible(
        "feature snapshot: of another view or build; replay the log instead");
  std::vector<ByteSpan> out(count);
  for (ByteSpan& one : out) {
    std::uint64_t size = 0;
    if (!reader.take(size) || size > reader.remaining() ||
        !reader.take_bytes(static_cast<std::size_t>(size), one))
      return Status::corrupt("feature snapshot: ends in a part");
  }
  if (reader.remaining() != 0) return Status::corrupt("feature snapshot: bytes behind its end");
  return out;
}

}  // namespace

// ---------------------------------------------------------------- parts

Result<PartsPtr> Parts::make(std::vector<StreamPart> parts) {
  if (parts.empty()) return Status::invalid("features: a view has a part");
  const std::shared_ptr<Parts> made(new Parts);
  std::size_t width = 0;
  for (const StreamPart& part : parts) {
    if (!part.plan || part.columns.size() != part.plan->width())
      return Status::invalid("features: a part has a plan and a column for each of its features");
    if (&part != &parts.front() && stream_of(part) == stream_of(parts.front()))
      return Status::invalid("features: a view joins other streams than its own");
    width += part.columns.size();
  }
  if (width > kFeaturesMax || !parts.front().keyed)
    return Status::invalid("features: too wide a view, or one without entities");
  made->fingerprints_.resize(width);
  std::vector<bool> taken(width);
  for (const StreamPart& part : parts) {
    for (std::size_t at = 0; at < part.columns.size(); ++at) {
      const std::size_t column = part.columns[at];
      if (column >= width || taken[column])
        return Status::invalid("features: the parts of a view have each of its features once");
      taken[column] = true;
      made->fingerprints_[column] = part.plan->view().features[at].fingerprint;
    }
  }
  made->parts_ = std::move(parts);
  return PartsPtr(made);
}

Result<PartsPtr> Parts::make(PlanPtr plan) {
  if (!plan) return Status::invalid("features: an engine needs a plan");
  StreamPart part;
  for (std::size_t at = 0; at < plan->width(); ++at)
    part.columns.push_back(static_cast<std::uint16_t>(at));
  part.plan = std::move(plan);
  return make(std::vector<StreamPart>{std::move(part)});
}

std::vector<SchemaPtr> Parts::others() const {
  std::vector<SchemaPtr> out;
  for (std::size_t at = 1; at < parts_.size(); ++at) {
    const SchemaPtr& schema = parts_[at].plan->schema();
    if (std::none_of(out.begin(), out.end(),
                     [&](const SchemaPtr& one) { return one->stream == schema->stream; }))
      out.push_back(schema);
  }
  return out;
}

// ---------------------------------------------------------------- engines

Joined::Joined(PartsPtr parts) : parts_(std::move(parts)) {
  if (parts_->all().size() == 1) return;
  std::size_t widest = 0;
  for (const StreamPart& part : parts_->all()) widest = std::max(widest, part.columns.size());
  values_.resize(widest);
  coverage_.resize(widest);
  states_.resize(widest);
  reasons_.resize(widest);
  ages_.resize(widest);
}

Result<std::unique_ptr<Joined>> Joined::create(PartsPtr parts) {
  std::unique_ptr<Joined> made(new Joined(std::move(parts)));
  for (const StreamPart& part : made->parts_->all()) {
    EDGECORE_ASSIGN(auto engine, Engine::create(part.plan));
    made->engines_.push_back(std::move(engine));
  }
  return made;
}

template <typename Work>
Status Joined::each_of(std::string_view stream, const Work& work) {
  Status first;
  for (std::size_t at = 0; at < engines_.size(); ++at) {
    if (stream_of(parts_->all()[at]) != stream) continue;
    const Status status = work(*engines_[at]);
    if (first.is_ok()) first = status;
  }
  return first;
}

Status Joined::update(const RowBatch& rows, std::size_t first, std::size_t count,
                      std::uint64_t position) {
  if (engines_.size() == 1) return engines_.front()->update(rows, first, count, position);
  return each_of(rows.schema()->stream,
                 [&](Engine& engine) { return engine.update(rows, first, count, position); });
}

Status Joined::take(const RowBatch& rows, std::size_t first, std::size_t count,
                    std::uint64_t position) {
  const auto rest = [&](Engine& engine) {
    const std::uint64_t met = engine.position() < position ? 0 : engine.position() - position + 1;
    if (met >= count) return Status::ok();
    return engine.update(rows, first + met, count - met, position + met);
  };
  return engines_.size() == 1 ? rest(*engines_.front()) : each_of(rows.schema()->stream, rest);
}

Status Joined::gap(std::string_view stream, std::int64_t from_ns, std::int64_t to_ns,
                   std::uint64_t position) {
  return each_of(stream, [&](Engine& engine) {
    return position > engine.position() ? engine.gap(from_ns, to_ns, position) : Status::ok();
  });
}

Status Joined::read_part(std::size_t part, std::string_view entity, std::int64_t as_of_ns) {
  const std::size_t width = parts_->all()[part].columns.size();
  const Status status = engines_[part]->read(entity, as_of_ns,
                                             {{values_.data(), width},
                                              {states_.data(), width},
                                              {ages_.data(), width},
                                              {coverage_.data(), width},
                                              {reasons_.data(), width}});
  if (part == 0 || status.outcome() != Outcome::kStale) return status;
  std::fill_n(values_.begin(), width, std::numeric_limits<double>::quiet_NaN());
  std::fill_n(states_.begin(), width, static_cast<std::uint8_t>(State::kMissing));
  std::fill_n(ages_.begin(), width, kNeverNs);
  std::fill_n(coverage_.begin(), width, 0.0);
  std::fill_n(reasons_.begin(), width, static_cast<std::uint8_t>(Reason::kBehind));
  return Status::ok();
}

void Joined::scatter(const StreamPart& part, const Answers& to) const {
  for (std::size_t at = 0; at < part.columns.size(); ++at) {
    const std::size_t column = part.columns[at];
    to.values[column] = values_[at];
    to.states[column] = states_[at];
    if (!to.ages_ns.empty()) to.ages_ns[column] = ages_[at];
    if (!to.coverage.empty()) to.coverage[column] = coverage_[at];
    if (!to.reasons.empty()) to.reasons[column] = reasons_[at];
  }
}

Status Joined::read(std::string_view entity, std::int64_t as_of_ns, const Answers& to) {
  if (engines_.size() == 1) return engines_.front()->read(entity, as_of_ns, to);
  const auto fits = [this](std::size_t size) { return size == width() || size == 0; };
  if (to.values.size() != width() || to.states.size() != width() || !fits(to.ages_ns.size()) ||
      !fits(to.coverage.size()) || !fits(to.reasons.size()))
    return Status::invalid("features: room for " + std::to_string(width()) + " answers is needed");
  for (std::size_t at = 0; at < engines_.size(); ++at) {
    const StreamPart& part = parts_->all()[at];
    EDGECORE_TRY(read_part(at, part.keyed ? entity : std::string_view(), as_of_ns));
    scatter(part, to);
  }
  return Status::ok();
}

std::uint64_t Joined::position() const {
  std::uint64_t highest = 0;
  for (const auto& engine : engines_) highest = std::max(highest, engine->position());
  return highest;
}

std::optional<std::int64_t> Joined::final_before() const {
  std::optional<std::int64_t> lowest;
  for (const auto& engine : engines_) {
    const auto one = engine->final_before();
    if (!one) return std::nullopt;
    lowest = std::min(*one, lowest.value_or(*one));
  }
  return lowest;
}

bool Joined::is_final(std::string_view entity, std::int64_t as_of_ns) const {
  for (std::size_t at = 0; at < engines_.size(); ++at)
    if (!engines_[at]->is_final(parts_->all()[at].keyed ? entity : std::string_view(), as_of_ns))
      return false;
  return true;
}

std::vector<SetAside> Joined::take_set_aside() {
  std::vector<SetAside> out = engines_.front()->take_set_aside();
  for (std::size_t at = 1; at < engines_.size(); ++at)
    for (SetAside& one : engines_[at]->take_set_aside()) {
      one.part = static_cast<std::uint16_t>(at);
      out.push_back(one);
    }
  if (engines_.size() > 1)
    std::stable_sort(out.begin(), out.end(), [](const SetAside& one, const SetAside& other) {
      return one.position < other.position;
    });
  return out;
}

// ---------------------------------------------------------------- snapshot

Bytes Joined::snapshot() const {
  if (engines_.size() == 1) return engines_.front()->snapshot();
  Bytes out;
  ByteWriter writer(out);
  writer.put_bytes(std::as_bytes(std::span(kMagic)));
  writer.put(kVersion);
  writer.put(static_cast<std::uint16_t>(engines_.size()));
  for (const auto& engine : engines_) {
    const Bytes one = engine->snapshot();
    writer.put(static_cast<std::uint64_t>(one.size()));
    writer.put_bytes(one);
  }
  writer.put_bytes(blake3(out));
  return out;
}

Result<std::unique_ptr<Joined>> Joined::restore(PartsPtr parts, ByteSpan bytes) {
  std::unique_ptr<Joined> made(new Joined(std::move(parts)));
  const auto& all = made->parts_->all();
  std::vector<ByteSpan> kept{bytes};
  if (all.size() > 1) {
    EDGECORE_ASSIGN(kept, unpack(bytes, all.size()));
  }
  for (std::size_t at = 0; at < all.size(); ++at) {
    EDGECORE_ASSIGN(auto engine, Engine::restore(all[at].plan, kept[at]));
    made->engines_.push_back(std::move(engine));
  }
  return made;
}

}  // namespace edgecore::features
