// Bad bytes in every file of a log's directory: each byte flipped, each length cut to, sectors
// blanked or overwritten. No wrong value is ever served, what is lost is at most one commit group
// and is reported, nothing that is there is called lost, and the log opens and goes on.
//
// The logs are small, so that every byte has its turn; all that a log can have behind it is in
// them: burnt numbers, several segments, released ones, files taken over, blocks of many records,
// packs of two sealings.
#include <algorithm>
#include <chrono>

#include "base/crc32c.hpp"
#include "tests/log/log_cases.hpp"
#include "tests/log/toy_cipher.hpp"

namespace edgecore {
namespace {

constexpr std::uint64_t kSegmentBytes = 8192;

struct Found {
  Events events;
  std::vector<LossRange> losses;  // of the opening, of earlier ones, of reading everything
};

class Hostile : public testing::Test {
 protected:
  Result<std::unique_ptr<Log>> try_open(const std::shared_ptr<MemoryFs>& disk,
                                        bool read_only = false) {
    LogOptions options;
    options.read_only = read_only;
    options.segment_bytes = kSegmentBytes;
    options.store.fill(std::byte{7});
    options.epoch = ++epoch_;
    options.salt = epoch_ * 0x7654321;
    options.durability[0].level = Durability::kSync;
    options.cipher = cipher_;
    if (!read_only) options.keep.rows = 40;
    EDGECORE_ASSIGN(auto log, Log::open(disk, "log", options, clock_));
    for (const SchemaPtr& schema : schemas_) {
      if (read_only)
        EDGECORE_TRY(log->attach_schema(schema));
      else
        EDGECORE_TRY(log->register_schema(schema).status());
    }
    return log;
  }

  std::unique_ptr<Log> open(const std::shared_ptr<MemoryFs>& disk, bool read_only = false) {
    auto log = try_open(disk, read_only);
    EXPECT_TRUE(log.is_ok()) << log.status().to_string();
    return log.is_ok() ? std::move(log).value() : nullptr;
  }

  // One commit group: some rows of both streams that reach stable storage together.
  void group(Log& log, int records) {
    std::map<std::pair<std::uint32_t, std::uint64_t>, std::int64_t> rows;
    for (int i = 0; i < records; ++i) {
      const SchemaPtr& schema = schemas_[i % 3 == 1 ? 1 : 0];
      const int count = 1 + i % 2;
      const auto taken = log.take(rows_of(schema, value_, count));
      ASSERT_TRUE(taken.is_ok());
      const Appended& done = taken->done;
      for (int row = 0; row < count; ++row)
        rows[{done.partition, done.first + static_cast<std::uint64_t>(row)}] = value_ + row;
      value_ += count;
    }
    ASSERT_TRUE(log.sync().is_ok());
    for (const auto& [key, value] : rows) group_of_[key] = groups_;
    written_.insert(rows.begin(), rows.end());
    ++groups_;
  }

  // A log with a past: a first life that was cut, a second that was closed, a third that has
  // sealed, a fourth that has released, recycled and sealed again and ends as told.
  std::shared_ptr<MemoryFs> make(bool closed) {
    auto disk = std::make_shared<MemoryFs>();
    for (int life = 0; life < 4; ++life) {
      auto log = open(disk);
      const auto need = log->take(rows_of(schemas_[0], 0, 1));
      EXPECT_TRUE(need->reserve);
      EXPECT_TRUE(log->reserve(rows_of(schemas_[0], 0, 1)).is_ok());
      for (int i = 0; i < (life < 3 ? 8 : 20); ++i) {
        group(*log, 1 + i % 5);
        if (life == 3 && i == 3) {
          EXPECT_GT(log->release(acked()).value(), 0u);
        }
      }
      if (life > 1) {
        EXPECT_GT(log->seal({}).value().rows, 0u);
      }
      if (life == 1 || life == 2 || (life == 3 && closed)) {
        EXPECT_TRUE(log->close().is_ok());
      }
      released_ = log->released();
    }
    std::erase_if(written_, [&](const auto& item) { return is_released(item.first); });
    return disk;
  }

