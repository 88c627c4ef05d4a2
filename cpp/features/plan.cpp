// From a view's definition to the series, windows and bounds that serve it; see plan.hpp.
#include "features/plan.hpp"

#include <algorithm>
#include <limits>

#include "base/bytes.hpp"
#include "features/decay.hpp"
#include "features/grids.hpp"
#include "features/program.hpp"
#include "features/ratios.hpp"
#include "features/spans.hpp"
#include "features/value_plan.hpp"

namespace edgecore::features {
namespace {

// |stored| below this: max^2 * kEventsMax < 2^126.
constexpr std::int64_t kSquareBound = std::int64_t{1} << 52;
static_assert(kEventsMax == 1u << 22);
constexpr std::int64_t kHalfLifeMinNs = 8'000;  // panes of all times fit i64 with room
constexpr std::size_t kNoSeries = std::numeric_limits<std::size_t>::max();
constexpr std::uint8_t kStateVersion = 3;  // of what series hold

bool reads_newest(Op op) {
  return operator_of(op).family == Family::kNewest;
}

}  // namespace

// Builds one plan; errors name the feature.
class Planner {
 public:
  Planner(ViewSpec view, SchemaPtr schema) : plan_(std::make_shared<Plan>()) {
    plan_->view_ = std::move(view);
    plan_->schema_ = std::move(schema);
  }

  Result<PlanPtr> run() {
    EDGECORE_TRY(check_view());
    for (std::size_t i = 0; i < plan_->view_.features.size(); ++i) EDGECORE_TRY(add(i));
    EDGECORE_TRY(add_ratios());
    EDGECORE_TRY(check_sums());
    for (SeriesPlan& series : plan_->series_) {
      // Without a window one nanosecond more, so that a late event never ties with a pruned one.
      std::int64_t longest = series.windows.empty() ? 1 : series.windows.back();
      for (const std::int64_t pane : series.decays) longest = std::max(longest, kPanes * pane);
      longest = std::max({longest, series.span_ns, series.reach_ns});
      series.retention_ns = plan_->view_.lateness_ns + plan_->view_.rules.hold_ns() + longest;
    }
    make_groups();
    for (const Ratio& ratio : plan_->ratios_) bound_error(ratio);
    plan_->state_digest_ = state_digest();
    return PlanPtr(plan_);
  }

 private:
  Status check_view() {
    const ViewSpec& view = plan_->view_;
    const auto name = "view '" + view.name + "'";
    if (view.features.empty() || view.features.size() > kFeaturesMax)
      return Status::invalid(name + ": 1 to " + std::to_string(kFeaturesMax) + " features");
    if (view.lateness_ns < 0 || view.lateness_ns > kDurationMaxNs)
      return Status::invalid(name + ": lateness is 0 to 366 days");
    for (const std::int64_t one : {view.rules.max_ahead_ns, view.rules.idle_ns})
      if (one < 0 || one > kDurationMaxNs)
        return Status::invalid(name + ": max_ahead and idle are 0 to 366 days");
    if (view.rules.max_entities > kEntitiesMax)
      return Status::invalid(name + ": at most " + std::to_string(kEntitiesMax) + " entities");
    if (view.stream != plan_->schema_->stream)
      return Status::incompatible(name + " reads stream '" + view.stream + "', the schema is of '" +
                                  plan_->schema_->stream + "'");
    if (view.entity.empty()) return Status::ok();
    plan_->entity_field_ = plan_->schema_->find(view.entity);
    if (plan_->entity_field_ < 0)
      return Status::incompatible(name + ": stream '" + view.stream + "' has no field '" +
                                  view.entity + "' to tell entities apart");
    const DType dtype =
        plan_->schema_->fields[static_cast<std::size_t>(plan_->entity_field_)].dtype;
    if (!is_variable(dtype) && (!is_integer(dtype) || dtype == DType::kBool))
      return Status::incompatible(name + ": entity '" + view.entity +
                                  "' must be a text or an integer field");
    return Status::ok();
  }

