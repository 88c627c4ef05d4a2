// Engine state as bytes, docs/formats/feature-snapshot.md: the events that may still matter, in
// order. Sums and cursors are derived again, so damaged bytes can't make them disagree.
#include <algorithm>
#include <limits>
#include <map>

#include "base/crc32c.hpp"
#include "features/engine_impl.hpp"

namespace edgecore::features {
namespace {

constexpr std::string_view kMagic = "ECFEATUR";
constexpr std::uint16_t kVersion = 2;
constexpr std::uint32_t kRequiredKnown = 0;

// ---------------------------------------------------------------- writing

void put_text(ByteWriter& out, std::string_view text) {
  out.put(static_cast<std::uint32_t>(text.size()));
  out.put_text(text);
}

// The first event that order keys are kept for.
std::uint32_t first_keyed(const SeriesPlan& plan, const Series& series, std::int64_t open) {
  if (!plan.needs_order) return series.end();
  return open == INT64_MIN ? series.begin_after(open) : series.begin_after(open - 1);
}

constexpr std::size_t kKeyBytes = sizeof(std::uint32_t) + sizeof(std::uint64_t);

// Sources that order keys name, numbered by name.
using SourceNumbers = std::map<std::string_view, std::uint32_t>;

void put_series(ByteWriter& out, const SeriesPlan& plan, const Series& series, std::int64_t newest,
                std::int64_t lateness, const SourceNumbers& numbers, const Sources& sources) {
  const std::int64_t pruned = saturating_sub(newest, plan.retention_ns);
  const Newest settled = series.settled(plan, pruned);
  const std::uint32_t begin = series.begin_after(pruned);
  const std::uint32_t keyed = first_keyed(plan, series, saturating_sub(newest, lateness));
  out.put(static_cast<std::uint8_t>(settled.any));
  if (settled.any) {
    out.put(settled.time);
    out.put(settled.stored);
  }
  out.put(series.end() - begin);
  out.put(series.end() - keyed);
  for (auto at = begin; at < series.end(); ++at) out.put(series.time(at));
  for (auto at = begin; at < series.end() && plan.grid != Grid::kNone; ++at) {
    const std::int64_t stored = series.stored(plan, at);
    if (plan.narrow)
      out.put(static_cast<std::uint32_t>(stored - plan.low));
    else
      out.put(stored);
  }
  for (auto at = keyed; at < series.end(); ++at) {
    const OrderKey key = series.key(at);
    out.put(numbers.at(sources.name(key.source)));
    out.put(key.sequence);
  }
}

// What put_series writes.
std::uint64_t bytes_of(const SeriesPlan& plan, const Series& series, std::int64_t newest,
                       std::int64_t lateness) {
  const std::int64_t pruned = saturating_sub(newest, plan.retention_ns);
  const std::uint64_t events = series.end() - series.begin_after(pruned);
  const std::uint64_t keyed =
      series.end() - first_keyed(plan, series, saturating_sub(newest, lateness));
  const std::uint64_t settled = series.settled(plan, pruned).any ? 2 * sizeof(std::int64_t) : 0;
  const std::uint64_t each = plan.grid == Grid::kNone ? 0 : plan.narrow ? 4 : 8;
  return 1 + settled + 2 * sizeof(std::uint32_t) + events * (sizeof(std::int64_t) + each) +
         keyed * kKeyBytes;
}

// ---------------------------------------------------------------- reading

Status damaged(const char* what) {
  return Status::corrupt(std::string("feature snapshot: ") + what);
}

bool take_text(ByteReader& in, std::string_view& out) {
  std::uint32_t size = 0;
  ByteSpan bytes;
  if (!in.take(size) || !in.take_bytes(size, bytes)) return false;
  out = as_text(bytes);
  return true;
}

// A source that the snapshot names, and whether an order key does.
struct NamedSource {
  std::uint32_t id = 0;
  bool used = false;
};

// Events of one series, checked against its plan as they are put in.
class SeriesReader {
 public:
  SeriesReader(const SeriesPlan& plan, std::int64_t newest, std::int64_t lateness,
               std::vector<NamedSource>& named, const Sources& sources)
      : plan_(plan),
        newest_(newest),
        pruned_(saturating_sub(newest, plan.retention_ns)),
        open_(saturating_sub(newest, lateness)),
        named_(named),
        sources_(sources) {}

