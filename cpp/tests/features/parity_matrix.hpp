// One history and one view of every operator, answered on every path that gives answers: as a
// stream, by the batch kernel, restored from snapshots, begun at later rows. What differs is
// counted in bits, per feature. parity_test.cpp runs it in this build;
// tests/features/parity_matrix.py across builds and processors.
//
// The history is made from integers alone, so that it is the same everywhere; reads are at times of
// their own, so that ages are many.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "base/normalise.hpp"
#include "base/rows.hpp"
#include "expression_bytes.hpp"
#include "features/batch.hpp"
#include "features/engine.hpp"
#include "stale_policies.hpp"

namespace edgecore::features::matrix {

inline constexpr std::int64_t kSecond = 1'000'000'000;
inline constexpr std::int64_t kStart = 1'700'000'000 * kSecond;

inline Field number(const std::string& name, DType dtype, int scale = 0) {
  Field field;
  field.name = name;
  field.dtype = dtype;
  field.scale = static_cast<std::uint8_t>(scale);
  return field;
}

// pump, temp decimal(3), load f64 without a grid, flow f64 on steps of 0.1, code i32, wide u64, on
// bool, mode text; on ratio scales latency f64 and size i64.
inline SchemaPtr schema() {
  auto made = std::make_shared<Schema>();
  made->stream = "telemetry";
  made->fields = {number("pump", DType::kCategory), number("temp", DType::kDecimal, 3),
                  number("load", DType::kF64),      number("flow", DType::kF64),
                  number("code", DType::kI32),      number("wide", DType::kU64),
                  number("on", DType::kBool),       number("mode", DType::kCategory),
                  number("latency", DType::kF64),   number("size", DType::kI64)};
  static_cast<void>(set_range(made->fields[1], -40, 150));
  made->fields[3].resolution = 0.1;
  static_cast<void>(set_range(made->fields[3], -1e9, 1e9));
  static_cast<void>(set_range(made->fields[4], -1000, 1000));
  for (const std::size_t at : {8, 9}) {
    made->fields[at].ratio = true;
    static_cast<void>(set_range(made->fields[at], 0, 1e12));
  }
  std::string names;
  for (const Field& field : made->fields) names += dtype_text(field) + " " + field.name + "\n";
  made->canonical.assign(as_byte_span(names).begin(), as_byte_span(names).end());
  made->fingerprint = blake3(made->canonical);
  return made;
}

// Windows that hop, sessions, time in a state, and ratios of features that the view has.
inline void add_spans(ViewSpec& view) {
  const auto add = [&view](Op op, const std::string& field, std::int64_t window_s) -> auto& {
    FeatureSpec& spec = view.features.emplace_back();
    spec.op = op;
    spec.version = operator_of(op).version;
    spec.field = field;
    spec.window_ns = window_s * kSecond;
    spec.name = "span_" + std::to_string(view.features.size());
    return spec;
  };
  for (const std::string field : {"temp", "load", "code", "wide"})
    for (const Op op : {Op::kCount, Op::kSum, Op::kMean, Op::kMin, Op::kMax, Op::kFirst, Op::kStd,
                        Op::kVariance, Op::kRange, Op::kDelta, Op::kRate, Op::kRateOnce}) {
      const bool whole = field == "temp" || field == "code";
      if (!whole && operator_of(op).takes != Takes::kNumbers && op != Op::kCount &&
          op != Op::kFirst)
        continue;
      add(op, field, 60).hop_ns = 60 * kSecond;
      add(op, field, 600).hop_ns = 7 * kSecond;
      add(op, field, 600).gap_ns = 3 * kSecond;
      add(op, field, 40).gap_ns = 40 * kSecond;
      view.features.back().min_coverage = 0.75;
    }
  add(Op::kCount, "", 30).hop_ns = 100 * kSecond;
  for (const Op op : {Op::kStd, Op::kVariance, Op::kDistinct})
    for (const bool hops : {true, false}) {
      FeatureSpec& spec = add(op, "load", 600);
      spec.approx = true;
      (hops ? spec.hop_ns : spec.gap_ns) = 5 * kSecond;
    }
  for (const Op op : {Op::kQuantile, Op::kBin, Op::kDistinct, Op::kMostFrequent})
    for (const bool hops : {true, false}) {
      FeatureSpec& spec = add(op, op == Op::kDistinct ? "mode" : "temp", 600);
      (hops ? spec.hop_ns : spec.gap_ns) = 9 * kSecond;
      if (op == Op::kQuantile) spec.permille = 900;
      if (op == Op::kBin) spec.below = 20.25;
    }
  for (const Op op : {Op::kMean, Op::kMax, Op::kEwma, Op::kRate, Op::kDistinct, Op::kQuantile})
    for (const std::int64_t gap : {0, 5}) {
      if (gap > 0 && op == Op::kEwma) continue;
      FeatureSpec& spec = add(op, "temp", 60);
      spec.gap_ns = gap * kSecond;
      if (op == Op::kQuantile) spec.permille = 250;
      if (op == Op::kMax) spec.min_coverage = 0.6;
      spec.ttl_ns = 9 * kSecond;
      set_policy(spec, static_cast<std::int64_t>(OnStale::kRecompute));
    }
  for (const std::int64_t window : {7, 600}) {
    add(Op::kTimeIn, "on", window).ttl_ns = 40 * kSecond;
    set_policy(view.features.back(), static_cast<std::int64_t>(OnStale::kRecompute));
    add(Op::kTimeIn, "on", window).hold_ns = 4 * kSecond;
    view.features.back().min_coverage = 0.5;
    add(Op::kTimeIn, "on", window).hop_ns = 10 * kSecond;
  }
  const auto divide = [&](const std::string& numerator, const std::string& denominator) {
    FeatureSpec& spec = add(Op::kRatio, "", 0);
    spec.numerator = numerator;
    spec.denominator = denominator;
  };
  divide("temp_sum_60", "temp_count_60");
  divide("load_max_600", "span_" + std::to_string(view.features.size() - 2));
}

// The operators of values as a set; `add` puts one into the view.
inline void add_values(ViewSpec& out, const auto& add) {
  for (const std::int64_t window : {60, 600}) {
    for (const std::string field : {"temp", "flow", "code", "latency", "size"})
      for (const int permille : {500, 950}) {
        add(Op::kQuantile, permille == 500 ? "p50" : "p95", field, window);
        out.features.back().permille = static_cast<std::uint16_t>(permille);
      }
    for (const std::string field : {"temp", "load", "wide"}) {
      add(Op::kBin, "bin", field, window);
      out.features.back().at_least = field == "wide" ? 4096.0 : 0.5;
      if (field == "temp") out.features.back().below = 20.25;
    }
    for (const std::string field : {"temp", "load", "code", "mode"}) {
      add(Op::kDistinct, "distinct", field, window);
      add(Op::kMostFrequent, "most_frequent", field, window);
      add(Op::kDistinct, "about", field, window);
      out.features.back().approx = true;
    }
    for (const Op op : {Op::kStd, Op::kVariance}) {
      add(op, std::string(operator_of(op).name), "load", window);
      out.features.back().approx = true;
    }
    add(Op::kFirst, "first", "mode", window);
  }
}

// Expressions in their encoding: on grids, over a text, and in doubles, where a contraction of the
// product and the sum would show.
inline void add_expressions(ViewSpec& out, const auto& add) {
  using encoded::column;
  using encoded::node;
  const std::string power = node("*", column("temp"), column("code"));
  const std::string share = encoded::list(
      {encoded::text("/"), column("temp"), column("code"), encoded::whole(1), encoded::whole(7)});
  const std::string runs =
      node("==", column("mode"), encoded::list({encoded::text("text"), encoded::text("mode 1")}));
  const std::string real =
      node("+", node("*", column("load"), encoded::number(1, 3)), column("temp"));
  const auto put = [&](Op op, const std::string& name, const std::string& tree) {
    add(op, name, "", 60);
    const std::string bytes = encoded::expression(tree);
    out.features.back().expression.assign(as_byte_span(bytes).begin(), as_byte_span(bytes).end());
  };
  for (const Op op : {Op::kMean, Op::kStd, Op::kMax, Op::kDelta, Op::kEwma, Op::kQuantile}) {
    for (const auto& [name, tree] : {std::pair("power", power), std::pair("share", share)}) {
      put(op, name + std::string(operator_of(op).name), tree);
      if (op == Op::kQuantile) out.features.back().permille = 500;
    }
  }
  put(Op::kTimeIn, "runs", runs);
  for (const Op op : {Op::kSum, Op::kMin, Op::kFirst})
    put(op, "real" + std::string(operator_of(op).name), real);
}

// Every second run keeps a watermark over its two sources.
inline ViewSpec view(std::uint64_t run = 0) {
  ViewSpec out;
  if (run % 2 == 1) out.rules.idle_ns = 90 * kSecond;
  out.name = "matrix";
  out.entity = "pump";
  out.stream = "telemetry";
  out.lateness_ns = 20 * kSecond;
  const auto add = [&out](Op op, const std::string& name, const std::string& field,
                          std::int64_t window_s) {
    FeatureSpec spec;
    spec.op = op;
    spec.version = operator_of(op).version;
    spec.field = field;
    spec.window_ns = window_s * kSecond;
    spec.name = field + "_" + name + "_" + std::to_string(window_s);
    // Some are judged, each in its own way.
    const std::size_t at = out.features.size();
    if (at % 3 == 1 && op != Op::kRecency) spec.ttl_ns = 40 * kSecond;
    if (at % 4 == 2) spec.min_coverage = 0.75;
    if (at % 5 == 3 && op < Op::kLast) spec.min_count = 4;
    set_policy(spec, static_cast<std::int64_t>(at) % kPolicies);
    if (at % 2 == 0) spec.default_value = -1.5;
    out.features.push_back(std::move(spec));
  };
  for (const std::int64_t window : {7, 60, 600}) {
    for (const std::string field : {"temp", "load", "flow", "code", "wide"}) {
      add(Op::kCount, "count", field, window);
      add(Op::kSum, "sum", field, window);
      add(Op::kMean, "mean", field, window);
      if (field != "load" && field != "wide") add(Op::kStd, "std", field, window);
      add(Op::kMin, "min", field, window);
      add(Op::kMax, "max", field, window);
      add(Op::kFirst, "first", field, window);
      if (field == "load" || field == "wide") continue;
      add(Op::kVariance, "variance", field, window);
      add(Op::kRange, "range", field, window);
      add(Op::kDelta, "delta", field, window);
      add(Op::kRate, "rate", field, window);
      add(Op::kRateOnce, "rate2", field, window);
      if (window <= 60) add(Op::kEwma, "ewma", field, window);
    }
  }
  add_values(out, add);
  add_expressions(out, add);
  for (const std::string field : {"temp", "load", "flow", "wide", "mode"})
    add(Op::kLast, "last", field, 600);
  add_spans(out);
  FeatureSpec constant;
  constant.op = Op::kConstant;
  constant.name = "constant";
  constant.value = 0.1;
  out.features.push_back(constant);
  add(Op::kRecency, "recency", "", 600);
  return out;
}

class Numbers {
 public:
  explicit Numbers(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    state_ += 0x9e3779b97f4a7c15u;
    std::uint64_t x = state_;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
  }
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(next() % static_cast<std::uint64_t>(high - low + 1));
  }
  bool one_in(std::uint64_t n) { return next() % n == 0; }