  Status add(std::size_t index) {
    const FeatureSpec& spec = plan_->view_.features[index];
    const auto name = "feature '" + spec.name + "'";
    EDGECORE_TRY(check_numbers(spec, name));
    for (std::size_t i = 0; i < index; ++i)
      if (plan_->view_.features[i].name == spec.name)
        return Status::invalid(name + " is defined twice");
    if (operator_of(spec.op).family == Family::kRatio) return reserve_ratio(spec, name);
    if (spec.op == Op::kConstant) return add_constant(spec, index);
    EDGECORE_ASSIGN(const std::size_t at, series_for(spec, name));
    SeriesPlan& series = plan_->series_[at];
    EDGECORE_TRY(check_dtype(spec, series, name));
    FeaturePlan feature;
    feature.op = spec.op;
    feature.on_stale = spec.on_stale;
    feature.min_count = spec.min_count;
    feature.min_coverage = spec.min_coverage;
    feature.ttl_ns = spec.ttl_ns;
    feature.hop_ns = spec.hop_ns;
    feature.stale_value = spec.default_value.value_or(std::numeric_limits<double>::quiet_NaN());
    feature.window_ns = spec.window_ns;
    const Span span = span_of(spec);
    if (reads_newest(spec.op)) {
      if (feature.window_ns == 0) feature.window_ns = kLastWindowNs;
      feature.horizon_ns = feature.window_ns;
    } else if (operator_of(spec.op).family == Family::kDecay) {
      const std::int64_t pane = spec.window_ns / kPanesPerHalfLife;
      if (std::find(series.decays.begin(), series.decays.end(), pane) == series.decays.end())
        series.decays.push_back(pane);
      feature.horizon_ns = std::max(2 * kPanes * pane, spec.ttl_ns);
    } else if (!span.slides()) {
      feature.horizon_ns = spec.hop_ns + std::max(2 * spec.window_ns, spec.ttl_ns);
      series.span_ns = std::max(series.span_ns, span.width_ns + span.hop_ns);
      auto& holds = series.holds;
      if (span.hold_ns > 0 && std::find(holds.begin(), holds.end(), span.hold_ns) == holds.end())
        holds.push_back(span.hold_ns);
    } else {
      // Coverage looks one window back from the window's begin.
      feature.horizon_ns = std::max(2 * spec.window_ns, spec.ttl_ns);
      auto& windows = series.windows;
      const auto place = std::lower_bound(windows.begin(), windows.end(), spec.window_ns);
      if (place == windows.end() || *place != spec.window_ns) windows.insert(place, spec.window_ns);
    }
    if (span.recompute_ns > 0) {
      feature.horizon_ns += width_of(spec);
      series.reach_ns = std::max(series.reach_ns, 2 * width_of(spec));
    }
    if (operator_of(spec.op).family == Family::kValues) EDGECORE_TRY(plan_values(spec, series));
    feature.plain = spec.ttl_ns == 0 && spec.min_count == 0 && spec.min_coverage == 0;
    plan_->horizon_ns_ = std::max(plan_->horizon_ns_, feature.horizon_ns);
    plan_->features_.push_back(feature);
    series_of_.push_back(at);
    return Status::ok();
  }

  // Its place; what it divides is known when all features are.
  Status reserve_ratio(const FeatureSpec& spec, const std::string& name) {
    EDGECORE_TRY(check_ratio(spec, name));
    FeaturePlan feature;
    feature.op = spec.op;
    plan_->features_.push_back(feature);
    series_of_.push_back(0);
    return Status::ok();
  }

  Status add_ratios() {
    for (std::size_t i = 0; i < plan_->features_.size(); ++i) {
      FeaturePlan& feature = plan_->features_[i];
      if (operator_of(feature.op).family != Family::kRatio) continue;
      EDGECORE_ASSIGN(const Ratio ratio, ratio_of(plan_->view_.features, i));
      feature.horizon_ns = std::max(plan_->features_[ratio.numerator].horizon_ns,
                                    plan_->features_[ratio.denominator].horizon_ns);
      plan_->ratios_.push_back(ratio);
    }
    return Status::ok();
  }

