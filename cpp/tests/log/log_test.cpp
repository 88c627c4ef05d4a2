#include "log/log.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/log/log_cases.hpp"

namespace edgecore {
namespace {

class LogTest : public testing::Test {
 protected:
  std::unique_ptr<Log> open(std::uint64_t segment_bytes = 64 * 1024, bool read_only = false) {
    LogOptions options;
    options.read_only = read_only;
    options.segment_bytes = segment_bytes;
    options.store.fill(std::byte{7});
    options.epoch = ++epoch_;
    options.salt = epoch_ * 77;
    options.durability[0].level = Durability::kSync;
    auto log = Log::open(fs_, directory_, options, clock_);
    EXPECT_TRUE(log.is_ok()) << log.status().to_string();
    for (const auto& schema : {bulk_, critical_}) {
      if (read_only) {
        static_cast<void>(log.value()->attach_schema(schema));
      } else {
        EXPECT_TRUE(log.value()->register_schema(schema).is_ok());
      }
    }
    return std::move(log).value();
  }

  // All values of the bulk stream, with their sequences checked to be dense but for `burnt`.
  std::vector<std::int64_t> values(const Log& log) {
    std::vector<std::int64_t> out;
    const Status status = log.reader().visit(0, [&](const RecordView& view) {
      if (view.head.schema != 0) return true;
      RowBatch rows(bulk_);
      EXPECT_TRUE(decode_rows(view.payload, view.head.count, rows).is_ok());
      for (std::size_t i = 0; i < rows.count(); ++i) {
        out.push_back(rows.i64(i, 0));
        EXPECT_EQ(rows.text(i, 1), "text " + std::to_string(out.back()));
      }
      return true;
    });
    EXPECT_TRUE(status.is_ok()) << status.to_string();
    return out;
  }

  std::vector<std::int64_t> upto(std::int64_t count) {
    std::vector<std::int64_t> out;
    for (std::int64_t i = 0; i < count; ++i) out.push_back(i);
    return out;
  }