 private:
  std::uint64_t state_;
};

// A finite double from bits: exponents of a wide range, both signs, every mantissa.
inline double finite(Numbers& numbers) {
  const std::uint64_t mantissa = numbers.next() & ((std::uint64_t{1} << 52) - 1);
  const auto exponent = static_cast<std::uint64_t>(numbers.between(1023 - 40, 1023 + 40));
  return std::bit_cast<double>(numbers.next() >> 63 << 63 | exponent << 52 | mantissa);
}

// In order of arrival: ties, silences, nulls, late rows and rows too late. In a long one, at times
// one pump speaks all at once, so that windows hold more values than are kept in order.
inline RowBatch history(std::size_t count, std::uint64_t run) {
  Numbers numbers(run);
  RowBatch rows(schema());
  std::int64_t time = kStart;
  for (std::size_t i = 0; i < count; ++i) {
    const bool burst = i % 3000 >= 1700;
    if (!numbers.one_in(9)) time += numbers.between(1, burst ? kSecond / 500 : 2 * kSecond);
    if (numbers.one_in(400)) time += numbers.between(30, 2000) * kSecond;
    const std::int64_t late = numbers.one_in(8) ? numbers.between(0, 25 * kSecond) : 0;
    const std::uint64_t number = run * count + i;
    const std::size_t row =
        rows.add_row(time - late, numbers.one_in(3) ? "left" : "right", number * 4 + number % 4);
    const std::string pump(1, static_cast<char>('a' + (burst ? 0 : numbers.between(0, 4))));
    rows.set_bytes(row, 0, as_byte_span(pump));
    const auto some = [&numbers] { return !numbers.one_in(13); };
    if (some()) rows.set_i64(row, 1, numbers.between(-40'000, 150'000));
    if (some()) rows.set_f64(row, 2, finite(numbers));
    if (some()) rows.set_f64(row, 3, static_cast<double>(numbers.between(-9'999, 9'999)) / 10.0);
    if (some()) rows.set_i64(row, 4, numbers.between(-1000, 1000));
    if (some()) rows.set_cell(row, 5, numbers.next());
    if (some()) rows.set_i64(row, 6, numbers.between(0, 1));
    const std::string mode = "mode " + std::to_string(numbers.between(0, 6));
    if (some()) rows.set_bytes(row, 7, as_byte_span(mode));
    const auto magnitude = std::bit_cast<std::uint64_t>(finite(numbers)) << 1 >> 1;
    if (some()) rows.set_f64(row, 8, std::bit_cast<double>(magnitude) / 4);
    const std::int64_t octaves = numbers.between(0, 39);
    if (some()) rows.set_i64(row, 9, numbers.between(0, 1'000'000'000'000) >> octaves);
  }
  return rows;
}

