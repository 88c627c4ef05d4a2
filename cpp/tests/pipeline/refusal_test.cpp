// Rows that are not fit for a decision: which role answers, what is said of those that did not, and
// that it is the same live, in batches, after a restart, and when it is made again.
#include "tests/pipeline/fixture.hpp"

namespace edgecore::pipeline {
namespace {

using namespace edgecore::pipeline::testing;

constexpr std::uint32_t kActive = 10, kFallback = 20, kRule = 30;

// The last value is refused when it is stale, the mean of a minute is missing once it has no event.
features::PlanPtr refusing_view(const SchemaPtr& source) {
  features::ViewSpec view = make_view(source)->view();
  view.features[2].ttl_ns = 3 * kSecond;
  view.features[2].on_stale = features::OnStale::kRefuse;
  features::FeatureSpec share;
  share.name = "share";
  share.op = features::Op::kRatio;
  share.numerator = "temp_mean_1m";
  share.denominator = "temp_last";
  share.fingerprint = blake3(as_byte_span(share.name));
  view.features.push_back(share);
  return features::make_plan(view, source).value();
}

std::shared_ptr<const inference::Binding> binding_of(const features::Plan& plan,
                                                     const std::vector<std::size_t>& features,
                                                     inference::Contract contract) {
  std::vector<inference::Slot> slots;
  for (const std::size_t feature : features) {
    inference::Slot slot;
    slot.feature = plan.view().features[feature].fingerprint;
    slot.centre = slot.substitute = 20;
    slots.push_back(slot);
  }
  return std::make_shared<inference::Binding>(
      inference::Binding::make(std::move(slots), contract).value());
}

// Temperatures come and go: silences of up to two minutes, in which rows come without one.
RowBatch patchy(const SchemaPtr& schema, std::size_t count, std::uint32_t seed) {
  std::mt19937 chance(seed);
  RowBatch rows(schema);
  std::int64_t time = kStart;
  std::size_t silent = 0;
  for (std::size_t i = 0; i < count; ++i) {
    time += kSecond;
    const bool late = chance() % 15 == 0;
    const std::size_t row = rows.add_row(
        late ? time - static_cast<std::int64_t>(chance() % 9) * kSecond : time, "sim", i + 1);
    rows.set_bytes(row, 0, as_byte_span("a"));
    if (silent == 0 && chance() % 30 == 0) silent = chance() % 120;
    if (silent > 0 && --silent > 0) continue;
    rows.set_i64(row, 1, 19'000 + static_cast<std::int64_t>(chance() % 2'000));
  }
  return rows;
}

class Station : public Device {
 public:
  explicit Station(std::shared_ptr<MemoryFs> disk = std::make_shared<MemoryFs>(),
                   std::uint64_t epoch = 1)
      : Device(std::move(disk), epoch) {
    plan = refusing_view(source);
    pipeline =
        Pipeline::create(log, parts_of(plan), source, prediction, {kActive, kFallback, kRule})
            .value();
    // The active model reads what is refused, by itself and in a ratio; the fallback asks for an
    // event within 20 s, the rule that half of what it reads is there.
    roles = {spec, spec, spec};
    roles[0].binding = binding_of(*plan, {0, 1, 2}, {});
    roles[1].context = kFallback;
    roles[1].binding = binding_of(*plan, {1, 0}, {20 * kSecond, 0});
    roles[1].executor = standby;
    roles[1].run = blake3(as_byte_span("other run"));
    roles[2].context = kRule;
    roles[2].binding = binding_of(*plan, {0, 1}, {0, 1});
    roles[2].executor = nullptr;
    roles[2].verdict.reset();
    roles[2].limit = 9'000'000;
    for (RoleSpec& one : roles) one.aliases = {};
    roles[0].context = kActive;
  }
  void set_roles() {
    EXPECT_TRUE(pipeline->set_role(Part::kActive, roles[0]).is_ok());
    EXPECT_TRUE(pipeline->set_role(Part::kFallback, roles[1]).is_ok());
    EXPECT_TRUE(pipeline->set_role(Part::kRule, roles[2]).is_ok());
  }
  std::shared_ptr<Halver> standby = std::make_shared<Halver>(2);
  std::array<RoleSpec, 3> roles;
};

struct Row {
  std::uint32_t context;
  Answer answer;
  std::string reason;
};

std::map<std::uint64_t, Row> recorded(Station& station) {
  EXPECT_TRUE(station.log->flush().is_ok());
  LogReader reader = station.log->reader();
  const auto columns = PredictionColumns::find(*station.prediction).value();
  std::map<std::uint64_t, Row> out;
  const auto add = [&](const RowBatch& rows, std::size_t first, std::uint64_t) {
    for (std::size_t row = first; row < rows.count(); ++row) {
      const Prediction one = columns.take(rows, row);
      EXPECT_TRUE(
          out.emplace(one.position, Row{one.context, one.answer, reason_text(one.why)}).second);
    }
    return Status::ok();
  };
  EXPECT_TRUE(visit_rows(reader, station.prediction, 0, UINT64_MAX, add).is_ok());
  return out;
}

std::vector<Row> answers(Station& station) {
  std::vector<Row> out;
  for (const auto& [position, row] : recorded(station)) out.push_back(row);
  return out;
}

void expect_rows(const std::vector<Row>& a, const std::vector<Row>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(a[i].reason, b[i].reason) << i;
    ASSERT_EQ(a[i].context, b[i].context) << i;
    ASSERT_TRUE(same(a[i].answer, b[i].answer)) << i;
  }
}

