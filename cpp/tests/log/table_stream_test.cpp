// A stream as record batches: the rows that readers see, wherever they are kept.
#include "log/table_stream.hpp"

#include <gtest/gtest.h>

#include "tests/columns/arrow_cells.hpp"
#include "tests/log/log_cases.hpp"
#include "tests/log/toy_cipher.hpp"

namespace edgecore {
namespace {

constexpr std::uint64_t kSegmentBytes = 20 * 1024;
using Rows = std::vector<std::vector<std::string>>;

class Tables : public testing::Test {
 protected:
  std::unique_ptr<Log> open(std::shared_ptr<Cipher> cipher = nullptr, LogKeep keep = {}) {
    LogOptions options;
    options.segment_bytes = kSegmentBytes;
    options.store.fill(std::byte{7});
    options.epoch = ++epoch_;
    options.salt = epoch_ * 0x7654321;
    options.keep = keep;
    options.cipher = std::move(cipher);
    auto log = Log::open(disk_, "log", options, clock_);
    EXPECT_TRUE(log.is_ok()) << log.status().to_string();
    for (const auto& schema : {bulk_, critical_})
      partitions_.insert(log.value()->register_schema(schema).value());
    return std::move(log).value();
  }

  // Appends of one row and of many, of both partitions.
  void fill(Log& log, int appends) {
    for (int i = 0; i < appends; ++i) {
      const int rows = i % 11 == 10 ? 400 : 1 + i % 3;
      ASSERT_TRUE(log.append(rows_of(i % 4 == 3 ? critical_ : bulk_, value_, rows)).is_ok());
      value_ += rows;
      ASSERT_TRUE(log.poll(clock_->monotonic_ns()).is_ok());
    }
    ASSERT_TRUE(log.sync().is_ok());
  }