  Log::Sequences acked() const {
    Log::Sequences out;
    for (const auto& [key, value] : written_) out[key.first] = std::max(out[key.first], key.second);
    return out;
  }

  bool is_released(const std::pair<std::uint32_t, std::uint64_t>& key) const {
    const auto gone = released_.find(key.first);
    return gone != released_.end() && key.second <= gone->second;
  }

  static std::shared_ptr<MemoryFs> copy_of(const MemoryFs& disk) {
    return disk.crash(std::vector<bool>(disk.pending_units(), true));
  }

  std::vector<std::string> files(MemoryFs& disk) {
    auto names = disk.list("log").value();
    std::erase(names, "LOCK");
    return names;
  }

  Found read(const Log& log) {
    Found found;
    found.events = read_all(log, schemas_);
    found.losses = log.recovery().ranges;
    const auto& burnt = log.recovery().burnt;
    found.losses.insert(found.losses.end(), burnt.begin(), burnt.end());
    EXPECT_TRUE(
        log.reader().visit(0, [](const RecordView&) { return true; }, &found.losses).is_ok());
    return found;
  }

  static bool covers(const std::vector<LossRange>& ranges,
                     const std::pair<std::uint32_t, std::uint64_t>& key) {
    return std::any_of(ranges.begin(), ranges.end(), [&](const LossRange& range) {
      return range.partition == key.first && range.first <= key.second && key.second <= range.last;
    });
  }

  // What a log with one fault may have come to. Returns how many rows are missing.
  std::size_t check_found(const Log& log, const Found& found) {
    std::set<int> groups;
    std::set<std::uint32_t> partitions;
    std::size_t missing = 0;
    for (const auto& [key, value] : found.events) {
      const auto was = written_.find(key);
      // Rows that were released may be there again, when what says so is damaged.
      EXPECT_TRUE(was != written_.end() ? was->second == value : is_released(key))
          << "sequence " << key.second << " of " << key.first << " was never " << value;
      EXPECT_FALSE(covers(found.losses, key)) << "sequence " << key.second << " is called lost";
    }
    for (const auto& [key, value] : written_) {
      if (found.events.contains(key)) continue;
      ++missing;
      groups.insert(group_of_.at(key));
      partitions.insert(key.first);
      EXPECT_TRUE(covers(found.losses, key) || log.recovery().tail_uncertain)
          << "sequence " << key.second << " of " << key.first << " is lost without a word";
    }
    lost_groups_ = groups.size();
    lost_partitions_ = partitions.size();
    return missing;
  }

  // Opens the image, checks what it reads, appends, and checks both again behind another opening.
  // The outcome of opening, Ok when the log went on. A column block takes rows of one partition
  // with it, as many groups as they came in.
  Status check(const std::shared_ptr<MemoryFs>& image, std::size_t groups_max,
               std::size_t partitions_max = SIZE_MAX) {
    auto opened = try_open(image);
    if (!opened.is_ok()) return opened.status();
    auto log = std::move(opened).value();
    const Found found = read(*log);
    check_found(*log, found);
    EXPECT_LE(lost_groups_, groups_max);
    EXPECT_LE(lost_partitions_, partitions_max);
    Events expected = found.events;
    for (const SchemaPtr& schema : schemas_) {
      const auto done = log->append(rows_of(schema, value_ + 500, 2));
      EXPECT_TRUE(done.is_ok()) << done.status().to_string();
      if (!done.is_ok()) return done.status();
      for (const auto& [key, value] : written_) {
        EXPECT_FALSE(key.first == done->partition && key.second >= done->first)
            << "sequence " << key.second << " is given again";
      }
      expected[std::pair(done->partition, done->first)] = value_ + 500;
      expected[std::pair(done->partition, done->first + 1)] = value_ + 501;
    }
    EXPECT_TRUE(log->sync().is_ok());
    EXPECT_EQ(read_all(*log, schemas_), expected);
    log.reset();
    const auto reader = open(image, true);
    EXPECT_EQ(read_all(*reader, schemas_), expected);
    return Status::ok();
  }