std::vector<Row> run_in_batches(const RowBatch& rows, std::size_t size) {
  Station station;
  station.set_roles();
  for (std::size_t at = 0; at < rows.count(); at += size)
    EXPECT_TRUE(station.process(slice(rows, at, size)).is_ok());
  return answers(station);
}

// By the definition, over all rows so far.
std::string expected(const RowBatch& rows, std::size_t row) {
  const std::int64_t now = rows.time_ns(row);
  std::int64_t newest = kStart, last = INT64_MIN;
  bool minute = false;
  for (std::size_t i = 0; i <= row; ++i) {
    const std::int64_t time = rows.time_ns(i);
    if (time < newest - 5 * kSecond) {  // came too late, and counted for nothing
      if (i == row) return "uncounted";
      continue;
    }
    newest = std::max(newest, time);
    if (!rows.present(i, 1) || time > now) continue;
    last = std::max(last, time);
    minute = minute || time > now - 60 * kSecond;
  }
  // Never seen is no stale value: the model has its substitute.
  if (last == INT64_MIN) return "";
  const std::int64_t age = now - last;
  if (age <= 3 * kSecond) return "";
  if (age <= 20 * kSecond) return "active:stale";
  return minute ? "active:stale fallback:old" : "active:stale fallback:old rule:sparse";
}

TEST(Refusal, RolesAnswerInTurnAndThePredictionSaysWhyOthersDidNot) {
  Station station;
  station.set_roles();
  const RowBatch rows = patchy(station.source, 900, 11);
  ASSERT_TRUE(station.process(rows).is_ok());
  ASSERT_EQ(station.out.served.size(), rows.count());
  std::map<std::string, std::size_t> seen;
  for (std::size_t i = 0; i < rows.count(); ++i) {
    const Prediction& one = station.out.served[i];
    const std::string reason = reason_text(one.why);
    ++seen[reason];
    ASSERT_EQ(reason, expected(rows, i)) << i;
    ASSERT_EQ(reasons_of(reason), one.why);
    const bool unjudged = reason == "uncounted" || reason.ends_with("rule:sparse");
    ASSERT_EQ(one.answer.scored, !unjudged) << i;
    const Part part = reason.empty() || unjudged ? Part::kActive
                      : reason == "active:stale" ? Part::kFallback
                                                 : Part::kRule;
    ASSERT_EQ(one.part, part) << i;
    if (unjudged) {
      ASSERT_EQ(one.answer.input, blake3({}));
    }
  }
  EXPECT_EQ(seen.size(), 5u);
  const Counters& counters = station.pipeline->counters();
  EXPECT_EQ(counters.by_fallback, seen["active:stale"]);
  EXPECT_EQ(counters.by_rule, seen["active:stale fallback:old"]);
  EXPECT_EQ(counters.unanswered, seen["active:stale fallback:old rule:sparse"]);
  EXPECT_EQ(counters.refused[1], 0u);
  EXPECT_EQ(counters.refused[0], rows.count() - seen[""] - seen["uncounted"]);
  EXPECT_EQ(counters.refused[3], counters.unanswered);
  EXPECT_EQ(counters.refused[2], counters.unanswered + counters.by_rule);
  // A refusal is no failure: nobody is out of service, no model was blamed.
  for (const Part part : {Part::kActive, Part::kFallback}) {
    EXPECT_FALSE(station.pipeline->find_role(part)->retired());
    EXPECT_EQ(station.pipeline->find_role(part)->failures(), 0u);
  }
}

TEST(Refusal, StreamBatchesAndRestartsGiveTheSameAnswersAndReasons) {
  const RowBatch rows = patchy(source_schema(), 400, 12);
  const auto whole = run_in_batches(rows, 1);
  for (const std::size_t size : {5u, 64u, 400u}) expect_rows(whole, run_in_batches(rows, size));
  for (const std::size_t cut : {40u, 133u, 300u})
    for (const bool with_snapshot : {true, false}) {
      auto disk = std::make_shared<MemoryFs>();
      Bytes snapshot;
      {
        Station first(disk);
        first.set_roles();
        ASSERT_TRUE(first.process(slice(rows, 0, cut / 2)).is_ok());
        snapshot = first.pipeline->snapshot().value();
        ASSERT_TRUE(first.process(slice(rows, cut / 2, cut - cut / 2)).is_ok());
        ASSERT_TRUE(first.log->close().is_ok());
      }
      Station second(disk, 2);
      second.set_roles();
      if (with_snapshot) {
        ASSERT_TRUE(second.pipeline->restore(snapshot).is_ok());
      }
      ASSERT_TRUE(second.pipeline->replay().is_ok());
      EXPECT_EQ(second.pipeline->counters().completed, 0u);
      ASSERT_TRUE(second.process(slice(rows, cut, 400)).is_ok());
      expect_rows(whole, answers(second));
    }
}

