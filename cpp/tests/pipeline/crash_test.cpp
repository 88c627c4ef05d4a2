// Power cuts at every operation, with everything the disk may lose lost by chance, and cut again
// in the replay: rows that survive have one serving prediction each, with the bits of a run that
// was never interrupted, the gaps that were told between them included.
#include <set>

#include "tests/pipeline/fixture.hpp"

namespace edgecore::pipeline {
namespace {

using namespace edgecore::pipeline::testing;

constexpr std::size_t kRows = 60;
constexpr double kMinCoverage = 0.05;  // of 10 minutes: met in the middle of the rows, less gaps

// Known before row `at` comes: the device was off.
Status tell_gap(Device& device, const RowBatch& rows, std::size_t at) {
  const std::int64_t time = rows.time_ns(at);
  return at % 12 == 8 ? device.tell(time - 9 * kSecond, time - kSecond) : Status::ok();
}

// Sends rows from `from` on, in small batches, until the power goes; the log is polled between.
void drive(Device& device, const RowBatch& rows, std::size_t from) {
  for (std::size_t at = from; at < rows.count(); at += 4) {
    if (!tell_gap(device, rows, at).is_ok()) return;
    if (!device.process(slice(rows, at, 4)).is_ok()) return;
    device.clock->advance(40'000'000);
    if (!device.log->poll(device.clock->monotonic_ns()).is_ok()) return;
  }
  static_cast<void>(device.log->sync());
}

// Source rows of the log, which are a prefix of what was sent.
std::size_t source_rows(Device& device) {
  std::set<std::uint64_t> seqs;
  const auto add = [&](const RowBatch& rows, std::size_t first, std::uint64_t) {
    for (std::size_t row = first; row < rows.count(); ++row) seqs.insert(rows.source_seq(row));
    return Status::ok();
  };
  EXPECT_TRUE(device.log->flush().is_ok());
  LogReader reader = device.log->reader();
  EXPECT_TRUE(visit_rows(reader, device.source, 0, UINT64_MAX, add).is_ok());
  EXPECT_TRUE(seqs.empty() || *seqs.rbegin() == seqs.size());
  return seqs.size();
}

class PipelineCrash : public ::testing::TestWithParam<DiskModel> {};

TEST_P(PipelineCrash, SurvivingRowsAreAnsweredOnceWithTheSameBits) {
  const RowBatch rows = readings(source_schema(), kRows, 21);
  Device whole(std::make_shared<MemoryFs>(), 1, Durability::kGroup, kMinCoverage);
  ASSERT_TRUE(whole.serve().is_ok());
  drive(whole, rows, 0);
  const auto expected = said(whole);
  ASSERT_EQ(expected.size(), kRows);

  const auto count_operations = [&] {
    Device device(std::make_shared<MemoryFs>(MemoryFsOptions{512, GetParam(), 1ull << 40}), 1,
                  Durability::kSync, kMinCoverage);
    EXPECT_TRUE(device.serve().is_ok());
    const std::uint64_t before = device.fs->operations();
    drive(device, rows, 0);
    return device.fs->operations() - before;
  };
  const std::uint64_t operations = count_operations();
  std::size_t completed = 0;
  for (std::uint64_t cut = 1; cut <= operations + 1; ++cut) {
    Device first(std::make_shared<MemoryFs>(MemoryFsOptions{512, GetParam(), 1ull << 40}), 1,
                 Durability::kSync, kMinCoverage);
    ASSERT_TRUE(first.serve().is_ok());
    first.fs->cut_power_at(cut);
    drive(first, rows, 0);
    auto disk = first.fs->crash(cut);
    // The power goes again while the replay runs.
    {
      Device second(disk, 2, Durability::kSync, kMinCoverage);
      ASSERT_TRUE(second.status.is_ok()) << "cut " << cut << ": " << second.status.to_string();
      ASSERT_TRUE(second.serve().is_ok());
      second.fs->cut_power_at(1 + cut % 7);
      static_cast<void>(second.pipeline->replay());
      static_cast<void>(second.log->sync());
      disk = second.fs->crash(cut + 1);
    }
    Device third(disk, 3, Durability::kSync, kMinCoverage);
    ASSERT_TRUE(third.status.is_ok()) << "cut " << cut << ": " << third.status.to_string();
    ASSERT_TRUE(third.serve().is_ok());
    ASSERT_TRUE(third.pipeline->replay().is_ok());
    completed += third.pipeline->counters().completed;
    drive(third, rows, source_rows(third));
    const auto found = said(third);
    ASSERT_EQ(found.size(), kRows) << "cut " << cut;
    for (std::size_t i = 0; i < kRows; ++i) {
      ASSERT_EQ(found[i].source_seq, i + 1) << "cut " << cut;
      ASSERT_TRUE(same(found[i].answer, expected[i].answer)) << "cut " << cut << " row " << i;
      ASSERT_GT(found[i].answered_at, found[i].position);
    }
  }
  EXPECT_GT(completed, 0u);  // the cut between the two appends was met
}

INSTANTIATE_TEST_SUITE_P(Models, PipelineCrash,
                         ::testing::Values(DiskModel::kPosix, DiskModel::kExt4));

}  // namespace
}  // namespace edgecore::pipeline
