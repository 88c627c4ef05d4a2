// A disk error at every call of every phase of a log's life: EIO, ENOSPC or a short write, once or
// from then on, of a write as of a read. What was called durable stays, a number has one content,
// nothing is called lost, and once the disk is sound again the log goes on.
#include "tests/log/log_cases.hpp"
#include "tests/log/toy_cipher.hpp"

namespace edgecore {
namespace {

constexpr std::uint64_t kSeed = 20251125;
constexpr std::uint64_t kSegmentBytes = 16 * 1024;

// A log on a disk that fails, and what its owner knows.
class Owner {
 public:
  Owner(std::shared_ptr<MemoryFs> disk, std::shared_ptr<Cipher> cipher)
      : disk_(std::move(disk)), cipher_(std::move(cipher)) {}

  Status open() {
    LogOptions options;
    options.segment_bytes = kSegmentBytes;
    options.store.fill(std::byte{7});
    options.epoch = ++epoch_;
    options.salt = epoch_ * 0x7654321;
    options.durability[0].level = Durability::kSync;
    options.keep.rows = 10;
    options.cipher = cipher_;
    EDGECORE_ASSIGN(auto log, Log::open(disk_, "log", options, clock_));
    for (const SchemaPtr& schema : schemas_) EDGECORE_TRY(log->register_schema(schema).status());
    log_ = std::move(log);
    EXPECT_TRUE(!closed_ || log_->recovery().clean) << "what closed without an error burns nothing";
    closed_ = false;
    note_recovery();
    return Status::ok();
  }

  Status append(int stream, int count) {
    const auto rows = rows_of(schemas_[stream], value_, count);
    const auto done = log_->append(rows);
    value_ += count;
    if (!done.is_ok()) return done.status();
    for (std::uint32_t i = 0; i < done->count; ++i)
      waiting_[{done->partition, done->first + i}] = {
          done->position + i, value_ - count + static_cast<std::int64_t>(i)};
    note_promises();
    return Status::ok();
  }

  void note_promises() {
    for (auto it = waiting_.begin(); it != waiting_.end();) {
      const auto& [position, value] = it->second;
      if (position > log_->durable_position()) {
        ++it;
        continue;
      }
      promised_[it->first] = value;
      it = waiting_.erase(it);
    }
  }

  Status sync() {
    const Status status = log_->sync();
    note_promises();
    return status;
  }

  Status close() {
    EDGECORE_TRY(log_->close());
    note_promises();
    log_.reset();
    closed_ = true;
    return Status::ok();
  }