// Rows whose predictions a crash took are completed with the same reasons.
TEST(Refusal, ReplayCompletesWhatWasLostWithTheSameReasons) {
  const RowBatch rows = patchy(source_schema(), 300, 13);
  const auto whole = run_in_batches(rows, 1);
  auto disk = std::make_shared<MemoryFs>();
  Station station(disk);
  station.set_roles();
  ASSERT_TRUE(station.process(slice(rows, 0, 50)).is_ok());
  ASSERT_TRUE(station.log->append(slice(rows, 50, 250)).status().is_ok());
  ASSERT_TRUE(station.pipeline->replay().is_ok());
  EXPECT_EQ(station.pipeline->counters().completed, 250u);
  expect_rows(whole, answers(station));
}

TEST(Refusal, EveryAnswerAndEveryReasonIsMadeAgain) {
  Station station;
  station.set_roles();
  const RowBatch rows = patchy(station.source, 300, 14);
  ASSERT_TRUE(station.process(rows).is_ok());
  const auto parts = {Part::kActive, Part::kFallback, Part::kRule};
  std::set<std::string> met;
  for (const auto& [position, row] : recorded(station)) {
    if (position % 3 != 0 && met.contains(row.reason)) continue;
    met.insert(row.reason);
    const std::size_t own = row.context / 10 - 1;
    RebuildPlan plan{parts_of(station.plan),      station.source,         station.prediction,
                     {kActive, kFallback, kRule}, *(parts.begin() + own), station.roles[own]};
    for (std::size_t i = 0; i < 3; ++i)
      if (i != own && row.reason.find(part_word(*(parts.begin() + i))) != std::string::npos)
        plan.others.emplace_back(*(parts.begin() + i), station.roles[i].binding);
    const auto again = rebuild(station.log->reader(), plan, position);
    ASSERT_TRUE(again.is_ok()) << again.status().to_string();
    ASSERT_EQ(reason_text(again->prediction.why), row.reason) << position;
    ASSERT_TRUE(same(again->prediction.answer, row.answer)) << position;
  }
  EXPECT_EQ(met.size(), 5u);
}

TEST(Refusal, ARatioOfARefusedValueIsRefusedAndAShadowIsNotRecorded) {
  Station station;
  station.roles[0].binding = binding_of(*station.plan, {0, 1, 3}, {});
  RoleSpec shadow = station.roles[0];
  shadow.context = 40;
  ASSERT_TRUE(station.pipeline->set_role(Part::kActive, station.roles[0]).is_ok());
  ASSERT_TRUE(station.pipeline->set_role(Part::kShadow, shadow).is_ok());
  RowBatch rows(station.source);
  for (int i = 0; i < 8; ++i) {
    const std::size_t row = rows.add_row(kStart + i * kSecond);
    rows.set_bytes(row, 0, as_byte_span("a"));
    if (i < 2) rows.set_i64(row, 1, 20'000);
  }
  ASSERT_TRUE(station.process(rows).is_ok());
  EXPECT_EQ(station.out.shadow.size(), 5u);
  for (std::size_t i = 0; i < 8; ++i)
    EXPECT_EQ(reason_text(station.out.served[i].why), i < 5 ? "" : "active:stale");
  const Counters& counters = station.pipeline->counters();
  EXPECT_EQ(counters.refused, (std::array<std::uint64_t, kParts>{3, 3, 0, 0}));
  EXPECT_FALSE(station.pipeline->find_role(Part::kShadow)->retired());
}

TEST(Refusal, ReasonsAreReadAsTheyAreWrittenAndWhatIsNotKnownIsNone) {
  Reasons why{};
  why[0] = Why::kFailed;
  why[2] = Why::kOld;
  why[3] = Why::kSparse;
  EXPECT_EQ(reason_text(why), "active:failed fallback:old rule:sparse");
  EXPECT_EQ(reasons_of(reason_text(why)), why);
  EXPECT_EQ(reasons_of(""), Reasons{});
  for (const char* text : {"active:tired", "shadow:old", " active:", "::", "rule:old:sparse"})
    EXPECT_EQ(reasons_of(text), Reasons{}) << text;
}

}  // namespace
}  // namespace edgecore::pipeline