  // Every file in turn of a log that was cut, and what is special of one that was closed and of one
  // that is encrypted: the last segment, the mark, the keys.
  template <typename Body>
  void each_file(const Body& body) {
    for (const std::string kind : {"cut", "closed", "encrypted"}) {
      written_.clear();
      group_of_.clear();
      if (kind == "encrypted") cipher_ = std::make_shared<ToyCipher>();
      const auto disk = make(kind == "closed");
      EXPECT_EQ(check(copy_of(*disk), 0).outcome(), Outcome::kOk);
      const auto names = files(*disk);
      for (std::size_t i = 0; i < names.size(); ++i) {
        const std::string& name = names[i];
        const bool special = name == "keys" || name == "mark" || i + 1 == names.size() ||
                             (kind == "encrypted" && name.starts_with("pack-"));
        if (kind != "cut" && !special) continue;
        SCOPED_TRACE(name + " of a log that is " + kind);
        const std::string path = join_path("log", name);
        body(*disk, path, read_file(*disk, path, 1 << 20).value());
        if (HasFailure()) return;
      }
    }
  }

  Status check_one(const std::shared_ptr<MemoryFs>& image, const std::string& path) {
    return path.ends_with(".blk") ? check(image, SIZE_MAX, 1) : check(image, 1);
  }

  // The one file without which nothing can be decoded; it says so.
  static Outcome allowed(const std::string& path) {
    return path.ends_with("/catalogue") ? Outcome::kCorrupt : Outcome::kOk;
  }

