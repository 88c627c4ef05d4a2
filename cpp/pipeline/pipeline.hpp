// The one path of an event on a device: log, features, model input, models by role, verdict, and
// the prediction as an event of the same log.
//
// Invariants
// - A row of the source stream gets one serving prediction (active, else fallback, else rule; a row
//   that nothing can judge gets one that says so), at a later position of the same log, so it is
//   never durable before the row it answers.
// - Answers depend on the log alone: the same rows give the same bits one at a time, in batches,
//   and after a restart from a snapshot or from nothing.
// - All state moves in process() and replay(); roles change only between them.
//
// - A row is answered with the rows of other streams, and the gaps, at positions before it, and
//   with none behind it; so is it in every replay.
//
// What each cut leaves behind: source rows without their predictions (the crash came between the
// two appends, or the disk was full), which replay() completes, once; a row of another stream that
// no snapshot knows, which replay() meets at its position; an older snapshot, which only makes
// replay() longer. A row of another stream that the crash took was met by no row that is left: its
// position is behind theirs, and no snapshot is given out before it is durable. The source stream
// belongs to its pipeline: rows that were appended around it are noticed by the next process() and
// taken in by replay(). To the other streams anyone appends.
//
// Not thread-safe.
#pragma once

#include <array>
#include <functional>

#include "features/joined.hpp"
#include "log/log.hpp"
#include "pipeline/gap.hpp"
#include "pipeline/history.hpp"

namespace edgecore::pipeline {

struct Predictions {
  Appended appended;               // the source rows
  std::vector<Prediction> served;  // one per row; empty while no role serves
  std::vector<Prediction> shadow;
  bool recorded = true;  // false: the log is full; the predictions wait and go first next time
};

struct Counters {
  std::uint64_t rows = 0;         // answered or taken in, live
  std::uint64_t replayed = 0;     // rows met by replay()
  std::uint64_t completed = 0;    // of them, those whose predictions were missing
  std::uint64_t by_fallback = 0;  // served by the fallback
  std::uint64_t by_rule = 0;      // served by the rule
  // By role: rows that it was asked for and that were not fit for it (is_refusal).
  std::array<std::uint64_t, kParts> refused{};
  std::uint64_t unanswered = 0;      // no model and no rule could answer: not judged
  std::uint64_t late = 0;            // rows beyond the view's lateness: not judged
  std::uint64_t feature_errors = 0;  // rows that the feature engine refused: not judged
};

class Pipeline {
 public:
  // `source` is the schema of the view's own stream; it, those of the other streams that the view
  // reads, and `prediction` are registered with the log. `serving` are the contexts in the log
  // whose role serves (active, fallback, rule). With `gap`, the schema of edgecore.gap, the gaps
  // that the log tells of lower the coverage of features from their positions on; they may be
  // appended by anyone, between any two rows.
  static Result<std::unique_ptr<Pipeline>> create(std::shared_ptr<Log> log,
                                                  features::PartsPtr parts, SchemaPtr source,
                                                  SchemaPtr prediction,
                                                  const std::vector<std::uint32_t>& serving,
                                                  SchemaPtr gap = nullptr);

  // Puts a role in place. A verdict that is to have seen rows which the pipeline is past already
  // (spec.since) is brought up by replaying the log; on any error the old role stays.
  Status set_role(Part part, RoleSpec spec);
  void clear_role(Part part) { role(part).reset(); }
  const Role* find_role(Part part) const { return roles_[index(part)].get(); }

  // How work that waits for the disk is done. A shell that holds a lock of its own gives it up
  // around the call.
  using Waiter = std::function<Status(const std::function<Status()>&)>;
  void set_waiter(Waiter waiter) { wait_ = std::move(waiter); }

  // Appends the rows, then answers each in order. On an error nothing was taken.
  // `out` is reused: with the same batch size nothing is allocated but by the log.
  Status process(const RowBatch& rows, Predictions& out);

  // Rows of other streams, and gaps, that the log holds and the features have not met: process()
  // does it before it appends. Nothing while source rows wait for replay().
  Status follow();
  // Rows of another stream of the view that were just appended, the first at `position`: met at
  // once where nothing came between, else as by follow().
  void observe(const RowBatch& rows, std::uint64_t position);

  // Takes in what the log holds behind position(), and completes what has no prediction.
  Status replay();

