// What a feature view asks for, and the plan the engine runs: operators over declared grids, with
// their bounds proven before the first event.
//
// Time rules, the same in every operator (docs/formats/feature-definition.md):
// - a window of width W read at t holds the events with time in (t-W, t];
// - events are ordered by (time, source as UTF-8 bytes, source sequence), exact ties by value;
// - an answer depends on the events in (t-H, t] alone, H the feature's horizon: parity holds for
//   any history that begins at least H before t.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/schema.hpp"
#include "features/operators.hpp"
#include "features/rules.hpp"

namespace edgecore::features {

// The same numbers as inference::kFresh, kStale, kMissing.
enum class State : std::uint8_t { kFresh = 0, kStale = 1, kMissing = 2 };

enum class Reason : std::uint8_t {
  kNone = 0,
  kNever = 1,        // no event of the entity within the horizon
  kWarming = 2,      // coverage or count below the declared minimum
  kTtl = 3,          // the newest event is older than the declared ttl
  kEmptyWindow = 4,  // events, but none in the window
  kTooFew = 5,       // the operator is undefined for so few events (std of one, rate at one time)
  kEvicted = 6,      // unknown, and may have been let go to keep the view's state within its bound
  kApproximate = 7,  // FRESH, and about as far from exact as FeaturePlan::error says
  kBehind = 8,       // of another stream, which is too far ahead of the time that is asked for
};

// What a value older than its ttl becomes. Its state is kStale, except for kMissing.
enum class OnStale : std::uint8_t {
  kUse = 0,        // the value, as it is
  kDefault = 1,    // `default_value`; NaN (the binding's substitute) where there is none
  kMissing = 2,    // NaN, state kMissing
  kRecompute = 3,  // as of the newest event in the window; kMissing where there is none
  kRefuse = 4,     // NaN, and no model that reads it answers
};

inline constexpr std::size_t kFeaturesMax = 1024;        // of one view
inline constexpr std::uint32_t kEntitiesMax = 1u << 20;  // likewise
inline constexpr std::int64_t kDurationMaxNs = std::int64_t{366} * 86'400 * 1'000'000'000;
// How far back kLast and kRecency look when window_ns is 0.
inline constexpr std::int64_t kLastWindowNs = std::int64_t{86'400} * 1'000'000'000;
// Events one entity may hold in its longest window plus lateness. With it, and the declared range
// of a field, every sum is proven to fit.
inline constexpr std::uint32_t kEventsMax = 1u << 22;

class Program;  // an expression, compiled; see program.hpp

struct FeatureSpec {
  std::string name;
  Op op = Op::kCount;
  std::uint16_t version = 1;
  std::string field;  // kRecency: empty. kCount: empty counts rows, else non-null values
  Bytes expression;   // in the place of a field (expression.hpp); empty: none
  // W; kLast, kRecency: how far back they look, 0 = kLastWindowNs; kEwma: the half-life.
  std::int64_t window_ns = 0;
  std::int64_t ttl_ns = 0;  // 0 = no ttl
  OnStale on_stale = OnStale::kUse;
  std::optional<double> default_value;
  double min_coverage = 0;      // 0 to 1; below it the value is MISSING (kWarming)
  std::uint32_t min_count = 0;  // likewise for the events in the window
  // Above 0: the answer as of t is that as of the last multiple of it, age but counted to t.
  std::int64_t hop_ns = 0;
  // Above 0: of the window's events those back from the newest whose neighbours are at most that
  // apart; none once the newest is older.
  std::int64_t gap_ns = 0;
  std::int64_t hold_ns = 0;  // kTimeIn: for how long a value holds at most; 0 = until the next
  std::string numerator, denominator;  // kRatio: names of features of the view
  std::uint16_t permille = 0;          // kQuantile: 1 to 999
  // kBin: the values v with at_least <= v < below, in the field's unit; absent = no bound.
  std::optional<double> at_least, below;
  std::optional<double> value;  // kConstant: what it is
  // kDistinct: an estimate where more than kDistinctMax values differ (values.hpp). kStd and
  // kVariance: also of floats without a grid.
  bool approx = false;
  Digest fingerprint{};  // its identity over the schema; made in edgecore.features, carried here
};

struct ViewSpec {
  std::string name;
  std::string entity;  // field whose value tells entities apart; empty = the stream is one, ""
  std::string stream;
  std::int64_t lateness_ns = 0;
  Rules rules;
  std::vector<FeatureSpec> features;
  Digest fingerprint{};  // of the definition and all of its features
};

// How the values of a series are held: integers all, so that order and sums are exact. A value is
// stored / denominator * unit, but for the last two.
enum class Grid : std::uint8_t {
  kNone = 0,      // no value: the events themselves
  kInteger = 1,   // integers and decimals, and floats on their declared resolution
  kUnsigned = 2,  // u64 beyond i64: value = stored + 2^63
  kFloat = 3,     // floats without a resolution: an order-preserving map of the IEEE bits
  kCategory = 4,  // texts by their codes (category.hpp)
};

// A window of a series.
struct Span {
  std::int64_t width_ns = 0, hop_ns = 0, gap_ns = 0;
  std::int64_t hold_ns = 0;       // Family::kHeld: kNoHold where there is none; else 0
  std::int64_t recompute_ns = 0;  // OnStale::kRecompute: the ttl; else 0
  bool operator==(const Span&) const = default;
  bool slides() const { return hop_ns == 0 && gap_ns == 0 && hold_ns == 0 && recompute_ns == 0; }
};
inline constexpr std::int64_t kNoHold = INT64_MAX;

// What the values of one window are kept for (values.hpp).
struct ValuePlan {
  Span span;  // a sliding window has its width alone
  bool distinct = false, modes = false;
  bool estimated = false;                // distinct values, beyond kDistinctMax an estimate
  std::vector<std::uint16_t> permilles;  // of the quantiles
  bool log = false;                      // buckets of a quantile are those of buckets.hpp
  std::uint32_t buckets = 0;             // how many
  std::uint32_t bucket_base = 0;         // log: the number of the first
  std::uint64_t bucket_steps = 1;        // stored steps that one holds; log: more than 1
  std::uint64_t bucket_inverse = 0;      // above 1: 2^64 / bucket_steps, rounded up
  std::vector<std::int64_t> edges;       // ascending, stored; bins are what lies between them
};

// Events of one field, of one expression, or (field -1, no program) all rows: what the features of
// it share.
struct SeriesPlan {
  int field = -1;
  std::shared_ptr<const Program> program;  // makes the values of an expression
  Bytes expression;                        // of the program
  std::string name;                        // for messages
  Grid grid = Grid::kNone;
  std::uint64_t denominator = 1;
  double unit = 1;
  double resolution = 0;           // > 0: stored = value / resolution, ties to even
  bool declared = false;           // the bounds are: they are no dtype's own
  bool ratio = false;              // on a ratio scale: no value is below 0
  bool float_squares = false;      // Grid::kFloat: a std or variance is asked for
  bool narrow = false;             // high - low fits 32 bits: stored as u32 above `low`
  std::int64_t low = 0, high = 0;  // inclusive bounds of stored values
  bool needs_sum = false, needs_squares = false, needs_min = false, needs_max = false;
  bool needs_bound = false;           // an operator takes Takes::kBounded
  bool needs_order = false;           // events of one time are told apart
  std::vector<std::int64_t> windows;  // distinct widths, ascending
  std::vector<std::int64_t> decays;   // distinct widths of panes
  std::vector<std::int64_t> holds;    // distinct ones of spans
  std::int64_t span_ns = 0;           // the longest span with its hop; 0 = none
  std::int64_t reach_ns = 0;          // of windows that are recomputed: two of the longest
  std::vector<ValuePlan> values;      // of distinct windows
  std::int64_t retention_ns = 0;      // lateness + hold + the longest window
  // Values and n * denominator are whole doubles: one division gives the nearest double.
  bool small = false;
};

// One feature, resolved.
struct FeaturePlan {
  Op op = Op::kCount;
  OnStale on_stale = OnStale::kUse;
  std::uint32_t min_count = 0;
  std::int64_t window_ns = 0;
  std::int64_t horizon_ns = 0;
  std::int64_t hop_ns = 0;
  std::int64_t ttl_ns = 0;
  double min_coverage = 0;
  double stale_value = 0;  // for OnStale::kDefault
  bool plain = false;      // no ttl and no minimum: nothing to judge but the window
  // kQuantile: which of its ValuePlan's. kBin: its bins, [part, part_end).
  std::uint16_t part = 0, part_end = 0;
  bool approx = false;  // kDistinct: an estimate beyond kDistinctMax
  double error = 0;     // at most that far from exact, in the field's unit; NaN: no bound is known
  // Above 0: at most that share of the exact value from it; kDistinct: the standard error.
  double relative_error = 0;
};

// A feature that no event changes.
struct Constant {
  std::uint16_t feature = 0;
  double value = 0;
};

// Features that read the same window of the same series: its totals are taken once.
struct Group {
  static constexpr int kNewest = -1;  // kLast and kRecency: the newest event, no window
  static constexpr int kDecay = -2;   // kEwma: panes
  static constexpr int kSpan = -3;    // `span`
  int series = 0;
  int window = kNewest;
  int decay = -1;     // of the series' decays, where window is kDecay
  int values = -1;    // of the series' values, in Family::kValues
  bool ends = false;  // Family::kEnds; apart, so that the common operators stay the fast case
  bool needs_coverage = false;
  bool plain = true;  // all of its features are
  Span span;
  std::vector<std::uint16_t> features;
};

// A feature whose answer is that of one feature divided by that of another.
struct Ratio {
  std::uint16_t feature = 0, numerator = 0, denominator = 0;
};

// Immutable; threads may share it.
class Plan {
 public:
  const ViewSpec& view() const { return view_; }
  const SchemaPtr& schema() const { return schema_; }
  std::size_t width() const { return features_.size(); }
  int entity_field() const { return entity_field_; }  // -1: none
  const std::vector<SeriesPlan>& series() const { return series_; }
  const std::vector<FeaturePlan>& features() const { return features_; }
  const std::vector<Group>& groups() const { return groups_; }
  const std::vector<Ratio>& ratios() const { return ratios_; }
  const std::vector<Constant>& constants() const { return constants_; }
  // The longest horizon of its features: how much history warms a new engine.
  std::int64_t horizon_ns() const { return horizon_ns_; }
  // Identity of the state that an engine of this plan holds; snapshots carry it.
  const Digest& state_digest() const { return state_digest_; }

 private:
  friend class Planner;
  ViewSpec view_;
  SchemaPtr schema_;
  int entity_field_ = -1;
  std::vector<SeriesPlan> series_;
  std::vector<FeaturePlan> features_;
  std::vector<Group> groups_;
  std::vector<Ratio> ratios_;
  std::vector<Constant> constants_;
  std::int64_t horizon_ns_ = 0;
  Digest state_digest_{};
};
using PlanPtr = std::shared_ptr<const Plan>;

// Incompatible: an operator, version, dtype or field that this build or schema does not serve, or
// sums whose bounds can't be proven (max^2 * events >= 2^126; declare a range). Invalid: a
// definition that makes no sense anywhere (no features, a negative window).
Result<PlanPtr> make_plan(ViewSpec view, SchemaPtr schema);

}  // namespace edgecore::features