  std::shared_ptr<Cipher> cipher_;
  std::shared_ptr<ManualClock> clock_ = std::make_shared<ManualClock>(1'700'000'000'000'000'000);
  std::vector<SchemaPtr> schemas_ = {make_schema("bulk", Tier::kBulk),
                                     make_schema("critical", Tier::kCritical)};
  std::uint64_t epoch_ = 0;
  std::int64_t value_ = 1;
  int groups_ = 0;
  std::size_t lost_groups_ = 0;
  std::size_t lost_partitions_ = 0;
  Events written_;
  std::map<std::pair<std::uint32_t, std::uint64_t>, int> group_of_;
  Log::Sequences released_;
};

void overwrite(MemoryFs& disk, const std::string& path, std::uint64_t at, ByteSpan bytes) {
  ASSERT_TRUE(disk.open(path, OpenMode::kReadWrite).value()->write_at(at, bytes).is_ok());
}

// Bytes that say nothing are many in the preallocated files: of those far from any other, one
// in 64.
bool tried(const Bytes& bytes, std::size_t at) {
  const std::size_t from = at < 8 ? 0 : at - 8, to = std::min(bytes.size(), at + 8);
  return at % 512 == 0 || std::any_of(bytes.begin() + static_cast<std::ptrdiff_t>(from),
                                      bytes.begin() + static_cast<std::ptrdiff_t>(to),
                                      [](std::byte b) { return b != std::byte{0}; });
}

TEST_F(Hostile, OneFlippedBitCostsAtMostItsCommitGroupAndIsReported) {
  std::size_t flips = 0;
  each_file([&](MemoryFs& disk, const std::string& path, const Bytes& good) {
    for (std::size_t at = 0; at < good.size(); at += kStride) {
      if (!tried(good, at)) continue;
      const auto image = copy_of(disk);
      const std::byte bad = good[at] ^ static_cast<std::byte>(1u << (at * 5 % 8));
      overwrite(*image, path, at, {&bad, 1});
      EXPECT_EQ(check_one(image, path).outcome(), allowed(path));
      ++flips;
      if (HasFailure()) {
        ADD_FAILURE() << "byte " << at;
        return;
      }
    }
  });
  std::printf("%zu flips\n", flips);
}

TEST_F(Hostile, AFileCutToAnyLengthServesNothingWrongAndTheLossIsReported) {
  std::size_t cuts = 0;
  each_file([&](MemoryFs& disk, const std::string& path, const Bytes& good) {
    for (std::size_t size = 0; size < good.size(); size += kStride) {
      if (!tried(good, size)) continue;
      const auto image = copy_of(disk);
      ASSERT_TRUE(image->open(path, OpenMode::kReadWrite).value()->truncate(size).is_ok());
      EXPECT_EQ(check(image, SIZE_MAX).outcome(), allowed(path));
      ++cuts;
      if (HasFailure()) {
        ADD_FAILURE() << "cut to " << size;
        return;
      }
    }
  });
  std::printf("%zu lengths\n", cuts);
}

TEST_F(Hostile, ABlankOrStrangeSectorCostsAtMostItsCommitGroup) {
  each_file([&](MemoryFs& disk, const std::string& path, const Bytes& good) {
    for (std::size_t at = 0; at < good.size(); at += 512) {
      if (!tried(good, at) || path.ends_with("/catalogue")) continue;
      for (const bool blank : {true, false}) {
        Bytes sector(std::min<std::size_t>(512, good.size() - at));
        for (std::size_t i = 0; i < sector.size() && !blank; ++i)
          sector[i] = static_cast<std::byte>(i * i * 31 + at);
        const auto image = copy_of(disk);
        overwrite(*image, path, at, sector);
        EXPECT_EQ(check_one(image, path).outcome(), Outcome::kOk);
        if (HasFailure()) {
          ADD_FAILURE() << (blank ? "blank" : "strange") << " sector at " << at;
          return;
        }
      }
    }
  });
}

// Of a block, also the records behind the one that is damaged are read.
TEST_F(Hostile, ARecordsFlippedBitCostsThatRecordAlone) {
  const auto disk = std::make_shared<MemoryFs>();
  auto log = open(disk);
  ASSERT_TRUE(log->reserve(rows_of(schemas_[0], 0, 1)).is_ok());
  const std::size_t start = wal::kHeaderBytes + log->data_bytes();
  group(*log, 12);
  const auto alone = log->append(rows_of(schemas_[1], value_, 1)).value();
  log.reset();
  const std::string path = "log/wal-0000000000000001.seg";
  const Bytes good = read_file(*disk, path, 1 << 20).value();
  const auto header = wal::decode_header(ByteSpan(good).first(wal::kHeaderBytes)).value();
  const auto head = wal::decode_block_head(ByteSpan(good).subspan(start), header.salt);
  ASSERT_TRUE(head && head->records == 12);
  written_[{alone.partition, alone.first}] = value_;
  std::map<std::int64_t, std::uint64_t> positions;
  std::int64_t at_value = 1;
  for (std::uint64_t i = 0; i < head->rows; ++i) positions[at_value++] = head->first_position + i;
  for (std::size_t at = start + head->head_bytes(); at < start + head->length; ++at) {
    const auto image = copy_of(*disk);
    const std::byte bad = good[at] ^ std::byte{0x40};
    overwrite(*image, path, at, {&bad, 1});
    log = open(image, true);
    const Events found = read_all(*log, schemas_);
    EXPECT_LT(found.size(), written_.size()) << "byte " << at;
    EXPECT_GE(found.size() + 2, written_.size()) << "byte " << at;
    for (const auto& [key, value] : found) EXPECT_EQ(written_.at(key), value);
    const Status status = log->reader().visit(0, [&](const RecordView& view) {
      RowBatch rows(schemas_[0]);
      EXPECT_TRUE(decode_rows(view.payload, view.head.count, rows).is_ok());
      if (rows.i64(0, 0) < at_value) {
        EXPECT_EQ(view.position, positions.at(rows.i64(0, 0)));
      }
      return true;
    });
    ASSERT_TRUE(status.is_ok());
    if (HasFailure()) return;
  }
}

// Rows that look like the heads of records, of many lengths, don't make the search long.
TEST_F(Hostile, ADamagedBlockOfRowsThatLookLikeRecordsIsReadInTime) {
  const auto disk = std::make_shared<MemoryFs>();
  auto log = open(disk);
  Bytes text(4 << 20);
  for (std::size_t at = 0; at + 32 <= text.size(); at += 32) {
    store_le(text.data() + at + 4, std::uint32_t{1});
    store_le(text.data() + at + 8, std::uint64_t{1});
    store_le(text.data() + at + 20, std::uint32_t{1});
    store_le(text.data() + at + 24, static_cast<std::uint32_t>((text.size() - at) / 2));
  }
  RowBatch rows(schemas_[0]);
  const std::size_t row = rows.add_row(1, "", 0);
  rows.set_i64(row, 0, 1);
  rows.set_bytes(row, 1, text);
  ASSERT_TRUE(log->append(rows).is_ok());
  ASSERT_TRUE(log->append(rows_of(schemas_[0], 5, 1)).is_ok());
  ASSERT_TRUE(log->sync().is_ok());
  log.reset();
  const std::string path = join_path("log", files(*disk).back());
  overwrite(*disk, path, (1 << 20) + 3, as_byte_span("x"));
  const auto began = std::chrono::steady_clock::now();
  log = open(disk);
  std::vector<LossRange> lost;
  ASSERT_TRUE(log->reader().visit(0, [](const RecordView&) { return true; }, &lost).is_ok());
  EXPECT_FALSE(lost.empty());
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(20));
}

TEST_F(Hostile, WithoutItsOnlySegmentALogGoesOnBehindWhatItHadPromised) {
  const auto disk = std::make_shared<MemoryFs>();
  auto log = open(disk);
  const Appended last = log->append(rows_of(schemas_[1], 1, 9)).value();
  ASSERT_TRUE(log->sync().is_ok());
  log.reset();
  const std::string path = "log/wal-0000000000000001.seg";
  ASSERT_TRUE(disk->open(path, OpenMode::kReadWrite).value()->truncate(0).is_ok());
  EXPECT_EQ(open(disk, true)->durable_position(), 0u);
  log = open(disk);
  EXPECT_EQ(log->recovery().missing, 9u);
  EXPECT_TRUE(log->recovery().tail_uncertain);
  EXPECT_FALSE(log->recovery().clean);
  ASSERT_TRUE(log->append(rows_of(schemas_[0], 1, 1)).is_ok());
  EXPECT_EQ(log->position(), 10u);
  EXPECT_EQ(log->durable_position(), 9u);  // a row that only waits is not called durable
  EXPECT_GT(log->append(rows_of(schemas_[1], 1, 1))->first, last.first + last.count - 1);
}

// What a partition reserved behind a lost block was handed out all the same.
TEST_F(Hostile, NumbersBehindALostReservationAreNotGivenAgain) {
  const auto disk = std::make_shared<MemoryFs>();
  auto log = open(disk);
  std::uint64_t last = 0;
  for (int i = 0; i < 3; ++i) {
    for (int batch = 0; batch < 4; ++batch) {
      const Appended done = log->append(rows_of(schemas_[0], 1, 20'000)).value();
      last = done.first + done.count - 1;
    }
    ASSERT_TRUE(log->sync().is_ok());
  }
  log.reset();
  std::size_t cut = 0;
  for (const std::string& name : files(*disk)) {
    if (!name.starts_with("wal-") || name.ends_with("1.seg")) continue;
    const auto file = disk->open(join_path("log", name), OpenMode::kReadWrite).value();
    ASSERT_TRUE(file->truncate(0).is_ok());
    ++cut;
  }
  EXPECT_GT(cut, 2u);
  log = open(disk);
  EXPECT_GT(log->next_sequence(1), last);
}

TEST_F(Hostile, AClockAt1970LosesNothingAndTheHybridClockGoesOn) {
  const auto disk = std::make_shared<MemoryFs>();
  std::uint64_t before = 0;
  int rows = 0;
  for (const std::int64_t wall : {std::int64_t{1'700'000'000'000'000'000}, std::int64_t{0},
                                  std::int64_t{-5'000'000'000}, std::int64_t{1}}) {
    clock_->jump_wall(wall);
    auto log = open(disk);
    ASSERT_TRUE(log->append(rows_of(schemas_[1], rows, 3)).is_ok());
    rows += 3;
    std::uint64_t newest = 0;
    int seen = 0;
    const Status status = log->reader().visit(0, [&](const RecordView& view) {
      EXPECT_GT(view.hlc, newest);
      newest = view.hlc;
      RowBatch batch(schemas_[1]);
      EXPECT_TRUE(decode_rows(view.payload, view.head.count, batch).is_ok());
      for (std::size_t i = 0; i < batch.count(); ++i, ++seen)
        EXPECT_EQ(batch.time_ns(i), 1000 + seen);
      return true;
    });
    ASSERT_TRUE(status.is_ok());
    EXPECT_EQ(seen, rows);
    EXPECT_GT(newest, before);
    before = newest;
  }
}

TEST_F(Hostile, TheHybridClockGoesOnAlsoBehindASegmentWithoutBlocks) {
  const auto disk = make(true);
  std::uint64_t newest = 0;
  std::uint64_t last = UINT64_MAX;  // the first position of the last segment
  const auto take = [&](const RecordView& view) {
    if (view.position < last) newest = std::max(newest, view.hlc);
    return true;
  };
  auto log = open(disk, true);
  last = log->reader().part_base(log->position());
  ASSERT_TRUE(log->reader().visit(0, take).is_ok());
  last = UINT64_MAX;
  const std::string path = join_path("log", files(*disk).back());
  ASSERT_TRUE(disk->open(path, OpenMode::kReadWrite).value()->truncate(4096).is_ok());
  clock_->jump_wall(0);
  log = open(disk);
  const Appended done = log->append(rows_of(schemas_[1], 1, 1)).value();
  const std::uint64_t before = newest;
  ASSERT_TRUE(log->reader().visit(done.position - 1, take).is_ok());
  EXPECT_GT(newest, before);
}

TEST_F(Hostile, ASegmentOfAnotherDeviceIsRefusedByName) {
  const auto disk = make(true);
  wal::SegmentHeader foreign;
  foreign.store.fill(std::byte{9});
  foreign.number = 99;
  foreign.salt = 5;
  foreign.capacity = kSegmentBytes;
  const std::string path = "log/wal-0000000000000063.seg";
  ASSERT_TRUE(write_file_atomic(*disk, path, wal::encode_header(foreign)).is_ok());
  const Status status = try_open(disk).status();
  EXPECT_EQ(status.outcome(), Outcome::kCorrupt);
  EXPECT_EQ(status.message(), path + ": a segment of another store");
  ASSERT_TRUE(disk->remove(path).is_ok());
  EXPECT_EQ(check(disk, 0).outcome(), Outcome::kOk);
}

TEST_F(Hostile, ACopyOfASegmentUnderAnotherNameIsRefused) {
  const auto disk = make(true);
  const std::string last = join_path("log", files(*disk).back());
  const std::string copy = "log/wal-0000000000000063.seg";
  ASSERT_TRUE(write_file_atomic(*disk, copy, read_file(*disk, last, 1 << 20).value()).is_ok());
  const Status status = try_open(disk).status();
  EXPECT_EQ(status.outcome(), Outcome::kCorrupt);
  EXPECT_NE(status.message().find(copy), std::string::npos) << status.message();
  ASSERT_TRUE(disk->remove(copy).is_ok());
  EXPECT_EQ(check(disk, 0).outcome(), Outcome::kOk);
}

TEST_F(Hostile, AFormatOfTheFutureIsIncompatibleAndLeftAsItIs) {
  const auto disk = make(true);
  const auto with_version = [](Bytes bytes, std::size_t at, std::size_t start, std::size_t crc) {
    bytes[at] = std::byte{2};
    store_le(bytes.data() + crc, crc32c(ByteSpan(bytes).subspan(start, crc - start)));
    return bytes;
  };
  for (const std::string& name : files(*disk)) {
    const std::string path = join_path("log", name);
    Bytes bytes = read_file(*disk, path, 1 << 20).value();
    if (name == "catalogue") {
      bytes = with_version(bytes, 4, 0, bytes.size() - 4);
    } else if (name.starts_with("wal-")) {
      bytes = with_version(bytes, 4, 0, 132);
      bytes = with_version(bytes, 2048 + 4, 2048, 2048 + 132);
    } else {
      continue;
    }
    const auto image = copy_of(*disk);
    ASSERT_TRUE(write_file_atomic(*image, path, bytes).is_ok());
    EXPECT_EQ(try_open(image).status().outcome(), Outcome::kIncompatible) << name;
    EXPECT_EQ(read_file(*image, path, 1 << 20).value(), bytes);
  }
}

}  // namespace
}  // namespace edgecore