  // Where what it divides is no exact value, neither is it, and by how much depends on the divisor.
  void bound_error(const Ratio& ratio) {
    auto& features = plan_->features_;
    if (features[ratio.numerator].error != 0 || features[ratio.denominator].error != 0)
      features[ratio.feature].error = std::numeric_limits<double>::quiet_NaN();
  }

  Status add_constant(const FeatureSpec& spec, std::size_t index) {
    FeaturePlan feature;
    feature.op = spec.op;
    feature.plain = true;
    plan_->features_.push_back(feature);
    series_of_.push_back(kNoSeries);
    // + 0: one zero.
    plan_->constants_.push_back({static_cast<std::uint16_t>(index), *spec.value + 0.0});
    return Status::ok();
  }

  static Status check_constant(const FeatureSpec& spec, const std::string& name) {
    if (spec.value.has_value() != (spec.op == Op::kConstant))
      return Status::invalid(name + ": a constant has a value, and nothing else has");
    if (spec.op != Op::kConstant) return Status::ok();
    if (*spec.value - *spec.value != 0)
      return Status::invalid(name + ": the value of a constant is a finite number");
    if (!spec.field.empty() || spec.window_ns != 0 || spec.ttl_ns != 0 || spec.min_coverage != 0 ||
        spec.min_count != 0)
      return Status::invalid(name + ": a constant has no field, no window and nothing to judge");
    return Status::ok();
  }

  static Status check_numbers(const FeatureSpec& spec, const std::string& name) {
    if (find_operator(spec.op, spec.version) == nullptr)
      return Status::incompatible(name + ": operator " + std::to_string(static_cast<int>(spec.op)) +
                                  "@" + std::to_string(spec.version) + " is not in this build");
    if (spec.name.empty()) return Status::invalid("a feature has no name");
    EDGECORE_TRY(check_span(spec, name));
    EDGECORE_TRY(check_constant(spec, name));
    if (operator_of(spec.op).family == Family::kDecay &&
        (spec.window_ns < kHalfLifeMinNs || spec.window_ns > kDurationMaxNs / 2 / kHalfLives ||
         spec.window_ns % kPanesPerHalfLife != 0))
      return Status::invalid(name + ": a half-life is 8 us to 11 days, in steps of 8 ns");
    const Family family = operator_of(spec.op).family;
    const bool windowed =
        !reads_newest(spec.op) && family != Family::kRatio && family != Family::kNothing;
    if (spec.window_ns < (windowed ? 1 : 0) || spec.window_ns > kDurationMaxNs / 2)
      return Status::invalid(name + ": window is above 0 and at most 183 days");
    if (spec.ttl_ns < 0 || spec.ttl_ns > kDurationMaxNs)
      return Status::invalid(name + ": ttl is 0 to 366 days");
    if (!(spec.min_coverage >= 0 && spec.min_coverage <= 1))
      return Status::invalid(name + ": min_coverage is 0 to 1");
    EDGECORE_TRY(check_stale(spec, name));
    return check_value_parameters(spec);
  }

  // Of one expression: what reads the same one shares it.
  Result<std::size_t> series_of_expression(const FeatureSpec& spec, const std::string& name) {
    if (!spec.field.empty() || operator_of(spec.op).takes == Takes::kNothing)
      return Status::invalid(name +
                             " reads a field or an expression, not both, if its operator does");
    for (std::size_t i = 0; i < plan_->series_.size(); ++i)
      if (plan_->series_[i].program && plan_->series_[i].expression == spec.expression) return i;
    const auto named = [&](const Status& status) {
      return Status(status.outcome(), name + ": " + std::string(status.message()));
    };
    auto parsed = parse_expression(spec.expression);
    if (!parsed.is_ok()) return named(parsed.status());
    auto program = Program::compile(parsed.value(), *plan_->schema_);
    if (!program.is_ok()) return named(program.status());
    SeriesPlan series;
    series.program = std::move(program).value();
    series.expression = spec.expression;
    series.name = "the expression of " + name;
    series.program->describe(series);
    finish_grid(series);
    plan_->series_.push_back(std::move(series));
    return plan_->series_.size() - 1;
  }

