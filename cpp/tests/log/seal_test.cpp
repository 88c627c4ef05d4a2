// Sealed segments: the same rows for every reader, in smaller files of one tier each.
#include <algorithm>

#include "log/runs.hpp"
#include "tests/log/log_cases.hpp"

namespace edgecore {
namespace {

constexpr std::uint64_t kSegmentBytes = 20 * 1024;
constexpr std::uint64_t kCopySeed = 1;  // of a crash at which everything is durable

// One row as a reader sees it.
struct Seen {
  std::uint32_t partition = 0;
  std::uint64_t sequence = 0;
  std::uint64_t position = 0;
  std::uint64_t hlc = 0;
  std::uint64_t epoch = 0;
  std::uint8_t trust = 0;
  Bytes row;
  bool operator==(const Seen&) const = default;
};

class Seal : public testing::Test {
 protected:
  std::unique_ptr<Log> open(bool read_only = false, LogKeep keep = {}) {
    LogOptions options;
    options.read_only = read_only;
    options.segment_bytes = kSegmentBytes;
    options.store.fill(std::byte{7});
    options.epoch = ++epoch_;
    options.salt = epoch_ * 0x7654321;
    options.durability[0].level = Durability::kSync;
    options.keep = keep;
    auto log = Log::open(disk_, "log", options, clock_);
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

  // Rows of both streams, some appends of many, with clocks that move.
  void fill(Log& log, int appends) {
    for (int i = 0; i < appends; ++i) {
      const int rows = i % 11 == 10 ? 40 : 1 + i % 3;
      ASSERT_TRUE(log.append(rows_of(i % 4 == 3 ? critical_ : bulk_, value_, rows)).is_ok());
      value_ += rows;
      clock_->advance(7'000'000);
      log.set_clock_trust(static_cast<std::uint8_t>(i / 50 % 2));
      ASSERT_TRUE(log.poll(clock_->monotonic_ns()).is_ok());
    }
    ASSERT_TRUE(log.sync().is_ok());
  }

  std::vector<Seen> seen(LogReader reader, std::uint64_t after = 0,
                         std::vector<LossRange>* losses = nullptr) const {
    std::vector<Seen> out;
    const auto visit = [&](const RecordView& view) {
      const Schema& schema = *reader.catalogue().find(view.head.schema)->schema;
      ByteSpan rest = view.payload;
      for (std::uint32_t i = 0; i < view.head.count; ++i) {
        const std::size_t size = rows_size(schema, rest, 1).value();
        if (view.position + i > after)  // a record may reach below it
          out.push_back({view.head.partition, view.head.first + i, view.position + i, view.hlc,
                         view.epoch, view.clock_trust,
                         Bytes(rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(size))});
        rest = rest.subspan(size);
      }
      return true;
    };
    const Status status = reader.visit(after, visit, losses);
    EXPECT_TRUE(status.is_ok()) << status.to_string();
    return out;
  }

  Sealed seal(Log& log, Coding coding = Coding::kFast) {
    const auto done = log.seal({2, 60'000, coding});
    EXPECT_TRUE(done.is_ok()) << done.status().to_string();
    return done.value();
  }

  std::vector<std::string> files(const std::string& prefix) const {
    std::vector<std::string> out;
    const auto names = disk_->list("log").value();
    for (const std::string& name : names)
      if (name.starts_with(prefix)) out.push_back("log/" + name);
    return out;
  }

  void flip(const std::string& path, std::uint64_t at) {
    auto file = disk_->open(path, OpenMode::kReadWrite).value();
    Bytes byte(1);
    ASSERT_EQ(file->read_at(at, byte).value(), 1u);
    byte[0] ^= std::byte{0x10};
    ASSERT_TRUE(file->write_at(at, byte).is_ok());
  }

  std::shared_ptr<MemoryFs> disk_ = std::make_shared<MemoryFs>();
  std::shared_ptr<ManualClock> clock_ = std::make_shared<ManualClock>(1'700'000'000'000'000'000);
  SchemaPtr bulk_ = make_schema("bulk", Tier::kBulk);
  SchemaPtr critical_ = make_schema("critical", Tier::kCritical);
  std::uint64_t epoch_ = 0;
  std::int64_t value_ = 1;
};

TEST_F(Seal, RowsAreTheSameForEveryReader) {
  auto log = open();
  fill(*log, 900);
  log.reset();  // as a crash leaves it: numbers are burnt
  log = open();
  fill(*log, 900);
  const auto before = seen(log->reader());
  const std::uint64_t bytes = log->data_bytes();
  std::uint64_t rows = 0;
  for (const Coding coding : {Coding::kFast, Coding::kDense}) rows += seal(*log, coding).rows;
  while (const Sealed done = seal(*log)) rows += done.rows;
  EXPECT_GT(rows, before.size() / 2);
  EXPECT_LT(log->data_bytes(), bytes / 2);
  EXPECT_EQ(files("wal-").size(), 2u);
  EXPECT_TRUE(seen(log->reader()) == before);
  const std::uint64_t middle = before[before.size() / 3].position;
  auto later = before;
  std::erase_if(later, [&](const Seen& row) { return row.position <= middle; });
  EXPECT_TRUE(seen(log->reader(), middle) == later);
  EXPECT_TRUE(seen(open(true)->reader()) == before);
  ASSERT_TRUE(log->close().is_ok());
  log = open();
  EXPECT_TRUE(seen(log->reader()) == before);
  std::vector<LossRange> losses;
  seen(log->reader(), 0, &losses);
  EXPECT_TRUE(losses.empty());
}

TEST_F(Seal, SegmentsWithoutARowAreSealedWithTheNextThatHasOne) {
  for (int i = 0; i < 5; ++i) {  // what an open leaves that is cut before its first commit
    auto log = open();
    ASSERT_TRUE(log->append(rows_of(bulk_, 1, 1)).is_ok());
  }
  auto log = open();
  EXPECT_FALSE(log->seal({2, 1, Coding::kFast}).value());
  fill(*log, 300);
  const auto before = seen(log->reader());
  EXPECT_GT(log->seal({2, 1, Coding::kFast}).value().rows, 0u);
  log.reset();
  log = open();
  EXPECT_TRUE(log->recovery().missing == 0 && !log->recovery().tail_uncertain);
  std::vector<LossRange> losses;
  EXPECT_TRUE(seen(log->reader(), 0, &losses) == before);
  EXPECT_TRUE(losses.empty());
}

TEST_F(Seal, RunsAndSequencesAreThoseOfBefore) {
  auto log = open();
  fill(*log, 700);
  const auto runs = [&](std::uint32_t partition, std::uint64_t after) {
    return collect_runs(log->reader(), {partition, after, 0, UINT64_MAX - 1, 5000}).value();
  };
  struct Told {
    std::uint64_t first, count, sequence;
    Bytes rows;
    bool operator==(const Told&) const = default;
  };
  const auto tell = [&] {
    std::vector<Told> out;
    for (const std::uint32_t partition : {1u, 2u})
      for (std::uint64_t after = 0; after < log->next_sequence(partition); after += 37) {
        const auto found = runs(partition, after);
        out.push_back({found.empty() ? 0 : found[0].first, found.empty() ? 0 : found[0].count,
                       sequence_at(log->reader(), partition, after).value(),
                       found.empty() ? Bytes() : found[0].rows});
      }
    return out;
  };
  const auto before = tell();
  EXPECT_GT(seal(*log).rows, 100u);
  EXPECT_EQ(tell(), before);
}

TEST_F(Seal, PacksAreOfOneTierAndBounded) {
  auto log = open();
  fill(*log, 3000);
  while (seal(*log)) {
  }
  std::set<int> tiers;
  for (const std::string& path : files("pack-")) {
    const Bytes file = read_file(*disk_, path, 1u << 20).value();
    EXPECT_LE(file.size(), kPackBytesMax);
    const PackIndex index = decode_pack(file).value();
    tiers.insert(index.tier);
    for (const PackBlock& block : index.blocks) {
      EXPECT_EQ(block.partition, index.tier == 0 ? 2u : 1u);
      EXPECT_LE(block.count, kPackBlockRows);
    }
  }
  EXPECT_EQ(tiers, (std::set<int>{0, 4}));
}

TEST_F(Seal, AReaderMadeBeforeFindsWhatWasSealedSince) {
  auto log = open();
  fill(*log, 700);
  const auto before = seen(log->reader());
  LogReader old = log->reader();
  const auto beside = open(true);
  LogReader other = beside->reader();
  while (seal(*log)) {
  }
  fill(*log, 300);  // takes over the files that became free
  while (seal(*log)) {
  }
  EXPECT_TRUE(seen(std::move(old)) == before);
  EXPECT_TRUE(seen(std::move(other)) == before);
}

TEST_F(Seal, ADamagedBlockCostsItsRowsAndIsReported) {
  auto log = open();
  fill(*log, 700);
  const auto before = seen(log->reader());
  while (seal(*log)) {
  }
  const std::string path = files("pack-").front();
  const PackIndex index = decode_pack(read_file(*disk_, path, 1u << 20).value()).value();
  const PackBlock& block = index.blocks.front();
  flip(path, block.offset + block.length / 2);
  auto expected = before;
  const auto size = expected.size();
  std::erase_if(expected, [&](const Seen& row) {
    return row.partition == block.partition && row.sequence >= block.first &&
           row.sequence < block.first + block.count;
  });
  EXPECT_EQ(expected.size() + block.count, size);
  std::vector<LossRange> losses;
  EXPECT_TRUE(seen(log->reader(), 0, &losses) == expected);
  EXPECT_EQ(losses, (std::vector<LossRange>{{block.partition, block.first,
                                             block.first + block.count - 1, LossRange::kLost}}));
}

TEST_F(Seal, ADamagedIndexCostsNothing) {
  auto log = open();
  fill(*log, 700);
  const auto before = seen(log->reader());
  while (seal(*log)) {
  }
  flip(files("pack-").front(), 60);
  std::vector<LossRange> losses;
  EXPECT_TRUE(seen(log->reader(), 0, &losses) == before);
  EXPECT_TRUE(losses.empty());
}

TEST_F(Seal, AMissingPackIsReportedAsTheRowsThatItHeld) {
  auto log = open();
  fill(*log, 700);
  const auto before = seen(log->reader());
  seal(*log);
  seal(*log);
  std::uint64_t gone = 0;
  const std::string path = files("pack-").front();
  const PackIndex index = decode_pack(read_file(*disk_, path, 1u << 20).value()).value();
  for (const PackBlock& block : index.blocks) gone += block.count;
  ASSERT_TRUE(disk_->remove(path).is_ok());
  std::vector<LossRange> losses;
  EXPECT_EQ(seen(log->reader(), 0, &losses).size(), before.size() - gone);
  std::uint64_t lost = 0;
  for (const LossRange& range : losses) lost += range.last - range.first + 1;
  EXPECT_EQ(lost, gone);
}

TEST_F(Seal, WhatDamageTookBeforeSealingIsUntoldUntilItIsTold) {
  auto log = open();
  fill(*log, 700);
  const auto before = seen(log->reader());
  flip(files("wal-").front(), 4096 + 512 + 150);
  std::vector<LossRange> losses;
  const auto left = seen(log->reader(), 0, &losses);
  ASSERT_LT(left.size(), before.size());
  ASSERT_FALSE(losses.empty());
  const auto by_partition = [](const LossRange& a, const LossRange& b) {
    return a.partition < b.partition;
  };
  std::sort(losses.begin(), losses.end(), by_partition);
  const auto untold = [&] {
    auto ranges = log->untold();
    std::sort(ranges.begin(), ranges.end(), by_partition);
    return ranges;
  };
  seal(*log);
  EXPECT_TRUE(seen(log->reader()) == left);
  EXPECT_EQ(untold(), losses);
  log.reset();
  log = open();
  EXPECT_EQ(untold(), losses);
  log->told(losses);
  EXPECT_TRUE(untold().empty());
  fill(*log, 200);
  seal(*log);
  log.reset();
  EXPECT_TRUE(open()->untold().empty());
}

TEST_F(Seal, PacksOfATierGoWhenAllTheirRowsAreAcknowledged) {
  LogKeep keep;
  keep.rows = 0;
  auto log = open(false, keep);
  fill(*log, 900);
  while (seal(*log)) {
  }
  const auto before = seen(log->reader());
  const std::size_t packs = files("pack-").size();
  // Bulk alone: the critical packs stay, and with them the segments.
  const std::uint64_t half = log->next_sequence(1) / 2;
  const auto rows = log->release({{1, half}});
  ASSERT_TRUE(rows.is_ok());
  EXPECT_GT(rows.value(), 0u);
  EXPECT_LT(files("pack-").size(), packs);
  const std::uint64_t gone = log->released().at(1);
  EXPECT_LE(gone, half);
  auto expected = before;
  std::erase_if(expected, [&](const Seen& r) { return r.partition == 1 && r.sequence <= gone; });
  EXPECT_EQ(before.size() - expected.size(), rows.value());
  EXPECT_TRUE(seen(log->reader()) == expected);
  ASSERT_TRUE(log->release({{0, 100}, {1, UINT64_MAX}, {2, UINT64_MAX}}).is_ok());
  EXPECT_TRUE(files("pack-").empty());
  EXPECT_EQ(files("wal-").size(), 2u);
  ASSERT_TRUE(log->close().is_ok());
  log = open(false, keep);
  std::vector<LossRange> losses;
  seen(log->reader(), 0, &losses);
  EXPECT_TRUE(losses.empty());
}

TEST_F(Seal, RowsOfASchemaThatIsNotAttachedAreSealedAsTheyCame) {
  auto log = open();
  fill(*log, 700);
  auto before = seen(log->reader());
  const std::uint64_t rows = log->next_sequence(1) - 1;
  ASSERT_TRUE(log->close().is_ok());
  LogOptions options;
  options.segment_bytes = kSegmentBytes;
  options.epoch = options.salt = 99;
  auto bare = Log::open(disk_, "log", options, clock_).value();
  EXPECT_GT(bare->seal({2, 60'000, Coding::kFast})->rows, 0u);
  EXPECT_FALSE(files("pack-").empty());
  for (const bool blocks : {false, true}) {  // they also leave the device, whole records at a time
    std::uint64_t next = 1;
    while (next <= rows) {
      const auto runs = collect_runs(bare->reader(), {1, next - 1, 0, UINT64_MAX, 1000, blocks});
      ASSERT_TRUE(runs.is_ok()) << runs.status().to_string();
      ASSERT_FALSE(runs->empty());
      for (const auto& run : runs.value()) {
        ASSERT_EQ(run.first, next);
        ASSERT_TRUE(run.block.empty());
        next += run.count;
      }
    }
    EXPECT_EQ(next, rows + 1);
  }
  ASSERT_TRUE(bare->close().is_ok());
  bare.reset();
  log = open();
  EXPECT_TRUE(seen(log->reader()) == before);
  fill(*log, 300);
  before = seen(log->reader());
  EXPECT_GT(seal(*log).rows, 0u);
  EXPECT_TRUE(seen(log->reader()) == before);
  flip(files("pack-").front(), 600);  // damage is found as everywhere
  std::vector<LossRange> losses;
  EXPECT_LT(seen(log->reader(), 0, &losses).size(), before.size());
  EXPECT_FALSE(losses.empty());
}

// A row of each of 300 streams, three times over, and segments behind them.
class ManyStreams : public Seal {
 protected:
  static constexpr std::uint32_t kStreams = 300;

  std::unique_ptr<Log> open_many(TierQuota quota = {}) {
    LogOptions options;
    options.segment_bytes = 256 * 1024;
    options.epoch = options.salt = ++epoch_;
    options.quotas[4] = quota;
    auto log = Log::open(disk_, "log", options, clock_).value();
    streams_.clear();
    for (std::uint32_t i = 0; i < kStreams; ++i) {
      streams_.push_back(make_schema(std::to_string(i), Tier::kBulk));
      EXPECT_TRUE(log->register_schema(streams_.back()).is_ok());
    }
    return log;
  }
  void fill_many(Log& log) {
    for (int round = 0; round < 3; ++round) {
      for (std::uint32_t i = 0; i < kStreams; ++i)
        ASSERT_TRUE(log.append(rows_of(streams_[i], value_++, 1)).is_ok());
      ASSERT_TRUE(log.sync().is_ok());
    }
    last_ = log.segments().back();
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(log.rotate().is_ok());
  }
  std::vector<SchemaPtr> streams_;
  SegmentInfo last_;  // its last 20 KB have a row of each stream
};

TEST_F(ManyStreams, WhatCouldNotBeToldOfDoesNotGiveWay) {
  TierQuota none;
  none.full = TierQuota::kDropNewest;
  none.bytes = 0;
  auto log = open_many(none);
  fill_many(*log);
  const auto done = log->seal({2, 4u << 20, Coding::kFast});
  ASSERT_TRUE(done.is_ok()) << done.status().to_string();
  const auto untold = log->untold();
  EXPECT_EQ(untold.size(), std::size_t{wal::kUntoldMax});
  std::uint64_t gone = 0;
  for (const LossRange& range : untold) gone += range.last - range.first + 1;
  EXPECT_EQ(read_all(*log, streams_).size(), 3 * kStreams - gone);
  log->told(untold);
  // And no pack has more ranges than can be told of: nothing stands in the way of a drop.
  ASSERT_TRUE(log->close().is_ok());
  none.full = TierQuota::kDropOldest;
  log = open_many(none);
  for (int i = 0; i < 8; ++i) {
    log->told(log->untold());
    ASSERT_TRUE(log->make_room({}, 0, false).is_ok());
  }
  EXPECT_TRUE(files("pack-").empty());
}

TEST_F(ManyStreams, DamageInMoreStreamsThanCanUsuallyBeToldOfIsTold) {
  auto log = open_many();
  fill_many(*log);
  const std::size_t all = read_all(*log, streams_).size();
  for (std::uint64_t back = 22'000; back > 1000; back -= 1000) flip(last_.path, last_.end - back);
  std::vector<LossRange> losses;
  const auto left = seen(log->reader(), 0, &losses).size();
  ASSERT_GT(losses.size(), std::size_t{wal::kUntoldMax});
  ASSERT_LT(left, all);
  const auto done = log->seal({2, 4u << 20, Coding::kFast});
  ASSERT_TRUE(done.is_ok()) << done.status().to_string();
  EXPECT_EQ(log->untold().size(), losses.size());
  ASSERT_TRUE(log->close().is_ok());
  log = open_many();
  EXPECT_EQ(log->untold().size(), losses.size());
  log->told(log->untold());
  EXPECT_TRUE(log->untold().empty());
  EXPECT_EQ(read_all(*log, streams_).size(), left);
}

// Both slots damaged, whatever state the sealing was in: the files tell what the log is made of.
TEST_F(Seal, WithoutItsContentsTheLogIsWhatItsFilesAre) {
  auto log = open();
  fill(*log, 900);
  seal(*log);
  const auto before = seen(log->reader());
  log.reset();
  for (const bool orphans : {false, true}) {
    if (orphans) {  // packs of a sealing that did not come to its end
      log = open();
      const auto image = disk_->crash(kCopySeed);
      ASSERT_GT(seal(*log).packs, 0u);
      log.reset();
      for (const std::string& path : files("pack-"))
        ASSERT_TRUE(
            write_file_atomic(*image, path, read_file(*disk_, path, 1u << 20).value()).is_ok());
      disk_ = image;
    }
    Bytes bad = read_file(*disk_, "log/contents", 1u << 20).value();
    for (std::size_t at = 0; at < bad.size(); at += bad.size() / 2) bad[at + 20] ^= std::byte{1};
    ASSERT_TRUE(write_file_atomic(*disk_, "log/contents", bad).is_ok());
    EXPECT_TRUE(seen(open(true)->reader()) == before);
    log = open();
    EXPECT_FALSE(log->recovery().clean);
    EXPECT_TRUE(seen(log->reader()) == before);
    EXPECT_GT(seal(*log).rows, 0u);
    EXPECT_TRUE(seen(log->reader()) == before);
    log.reset();
    EXPECT_TRUE(seen(open()->reader()) == before);
  }
}

}  // namespace
}  // namespace edgecore