// Answers to rows, flat; `later` the same at times of their own behind the rows'.
struct Found {
  std::vector<std::uint64_t> values, coverage;  // as bits
  std::vector<std::uint8_t> states, reasons;

  void resize(std::size_t count) {
    values.resize(count);
    coverage.resize(count);
    states.resize(count);
    reasons.resize(count);
  }
};
struct Replay {
  Found at_row, later;
  std::vector<std::uint8_t> applied;  // per row: it was not too late
};

// When the later read of a row is: no two rows have the same distance. The source sequence of a row
// says which of all rows it is.
inline std::int64_t later_time(const RowBatch& rows, std::size_t row) {
  const std::uint64_t number = rows.source_seq(row) / 4;
  return rows.time_ns(row) + 1 + static_cast<std::int64_t>(number * 7'919 % 400'009) * 250'007;
}

// Reads one entity; false where the read is Stale (the row was too late).
inline bool read_into(const Engine& engine, std::string_view entity, std::int64_t as_of,
                      std::size_t at, Found& out) {
  const std::size_t width = engine.width();
  std::vector<double> values(width), coverage(width);
  std::vector<std::uint8_t> states(width), reasons(width);
  std::vector<std::int64_t> ages(width);
  if (!engine.read(entity, as_of, Answers{values, states, ages, coverage, reasons}).is_ok())
    return false;
  for (std::size_t i = 0; i < width; ++i) {
    out.values[at * width + i] = std::bit_cast<std::uint64_t>(values[i]);
    out.coverage[at * width + i] = std::bit_cast<std::uint64_t>(coverage[i]);
    out.states[at * width + i] = states[i];
    out.reasons[at * width + i] = reasons[i];
  }
  return true;
}

