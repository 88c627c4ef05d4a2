// A view as its parts: an ordinary view of each stream that it reads, and of each way of reading
// it. All are read as of one time and give one vector; no operator and no rule knows of it. A view
// of one stream is one part, and costs what its engine does. docs/adr/0035 says why.
//
// Fed in order of position, the parts know at any time what the log did.
#pragma once

#include "features/engine.hpp"

namespace edgecore::features {

// What a view reads of one stream: a plan whose features are those of the view at `columns`, under
// the fingerprints that they have there.
struct StreamPart {
  PlanPtr plan;
  std::vector<std::uint16_t> columns;  // ascending
  bool keyed = true;                   // its entities are the view's; else it is one
};

// The parts of a view, that of its own stream first. Immutable; threads may share it.
class Parts {
 public:
  // Invalid: none, columns that are not each feature once, or the view's own stream is joined.
  static Result<std::shared_ptr<const Parts>> make(std::vector<StreamPart> parts);
  static Result<std::shared_ptr<const Parts>> make(PlanPtr plan);  // of one stream

  const std::vector<StreamPart>& all() const { return parts_; }
  // Of the view's own stream. Its name, entity and fingerprint are those of the view.
  const Plan& own() const { return *parts_.front().plan; }
  std::size_t width() const { return fingerprints_.size(); }
  const std::vector<Digest>& fingerprints() const { return fingerprints_; }  // of the features
  // Schemas of the other streams, each once.
  std::vector<SchemaPtr> others() const;

 private:
  Parts() = default;
  std::vector<StreamPart> parts_;
  std::vector<Digest> fingerprints_;
};
using PartsPtr = std::shared_ptr<const Parts>;

// Engines of the parts, with the face of one: what is not said here is as engine.hpp has it.
// Counts are the sums of all parts.
class Joined {
 public:
  static Result<std::unique_ptr<Joined>> create(PartsPtr parts);

  const Parts& parts() const { return *parts_; }
  Engine& own() { return *engines_.front(); }
  std::size_t width() const { return parts_->width(); }

  // Rows of one of the streams, to all parts that read it. Of several errors the first.
  Status update(const RowBatch& rows, std::size_t first, std::size_t count, std::uint64_t position);
  // Likewise, but a part is not given again what it has met, by position.
  Status take(const RowBatch& rows, std::size_t first, std::size_t count, std::uint64_t position);
  // To the parts that read the stream and are not past `position`; of no other stream anything.
  Status gap(std::string_view stream, std::int64_t from_ns, std::int64_t to_ns,
             std::uint64_t position);

  // Where another stream is further ahead of the time than its lateness: MISSING, kBehind.
  // Stale: so is the view's own stream.
  Status read(std::string_view entity, std::int64_t as_of_ns, const Answers& to);

  std::uint64_t position() const;  // the highest of the parts'
  std::uint64_t late_rows() const { return sum(&Engine::late_rows); }
  std::uint64_t ahead_rows() const { return sum(&Engine::ahead_rows); }
  std::uint64_t evicted() const { return sum(&Engine::evicted); }
  std::uint64_t undefined_values() const { return sum(&Engine::undefined_values); }
  std::uint64_t state_bytes() const { return sum(&Engine::state_bytes); }
  std::uint64_t memory_bytes() const { return sum(&Engine::memory_bytes); }
  std::size_t entities() const { return engines_.front()->entities(); }     // of its own stream
  bool was_set_aside() const { return engines_.front()->was_set_aside(); }  // likewise
  std::optional<std::int64_t> final_before() const;
  // Whether no row to come changes what an entity's answers as of the time are.
  bool is_final(std::string_view entity, std::int64_t as_of_ns) const;
  std::vector<SetAside> take_set_aside();  // by position; SetAside::part says whose

  // docs/formats/feature-snapshot.md; of one part that of its engine.
  Bytes snapshot() const;
  static Result<std::unique_ptr<Joined>> restore(PartsPtr parts, ByteSpan bytes);

 private:
  explicit Joined(PartsPtr parts);
  template <typename Work>
  Status each_of(std::string_view stream, const Work& work);
  template <typename Count>
  std::uint64_t sum(Count (Engine::*count)() const) const {
    std::uint64_t total = 0;
    for (const auto& engine : engines_) total += (engine.get()->*count)();
    return total;
  }
  Status read_part(std::size_t part, std::string_view entity, std::int64_t as_of_ns);
  void scatter(const StreamPart& part, const Answers& to) const;

  PartsPtr parts_;
  std::vector<std::unique_ptr<Engine>> engines_;
  // Of one part, as wide as the widest; empty where there is one alone.
  std::vector<double> values_, coverage_;
  std::vector<std::uint8_t> states_, reasons_;
  std::vector<std::int64_t> ages_;
};

}  // namespace edgecore::features
