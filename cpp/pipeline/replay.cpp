// How a pipeline comes to where its log is: snapshot, replay, and verdicts that are to have seen
// rows from before they were set.
#include <algorithm>

#include "pipeline/pipeline.hpp"

namespace edgecore::pipeline {
namespace {

constexpr std::uint32_t kMagic = 0x53504345;  // "ECPS"
constexpr std::uint16_t kVersion = 1;

}  // namespace

// Rows behind this position that have no serving prediction lost it to a crash.
std::uint64_t Pipeline::owed_after() const {
  for (const Part part : {Part::kActive, Part::kFallback, Part::kRule})
    if (const Role* one = find_role(part)) return one->spec().at;
  return UINT64_MAX;
}

Pipeline::Task Pipeline::task_of(std::uint64_t position, const Recordings& recordings) const {
  Task task;
  for (const Part part : {Part::kActive, Part::kShadow, Part::kFallback})
    if (const Role* one = find_role(part))
      task.judge[index(part)] = recordings.judged(position, part, one->spec());
  task.serve = !recordings.served(position) && position > owed_after();
  // A row's predictions are one record: with the served one the shadow's was lost.
  const Role* shadow = find_role(Part::kShadow);
  task.shadow = shadow != nullptr && position > shadow->spec().at && (task.serve || !serves()) &&
                !recordings.has(position, shadow->spec());
  return task;
}

Status Pipeline::replay_rows(const RowBatch& rows, std::size_t first, std::uint64_t position,
                             const Recordings& recordings, Predictions& scratch) {
  for (; first < rows.count(); first += kChunkRows, position += kChunkRows) {
    const std::size_t count = std::min(kChunkRows, rows.count() - first);
    read_chunk(rows, first, count, position);
    scratch.served.clear();
    scratch.shadow.clear();
    for (std::size_t i = 0; i < count; ++i)
      answer(rows, first + i, i, position + i, task_of(position + i, recordings), scratch);
    position_ = position + count - 1;
    counters_.replayed += count;
    counters_.completed += scratch.served.size();
    if (owed_.count() >= kSettleRows) EDGECORE_TRY(settle());
  }
  return Status::ok();
}

Status Pipeline::replay() {
  EDGECORE_TRY(settle());
  EDGECORE_TRY(log_->flush());
  const std::uint64_t next = log_->next_sequence(partition_);
  const std::uint64_t beside_next = this->beside_next();
  LogReader reader = log_->reader();
  std::uint64_t low = position_;
  for (const Part part : {Part::kActive, Part::kShadow, Part::kFallback})
    if (const Role* one = find_role(part)) low = std::min(low, one->folded_to());
  EDGECORE_ASSIGN(const Recordings recordings,
                  Recordings::read(reader, prediction_, low, serving_));
  EDGECORE_TRY(catch_up(reader, recordings));
  Predictions scratch;
  const auto take = [&](const RowBatch& rows, std::size_t first, std::uint64_t position) {
    return replay_rows(rows, first, position, recordings, scratch);
  };
  std::vector<Visit> visits = beside(*engine_);
  visits.push_back({source_, take});
  EDGECORE_TRY(visit_rows(reader, visits, position_, reader.position_max()));
  next_ = next;
  beside_met_ = beside_next;
  return settle();
}

void Pipeline::catch_up_row(const RowBatch& rows, std::size_t row, std::uint64_t position,
                            const Recordings& recordings) {
  for (const Part part : {Part::kActive, Part::kShadow, Part::kFallback}) {
    Role* const one = role(part).get();
    if (one == nullptr || one->retired() || one->folded_to() >= position) continue;
    one->fold_to(position);
    if (readable_[0] == 0) continue;
    if (!recordings.judged(position, part, one->spec())) continue;
    quantise(*one, 0, 0);
    one->run(1);
    if (one->answered(0))
      static_cast<void>(one->finish(0, rows.time_ns(row)));
    else if (part != Part::kActive && !is_refusal(one->why(0)))
      one->retire();
  }
}

// Brings verdicts that are behind the features up to them, through fresh features: the pipeline's
// own can't go back.
Status Pipeline::catch_up(LogReader& reader, const Recordings& recordings) {
  bool behind = false;
  for (const Part part : {Part::kActive, Part::kShadow, Part::kFallback})
    if (const Role* one = find_role(part)) behind = behind || one->folded_to() < position_;
  if (!behind) return Status::ok();
  EDGECORE_ASSIGN(auto engine, features::Joined::create(parts_));
  const Counters before = counters_;  // these rows were counted when they came
  const auto take = [&](const RowBatch& rows, std::size_t first, std::uint64_t position) {
    for (std::size_t row = first; row < rows.count(); ++row, ++position) {
      read_features(*engine, rows, row, position, 0);
      catch_up_row(rows, row, position, recordings);
    }
    return Status::ok();
  };
  std::vector<Visit> visits = beside(*engine);
  visits.push_back({source_, take});
  const Status status = visit_rows(reader, visits, 0, position_);
  counters_ = before;
  return status;
}

// ---------------------------------------------------------------- snapshot

Result<Bytes> Pipeline::snapshot() {
  EDGECORE_TRY(settle());
  EDGECORE_TRY(follow());
  // Positions behind the durable mark may be given to other rows after a crash.
  if (log_->position() > 0) EDGECORE_TRY(log_->wait_durable(log_->position()));
  const Bytes engine = engine_->snapshot();
  Bytes out;
  out.reserve(engine.size() + 4096);
  ByteWriter writer(out);
  writer.put(kMagic);
  writer.put(kVersion);
  writer.put(std::uint16_t{0});
  writer.put_bytes(log_->store());
  writer.put_bytes(parts_->own().view().fingerprint);
  writer.put(position_);
  std::uint32_t count = 0;
  for (std::size_t part = 0; part < kModelParts; ++part)
    count += roles_[part] != nullptr && !roles_[part]->retired();
  writer.put(count);
  for (std::size_t part = 0; part < kModelParts; ++part) {
    if (roles_[part] == nullptr || roles_[part]->retired()) continue;
    const Bytes state = roles_[part]->verdict_state();
    writer.put_bytes(roles_[part]->spec().run);
    writer.put(roles_[part]->folded_to());
    writer.put(static_cast<std::uint32_t>(state.size()));
    writer.put_bytes(state);
  }
  writer.put(static_cast<std::uint64_t>(engine.size()));
  writer.put_bytes(engine);
  writer.put_bytes(blake3(out));
  return out;
}

Status Pipeline::restore(ByteSpan snapshot) {
  const Status damaged = Status::corrupt("the pipeline snapshot is damaged");
  constexpr std::size_t kSealBytes = sizeof(Digest);
  if (snapshot.size() < kSealBytes) return damaged;
  const ByteSpan body = snapshot.first(snapshot.size() - kSealBytes);
  const Digest seal = blake3(body);
  if (std::memcmp(seal.data(), body.data() + body.size(), kSealBytes) != 0) return damaged;
  ByteReader reader(body);
  std::uint32_t magic = 0, count = 0;
  std::uint16_t version = 0, zero = 0;
  std::uint64_t position = 0, length = 0;
  ByteSpan store, view, bytes;
  if (!reader.take(magic) || magic != kMagic || !reader.take(version) || !reader.take(zero))
    return damaged;
  if (version != kVersion) return Status::incompatible("pipeline snapshot: version not known");
  if (!reader.take_bytes(sizeof(StoreId), store) || !reader.take_bytes(sizeof(Digest), view) ||
      !reader.take(position) || !reader.take(count) || count > kModelParts)
    return damaged;
  if (std::memcmp(store.data(), log_->store().data(), store.size()) != 0)
    return Status::incompatible("the pipeline snapshot belongs to another store");
  if (std::memcmp(view.data(), parts_->own().view().fingerprint.data(), view.size()) != 0)
    return Status::incompatible("the pipeline snapshot is of another view");
  const Status ahead =
      Status::stale("the log ends before the pipeline snapshot; replay from the beginning");
  if (position > log_->position()) return ahead;
  std::vector<std::tuple<Role*, Verdict, std::uint64_t>> verdicts;
  for (std::uint32_t i = 0; i < count; ++i) {
    ByteSpan run, state;
    std::uint64_t folded = 0;
    std::uint32_t size = 0;
    if (!reader.take_bytes(sizeof(Digest), run) || !reader.take(folded) || !reader.take(size) ||
        !reader.take_bytes(size, state))
      return damaged;
    for (std::size_t part = 0; part < kModelParts; ++part) {
      Role* const one = roles_[part].get();
      if (one == nullptr || std::memcmp(one->spec().run.data(), run.data(), run.size()) != 0)
        continue;
      EDGECORE_ASSIGN(Verdict verdict, one->verdict_from(state));
      verdicts.emplace_back(one, std::move(verdict), folded);
    }
  }
  if (!reader.take(length) || length != reader.remaining() ||
      !reader.take_bytes(static_cast<std::size_t>(length), bytes))
    return damaged;
  EDGECORE_ASSIGN(auto engine, features::Joined::restore(parts_, bytes));
  if (engine->position() > log_->position()) return ahead;  // by what stands beside the source
  engine_ = std::move(engine);
  for (auto& [one, verdict, folded] : verdicts) one->resume(std::move(verdict), folded);
  position_ = position;
  return Status::ok();
}

}  // namespace edgecore::pipeline