  Result<std::size_t> series_for(const FeatureSpec& spec, const std::string& name) {
    if (!spec.expression.empty()) return series_of_expression(spec, name);
    int field = -1;
    const Takes takes = operator_of(spec.op).takes;
    if (takes == Takes::kNothing) {
      if (!spec.field.empty()) return Status::invalid(name + ": the operator takes no field");
    } else if (!spec.field.empty()) {
      field = plan_->schema_->find(spec.field);
      if (field < 0)
        return Status::incompatible(name + ": stream '" + plan_->view_.stream + "' has no field '" +
                                    spec.field + "'");
    } else if (takes != Takes::kRows) {
      return Status::invalid(name + " names no field");
    }
    for (std::size_t i = 0; i < plan_->series_.size(); ++i)
      if (!plan_->series_[i].program && plan_->series_[i].field == field) return i;
    SeriesPlan series;
    series.field = field;
    if (field >= 0) {
      series.name = "field '" + spec.field + "'";
      EDGECORE_TRY(set_grid(plan_->schema_->fields[static_cast<std::size_t>(field)], series));
    }
    plan_->series_.push_back(std::move(series));
    return plan_->series_.size() - 1;
  }

  static Status check_dtype(const FeatureSpec& spec, SeriesPlan& series, const std::string& name) {
    const Op op = spec.op;
    const Operator& row = operator_of(op);
    if (row.takes == Takes::kRows || row.takes == Takes::kNothing) return Status::ok();
    if (series.grid == Grid::kNone || series.grid == Grid::kCategory) {
      if (row.takes != Takes::kValues)
        return Status::incompatible(name + ": the operator needs a number, " + series.name +
                                    " is text");
      set_categories(series);
    }
    const bool squares = op == Op::kStd || op == Op::kVariance;
    const bool is_float = series.grid == Grid::kFloat;
    const bool bounded = row.takes == Takes::kBounded && !is_float;
    series.float_squares |= is_float && squares;
    if (is_float && !serves_floats(spec, series)) return needs_grid(spec, series, name);
    series.needs_bound |= bounded;
    series.needs_order |= row.ordered;
    if (row.takes == Takes::kTruth) return check_truth(series, name);
    if (!span_of(spec).slides()) return Status::ok();  // no cursor and no deque is kept
    series.needs_sum |= op == Op::kSum || op == Op::kMean || squares;
    series.needs_squares |= squares;
    series.needs_min |= op == Op::kMin || op == Op::kRange;
    series.needs_max |= op == Op::kMax || op == Op::kRange;
    return Status::ok();
  }

  // Operators that take a grid serve a float without one where it says what else bounds them.
  static bool serves_floats(const FeatureSpec& spec, const SeriesPlan& series) {
    const Takes takes = operator_of(spec.op).takes;
    if (spec.op == Op::kStd || spec.op == Op::kVariance) return spec.approx;
    if (spec.op == Op::kQuantile) return series.ratio;
    return takes != Takes::kBounded && takes != Takes::kGrid;
  }

  static Status needs_grid(const FeatureSpec& spec, const SeriesPlan& series,
                           const std::string& name) {
    const bool squares = spec.op == Op::kStd || spec.op == Op::kVariance;
    return Status::incompatible(
        name + ": an exact " + std::string(operator_of(spec.op).name) + " needs a grid; declare " +
        series.name + (series.program ? " over fields that are decimal(k)" : " as decimal(k)") +
        " or with resolution= and range=" +
        (squares                                       ? "; or say approx=True"
         : spec.op == Op::kQuantile && !series.program ? "; or with range= and ratio=True"
                                                       : ""));
  }

  // Sums always fit: 2^63 * kEventsMax < 2^126. Squares do when the range is declared.
  Status check_sums() const {
    for (const SeriesPlan& series : plan_->series_)
      if (series.needs_bound && (series.low <= -kSquareBound || series.high >= kSquareBound))
        return Status::incompatible(
            series.name +
            ": an exact std, variance or ewma needs a range= of less than 2^52 grid steps either "
            "way");
    return Status::ok();
  }