  std::string directory_ = "log";
  std::shared_ptr<Fs> fs_ = std::make_shared<MemoryFs>();
  std::shared_ptr<ManualClock> clock_ = std::make_shared<ManualClock>(1'700'000'000'000'000'000);
  SchemaPtr bulk_ = make_schema("bulk", Tier::kBulk);
  SchemaPtr critical_ = make_schema("critical", Tier::kCritical);
  std::uint64_t epoch_ = 0;
};

TEST_F(LogTest, AppendedRowsAreReadBackInOrder) {
  auto log = open();
  for (int i = 0; i < 100; ++i) {
    const Appended done = log->append(rows_of(bulk_, i * 3, 3)).value();
    EXPECT_EQ(done.first, static_cast<std::uint64_t>(i * 3 + 1));
    EXPECT_EQ(done.position, static_cast<std::uint64_t>(i * 3 + 1));
  }
  ASSERT_TRUE(log->flush().is_ok());
  EXPECT_EQ(values(*log), upto(300));
}

TEST_F(LogTest, ManySegmentsReadAsOne) {
  auto log = open(8192);
  for (int i = 0; i < 400; ++i) {
    ASSERT_TRUE(log->append(rows_of(bulk_, i, 1)).is_ok());
    if (i % 7 == 0) {
      ASSERT_TRUE(log->flush().is_ok());
    }
  }
  ASSERT_TRUE(log->close().is_ok());
  log = open(8192);
  EXPECT_TRUE(log->recovery().clean);
  EXPECT_GE(log->recovery().segments, 5u);
  EXPECT_EQ(values(*log), upto(400));
  EXPECT_EQ(log->next_sequence(1), 401u);
}

TEST_F(LogTest, SyncTierIsDurableWhenAppendReturns) {
  auto log = open();
  const Appended done = log->append(rows_of(critical_, 0, 1)).value();
  EXPECT_EQ(log->durable_position(), done.position);
}

TEST_F(LogTest, GroupIsDurableWhenItsTimeHasCome) {
  auto log = open();
  ASSERT_TRUE(log->append(rows_of(bulk_, 0, 1)).is_ok());
  const std::int64_t due = log->poll(clock_->monotonic_ns()).value();
  EXPECT_EQ(log->durable_position(), 0u);
  EXPECT_EQ(due, 50'000'000);
  ASSERT_TRUE(log->poll(due).is_ok());
  EXPECT_EQ(log->durable_position(), 1u);
}

TEST_F(LogTest, AfterACrashHandedOutSequencesAreBurntNotReused) {
  {
    auto log = open();
    ASSERT_TRUE(log->append(rows_of(bulk_, 0, 5)).is_ok());
    ASSERT_TRUE(log->sync().is_ok());
    ASSERT_TRUE(log->append(rows_of(bulk_, 5, 3)).is_ok());  // never written
  }
  auto log = open();
  EXPECT_FALSE(log->recovery().clean);
  EXPECT_FALSE(log->recovery().tail_uncertain);
  ASSERT_EQ(log->recovery().ranges.size(), 2u);  // both partitions reserve
  const LossRange burnt = log->recovery().ranges[0];
  EXPECT_EQ(burnt.reason, LossRange::kBurnt);
  EXPECT_EQ(burnt.first, 6u);
  EXPECT_EQ(values(*log), upto(5));
  EXPECT_EQ(log->append(rows_of(bulk_, 5, 1)).value().first, burnt.last + 1);
  ASSERT_TRUE(log->flush().is_ok());
  EXPECT_EQ(values(*log), upto(6));
}

TEST_F(LogTest, NumbersBurntByAnOpenThatWroteNoRowAreNoLoss) {
  for (const int written : {5, 0, 0, 3}) {
    auto log = open();
    ASSERT_TRUE(log->append(rows_of(bulk_, 0, written > 0 ? written : 1)).is_ok());
    if (written > 0) {
      ASSERT_TRUE(log->sync().is_ok());
    }
  }
  std::vector<LossRange> losses;
  auto log = open();
  ASSERT_TRUE(log->reader().visit(0, [](const auto&) { return true; }, &losses).is_ok());
  EXPECT_TRUE(losses.empty());
}

TEST_F(LogTest, TornTailIsSealedAtTheCut) {
  std::uint64_t size = 0;
  const std::string path = join_path(directory_, "wal-0000000000000001.seg");
  {
    auto log = open();
    for (int i = 0; i < 10; ++i) {
      ASSERT_TRUE(log->append(rows_of(bulk_, i, 1)).is_ok());
      ASSERT_TRUE(log->flush().is_ok());
    }
  }
  {  // the last block loses its second half
    auto file = fs_->open(path, OpenMode::kReadWrite).value();
    size = 4096 + 10 * 512;
    const Bytes zeros(300, std::byte{0});
    ASSERT_TRUE(file->write_at(size + 60, zeros).is_ok());
  }
  auto log = open();
  EXPECT_TRUE(log->recovery().tail_uncertain);
  EXPECT_EQ(values(*log), upto(9));
  ASSERT_TRUE(log->append(rows_of(bulk_, 9, 1)).is_ok());
  ASSERT_TRUE(log->close().is_ok());
  log = open();
  EXPECT_EQ(values(*log), upto(10));
}

TEST_F(LogTest, DamagedDurableBlockIsAnExactLossAndTheRestIsRead) {
  const std::string path = join_path(directory_, "wal-0000000000000001.seg");
  {
    auto log = open();
    for (int i = 0; i < 10; ++i) {
      ASSERT_TRUE(log->append(rows_of(bulk_, i, 1)).is_ok());
      ASSERT_TRUE(log->sync().is_ok());
    }
  }
  auto file = fs_->open(path, OpenMode::kReadWrite).value();
  const std::byte flipped{0x5a};
  ASSERT_TRUE(file->write_at(4096 + 5 * 512 + 40, {&flipped, 1}).is_ok());
  auto log = open();
  std::vector<LossRange> lost;
  for (const LossRange& range : log->recovery().ranges)
    if (range.reason == LossRange::kLost) lost.push_back(range);
  ASSERT_EQ(lost.size(), 1u);
  EXPECT_EQ(lost[0].first, 5u);
  EXPECT_EQ(lost[0].last, 5u);
  EXPECT_EQ(values(*log), (std::vector<std::int64_t>{0, 1, 2, 3, 5, 6, 7, 8, 9}));
}

// Every byte of a small log, flipped: what is read is right, or missing and reported; never wrong.
TEST_F(LogTest, AnyFlippedByteIsNeverReadAsAnotherValue) {
  {
    auto log = open(8192);
    for (int i = 0; i < 6; ++i) {
      ASSERT_TRUE(log->append(rows_of(bulk_, i, 1)).is_ok());
      ASSERT_TRUE(log->sync().is_ok());
    }
    ASSERT_TRUE(log->close().is_ok());
  }
  const std::string path = join_path(directory_, "wal-0000000000000001.seg");
  const Bytes good = read_file(*fs_, path, 1 << 20).value();
  const auto all = upto(6);
  LogOptions read_only;
  read_only.read_only = true;
  for (std::size_t at = 0; at < 4096 + 8 * 512; at += 3) {
    Bytes bad = good;
    bad[at] ^= std::byte{0x24};
    ASSERT_TRUE(write_file_atomic(*fs_, path, bad).is_ok());
    auto log = Log::open(fs_, directory_, read_only, clock_);
    if (!log.is_ok()) continue;
    static_cast<void>(log.value()->attach_schema(bulk_));
    const auto seen = values(*log.value());
    EXPECT_TRUE(std::includes(all.begin(), all.end(), seen.begin(), seen.end())) << "byte " << at;
    const auto& report = log.value()->recovery();
    if (seen != all) {
      EXPECT_TRUE(!report.ranges.empty() || report.tail_uncertain) << "byte " << at;
    }
  }
}

TEST_F(LogTest, SecondWriterIsUnavailable) {
  auto log = open();
  const auto second = Log::open(fs_, directory_, {}, clock_);
  EXPECT_EQ(second.status().outcome(), Outcome::kUnavailable);
}

TEST_F(LogTest, ReaderChangesNothingAndSeesWhatIsWritten) {
  auto log = open();
  ASSERT_TRUE(log->append(rows_of(bulk_, 0, 4)).is_ok());
  ASSERT_TRUE(log->sync().is_ok());
  const auto names = fs_->list(directory_).value();
  auto reader = open(65536, true);
  EXPECT_EQ(values(*reader), upto(4));
  EXPECT_EQ(fs_->list(directory_).value(), names);
}

TEST_F(LogTest, FlusherThreadMakesGroupsDurable) {
  LogOptions options;
  options.flusher_thread = true;
  options.epoch = options.salt = 5;
  auto system = std::make_shared<SystemClock>();
  auto log = Log::open(fs_, directory_, options, system).value();
  ASSERT_TRUE(log->register_schema(bulk_).is_ok());
  std::uint64_t last = 0;
  for (int i = 0; i < 50; ++i) last = log->append(rows_of(bulk_, i, 1)).value().position;
  ASSERT_TRUE(log->wait_durable(last).is_ok());
  EXPECT_GE(log->durable_position(), last);
  ASSERT_TRUE(log->close().is_ok());
}

TEST_F(LogTest, LoneDurableAppendIsOneSectorAndOneSync) {
  auto log = open();
  ASSERT_TRUE(log->append(rows_of(critical_, 0, 1)).is_ok());
  const auto disk = std::static_pointer_cast<MemoryFs>(fs_);
  const std::uint64_t before = disk->operations();
  ASSERT_TRUE(log->append(rows_of(critical_, 1, 1)).is_ok());
  EXPECT_EQ(disk->operations() - before, 2u);  // one write, one sync
  const auto written = disk->inject({FaultEffect::kIoError, 1u << 2, "", 0, false});
  EXPECT_TRUE(log->append(rows_of(critical_, 2, 1)).is_ok());  // into the next segment
  EXPECT_EQ(disk->fired(written), 1u);
  EXPECT_EQ(log->durable_position(), 3u);
  ASSERT_TRUE(log->append(rows_of(bulk_, 3, 1)).is_ok());
  const auto image = disk->crash(1);
  EXPECT_EQ(image->pending_units(), 0u);
}

// Two writers, a reader and the flusher at once: every row is read once, none before its time.
TEST_F(LogTest, ThreadsAppendReadAndFlushTogether) {
  LogOptions options;
  options.flusher_thread = true;
  options.segment_bytes = 32 * 1024;
  options.epoch = options.salt = 5;
  options.durability[4].group_ns = 200'000;
  auto log = Log::open(fs_, directory_, options, std::make_shared<SystemClock>()).value();
  ASSERT_TRUE(log->register_schema(bulk_).is_ok());
  ASSERT_TRUE(log->register_schema(critical_).is_ok());
  const auto write = [&](const SchemaPtr& schema, std::int64_t from) {
    for (int i = 0; i < 300; ++i) {
      const auto done = log->append(rows_of(schema, from + i, 1));
      ASSERT_TRUE(done.is_ok()) << done.status().to_string();
      if (i % 50 == 0) {
        ASSERT_TRUE(log->wait_durable(done->position).is_ok());
      }
    }
  };
  std::thread first(write, bulk_, 0);
  std::thread second(write, critical_, 1000);
  std::size_t seen = 0;
  for (int i = 0; i < 30; ++i) {
    const std::size_t now = read_all(*log, {bulk_, critical_}).size();
    EXPECT_GE(now, seen);
    seen = now;
  }
  first.join();
  second.join();
  ASSERT_TRUE(log->sync().is_ok());
  EXPECT_EQ(read_all(*log, {bulk_, critical_}).size(), 600u);
  ASSERT_TRUE(log->close().is_ok());
}

}  // namespace
}  // namespace edgecore