  Status read(ByteReader& in, Series& series) {
    EDGECORE_TRY(read_settled(in, series));
    std::uint32_t count = 0;
    std::uint32_t keyed = 0;
    if (!in.take(count) || !in.take(keyed)) return damaged("ends in a series");
    if (count > kEventsMax || keyed > count) return damaged("impossible event counts");
    const std::size_t each = plan_.grid == Grid::kNone ? 0 : plan_.narrow ? 4 : 8;
    ByteSpan times;
    ByteSpan values;
    ByteSpan keys;
    if (!in.take_bytes(count * sizeof(std::int64_t), times) ||
        !in.take_bytes(count * each, values) || !in.take_bytes(keyed * kKeyBytes, keys))
      return damaged("ends in a series");
    const std::uint32_t keyless = count - keyed;
    std::int64_t last = std::numeric_limits<std::int64_t>::min();
    for (std::uint32_t i = 0; i < count; ++i) {
      Event event;
      event.time = load_le<std::int64_t>(times.data() + i * sizeof(std::int64_t));
      if (each == 4)
        event.stored = plan_.low + load_le<std::uint32_t>(values.data() + i * each);
      else if (each == 8)
        event.stored = load_le<std::int64_t>(values.data() + i * each);
      if (event.time < last) return damaged("events out of order");
      last = event.time;
      EDGECORE_TRY(check(event, i >= keyless));
      if (i >= keyless) EDGECORE_TRY(take_key(keys.data() + (i - keyless) * kKeyBytes, event));
      if (!series.reserve(plan_, newest_)) return damaged("impossible event counts");
      series.insert(plan_, event, open_, sources_);
    }
    return Status::ok();
  }

 private:
  bool in_bounds(std::int64_t stored) const {
    return plan_.grid == Grid::kNone ? stored == 0 : stored >= plan_.low && stored <= plan_.high;
  }
  Status check(const Event& event, bool keyed) const {
    if (event.time <= pruned_ || event.time > newest_) return damaged("an event out of its time");
    if (!in_bounds(event.stored)) return damaged("a value out of its range");
    if (keyed != (plan_.needs_order && event.time >= open_))
      return damaged("order keys of the wrong events");
    return Status::ok();
  }
  Status read_settled(ByteReader& in, Series& series) const {
    std::uint8_t any = 0;
    Newest settled;
    if (!in.take(any) || any > 1) return damaged("ends in a series");
    if (any == 0) return Status::ok();
    settled.any = true;
    if (!in.take(settled.time) || !in.take(settled.stored)) return damaged("ends in a series");
    if (settled.time > pruned_ || !in_bounds(settled.stored))
      return damaged("an event out of its time or range");
    series.set_settled(settled);
    return Status::ok();
  }
  Status take_key(const std::byte* from, Event& event) {
    const auto number = load_le<std::uint32_t>(from);
    if (number >= named_.size()) return damaged("an unknown source");
    named_[number].used = true;
    event.key = {load_le<std::uint64_t>(from + sizeof number), named_[number].id};
    return Status::ok();
  }