  // docs/formats/pipeline-snapshot.md. Waits until everything it rests on is durable.
  Result<Bytes> snapshot();
  // Before replay(), with the roles set. Stale: it is ahead of the log. On an error nothing
  // changed, and replay() starts from the beginning.
  Status restore(ByteSpan snapshot);

  std::uint64_t position() const { return position_; }       // of the last source row taken in
  std::uint64_t met() const { return engine_->position(); }  // of the last row of any stream
  const Counters& counters() const { return counters_; }
  const features::Joined& engine() const { return *engine_; }
  // Rows that the features did not count, since the last call; restore() begins anew.
  std::vector<features::SetAside> take_set_aside() { return engine_->take_set_aside(); }

 private:
  // What is to be done with one row.
  struct Task {
    std::array<bool, kModelParts> judge{true, true, true};
    bool serve = true;
    bool shadow = true;
  };

  static constexpr std::size_t kChunkRows = 64;     // rows that meet a step together
  static constexpr std::size_t kSettleRows = 1024;  // predictions that make one record

  Pipeline(std::shared_ptr<Log> log, features::PartsPtr parts, SchemaPtr source,
           SchemaPtr prediction);
  static constexpr std::size_t index(Part part) { return static_cast<std::size_t>(part); }
  std::unique_ptr<Role>& role(Part part) { return roles_[index(part)]; }
  bool serves() const;
  std::uint64_t owed_after() const;

  bool read_features(features::Joined& engine, const RowBatch& rows, std::size_t row,
                     std::uint64_t position, std::size_t slot);
  void read_chunk(const RowBatch& rows, std::size_t first, std::size_t count,
                  std::uint64_t position);
  void answer(const RowBatch& rows, std::size_t row, std::size_t slot, std::uint64_t position,
              const Task& task, Predictions& out);
  void answer_without_model(std::size_t slot, Prediction& out);
  void quantise(Role& role, std::size_t row, std::size_t slot);
  std::span<std::int64_t> ages_of(std::size_t slot) {
    if (ages_.empty()) return {};
    return {ages_.data() + slot * parts_->width(), parts_->width()};
  }
  void note(Part part, Why why, Prediction& out);
  Result<Appended> append(const RowBatch& rows);
  Status settle();
  std::uint64_t beside_next() const;
  Status take_beside(std::uint64_t until);
  void take_other(features::Joined& engine, const RowBatch& rows, std::size_t first,
                  std::uint64_t position);
  std::vector<Visit> beside(features::Joined& engine);

  Task task_of(std::uint64_t position, const Recordings& recordings) const;
  Status replay_rows(const RowBatch& rows, std::size_t first, std::uint64_t position,
                     const Recordings& recordings, Predictions& scratch);
  Status catch_up(LogReader& reader, const Recordings& recordings);
  void catch_up_row(const RowBatch& rows, std::size_t row, std::uint64_t position,
                    const Recordings& recordings);
  std::string_view entity_of(const RowBatch& rows, std::size_t row) const;

  std::shared_ptr<Log> log_;
  features::PartsPtr parts_;
  SchemaPtr source_;
  SchemaPtr prediction_;
  PredictionColumns columns_;
  int entity_ = -1;  // field of the source that names the entity; -1: the stream is one
  std::uint32_t partition_ = 0;
  std::uint64_t next_ = 1;  // the source sequence that process() expects to be given
  SchemaPtr gap_;           // may be null
  GapColumns gap_columns_;
  // Streams that others append to, between any two source rows: gaps, and those that are joined.
  std::vector<std::uint32_t> beside_;  // their partitions
  std::uint64_t beside_met_ = 0;       // beside_next() when the features had met them
  std::uint64_t position_ = 0;
  std::unique_ptr<features::Joined> engine_;
  std::array<std::unique_ptr<Role>, kParts> roles_;
  std::set<std::uint32_t> serving_;
  RowBatch owed_;               // predictions not yet appended
  std::vector<double> values_;  // of one chunk, row-major
  std::vector<std::uint8_t> states_;
  std::vector<std::int64_t> ages_;      // empty while no role needs them
  std::vector<std::uint8_t> readable_;  // per row of the chunk
  Counters counters_;
  Waiter wait_ = [](const std::function<Status()>& work) { return work(); };
};

}  // namespace edgecore::pipeline
