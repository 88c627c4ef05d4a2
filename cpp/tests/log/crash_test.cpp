// Power cuts at every operation of a workload, under both disk models, and again in recovery.
#include "tests/log/log_cases.hpp"
#include "tests/log/toy_cipher.hpp"

namespace edgecore {
namespace {

constexpr std::uint64_t kSeed = 20240611;

// One for all lives: it sees a nonce that comes twice under a key, whichever lives they are.
const std::shared_ptr<ToyCipher> kCipher = std::make_shared<ToyCipher>();

// One life of a log, and what it handed out and promised.
class Life {
 public:
  enum Kind : unsigned { kGrows = 0, kRecycles = 1, kSeals = 2, kEncrypts = 4, kDrops = 8 };

  Life(std::shared_ptr<MemoryFs> fs, std::uint64_t epoch, unsigned kind = kGrows)
      : fs_(std::move(fs)),
        epoch_(epoch),
        kind_(kind),
        recycles_((kind & kRecycles) != 0),
        seals_((kind & kSeals) != 0) {}

  Status open() {
    LogOptions options;
    options.segment_bytes = 20 * 1024;
    if (recycles_) options.keep.rows = 12;
    if ((kind_ & kEncrypts) != 0) options.cipher = kCipher;
    if ((kind_ & kDrops) != 0) {
      options.quotas[4].bytes = 3000;
      options.quotas[4].full = TierQuota::kDropOldest;
    }
    options.store.fill(std::byte{7});
    options.epoch = epoch_;
    options.salt = epoch_ * 0x1234567;
    options.durability[0].level = Durability::kSync;
    EDGECORE_ASSIGN(log_, Log::open(fs_, "log", options, clock_));
    for (const SchemaPtr& schema : schemas_) EDGECORE_TRY(log_->register_schema(schema).status());
    return Status::ok();
  }

  Status append(int stream, int count) {
    EDGECORE_ASSIGN(const Appended done, log_->append(rows_of(schemas_[stream], value_, count)));
    for (int i = 0; i < count; ++i)
      handed_[{done.partition, done.first + static_cast<std::uint64_t>(i)}] = value_ + i;
    unpromised_.push_back({done, value_});
    value_ += count;
    return Status::ok();
  }

  // Everything at or below the log's durable position is promised.
  void note_promises() {
    std::erase_if(unpromised_, [&](const auto& item) {
      const auto& [done, value] = item;
      if (done.position + done.count - 1 > log_->durable_position()) return false;
      for (std::uint32_t i = 0; i < done.count; ++i)
        promised_[{done.partition, done.first + i}] = value + i;
      return true;
    });
  }

  // What is promised is acknowledged, but for the newest rows, and may go.
  Status release() {
    for (const auto& [key, value] : promised_)
      if (value + 5 < value_) acked_[key.first] = std::max(acked_[key.first], key.second);
    EDGECORE_ASSIGN(const std::uint64_t rows, log_->release(acked_));
    released_ += rows;
    return Status::ok();
  }