// Rows [first, count) through `engine`; with `every` above 0 it is replaced by what its snapshot
// restores, again and again, before every so many rows.
inline Status replay(const PlanPtr& plan, const RowBatch& rows, std::size_t first,
                     std::size_t every, Replay& out) {
  EDGECORE_ASSIGN(auto engine, Engine::create(plan));
  out.at_row.resize(rows.count() * plan->width());
  out.later.resize(rows.count() * plan->width());
  out.applied.assign(rows.count(), 0);
  for (std::size_t row = first; row < rows.count(); ++row) {
    if (every > 0 && row % every == 0) {
      EDGECORE_ASSIGN(engine, Engine::restore(plan, engine->snapshot()));
    }
    EDGECORE_TRY(engine->update(rows, row, 1, row + 1));
    const bool read = read_into(*engine, rows.text(row, 0), rows.time_ns(row), row, out.at_row);
    out.applied[row] = read && !engine->was_set_aside();
    read_into(*engine, rows.text(row, 0), later_time(rows, row), row, out.later);
  }
  return Status::ok();
}

// Bits that differ, per feature; `compared` counts answers.
struct Difference {
  std::vector<std::uint64_t> bits;
  std::uint64_t compared = 0;
  std::uint64_t total() const {
    std::uint64_t out = 0;
    for (const std::uint64_t one : bits) out += one;
    return out;
  }
};

