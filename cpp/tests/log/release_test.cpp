// Released segments and their recycled files: what goes, what stays, what readers beside it see.
#include <algorithm>

#include "tests/log/log_cases.hpp"

namespace edgecore {
namespace {

constexpr std::uint64_t kSegmentBytes = 20 * 1024;

class Release : public testing::Test {
 protected:
  std::unique_ptr<Log> open(LogKeep keep, bool read_only = false) {
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

  void append(Log& log, int rows) {
    for (int i = 0; i < rows; ++i, ++value_)
      ASSERT_TRUE(log.append(rows_of(critical_, value_, 1)).is_ok());
  }

  std::size_t files(const std::string& prefix) const {
    const auto names = disk_->list("log").value();
    return static_cast<std::size_t>(std::count_if(
        names.begin(), names.end(), [&](const auto& n) { return n.starts_with(prefix); }));
  }

  static LogKeep rows_kept(std::uint64_t rows) {
    LogKeep keep;
    keep.rows = rows;
    return keep;
  }

  std::shared_ptr<MemoryFs> disk_ = std::make_shared<MemoryFs>();
  std::shared_ptr<ManualClock> clock_ = std::make_shared<ManualClock>(1'700'000'000'000'000'000);
  SchemaPtr bulk_ = make_schema("bulk", Tier::kBulk);
  SchemaPtr critical_ = make_schema("critical", Tier::kCritical);
  std::uint64_t epoch_ = 0;
  std::int64_t value_ = 1;
};

TEST_F(Release, WithoutALimitEverythingStays) {
  auto log = open({});
  append(*log, 200);
  EXPECT_EQ(log->release({{2, 200}}).value(), 0u);
  EXPECT_EQ(log->first_position(), 1u);
  EXPECT_EQ(read_all(*log, {bulk_, critical_}).size(), 200u);
}

TEST_F(Release, OnlyWholeSegmentsThatAreAcknowledgedAndNotKeptGoOldestFirst) {
  auto log = open(rows_kept(20));
  append(*log, 200);
  EXPECT_EQ(log->release({}).value(), 0u);
  EXPECT_EQ(log->release({{1, 200}}).value(), 0u);  // the other partition has all the rows
  const std::uint64_t some = log->release({{2, 100}}).value();
  EXPECT_GT(some, 50u);
  EXPECT_LE(some, 100u);
  EXPECT_EQ(log->released(), (Log::Sequences{{2, some}}));
  EXPECT_EQ(log->first_position(), some + 1);
  const Events left = read_all(*log, {bulk_, critical_});
  EXPECT_EQ(left.size(), 200 - some);
  EXPECT_EQ(left.begin()->first, (std::pair{2u, some + 1}));
  EXPECT_EQ(log->release({{2, 200}}, some).value(), 0u);  // held by position
  ASSERT_TRUE(log->release({{2, 200}}).is_ok());
  EXPECT_LE(log->first_position(), 181u);  // the newest 20 stay
  EXPECT_GT(log->first_position(), 101u);
}

TEST_F(Release, WhatWasReleasedAndAnnouncedIsKnownAgainAfterACrash) {
  auto log = open(rows_kept(20));
  append(*log, 200);
  ASSERT_GT(log->release({{2, 200}}, UINT64_MAX, 7).value(), 0u);
  const auto released = log->released();
  const std::uint64_t first = log->first_position();
  log.reset();
  log = open({});
  EXPECT_EQ(log->released(), released);
  EXPECT_EQ(log->first_position(), first);
  EXPECT_EQ(log->announced(), 7u);
}

TEST_F(Release, BytesAndAgeKeepToo) {
  LogKeep bytes;
  bytes.bytes = 3 * kSegmentBytes;
  auto log = open(bytes);
  append(*log, 200);
  ASSERT_GT(log->release({{2, 200}}).value(), 0u);
  EXPECT_GE(log->data_bytes(), 3 * kSegmentBytes);
  EXPECT_LT(log->data_bytes(), 5 * kSegmentBytes);
  ASSERT_TRUE(log->close().is_ok());
  LogKeep age;
  age.ns = 60'000'000'000;
  log = open(age);
  append(*log, 100);
  EXPECT_EQ(log->release({{2, 300}}).value(), 0u);
  clock_->advance(61'000'000'000);
  EXPECT_GT(log->release({{2, 300}}).value(), 0u);
}

TEST_F(Release, FilesAreBoundedAndTakenOver) {
  auto log = open(rows_kept(10));
  std::size_t most = 0;
  for (int i = 0; i < 60; ++i) {
    append(*log, 20);
    ASSERT_TRUE(log->release({{2, static_cast<std::uint64_t>(value_)}}).is_ok());
    most = std::max(most, files("wal-") + files("pool-"));
  }
  EXPECT_LE(most, 5u);
  EXPECT_GT(log->first_position(), 1000u);
  // In the long run no new file is made.
  const auto made = disk_->inject(
      {FaultEffect::kIoError, static_cast<std::uint32_t>(Operation::kCreate), "", 0, true});
  for (int i = 0; i < 20; ++i) {
    append(*log, 20);
    ASSERT_TRUE(log->release({{2, static_cast<std::uint64_t>(value_)}}).is_ok());
  }
  EXPECT_EQ(disk_->fired(made), 0u);
  ASSERT_TRUE(log->close().is_ok());
  log = open(rows_kept(10));
  EXPECT_TRUE(log->recovery().clean);
  EXPECT_EQ(log->next_sequence(2), static_cast<std::uint64_t>(value_));
}

TEST_F(Release, AFullDiskStillReleasesAndGoesOnInRecycledFiles) {
  auto log = open(rows_kept(10));
  append(*log, 150);
  ASSERT_GT(log->release({{2, 150}}).value(), 0u);
  append(*log, 60);
  disk_->set_capacity(1);  // from here on no file can grow
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(log->release({{2, static_cast<std::uint64_t>(value_ - 1)}}).is_ok());
    append(*log, 10);
  }
  EXPECT_GT(log->first_position(), 300u);
}

TEST_F(Release, StaleBytesOfARecycledSegmentAreNeitherDataNorUncertain) {
  auto log = open(rows_kept(10));
  append(*log, 150);
  ASSERT_GT(log->release({{2, 150}}).value(), 0u);
  const std::size_t pooled = files("pool-");
  append(*log, 40);
  ASSERT_LT(files("pool-"), pooled);
  const Events before = read_all(*log, {bulk_, critical_});
  log.reset();  // as a crash
  log = open(rows_kept(10));
  EXPECT_FALSE(log->recovery().tail_uncertain);
  EXPECT_EQ(read_all(*log, {bulk_, critical_}), before);
}

TEST_F(Release, AFileInWhichABlockWouldPassUnderTheNewSaltIsNotTakenOver) {
  auto log = open(rows_kept(10));
  append(*log, 150);
  ASSERT_GT(log->release({{2, 150}}).value(), 0u);
  std::string oldest;
  std::uint64_t number = 0;
  const auto names = disk_->list("log").value();
  for (const auto& name : names) {
    if (name.starts_with("pool-") && oldest.empty()) oldest = join_path("log", name);
    if (name.starts_with("wal-")) number = std::stoull(name.substr(4, 16), nullptr, 16);
  }
  const std::size_t pooled = files("pool-");
  ASSERT_GE(pooled, 2u);
  wal::BlockHead head;
  head.length = wal::kBlockHeadBytes;
  Bytes block(wal::kBlockHeadBytes);
  const std::uint64_t salt = epoch_ * 0x7654321 + (number + 1) * 0x9E3779B97F4A7C15ull;
  wal::encode_block_head(head, salt, block.data());
  ASSERT_TRUE(disk_->open(oldest, OpenMode::kReadWrite)
                  .value()
                  ->write_at(kSegmentBytes - 512, block)
                  .is_ok());
  const std::uint64_t before = number;
  while (files("pool-") == pooled) append(*log, 1);
  EXPECT_EQ(files("pool-"), pooled - 2);
  const std::string next = "log/wal-000000000000000" + std::to_string(before + 1) + ".seg";
  const Bytes bytes = read_file(*disk_, next, 1 << 20).value();
  EXPECT_EQ(wal::decode_header(ByteSpan(bytes).first(wal::kHeaderBytes))->salt, salt);
  EXPECT_FALSE(
      wal::decode_block_head(ByteSpan(bytes).subspan(kSegmentBytes - 512), salt).has_value());
}

TEST_F(Release, ADamagedLastBlockOfARecycledSegmentIsUncertain) {
  auto log = open(rows_kept(10));
  append(*log, 150);
  ASSERT_GT(log->release({{2, 150}}).value(), 0u);
  append(*log, 40);
  log.reset();
  std::string last;
  const auto names = disk_->list("log").value();
  for (const auto& name : names)
    if (name.starts_with("wal-")) last = join_path("log", name);
  Bytes bytes = read_file(*disk_, last, 1 << 20).value();
  const auto header = wal::decode_header(ByteSpan(bytes).first(wal::kHeaderBytes)).value();
  std::size_t at = 0;
  for (std::size_t i = wal::kHeaderBytes; i < bytes.size(); i += 512)
    if (wal::decode_block_head(ByteSpan(bytes).subspan(i), header.salt)) at = i;
  bytes[at + 100] ^= std::byte{1};
  ASSERT_TRUE(write_file_atomic(*disk_, last, bytes).is_ok());
  log = open(rows_kept(10));
  EXPECT_TRUE(log->recovery().tail_uncertain);
}

TEST_F(Release, ReadersGoOnWhereRowsAreKept) {
  auto log = open(rows_kept(10));
  append(*log, 200);
  const LogReader inside = log->reader();
  auto beside = open({}, true);
  const auto first_of = [](LogReader reader, std::vector<LossRange>* losses) {
    std::uint64_t first = 0;
    const Status status = reader.visit(
        0,
        [&](const RecordView& record) {
          if (first == 0) first = record.head.first;
          return true;
        },
        losses);
    EXPECT_TRUE(status.is_ok()) << status.to_string();
    return first;
  };
  EXPECT_EQ(first_of(inside, nullptr), 1u);
  ASSERT_GT(log->release({{2, 200}}).value(), 0u);
  append(*log, 200);  // the files have other contents now
  for (LogReader reader : {inside, beside->reader(), log->reader()}) {
    std::vector<LossRange> losses;
    EXPECT_EQ(first_of(reader, &losses), log->first_position());
    EXPECT_TRUE(losses.empty());
  }
  EXPECT_EQ(open({}, true)->first_position(), log->first_position());
}

TEST_F(Release, ASegmentThatIsGoneWithoutBeingReleasedIsALoss) {
  auto log = open(rows_kept(10));
  append(*log, 200);
  ASSERT_TRUE(log->close().is_ok());
  ASSERT_TRUE(disk_->remove("log/wal-0000000000000001.seg").is_ok());
  log = open(rows_kept(10));
  std::vector<LossRange> losses;
  ASSERT_TRUE(log->reader().visit(0, [](const RecordView&) { return true; }, &losses).is_ok());
  ASSERT_EQ(losses.size(), 1u);
  EXPECT_EQ(losses[0].first, 1u);
}

// Every byte of the slots of `contents`, flipped: never another answer than the older one or none.
TEST_F(Release, AFlippedByteOfTheContentsIsSeen) {
  wal::Contents older;
  older.generation = 4;
  older.segment = 7;
  older.position = 100;
  older.next_pack = 4;
  older.kept = {{0, {1, 1}}, {1, {55, 60}}};
  older.packs = {{3, 50, 100, 4, 9, 4000, 0, 77, -5, 6}};
  older.untold = {{1, 20, 30, LossRange::kLost}};
  wal::Contents newer = older;
  newer.generation = 5;
  newer.packs.clear();
  const std::size_t half = 4096;
  Bytes file(2 * half);
  const Bytes first = wal::encode_contents(older), second = wal::encode_contents(newer);
  std::copy(first.begin(), first.end(), file.begin());
  std::copy(second.begin(), second.end(), file.begin() + static_cast<std::ptrdiff_t>(half));
  ASSERT_EQ(wal::decode_contents(file)->generation, 5u);
  for (std::size_t i = 0; i < second.size(); ++i) {
    Bytes bad = file;
    bad[half + i] ^= std::byte{0x11};
    const auto found = wal::decode_contents(bad);
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ(found->generation, 4u) << "byte " << i;
    EXPECT_EQ(wal::encode_contents(*found), first);
  }
  for (std::size_t size = 0; size < first.size(); ++size)
    EXPECT_FALSE(wal::decode_contents(ByteSpan(file).first(size)).has_value());
}

}  // namespace
}  // namespace edgecore