  const SeriesPlan& plan_;
  std::int64_t newest_, pruned_, open_;
  std::vector<NamedSource>& named_;
  const Sources& sources_;
};

}  // namespace

std::uint64_t Entity::state_bytes(const Plan& plan) const {
  std::uint64_t total = sizeof(std::uint32_t) + sizeof(std::int64_t);  // length of the name, newest
  for (std::size_t i = 0; i < plan.series().size(); ++i)
    total += bytes_of(plan.series()[i], series_[i], newest_, plan.view().lateness_ns);
  return total;
}

void Engine::Impl::put_rules(ByteWriter& out) const {
  out.put(ahead_rows);
  out.put(evicted);
  out.put(evicted_newest);
  guard.put(out);
  watermark.put(out);
  gaps.put(out);
}

Bytes Engine::snapshot() const {
  const Impl& impl = *impl_;
  const Plan& plan = *impl.plan;
  const std::int64_t lateness = plan.view().lateness_ns;
  std::vector<std::uint32_t> ids;  // by name, so that the bytes do not tell the order of arrival
  for (std::uint32_t id = 0; id < impl.names.size(); ++id)
    if (impl.entities[id].seen()) ids.push_back(id);
  std::sort(ids.begin(), ids.end(), [&](std::uint32_t a, std::uint32_t b) {
    return impl.names.name(a) < impl.names.name(b);
  });
  SourceNumbers numbers;
  for (const std::uint32_t id : ids) {
    const Entity& entity = impl.entities[id];
    for (std::size_t i = 0; i < plan.series().size(); ++i) {
      const Series& series = entity.series(i);
      const std::int64_t open = saturating_sub(entity.newest(), lateness);
      for (auto at = first_keyed(plan.series()[i], series, open); at < series.end(); ++at)
        numbers.emplace(impl.sources.name(series.key(at).source), 0);
    }
  }
  const ByteSpan magic = as_byte_span(kMagic);
  Bytes bytes(magic.begin(), magic.end());
  ByteWriter out(bytes);
  out.put(kVersion);
  out.put(kRequiredKnown);
  out.put(std::uint32_t{0});  // optional features
  out.put_bytes(plan.state_digest());
  out.put(impl.position);
  out.put(impl.late_rows);
  impl.put_rules(out);
  out.put(static_cast<std::uint32_t>(numbers.size()));
  std::uint32_t next = 0;
  for (auto& [name, number] : numbers) {
    number = next++;
    put_text(out, name);
  }
  out.put(static_cast<std::uint32_t>(ids.size()));
  for (const std::uint32_t id : ids) {
    const Entity& entity = impl.entities[id];
    put_text(out, impl.names.name(id));
    out.put(entity.newest());
    for (std::size_t i = 0; i < plan.series().size(); ++i)
      put_series(out, plan.series()[i], entity.series(i), entity.newest(), lateness, numbers,
                 impl.sources);
  }
  out.put(crc32c(bytes));
  return bytes;
}

Status Engine::Impl::read_head(ByteReader& in) {
  ByteSpan magic;
  ByteSpan digest;
  std::uint16_t version = 0;
  std::uint32_t required = 0;
  std::uint32_t optional = 0;
  if (!in.take_bytes(kMagic.size(), magic) || as_text(magic) != kMagic)
    return damaged("not one, by its first bytes");
  if (!in.take(version) || !in.take(required) || !in.take(optional)) return damaged("too short");
  if (version != kVersion || (required & ~kRequiredKnown) != 0)
    return Status::incompatible("feature snapshot: version " + std::to_string(version) +
                                " is not in this build; replay the log instead");
  if (!in.take_bytes(sizeof(Digest), digest)) return damaged("too short");
  if (!std::equal(digest.begin(), digest.end(), plan->state_digest().begin()))
    return Status::incompatible("feature snapshot: of another view than '" + plan->view().name +
                                "'; replay the log instead");
  if (!in.take(position) || !in.take(late_rows)) return damaged("too short");
  return Status::ok();
}

Status Engine::Impl::read_rules(ByteReader& in) {
  const Rules& rules = plan->view().rules;
  if (!in.take(ahead_rows) || !in.take(evicted) || !in.take(evicted_newest))
    return damaged("too short");
  // Each row has a position of its own, and lets go of no more than the entity it added.
  if (late_rows > position || ahead_rows > position - late_rows || evicted > position)
    return damaged("more rows than its position");
  if (!guard.take(in)) return damaged("an impossible guard");
  if (!watermark.take(in)) return damaged("an impossible watermark");
  if (!gaps.take(in)) return damaged("impossible gaps");
  if (rules.max_ahead_ns == 0 && (ahead_rows > 0 || guard.any()))
    return damaged("a guard that is not kept");
  if (watermark.low() && rules.idle_ns == 0) return damaged("a watermark that is not kept");
  if (evicted > 0 && !rules.bounded()) return damaged("entities let go without a bound");
  if (evicted == 0 && evicted_newest != INT64_MIN)
    return damaged("the time of an entity let go, of none");
  return Status::ok();
}

Status Engine::Impl::read_entities(ByteReader& in) {
  const Rules& rules = plan->view().rules;
  std::uint32_t count = 0;
  if (!in.take(count)) return damaged("too short");
  if (count > kSourcesMax) return damaged("impossible source counts");
  std::vector<NamedSource> named;
  std::string_view name;
  std::string_view last;
  for (std::uint32_t i = 0; i < count; ++i, last = name) {
    if (!take_text(in, name)) return damaged("ends in its sources");
    if (i > 0 && name <= last) return damaged("a source twice or out of order");
    named.push_back({sources.intern(name)});
  }
  if (!in.take(count)) return damaged("too short");
  if (count > kEntitiesMax) return damaged("impossible entity counts");
  for (std::uint32_t e = 0; e < count; ++e, last = name) {
    std::int64_t newest = 0;
    if (!take_text(in, name) || !in.take(newest)) return damaged("ends in an entity");
    if (e > 0 && name <= last) return damaged("an entity twice or out of order");
    EDGECORE_ASSIGN(const std::uint32_t id, entity_of(name));
    Entity& entity = entities[id];
    entity.set_newest(newest);
    for (std::size_t i = 0; i < plan->series().size(); ++i) {
      SeriesReader reader(plan->series()[i], newest, plan->view().lateness_ns, named, sources);
      EDGECORE_TRY(reader.read(in, entity.series(i)));
    }
    if (!rules.bounded()) continue;
    order.insert(newest, id);
    if (rules.max_bytes > 0) bytes += bytes_of(id);
  }
  if ((rules.max_entities > 0 && count > rules.max_entities) ||
      (rules.max_bytes > 0 && bytes > rules.max_bytes))
    return damaged("more than the view's bound");
  if (!std::all_of(named.begin(), named.end(), [](const NamedSource& one) { return one.used; }))
    return damaged("a source that no order key names");
  return in.remaining() == 0 ? Status::ok() : damaged("bytes behind its end");
}

Result<std::unique_ptr<Engine>> Engine::restore(PlanPtr plan, ByteSpan bytes) {
  EDGECORE_ASSIGN(auto engine, create(std::move(plan)));
  if (bytes.size() < sizeof(std::uint32_t)) return damaged("too short");
  const ByteSpan body = bytes.first(bytes.size() - sizeof(std::uint32_t));
  if (load_le<std::uint32_t>(body.data() + body.size()) != crc32c(body))
    return damaged("its checksum fails");
  ByteReader in(body);
  EDGECORE_TRY(engine->impl_->read_head(in));
  EDGECORE_TRY(engine->impl_->read_rules(in));
  EDGECORE_TRY(engine->impl_->read_entities(in));
  return engine;
}

}  // namespace edgecore::features