template <typename T>
inline void count_bits(const std::vector<T>& a, const std::vector<T>& b, std::size_t from,
                       std::size_t width, Difference& out) {
  for (std::size_t i = 0; i < width; ++i)
    out.bits[i] +=
        static_cast<std::uint64_t>(std::popcount(static_cast<T>(a[from + i] ^ b[from + i])));
}

// Of the rows for which `chosen` is not 0. With `judged` coverage and reasons count too.
inline void compare(const Found& a, const Found& b, const std::vector<std::uint8_t>& chosen,
                    bool judged, Difference& out) {
  const std::size_t width = out.bits.size();
  for (std::size_t row = 0; row < chosen.size(); ++row) {
    if (chosen[row] == 0) continue;
    out.compared += width;
    count_bits(a.values, b.values, row * width, width, out);
    count_bits(a.states, b.states, row * width, width, out);
    if (!judged) continue;
    count_bits(a.coverage, b.coverage, row * width, width, out);
    count_bits(a.reasons, b.reasons, row * width, width, out);
  }
}

// One history on every path of this build.
struct Matrix {
  PlanPtr plan;
  Replay stream;
  Difference batch, restore, cut;  // from the stream
  std::uint64_t late = 0;
};

inline Status run_batch(const PlanPtr& plan, const RowBatch& rows, Matrix& out) {
  std::vector<std::uint32_t> order(rows.count());
  for (std::uint32_t i = 0; i < order.size(); ++i) order[i] = i;
  std::vector<double> values(order.size() * plan->width());
  std::vector<std::uint8_t> states(values.size());
  EDGECORE_TRY(backfill(plan, rows, order, values, states, &out.late));
  Found found;
  found.resize(values.size());
  found.states = states;
  for (std::size_t i = 0; i < values.size(); ++i)
    found.values[i] = std::bit_cast<std::uint64_t>(values[i]);
  compare(out.stream.at_row, found, out.stream.applied, false, out.batch);
  return Status::ok();
}

inline std::vector<std::uint8_t> warm_rows(const Plan& plan, const RowBatch& rows,
                                           std::size_t first) {
  std::int64_t newest = INT64_MIN;
  for (std::size_t row = 0; row < first; ++row) newest = std::max(newest, rows.time_ns(row));
  std::vector<std::uint8_t> out(rows.count());
  for (std::size_t row = first; row < rows.count(); ++row)
    out[row] = rows.time_ns(row) >= newest + plan.horizon_ns();
  return out;
}

// `restores`: the stream is restored before every so many rows. `cuts`: how many later beginnings.
inline Result<Matrix> replay_all(std::size_t count, std::size_t restores, std::size_t cuts,
                                 std::uint64_t run) {
  Matrix out;
  EDGECORE_ASSIGN(out.plan, make_plan(view(run), schema()));
  const RowBatch rows = history(count, run);
  for (Difference* one : {&out.batch, &out.restore, &out.cut}) one->bits.resize(out.plan->width());
  EDGECORE_TRY(replay(out.plan, rows, 0, 0, out.stream));
  EDGECORE_TRY(run_batch(out.plan, rows, out));
  const auto against = [&](std::size_t first, std::size_t every, Difference& difference) {
    Replay other;
    EDGECORE_TRY(replay(out.plan, rows, first, every, other));
    const auto chosen =
        first == 0 ? std::vector<std::uint8_t>(count, 1) : warm_rows(*out.plan, rows, first);
    compare(out.stream.at_row, other.at_row, chosen, true, difference);
    compare(out.stream.later, other.later, chosen, true, difference);
    return Status::ok();
  };
  EDGECORE_TRY(against(0, restores, out.restore));
  for (std::size_t cut = 1; cut <= cuts; ++cut)
    EDGECORE_TRY(against(count * cut / (cuts + 1), 0, out.cut));
  return out;
}

// The ages that the later reads saw: the last feature is the recency.
inline void collect_ages(const Matrix& found, std::set<std::uint64_t>& ages) {
  const std::size_t width = found.plan->width();
  for (std::size_t at = width - 1; at < found.stream.later.values.size(); at += width)
    if (found.stream.later.states[at] != 2) ages.insert(found.stream.later.values[at]);
}

}  // namespace edgecore::features::matrix