  void seal(Log& log, Coding coding, int times = 1) {
    for (int i = 0; i < times; ++i) ASSERT_TRUE(log.seal({2, 60'000, coding}).is_ok());
  }

  // As a reader sees them, decoded row by row.
  static Rows expected(const Log& log, const TableRequest& request) {
    Rows out;
    const LogReader reader = log.reader();
    const Catalogue& catalogue = reader.catalogue();
    const auto visit = [&](const RecordView& view) {
      if (!request.partitions.contains(view.head.partition)) return true;
      RowBatch rows(catalogue.find(view.head.schema)->schema);
      EXPECT_TRUE(decode_rows(view.payload, view.head.count, rows).is_ok());
      for (std::size_t i = 0; i < rows.count(); ++i) {
        const std::uint64_t position = view.position + i;
        if (position <= request.after || position > request.until) continue;
        if (rows.time_ns(i) < request.times.first || rows.time_ns(i) > request.times.last) continue;
        const std::uint64_t number = rows.source_seq(i);
        out.push_back({std::to_string(view.head.partition), std::to_string(view.head.first + i),
                       std::to_string(position), std::to_string(rows.time_ns(i)), "'src'",
                       number == 0 ? "null" : std::to_string(number),
                       std::to_string(rows.i64(i, 0)), quoted(rows.text(i, 1))});
      }
      return true;
    };
    EXPECT_TRUE(LogReader(reader).visit(0, visit).is_ok());
    return out;
  }

  static std::unique_ptr<TableStream> stream_of(const Log& log, const TableRequest& request) {
    auto stream = TableStream::open(log.reader(), request);
    EXPECT_TRUE(stream.is_ok()) << stream.status().to_string();
    return std::move(stream).value();
  }

  static Rows read(TableStream& stream) {
    Rows out;
    ArrowData batch;
    for (;;) {
      const auto more = stream.next(batch);
      EXPECT_TRUE(more.is_ok()) << more.status().to_string();
      if (!more.is_ok() || !more.value()) return out;
      EXPECT_GT(batch.length, 0);
      const Rows rows = arrow_rows(stream.type(), batch);
      out.insert(out.end(), rows.begin(), rows.end());
    }
  }

  void expect_all(const Log& log) const {
    const std::uint64_t last = log.position();
    for (const auto& partitions : {std::set<std::uint32_t>{*partitions_.begin()}, partitions_})
      for (const auto& [after, until] : std::vector<std::pair<std::uint64_t, std::uint64_t>>{
               {0, UINT64_MAX}, {last / 3, last - 7}, {last, UINT64_MAX}, {last / 2, last / 2 + 1}})
        for (const TimeSpan times : {TimeSpan{}, TimeSpan{1500, 4000}, TimeSpan{-9, 0}}) {
          TableRequest request;
          request.partitions = partitions;
          request.after = after;
          request.until = until;
          request.times = times;
          const auto stream = stream_of(log, request);
          EXPECT_TRUE(read(*stream) == expected(log, request))
              << partitions.size() << " partitions after " << after << " from " << times.first;
        }
  }

  TableRequest everything() const {
    TableRequest out;
    out.partitions = partitions_;
    return out;
  }

  std::shared_ptr<MemoryFs> disk_ = std::make_shared<MemoryFs>();
  std::shared_ptr<ManualClock> clock_ = std::make_shared<ManualClock>(1'700'000'000'000'000'000);
  SchemaPtr bulk_ = make_schema("same", Tier::kBulk);
  SchemaPtr critical_ = make_schema("other", Tier::kCritical);
  std::set<std::uint32_t> partitions_;
  std::uint64_t epoch_ = 0;
  std::int64_t value_ = 1;
};

TEST_F(Tables, RowsAreThoseOfAScanInSegmentsAndPacksOfBothCodings) {
  const auto log = open();
  expect_all(*log);  // without a row
  fill(*log, 100);
  expect_all(*log);
  seal(*log, Coding::kFast);
  seal(*log, Coding::kDense);
  ASSERT_GT(log->segment_position(), log->position() / 3);
  ASSERT_LT(log->segment_position(), log->position());
  expect_all(*log);
}

TEST_F(Tables, EncryptedRowsAreReadWithTheirKeysAndRefusedWithoutThem) {
  auto log = open(std::make_shared<ToyCipher>());
  fill(*log, 100);
  seal(*log, Coding::kFast, 2);
  expect_all(*log);
  ASSERT_TRUE(log->close().is_ok());
  log.reset();
  LogOptions options;
  options.read_only = true;
  log = Log::open(disk_, "log", options, clock_).value();
  for (const auto& schema : {bulk_, critical_}) ASSERT_TRUE(log->attach_schema(schema).is_ok());
  const auto stream = stream_of(*log, everything());
  ArrowData batch;
  for (int i = 0; i < 2; ++i)  // and again
    EXPECT_EQ(stream->next(batch).status().outcome(), Outcome::kUnavailable);
}

TEST_F(Tables, WhatIsSealedMeanwhileIsFoundWhereItWent) {
  const auto log = open();
  fill(*log, 60);
  const Rows before = expected(*log, everything());
  const auto stream = stream_of(*log, everything());
  fill(*log, 60);
  seal(*log, Coding::kFast, 3);
  EXPECT_TRUE(read(*stream) == before);
}

TEST_F(Tables, WhatIsReleasedMeanwhileIsPassedOver) {
  LogKeep keep;
  keep.rows = 0;
  const auto log = open(nullptr, keep);
  fill(*log, 60);
  seal(*log, Coding::kFast, 2);
  const auto stream = stream_of(*log, everything());
  const Rows before = expected(*log, everything());
  Log::Sequences acked;
  for (const std::uint32_t partition : partitions_) acked[partition] = UINT64_MAX;
  ASSERT_GT(log->release(acked).value(), 0u);
  const Rows left = expected(*log, everything());
  ASSERT_LT(left.size(), before.size());
  EXPECT_TRUE(read(*stream) == left);
}

TEST_F(Tables, DamagedBlockIsPassedOverAsInAScan) {
  const auto log = open();
  fill(*log, 100);
  seal(*log, Coding::kFast, 2);
  const Rows whole = expected(*log, everything());
  const auto names = disk_->list("log").value();
  for (const std::string& name : names) {
    if (!name.starts_with("pack-")) continue;
    auto file = disk_->open("log/" + name, OpenMode::kReadWrite).value();
    Bytes byte(1);
    const std::uint64_t middle = file->size().value() / 2;
    ASSERT_EQ(file->read_at(middle, byte).value(), 1u);
    byte[0] ^= std::byte{0x10};
    ASSERT_TRUE(file->write_at(middle, byte).is_ok());
  }
  ASSERT_LT(expected(*log, everything()).size(), whole.size());
  expect_all(*log);
}

TEST_F(Tables, BatchesAreBoundedAndMetadataIsTheCallers) {
  const auto log = open();
  const int rows = static_cast<int>(kTableRowsMax) * 2 + 100;
  ASSERT_TRUE(log->append(rows_of(bulk_, 1, rows)).is_ok());
  ASSERT_TRUE(log->sync().is_ok());
  TableRequest request = everything();
  request.names = {"value"};
  request.metadata = {{"who", "we"}};
  request.of_columns = {{"value", {{"unit", "K"}}}};
  const auto stream = stream_of(*log, request);
  EXPECT_EQ(stream->type().metadata, request.metadata);
  EXPECT_EQ(stream->type().children[0].metadata[0].second, "K");
  std::vector<std::int64_t> lengths;
  ArrowData batch;
  while (stream->next(batch).value()) lengths.push_back(batch.length);
  EXPECT_EQ(lengths, (std::vector<std::int64_t>{kTableRowsMax, kTableRowsMax, 100}));
  EXPECT_FALSE(stream->next(batch).value());
}

}  // namespace
}  // namespace edgecore