  Status seal() {
    EDGECORE_ASSIGN(const Sealed done, log_->seal({2, 30'000, Coding::kFast}));
    sealed_ += done.rows;
    if ((kind_ & kDrops) == 0) return Status::ok();
    EDGECORE_ASSIGN(const Room room, log_->make_room(acked_, 0, true));
    dropped_ += room.dropped;
    return Status::ok();
  }

  // Stops at the first error, as a power cut gives it.
  void work(int steps) {
    Status status = open();
    for (int step = 0; step < steps && status.is_ok(); ++step) {
      status = append(step % 5 == 4 ? 1 : 0, 1 + step % 7);
      if (status.is_ok() && step % 4 == 3) {
        clock_->advance(60'000'000);
        status = log_->poll(clock_->monotonic_ns()).status();
      }
      if (status.is_ok() && ((kind_ & (kRecycles | kSeals)) != 0 || step % 6 == 5))
        status = log_->flush();
      note_promises();
      if (status.is_ok() && seals_ && step % 7 == 6) status = seal();
      if (status.is_ok() && recycles_ && step % 5 == 4) status = release();
    }
    if (status.is_ok() && steps % 2 == 0) static_cast<void>(log_->close());
    if (log_) note_promises();
    log_.reset();
  }

  std::vector<SchemaPtr> schemas_ = {make_schema("bulk", Tier::kBulk),
                                     make_schema("critical", Tier::kCritical)};
  std::shared_ptr<MemoryFs> fs_;
  std::shared_ptr<ManualClock> clock_ = std::make_shared<ManualClock>(1'700'000'000'000'000'000);
  std::uint64_t epoch_;
  unsigned kind_;
  bool recycles_;
  bool seals_;
  std::uint64_t released_ = 0;  // rows
  std::uint64_t sealed_ = 0;
  std::uint64_t dropped_ = 0;
  Log::Sequences acked_;
  std::unique_ptr<Log> log_;
  std::int64_t value_ = 1;
  Events handed_;
  Events promised_;
  std::vector<std::pair<Appended, std::int64_t>> unpromised_;
};

// What the packs say of numbers that are in none of their blocks.
std::vector<LossRange> gaps_of(const MemoryFs& disk) {
  std::vector<LossRange> out;
  auto& fs = const_cast<MemoryFs&>(disk);
  const auto contents = wal::decode_contents(read_file(fs, "log/contents", 1u << 20).value());
  for (const PackEntry& entry : contents->packs) {
    const auto index = decode_pack(read_file(fs, pack_path("log", entry.number), 1u << 20).value());
    out.insert(out.end(), index->gaps.begin(), index->gaps.end());
  }
  return out;
}

// Whether a row was dropped, and the log knows that it has to say so.
bool is_untold(const Log& log, const std::pair<std::uint32_t, std::uint64_t>& key) {
  const auto untold = log.untold();
  return std::any_of(untold.begin(), untold.end(), [&](const LossRange& range) {
    return range.partition == key.first && range.first <= key.second && key.second <= range.last;
  });
}

// Every number below a partition's next is there, released (and was acknowledged), or burnt.
void check_density(const Log& log, const Events& found, const Log::Sequences& acked,
                   const Events& handed, const std::vector<LossRange>& gaps) {
  const Log::Sequences released = log.released();
  for (const auto& [partition, last] : released) {
    const auto mark = acked.find(partition);
    const std::uint64_t upto = mark == acked.end() ? 0 : mark->second;
    for (std::uint64_t at = upto + 1; at <= last; ++at)
      ASSERT_TRUE(!handed.contains({partition, at}) || is_untold(log, {partition, at}))
          << "partition " << partition << ", " << at;
  }
  auto ranges = log.recovery().ranges;
  ranges.insert(ranges.end(), log.recovery().burnt.begin(), log.recovery().burnt.end());
  ranges.insert(ranges.end(), gaps.begin(), gaps.end());
  for (const std::uint32_t partition : {1u, 2u}) {
    const auto gone = released.find(partition);
    std::uint64_t at = gone == released.end() ? 1 : gone->second + 1;
    for (bool more = true; more && at < log.next_sequence(partition);) {
      more = found.contains({partition, at});
      if (more) ++at;
      for (const LossRange& range : ranges)
        if (range.partition == partition && range.first <= at && at <= range.last) {
          at = range.last + 1;
          more = true;
        }
    }
    ASSERT_EQ(at, log.next_sequence(partition)) << "partition " << partition;
  }
  std::vector<LossRange> losses;
  ASSERT_TRUE(log.reader().visit(0, [](const RecordView&) { return true; }, &losses).is_ok());
  ASSERT_TRUE(losses.empty());
}

// Opens the image: promised rows are there, all others were handed out as such, and no number that
// was handed out is given again. Then it works on, and the same holds of both lives.
void check_image(const Life& before, const std::shared_ptr<MemoryFs>& image, std::uint64_t epoch) {
  Life after(image, epoch, before.kind_);
  const Status status = after.open();
  ASSERT_TRUE(status.is_ok()) << status.to_string();
  after.value_ = before.value_ + 1000;
  const Events found = read_all(*after.log_, after.schemas_);
  after.acked_ = before.acked_;
  const bool has_contents = image->exists("log/contents").value();
  check_density(*after.log_, found, before.acked_, before.handed_,
                has_contents ? gaps_of(*image) : std::vector<LossRange>{});
  if (testing::Test::HasFatalFailure()) return;
  const Log::Sequences released = after.log_->released();
  const auto is_released = [&](const auto& key) {
    const auto gone = released.find(key.first);
    return gone != released.end() && key.second <= gone->second;
  };
  for (const auto& [key, value] : before.promised_) {
    if (is_released(key)) continue;
    const auto at = found.find(key);
    ASSERT_TRUE(at != found.end()) << "promised sequence " << key.second << " is gone";
    ASSERT_EQ(at->second, value);
  }
  for (const auto& [key, value] : found) {
    const auto at = before.handed_.find(key);
    if (at != before.handed_.end()) {
      ASSERT_EQ(value, at->second);
    }
  }
  if (!after.seals_) {
    EXPECT_EQ(after.log_->first_position() == 1, released.empty());
  }
  for (const LossRange& range : after.log_->recovery().ranges)
    ASSERT_EQ(range.reason, LossRange::kBurnt);
  for (const auto& [key, value] : before.handed_)
    ASSERT_GT(after.log_->next_sequence(key.first), key.second) << "partition " << key.first;
  ASSERT_TRUE(after.append(0, 3).is_ok());
  ASSERT_TRUE(after.append(1, 2).is_ok());
  ASSERT_TRUE(after.log_->sync().is_ok());
  Events expected = found;
  expected.insert(after.handed_.begin(), after.handed_.end());
  ASSERT_EQ(read_all(*after.log_, after.schemas_), expected);
  const auto expect_kept = [&] {
    const auto now = after.log_->released();
    std::erase_if(expected, [&](const auto& item) {
      const auto gone = now.find(item.first.first);
      return gone != now.end() && item.first.second <= gone->second;
    });
  };
  if (after.seals_) {
    ASSERT_TRUE(after.seal().is_ok());
    expect_kept();
    ASSERT_EQ(read_all(*after.log_, after.schemas_), expected);
    if (before.dropped_ + after.dropped_ == 0) {
      ASSERT_TRUE(after.log_->untold().empty());
    }
  }
  if (after.recycles_) {
    ASSERT_TRUE(after.release().is_ok());
    expect_kept();
  }
  after.log_.reset();
  Life reader(image, epoch + 1, before.kind_);
  ASSERT_TRUE(reader.open().is_ok());
  ASSERT_EQ(read_all(*reader.log_, reader.schemas_), expected);
}

void cut_everywhere(const MemoryFsOptions& options, int steps, std::size_t limit,
                    unsigned kind = Life::kGrows) {
  const std::size_t spans_before = kCipher->encrypted();
  std::size_t images = 0, recycled = 0, sealed = 0, dropped = 0;
  for (std::uint64_t cut = 1;; cut += kStride) {
    const auto disk = std::make_shared<MemoryFs>(options);
    disk->cut_power_at(cut);
    Life life(disk, 1, kind);
    life.work(steps);
    SCOPED_TRACE("cut before operation " + std::to_string(cut));
    for (const auto& image : disk->crash_states(limit, kSeed + cut)) {
      // Before it is opened: that changes it.
      if (image->exists("log/stale").value()) ++recycled;
      if (life.sealed_ > 0) ++sealed;
      if (life.dropped_ > 0) ++dropped;
      check_image(life, image, 2);
      ++images;
      if (testing::Test::HasFatalFailure()) return;
    }
    if (!disk->power_is_cut()) break;
  }
  std::printf("%zu images, %zu with a recycled segment, %zu with packs, seed %llu\n", images,
              recycled, sealed, static_cast<unsigned long long>(kSeed));
  EXPECT_GT(images, 500u / kStride);
  EXPECT_EQ(recycled > images / 4, (kind & (Life::kRecycles | Life::kSeals)) != 0);
  EXPECT_EQ(sealed > images / 4, (kind & Life::kSeals) != 0);
  EXPECT_EQ(dropped > images / 4, (kind & Life::kDrops) != 0);
  EXPECT_EQ(kCipher->encrypted() > spans_before + images, (kind & Life::kEncrypts) != 0);
}

constexpr MemoryFsOptions kPosixDisk{.model = DiskModel::kPosix};
constexpr MemoryFsOptions kExt4Disk{.model = DiskModel::kExt4};
constexpr MemoryFsOptions kLargeSectors{.sector_size = 4096, .model = DiskModel::kPosix};

// Durable blocks go past the page cache: they are cut in their midst, and promise nothing else.
MemoryFsOptions direct(MemoryFsOptions options) {
  options.direct_writes = true;
  return options;
}

TEST(LogCrash, PosixDiskCutAtEveryOperationKeepsWhatWasPromised) {
  cut_everywhere(kPosixDisk, 240, 40);
}
TEST(LogCrash, Ext4DiskCutAtEveryOperationKeepsWhatWasPromised) {
  cut_everywhere(kExt4Disk, 240, 40);
}
TEST(LogCrash, LargeSectorsCutAtEveryOperationKeepWhatWasPromised) {
  cut_everywhere(kLargeSectors, 161, 24);
}
TEST(LogCrash, PosixDiskCutAtEveryDirectWriteKeepsWhatWasPromised) {
  cut_everywhere(direct(kPosixDisk), 240, 40);
}
TEST(LogCrash, Ext4DiskCutAtEveryDirectWriteKeepsWhatWasPromised) {
  cut_everywhere(direct(kExt4Disk), 240, 40);
}
TEST(LogCrash, LargeSectorsCutAtEveryDirectWriteKeepWhatWasPromised) {
  cut_everywhere(direct(kLargeSectors), 161, 24);
}

TEST(LogCrash, PosixDiskCutWhileSegmentsAreReleasedAndRecycled) {
  cut_everywhere(kPosixDisk, 240, 40, Life::kRecycles);
}
TEST(LogCrash, Ext4DiskCutWhileSegmentsAreReleasedAndRecycled) {
  cut_everywhere(kExt4Disk, 240, 40, Life::kRecycles);
}
TEST(LogCrash, PosixDiskCutAtDirectWritesIntoRecycledSegments) {
  cut_everywhere(direct(kPosixDisk), 240, 40, Life::kRecycles);
}
TEST(LogCrash, Ext4DiskCutAtDirectWritesIntoRecycledSegments) {
  cut_everywhere(direct(kExt4Disk), 240, 40, Life::kRecycles);
}

TEST(LogCrash, PosixDiskCutWhileSegmentsAreSealed) {
  cut_everywhere(direct(kPosixDisk), 240, 30, Life::kSeals);
}
TEST(LogCrash, Ext4DiskCutWhileSegmentsAreSealed) {
  cut_everywhere(kExt4Disk, 240, 30, Life::kSeals);
}
TEST(LogCrash, PosixDiskCutWhilePacksAreDropped) {
  cut_everywhere(kPosixDisk, 240, 30, Life::kSeals | Life::kDrops);
}
TEST(LogCrash, PosixDiskCutWhilePacksAreReleased) {
  cut_everywhere(kPosixDisk, 300, 30, Life::kSeals | Life::kRecycles);
}

TEST(LogCrash, PosixDiskCutAtEveryOperationOfAnEncryptedLogKeepsWhatWasPromised) {
  cut_everywhere(kPosixDisk, 160, 20, Life::kEncrypts);
}
TEST(LogCrash, PosixDiskCutAtEveryDirectWriteOfAnEncryptedLogKeepsWhatWasPromised) {
  cut_everywhere(direct(kPosixDisk), 200, 20, Life::kEncrypts);
}
TEST(LogCrash, Ext4DiskCutWhileEncryptedSegmentsAreReleasedAndRecycled) {
  cut_everywhere({.sector_size = 4096, .model = DiskModel::kExt4}, 160, 20,
                 Life::kRecycles | Life::kEncrypts);
}

TEST(LogCrash, PosixDiskCutWhileEncryptedSegmentsAreSealedAndPacksReleased) {
  cut_everywhere(kPosixDisk, 240, 16, Life::kSeals | Life::kRecycles | Life::kEncrypts);
}

// A second life is cut too, on images of the first one's end.
void cut_recovery_again(std::uint64_t cuts, int steps, unsigned kind) {
  for (const MemoryFsOptions& options :
       {kPosixDisk, kExt4Disk, direct(kPosixDisk), direct(kExt4Disk)}) {
    std::size_t images = 0;
    for (std::uint64_t first_cut = 4; first_cut < cuts; first_cut += 7 * kStride) {
      const auto disk = std::make_shared<MemoryFs>(options);
      disk->cut_power_at(first_cut);
      Life first(disk, 1, kind);
      first.work(steps);
      for (std::uint64_t cut = 1; cut < 40; ++cut) {
        const auto image = disk->crash(kSeed + first_cut);
        image->cut_power_at(cut);
        Life second(image, 2, kind);
        second.acked_ = first.acked_;
        second.value_ = first.value_ + 500;
        second.work(8);
        second.handed_.insert(first.handed_.begin(), first.handed_.end());
        second.promised_.insert(first.promised_.begin(), first.promised_.end());
        second.acked_.insert(first.acked_.begin(), first.acked_.end());
        SCOPED_TRACE("cuts " + std::to_string(first_cut) + ", " + std::to_string(cut));
        for (const auto& again : image->crash_states(6, kSeed + cut)) {
          check_image(second, again, 3);
          ++images;
          if (testing::Test::HasFatalFailure()) return;
        }
        if (!image->power_is_cut()) break;
      }
    }
    EXPECT_GT(images, 500u / kStride);
  }
}

TEST(LogCrash, RecoveryCutAgainKeepsWhatBothLivesPromised) {
  cut_recovery_again(90, 31, Life::kGrows);
}
TEST(LogCrash, RecoveryCutAgainWhileSegmentsAreRecycled) {
  cut_recovery_again(400, 130, Life::kRecycles);
}

TEST(LogCrash, RecoveryCutAgainWhileSegmentsAreSealed) {
  cut_recovery_again(400, 130, Life::kSeals | Life::kRecycles);
}
TEST(LogCrash, RecoveryOfAnEncryptedLogCutAgainKeepsWhatBothLivesPromised) {
  cut_recovery_again(90, 31, Life::kEncrypts);
  cut_recovery_again(110, 60, Life::kSeals | Life::kEncrypts);
}

// The rows of an append that failed may not be, or be read; they never come back as others.
void fail_everywhere(unsigned kind, const MemoryFsOptions& options = {},
                     std::uint32_t on = kMutations) {
  const bool recycles = (kind & (Life::kRecycles | Life::kSeals)) != 0;
  std::size_t released_in = 0, sealed_in = 0, errors = 0;
  for (const FaultEffect effect :
       {FaultEffect::kIoError, FaultEffect::kNoSpace, FaultEffect::kShortWrite}) {
    // While recycling each operation meets one of the errors, to keep it short.
    const std::uint64_t stride = recycles ? 3 * kStride : kStride;
    for (auto skip = recycles ? static_cast<std::uint64_t>(effect) : 0;; skip += stride) {
      const auto disk = std::make_shared<MemoryFs>(options);
      const std::size_t fault = disk->inject({effect, on, "", skip, false});
      Life life(disk, 1, kind);
      Status status = life.open();
      for (int step = 0; step < (recycles ? 160 : 40); ++step) {
        if (!life.log_ && !(status = life.open()).is_ok()) continue;
        static_cast<void>(life.append(step % 3 == 2 ? 1 : 0, 1 + step % 5));
        if (recycles || step % 4 == 3) static_cast<void>(life.log_->sync());
        life.note_promises();
        if (life.seals_ && step % 5 == 4) static_cast<void>(life.seal());
        if (life.recycles_ && step % 3 == 2) static_cast<void>(life.release());
      }
      ASSERT_TRUE(life.log_ != nullptr);
      EXPECT_TRUE(life.log_->sync().is_ok());
      life.note_promises();
      EXPECT_EQ(life.promised_, life.handed_);  // the disk is sound again: all came through
      SCOPED_TRACE("error at operation " + std::to_string(skip));
      const bool fired = disk->fired(fault) > 0;
      errors += fired;
      disk->clear_faults();
      Events expected = life.handed_;
      const auto released = life.log_->released();
      std::erase_if(expected, [&](const auto& item) {
        const auto gone = released.find(item.first.first);
        return gone != released.end() && item.first.second <= gone->second;
      });
      if (expected.size() < life.handed_.size()) ++released_in;
      if (life.sealed_ > 0) ++sealed_in;
      EXPECT_EQ(read_all(*life.log_, life.schemas_), expected);
      life.log_.reset();
      check_image(life, disk->crash(kSeed + skip), 2);
      if (testing::Test::HasFatalFailure()) return;
      if (!fired) break;
    }
  }
  EXPECT_GT(errors, (recycles ? 100 : 20) / kStride);
  EXPECT_EQ(released_in > 100 / kStride, recycles);
  EXPECT_EQ(sealed_in > 100 / kStride, (kind & Life::kSeals) != 0);
}

TEST(LogCrash, ErrorAtEveryOperationLosesNothingPromised) {
  fail_everywhere(Life::kGrows);
}
TEST(LogCrash, ErrorAtEveryOperationWhileSegmentsAreRecycledLosesNothingPromised) {
  fail_everywhere(Life::kRecycles);
}
TEST(LogCrash, ErrorAtEveryOperationWhileSegmentsAreSealedLosesNothingPromised) {
  fail_everywhere(Life::kSeals | Life::kRecycles);
}
TEST(LogCrash, ErrorAtEveryOperationOfAnEncryptedLogLosesNothingPromised) {
  fail_everywhere(Life::kEncrypts);
}
TEST(LogCrash, ErrorAtEveryOperationWhileEncryptedSegmentsAreSealedLosesNothingPromised) {
  fail_everywhere(Life::kSeals | Life::kRecycles | Life::kEncrypts);
}

TEST(LogCrash, ErrorAtEveryDirectWriteLosesNothingPromised) {
  constexpr auto kDirect = static_cast<std::uint32_t>(Operation::kWriteDurable);
  fail_everywhere(Life::kGrows, direct(kPosixDisk), kDirect);
  fail_everywhere(Life::kRecycles | Life::kEncrypts, direct(kPosixDisk), kDirect);
}

// The sync fails, and so does the new segment that should take its rows: they wait, and are written
// when there is room again, never promised by a second sync of the same file.
TEST(LogCrash, WhatAFailedSyncLostIsWrittenAgainThoughTheFirstNewSegmentFailsToo) {
  for (const Operation second : {Operation::kCreate, Operation::kFillZeros, Operation::kSync}) {
    const auto disk = std::make_shared<MemoryFs>();
    Life life(disk, 1);
    ASSERT_TRUE(life.open().is_ok());
    ASSERT_TRUE(life.append(1, 2).is_ok());
    ASSERT_TRUE(life.append(0, 3).is_ok());
    ASSERT_TRUE(life.log_->flush().is_ok());
    const auto sync = static_cast<std::uint32_t>(Operation::kSync);
    const std::size_t lost = disk->inject({FaultEffect::kIoError, sync, "wal-", 0, false});
    const std::size_t full =
        disk->inject({FaultEffect::kNoSpace, static_cast<std::uint32_t>(second), "wal-",
                      second == Operation::kSync ? 1u : 0u, false});
    EXPECT_FALSE(life.log_->sync().is_ok());
    EXPECT_EQ(disk->fired(lost) + disk->fired(full), 2u);
    EXPECT_EQ(life.log_->durable_position(), 2u);
    EXPECT_TRUE(life.log_->sync().is_ok());
    EXPECT_EQ(life.log_->durable_position(), 5u);
    life.note_promises();
    ASSERT_EQ(life.promised_, life.handed_);
    life.log_.reset();
    check_image(life, disk->crash(std::vector<bool>(disk->pending_units(), false)), 2);
    if (HasFatalFailure()) return;
  }
}

// The tests above can fail: on a disk that says it wrote, rows that were promised are gone.
TEST(LogCrash, ADiskThatLiesAboutDirectWritesIsFound) {
  const auto disk = std::make_shared<MemoryFs>(direct(kPosixDisk));
  const auto lie =
      disk->inject({FaultEffect::kLyingSync, static_cast<std::uint32_t>(Operation::kWriteDurable),
                    "wal-", 0, true});
  Life life(disk, 1);
  life.work(41);
  EXPECT_GT(disk->fired(lie), 5u);
  Life after(disk->crash(std::vector<bool>(disk->pending_units(), false)), 2);
  ASSERT_TRUE(after.open().is_ok());
  EXPECT_LT(read_all(*after.log_, after.schemas_).size(), life.promised_.size());
}

// A killed process leaves its writes to the operating system alone; the next open reads them back,
// and may call them durable only when they are.
TEST(LogCrash, AfterAKillWhatIsReadBackIsMadeDurableBeforeItIsPromised) {
  const auto disk = std::make_shared<MemoryFs>();
  Life killed(disk, 1);
  ASSERT_TRUE(killed.open().is_ok());
  ASSERT_TRUE(killed.append(0, 5).is_ok());
  ASSERT_TRUE(killed.log_->flush().is_ok());
  killed.log_.reset();
  Life next(disk, 2);
  ASSERT_TRUE(next.open().is_ok());
  ASSERT_EQ(next.log_->durable_position(), 5u);
  const auto image = disk->crash(std::vector<bool>(disk->pending_units(), false));
  next.log_.reset();
  Life last(image, 3);
  ASSERT_TRUE(last.open().is_ok());
  EXPECT_EQ(read_all(*last.log_, last.schemas_), killed.handed_);
}

}  // namespace
}  // namespace edgecore
