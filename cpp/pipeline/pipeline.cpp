#include "pipeline/pipeline.hpp"

#include <algorithm>
#include <limits>

namespace edgecore::pipeline {

Pipeline::Pipeline(std::shared_ptr<Log> log, features::PartsPtr parts, SchemaPtr source,
                   SchemaPtr prediction)
    : log_(std::move(log)),
      parts_(std::move(parts)),
      source_(std::move(source)),
      prediction_(std::move(prediction)),
      owed_(prediction_) {
  values_.resize(parts_->width() * kChunkRows);
  states_.resize(parts_->width() * kChunkRows);
  readable_.resize(kChunkRows);
}

Result<std::unique_ptr<Pipeline>> Pipeline::create(std::shared_ptr<Log> log,
                                                   features::PartsPtr parts, SchemaPtr source,
                                                   SchemaPtr prediction,
                                                   const std::vector<std::uint32_t>& serving,
                                                   SchemaPtr gap) {
  const features::ViewSpec& view = parts->own().view();
  if (view.stream != source->stream)
    return Status::incompatible("view " + view.name + " reads stream " + view.stream + ", not " +
                                source->stream);
  EDGECORE_ASSIGN(const PredictionColumns columns, PredictionColumns::find(*prediction));
  std::unique_ptr<Pipeline> pipeline(
      new Pipeline(std::move(log), std::move(parts), std::move(source), std::move(prediction)));
  Pipeline& self = *pipeline;
  self.columns_ = columns;
  self.entity_ = self.parts_->own().entity_field();
  self.serving_.insert(serving.begin(), serving.end());
  EDGECORE_ASSIGN(self.engine_, features::Joined::create(self.parts_));
  EDGECORE_ASSIGN(self.partition_, self.log_->register_schema(self.source_));
  EDGECORE_TRY(self.log_->register_schema(self.prediction_).status());
  if (gap) {
    EDGECORE_ASSIGN(self.gap_columns_, GapColumns::find(*gap));
    EDGECORE_ASSIGN(const std::uint32_t partition, self.log_->register_schema(gap));
    self.beside_.push_back(partition);
    self.gap_ = std::move(gap);
  }
  for (const SchemaPtr& other : self.parts_->others()) {
    EDGECORE_ASSIGN(const std::uint32_t partition, self.log_->register_schema(other));
    self.beside_.push_back(partition);
  }
  self.beside_met_ = self.beside_.size();  // the first sequence of each is 1
  return pipeline;
}

bool Pipeline::serves() const {
  for (const Part part : {Part::kActive, Part::kFallback, Part::kRule})
    if (find_role(part) != nullptr) return true;
  return false;
}

Status Pipeline::set_role(Part part, RoleSpec spec) {
  if ((part == Part::kRule) != (spec.executor == nullptr))
    return Status::invalid(std::string(part_word(part)) +
                           (part == Part::kRule ? ": a rule has no model" : ": no model given"));
  EDGECORE_ASSIGN(Role made, Role::make(std::move(spec), *parts_, kChunkRows));
  auto fresh = std::make_unique<Role>(std::move(made));
  if (fresh->needs_ages()) ages_.resize(values_.size());
  std::swap(role(part), fresh);
  const Role& now = *role(part);
  if (part != Part::kRule && now.folded_to() < position_) {
    Status status = log_->flush();
    if (status.is_ok()) {
      LogReader reader = log_->reader();
      const auto past = Recordings::read(reader, prediction_, now.folded_to(), serving_);
      status = past.is_ok() ? catch_up(reader, past.value()) : past.status();
    }
    if (!status.is_ok()) {
      std::swap(role(part), fresh);
      return status;
    }
  }
  if (part != Part::kShadow) serving_.insert(now.spec().context);
  return Status::ok();
}

std::string_view Pipeline::entity_of(const RowBatch& rows, std::size_t row) const {
  return entity_ < 0 ? std::string_view() : rows.text(row, static_cast<std::size_t>(entity_));
}

// ---------------------------------------------------------------- one chunk of rows

// Applies one row and reads the view as of it, into row `slot` of the chunk. What can't be read
// (the row is later, or further ahead, than the view allows) is not made up: the row is not judged.
bool Pipeline::read_features(features::Joined& engine, const RowBatch& rows, std::size_t row,
                             std::uint64_t position, std::size_t slot) {
  const std::size_t width = parts_->width();
  Status status = engine.update(rows, row, 1, position);
  if (status.is_ok() && engine.was_set_aside())
    status = Status::stale("pipeline: a row that its view does not count");
  if (status.is_ok())
    status = engine.read(entity_of(rows, row), rows.time_ns(row),
                         features::Answers{{values_.data() + slot * width, width},
                                           {states_.data() + slot * width, width},
                                           ages_of(slot),
                                           {},
                                           {}});
  readable_[slot] = status.is_ok();
  if (status.outcome() == Outcome::kStale)
    ++counters_.late;
  else if (!status.is_ok())
    ++counters_.feature_errors;
  return status.is_ok();
}

// Row `slot` of the chunk as row `row` of a role.
void Pipeline::quantise(Role& role, std::size_t row, std::size_t slot) {
  const std::size_t width = parts_->width();
  role.quantise(row, {values_.data() + slot * width, width}, {states_.data() + slot * width, width},
                ages_of(slot));
}

// A role that was asked for a row has not answered it.
void Pipeline::note(Part part, Why why, Prediction& out) {
  out.why[index(part)] = why;
  if (is_refusal(why)) ++counters_.refused[index(part)];
}

// Features, model input and model output of rows [first, first + count).
void Pipeline::read_chunk(const RowBatch& rows, std::size_t first, std::size_t count,
                          std::uint64_t position) {
  for (std::size_t i = 0; i < count; ++i) {
    const bool readable = read_features(*engine_, rows, first + i, position + i, i);
    for (std::size_t part = 0; part < kModelParts; ++part) {
      Role* const one = roles_[part].get();
      if (one == nullptr || one->retired()) continue;
      if (readable)
        quantise(*one, i, i);
      else
        one->skip(i);
    }
  }
  for (std::size_t part = 0; part < kModelParts; ++part)
    if (roles_[part] != nullptr && !roles_[part]->retired()) roles_[part]->run(count);
}

// The rule, or the plain statement, in the name of the first role there is, that nothing judged.
void Pipeline::answer_without_model(std::size_t slot, Prediction& out) {
  Role* const rule = role(Part::kRule).get();
  if (rule != nullptr && readable_[slot] != 0) {
    quantise(*rule, 0, slot);
    if (rule->answered(0)) {
      ++counters_.by_rule;
      out.part = Part::kRule;
      out.context = rule->spec().context;
      out.answer = rule->finish(0, out.as_of);
      return;
    }
    note(Part::kRule, rule->why(0), out);
  }
  if (readable_[slot] != 0)
    ++counters_.unanswered;
  else
    out.why.fill(Why::kUncounted);
  for (const Part part : {Part::kRule, Part::kFallback, Part::kActive}) {
    if (find_role(part) == nullptr) continue;
    out.part = part;
    out.context = find_role(part)->spec().context;
  }
  out.answer = unjudged();
}

// Scores and verdicts of one row of a chunk that read_chunk() has been over.
void Pipeline::answer(const RowBatch& rows, std::size_t row, std::size_t slot,
                      std::uint64_t position, const Task& task, Predictions& out) {
  const std::int64_t time_ns = rows.time_ns(row);
  const auto begin = [&](std::vector<Prediction>& list) {
    Prediction& fresh = list.emplace_back();
    fresh.position = position;
    fresh.as_of = time_ns;
  };
  const bool serve = task.serve && serves();
  if (serve) begin(out.served);
  bool have_served = false, have_shadow = false;
  for (const Part part : {Part::kActive, Part::kFallback, Part::kShadow}) {
    Role* const one = role(part).get();
    if (one == nullptr || one->retired()) continue;
    one->fold_to(position);
    if (!task.judge[index(part)]) continue;
    if (readable_[slot] == 0) continue;
    if (!one->answered(slot)) {
      const Why why = one->why(slot);
      if (part == Part::kShadow)
        counters_.refused[index(part)] += task.shadow && is_refusal(why);
      else if (serve && !have_served)
        note(part, why, out.served.back());
      if (part != Part::kActive && !is_refusal(why)) one->retire();
      continue;
    }
    const Answer answer = one->finish(slot, time_ns);
    const bool is_shadow = part == Part::kShadow;
    if (is_shadow ? !task.shadow : !serve || have_served) continue;
    if (is_shadow) begin(out.shadow);
    Prediction& prediction = is_shadow ? out.shadow.back() : out.served.back();
    prediction.part = part;
    prediction.context = one->spec().context;
    prediction.answer = answer;
    (is_shadow ? have_shadow : have_served) = true;
  }
  const std::string_view entity = entity_of(rows, row);
  if (serve) {
    Prediction& served = out.served.back();
    if (!have_served) {
      answer_without_model(slot, served);
    } else if (served.part == Part::kFallback) {
      ++counters_.by_fallback;
    }
    columns_.put(served, entity, owed_);
  }
  if (have_shadow) columns_.put(out.shadow.back(), entity, owed_);
}

Result<Appended> Pipeline::append(const RowBatch& rows) {
  for (;;) {
    EDGECORE_ASSIGN(const Log::Taken taken, log_->take(rows));
    if (taken.reserve) {
      EDGECORE_TRY(wait_([&] { return log_->reserve(rows); }));
      continue;
    }
    if (taken.commit) EDGECORE_TRY(wait_([&] { return log_->settle(taken); }));
    return taken.done;
  }
}

// Appends the predictions that wait. They keep waiting when the log takes none.
Status Pipeline::settle() {
  if (owed_.count() == 0) return Status::ok();
  EDGECORE_TRY(append(owed_).status());
  owed_.clear();
  return Status::ok();
}

// ---------------------------------------------------------------- beside the source

std::uint64_t Pipeline::beside_next() const {
  std::uint64_t sum = 0;
  for (const std::uint32_t partition : beside_) sum += log_->next_sequence(partition);
  return sum;
}

// What a part can't take is left out for it, as in every replay.
void Pipeline::take_other(features::Joined& engine, const RowBatch& rows, std::size_t first,
                          std::uint64_t position) {
  for (std::size_t row = first; row < rows.count(); ++row, ++position)
    if (!engine.take(rows, row, 1, position).is_ok()) ++counters_.feature_errors;
}

// For a walk of the log by which `engine` meets what stands beside the source.
std::vector<Visit> Pipeline::beside(features::Joined& engine) {
  std::vector<Visit> out;
  if (gap_)
    out.push_back({gap_, [this, &engine, met = engine.position()](
                             const RowBatch& rows, std::size_t first, std::uint64_t position) {
                     return gap_columns_.apply(rows, first, position, met, engine);
                   }});
  for (const SchemaPtr& other : parts_->others())
    out.push_back(
        {other, [this, &engine](const RowBatch& rows, std::size_t first, std::uint64_t position) {
           take_other(engine, rows, first, position);
           return Status::ok();
         }});
  return out;
}

// What came beside the source up to a position holds for the next row. The log is read for it only
// when there is any.
Status Pipeline::take_beside(std::uint64_t until) {
  const std::uint64_t next = beside_next();
  if (next == beside_met_) return Status::ok();
  const auto take = [&] {
    EDGECORE_TRY(log_->flush());
    LogReader reader = log_->reader();
    return visit_rows(reader, beside(*engine_), engine_->position(), until);
  };
  EDGECORE_TRY(wait_(take));
  if (until == UINT64_MAX) beside_met_ = next;
  return Status::ok();
}

Status Pipeline::follow() {
  return log_->next_sequence(partition_) == next_ ? take_beside(UINT64_MAX) : Status::ok();
}

void Pipeline::observe(const RowBatch& rows, std::uint64_t position) {
  const std::uint64_t next = beside_next();
  if (next != beside_met_ + rows.count() || log_->next_sequence(partition_) != next_) return;
  take_other(*engine_, rows, 0, position);
  beside_met_ = next;
}

Status Pipeline::process(const RowBatch& rows, Predictions& out) {
  out.served.clear();
  out.shadow.clear();
  out.recorded = true;
  if (serves()) out.served.reserve(rows.count());
  if (find_role(Part::kShadow) != nullptr) out.shadow.reserve(rows.count());
  if (rows.schema()->fingerprint != source_->fingerprint)
    return Status::invalid("the pipeline reads stream " + source_->stream + ", got rows of " +
                           rows.schema()->stream);
  if (log_->next_sequence(partition_) != next_)
    return Status::invalid("stream " + source_->stream +
                           " holds rows that the pipeline has not seen: call replay() first");
  EDGECORE_TRY(take_beside(UINT64_MAX));
  EDGECORE_TRY(settle());
  EDGECORE_ASSIGN(out.appended, append(rows));
  EDGECORE_TRY(take_beside(out.appended.position - 1));  // appended by others meanwhile
  next_ = out.appended.first + out.appended.count;
  const Task task;
  Status settled;
  for (std::size_t first = 0; first < rows.count(); first += kChunkRows) {
    const std::size_t count = std::min(kChunkRows, rows.count() - first);
    const std::uint64_t position = out.appended.position + first;
    read_chunk(rows, first, count, position);
    for (std::size_t i = 0; i < count; ++i) answer(rows, first + i, i, position + i, task, out);
    position_ = position + count - 1;
    counters_.rows += count;
    if (owed_.count() >= kSettleRows && settled.is_ok()) settled = settle();
  }
  if (settled.is_ok()) settled = settle();
  // The rows are in the log and answered; that is not undone because their record must wait.
  out.recorded = settled.is_ok();
  return Status::ok();
}

}  // namespace edgecore::pipeline