  void make_groups() {
    for (std::size_t i = 0; i < plan_->features_.size(); ++i) {
      const FeaturePlan& feature = plan_->features_[i];
      if (operator_of(feature.op).family == Family::kRatio) continue;
      if (series_of_[i] == kNoSeries) continue;
      const auto series = static_cast<int>(series_of_[i]);
      const Span span = span_of(plan_->view_.features[i]);
      const bool ends = operator_of(feature.op).family == Family::kEnds;
      int window = Group::kNewest;
      int decay = -1;
      int values = -1;
      if (operator_of(feature.op).family == Family::kDecay) {
        const auto& decays = plan_->series_[series_of_[i]].decays;
        window = Group::kDecay;
        decay = static_cast<int>(
            std::find(decays.begin(), decays.end(), feature.window_ns / kPanesPerHalfLife) -
            decays.begin());
      } else if (!span.slides()) {
        window = Group::kSpan;
      } else if (!reads_newest(feature.op)) {
        const auto& windows = plan_->series_[series_of_[i]].windows;
        window = static_cast<int>(
            std::lower_bound(windows.begin(), windows.end(), feature.window_ns) - windows.begin());
      }
      if (operator_of(feature.op).family == Family::kValues) {
        const SeriesPlan& plan = plan_->series_[series_of_[i]];
        find_values(plan_->view_.features[i], plan, plan_->features_[i]);
        values = static_cast<int>(values_of(plan, span));
      }
      auto group = std::find_if(plan_->groups_.begin(), plan_->groups_.end(), [&](const Group& g) {
        return g.series == series && g.window == window && g.decay == decay && g.values == values &&
               g.ends == ends && g.span.recompute_ns == span.recompute_ns &&
               (window != Group::kSpan || g.span == span);
      });
      if (group == plan_->groups_.end())
        group = plan_->groups_.insert(
            group, Group{series, window, decay, values, ends, false, true, span, {}});
      group->needs_coverage |= feature.min_coverage > 0;
      group->plain &= feature.plain;
      group->features.push_back(static_cast<std::uint16_t>(i));
    }
  }

  // Everything that decides which events a series holds, and how.
  Digest state_digest() const {
    Bytes bytes;
    ByteWriter out(bytes);
    const auto text = [&out](std::string_view value) {
      out.put(static_cast<std::uint32_t>(value.size()));
      out.put_text(value);
    };
    out.put(kStateVersion);
    text(plan_->view_.stream);
    text(plan_->view_.entity);
    out.put(plan_->view_.lateness_ns);
    out.put(plan_->view_.rules.max_ahead_ns);
    out.put(plan_->view_.rules.idle_ns);
    out.put(plan_->view_.rules.max_entities);
    out.put(plan_->view_.rules.max_bytes);
    for (const SeriesPlan& series : plan_->series_) {
      text(as_text(series.expression));
      std::vector<std::size_t> fields;
      if (series.program)
        fields = series.program->fields();
      else if (series.field >= 0)
        fields.push_back(static_cast<std::size_t>(series.field));
      out.put(static_cast<std::uint32_t>(fields.size()));
      for (const std::size_t field : fields) {
        text(plan_->schema_->fields[field].name);
        out.put_bytes(plan_->schema_->fields[field].fingerprint);
      }
      out.put(static_cast<std::uint8_t>(series.grid));
      out.put(series.denominator);
      out.put(series.unit);
      out.put(series.resolution);
      out.put(series.low);
      out.put(series.high);
      out.put(static_cast<std::uint8_t>(series.needs_order));
      out.put(series.retention_ns);
    }
    return blake3(bytes);
  }

  std::shared_ptr<Plan> plan_;
  std::vector<std::size_t> series_of_;  // per feature
};

Result<PlanPtr> make_plan(ViewSpec view, SchemaPtr schema) {
  if (!schema) return Status::invalid("view '" + view.name + "': no schema");
  return Planner(std::move(view), std::move(schema)).run();
}

}  // namespace edgecore::features