  Status poll() {
    clock_->advance(2'000'000'000);
    const Status status = log_->poll(clock_->monotonic_ns()).status();
    note_promises();
    return status;
  }

  // All that is promised is acknowledged.
  Status release() {
    for (const auto& [key, value] : promised_)
      acked_[key.first] = std::max(acked_[key.first], key.second);
    return log_->release(acked_).status();
  }

  Status seal() { return log_->seal({}).status(); }

  Status rotate() {
    for (int i = 0; i < 40; ++i) EDGECORE_TRY(append(1, 1));
    return Status::ok();
  }

  // Promised rows are there, or released and acknowledged; numbers are accounted for; nothing is
  // called lost. The values that came through are those that were given.
  void check() {
    const Events found = read_all(*log_, schemas_);
    const auto released = log_->released();
    const auto gone = [&](std::uint32_t partition) {
      const auto it = released.find(partition);
      return it == released.end() ? 0 : it->second;
    };
    for (const auto& [partition, last] : released) ASSERT_LE(last, acked_[partition]);
    for (const auto& [key, value] : promised_) {
      if (key.second <= gone(key.first)) continue;
      const auto at = found.find(key);
      ASSERT_TRUE(at != found.end()) << "promised sequence " << key.second << " is gone";
      ASSERT_EQ(at->second, value);
    }
    std::vector<LossRange> losses;
    ASSERT_TRUE(log_->reader().visit(0, [](const RecordView&) { return true; }, &losses).is_ok());
    ASSERT_TRUE(losses.empty());
    for (const std::uint32_t partition : {1u, 2u}) {
      std::uint64_t at = gone(partition) + 1;
      for (bool more = true; more && at < log_->next_sequence(partition);) {
        more = found.contains({partition, at});
        if (more) ++at;
        for (const LossRange& range : burnt_)
          if (range.partition == partition && range.first <= at && at <= range.last) {
            at = range.last + 1;
            more = true;
          }
      }
      ASSERT_EQ(at, log_->next_sequence(partition)) << "partition " << partition;
    }
  }

  // On a sound disk: what waits comes through, new rows too, and the next opening agrees.
  void go_on() {
    disk_->clear_faults();
    if (log_ == nullptr) {
      ASSERT_TRUE(open().is_ok());
    }
    ASSERT_TRUE(append(0, 2).is_ok());
    ASSERT_TRUE(sync().is_ok());
    ASSERT_TRUE(waiting_.empty());
    ASSERT_TRUE(rotate().is_ok());
    ASSERT_TRUE(release().is_ok());
    check();
  }

  void note_recovery() {
    for (const auto* ranges : {&log_->recovery().ranges, &log_->recovery().burnt})
      for (const LossRange& range : *ranges) {
        EXPECT_EQ(range.reason, LossRange::kBurnt);
        burnt_.push_back(range);
      }
    EXPECT_EQ(log_->recovery().missing, 0u);
  }

  std::vector<SchemaPtr> schemas_ = {make_schema("bulk", Tier::kBulk),
                                     make_schema("critical", Tier::kCritical)};
  std::shared_ptr<MemoryFs> disk_;
  std::shared_ptr<Cipher> cipher_;
  std::shared_ptr<ManualClock> clock_ = std::make_shared<ManualClock>(1'700'000'000'000'000'000);
  std::uint64_t epoch_ = 0;
  std::int64_t value_ = 1;
  bool closed_ = false;  // without an error, by its last owner
  std::unique_ptr<Log> log_;
  std::map<std::pair<std::uint32_t, std::uint64_t>, std::pair<std::uint64_t, std::int64_t>>
      waiting_;
  Events promised_;
  Log::Sequences acked_;
  std::vector<LossRange> burnt_;
};

using Phase = std::function<Status(Owner&)>;

enum Kind : int { kBuffered, kDirect, kEncrypted };

// Has the phase meet one error at call `skip`; whether it came to that.
bool meet_error(const Phase& prepare, const Phase& phase, const Fault& error, Kind kind) {
  const auto disk = std::make_shared<MemoryFs>(MemoryFsOptions{.direct_writes = kind == kDirect});
  Owner owner(disk, kind == kEncrypted ? std::make_shared<ToyCipher>() : nullptr);
  EXPECT_TRUE(owner.open().is_ok());
  EXPECT_TRUE(prepare(owner).is_ok());
  const std::size_t fault = disk->inject(error);
  const Status status = phase(owner);
  if (disk->fired(fault) == 0) {
    EXPECT_TRUE(status.is_ok()) << status.to_string();
    return false;
  }
  owner.go_on();
  if (testing::Test::HasFailure()) return true;
  // A power cut now, and another owner.
  const auto image = disk->crash(kSeed + error.skip);
  owner.log_.reset();
  owner.disk_ = image;
  EXPECT_TRUE(owner.waiting_.empty());
  EXPECT_TRUE(owner.open().is_ok());
  if (testing::Test::HasFailure()) return true;
  owner.check();
  owner.go_on();
  return true;
}

// Has the phase meet each error at each of its calls. `prepare` comes before it on a sound disk.
void meet_every_error(const Phase& prepare, const Phase& phase, std::size_t errors_min) {
  std::size_t met = 0;
  for (const FaultEffect effect :
       {FaultEffect::kIoError, FaultEffect::kNoSpace, FaultEffect::kShortWrite})
    for (const bool sticky : {false, true})
      for (const Kind kind : {kBuffered, kDirect, kEncrypted})
        for (std::uint64_t skip = 0;; skip += kStride) {
          SCOPED_TRACE((sticky ? "from call " : "at call ") + std::to_string(skip) + ", effect " +
                       std::to_string(static_cast<int>(effect)) + ", kind " + std::to_string(kind));
          const bool fired =
              meet_error(prepare, phase, {effect, kAllOperations, "", skip, sticky}, kind);
          if (!fired || testing::Test::HasFailure()) break;
          ++met;
        }
  std::printf("%zu errors met\n", met);
  EXPECT_GE(met, errors_min / kStride);
}

Status some_rows(Owner& owner) {
  EDGECORE_TRY(owner.append(0, 3));
  EDGECORE_TRY(owner.append(1, 2));
  return owner.append(0, 1);
}

TEST(LogFault, DurableAppend) {
  meet_every_error(some_rows, [](Owner& owner) { return owner.append(1, 3); }, 12);
}

TEST(LogFault, FirstAppendOfAnOpen) {
  meet_every_error([](Owner&) { return Status::ok(); }, some_rows, 150);
}

TEST(LogFault, GroupCommitAndMarkWhenTheirTimeHasCome) {
  meet_every_error(
      some_rows,
      [](Owner& owner) {
        EDGECORE_TRY(owner.poll());
        return owner.poll();
      },
      30);
}

TEST(LogFault, Rotation) {
  meet_every_error(some_rows, [](Owner& owner) { return owner.rotate(); }, 600);
}

TEST(LogFault, ReleaseAndTakingOverTheFilesOfReleasedSegments) {
  meet_every_error(
      [](Owner& owner) {
        EDGECORE_TRY(some_rows(owner));
        for (int i = 0; i < 4; ++i) EDGECORE_TRY(owner.rotate());
        return Status::ok();
      },
      [](Owner& owner) {
        EDGECORE_TRY(owner.release());
        return owner.rotate();
      },
      700);
}

TEST(LogFault, SealingAndReleaseOfPacks) {
  meet_every_error(
      [](Owner& owner) {
        EDGECORE_TRY(some_rows(owner));
        for (int i = 0; i < 5; ++i) EDGECORE_TRY(owner.rotate());
        return owner.seal();
      },
      [](Owner& owner) {
        for (int i = 0; i < 2; ++i) EDGECORE_TRY(owner.rotate());
        EDGECORE_TRY(owner.seal());
        return owner.release();
      },
      1500);
}

TEST(LogFault, Closing) {
  meet_every_error(some_rows, [](Owner& owner) { return owner.close(); }, 30);
}

// A written block waits for its sync: that fails together with the closing one's.
TEST(LogFault, ClosingBehindABlockThatIsNotSynced) {
  meet_every_error(
      [](Owner& owner) {
        EDGECORE_TRY(some_rows(owner));
        return owner.log_->flush();
      },
      [](Owner& owner) { return owner.close(); }, 30);
}

// The log was not closed; something was released before. A first try of opening fails or not.
TEST(LogFault, RecoveryAndTheFirstWorkBehindIt) {
  meet_every_error(
      [](Owner& owner) {
        for (int i = 0; i < 4; ++i) EDGECORE_TRY(owner.rotate());
        EDGECORE_TRY(owner.release());
        EDGECORE_TRY(owner.rotate());
        EDGECORE_TRY(owner.rotate());
        EDGECORE_TRY(owner.seal());
        owner.log_.reset();
        return Status::ok();
      },
      [](Owner& owner) {
        EDGECORE_TRY(owner.open());
        EDGECORE_TRY(owner.append(0, 1));
        EDGECORE_TRY(owner.sync());
        EDGECORE_TRY(owner.release());
        return owner.close();
      },
      450);
}

}  // namespace
}  // namespace edgecore
