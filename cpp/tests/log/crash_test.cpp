// Power cuts at every operation of a workload, under both disk models, and again in recovery.
#include "tests/log/log_cases.hpp"

namespace edgecore {
namespace {

constexpr std::uint64_t kSeed = 20240611;

// One life of a log, and what it handed out and promised.
class Life {
 public:
  Life(std::shared_ptr<MemoryFs> fs, std::uint64_t epoch) : fs_(std::move(fs)), epoch_(epoch) {}

  Status open() {
    LogOptions options;
    options.segment_bytes = 20 * 1024;
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

  // Stops at the first error, as a power cut gives it.
  void work(int steps) {
    Status status = open();
    for (int step = 0; step < steps && status.is_ok(); ++step) {
      status = append(step % 5 == 4 ? 1 : 0, 1 + step % 7);
      if (status.is_ok() && step % 4 == 3) {
        clock_->advance(60'000'000);
        status = log_->poll(clock_->monotonic_ns()).status();
      }
      if (status.is_ok() && step % 6 == 5) status = log_->flush();
      note_promises();
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
  std::unique_ptr<Log> log_;
  std::int64_t value_ = 1;
  Events handed_;
  Events promised_;
  std::vector<std::pair<Appended, std::int64_t>> unpromised_;
};

// Opens the image: promised rows are there, all others were handed out as such, and no number that
// was handed out is given again. Then it works on, and the same holds of both lives.
void check_image(const Life& before, const std::shared_ptr<MemoryFs>& image, std::uint64_t epoch) {
  Life after(image, epoch);
  const Status status = after.open();
  ASSERT_TRUE(status.is_ok()) << status.to_string();
  after.value_ = before.value_ + 1000;
  const Events found = read_all(*after.log_, after.schemas_);
  for (const auto& [key, value] : before.promised_) {
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
  after.log_.reset();
  Life reader(image, epoch + 1);
  ASSERT_TRUE(reader.open().is_ok());
  ASSERT_EQ(read_all(*reader.log_, reader.schemas_), expected);
}

void cut_everywhere(DiskModel model, std::uint32_t sector, int steps, std::size_t limit) {
  std::size_t images = 0;
  for (std::uint64_t cut = 1;; ++cut) {
    const auto disk = std::make_shared<MemoryFs>(MemoryFsOptions{sector, model});
    disk->cut_power_at(cut);
    Life life(disk, 1);
    life.work(steps);
    SCOPED_TRACE("cut before operation " + std::to_string(cut));
    for (const auto& image : disk->crash_states(limit, kSeed + cut)) {
      check_image(life, image, 2);
      ++images;
      if (testing::Test::HasFatalFailure()) return;
    }
    if (!disk->power_is_cut()) break;
  }
  std::printf("%zu images, seed %llu\n", images, static_cast<unsigned long long>(kSeed));
  EXPECT_GT(images, 500u);
}

TEST(LogCrash, PosixDiskCutAtEveryOperationKeepsWhatWasPromised) {
  cut_everywhere(DiskModel::kPosix, 512, 240, 40);
}
TEST(LogCrash, Ext4DiskCutAtEveryOperationKeepsWhatWasPromised) {
  cut_everywhere(DiskModel::kExt4, 512, 240, 40);
}
TEST(LogCrash, LargeSectorsCutAtEveryOperationKeepWhatWasPromised) {
  cut_everywhere(DiskModel::kPosix, 4096, 161, 24);
}

// A second life is cut too, on images of the first one's end.
TEST(LogCrash, RecoveryCutAgainKeepsWhatBothLivesPromised) {
  for (const DiskModel model : {DiskModel::kPosix, DiskModel::kExt4}) {
    std::size_t images = 0;
    for (std::uint64_t first_cut = 4; first_cut < 90; first_cut += 7) {
      const auto disk = std::make_shared<MemoryFs>(MemoryFsOptions{512, model});
      disk->cut_power_at(first_cut);
      Life first(disk, 1);
      first.work(31);
      for (std::uint64_t cut = 1; cut < 40; ++cut) {
        const auto image = disk->crash(kSeed + first_cut);
        image->cut_power_at(cut);
        Life second(image, 2);
        second.value_ = first.value_ + 500;
        second.work(8);
        second.handed_.insert(first.handed_.begin(), first.handed_.end());
        second.promised_.insert(first.promised_.begin(), first.promised_.end());
        SCOPED_TRACE("cuts " + std::to_string(first_cut) + ", " + std::to_string(cut));
        for (const auto& again : image->crash_states(6, kSeed + cut)) {
          check_image(second, again, 3);
          ++images;
          if (HasFatalFailure()) return;
        }
        if (!image->power_is_cut()) break;
      }
    }
    EXPECT_GT(images, 500u);
  }
}

// The rows of an append that failed may not be, or be read; they never come back as others.
TEST(LogCrash, ErrorAtEveryOperationLosesNothingPromised) {
  for (const FaultEffect effect :
       {FaultEffect::kIoError, FaultEffect::kNoSpace, FaultEffect::kShortWrite}) {
    for (std::uint64_t skip = 0;; ++skip) {
      const auto disk = std::make_shared<MemoryFs>();
      const std::size_t fault = disk->inject({effect, kMutations, "", skip, false});
      Life life(disk, 1);
      Status status = life.open();
      for (int step = 0; step < 40; ++step) {
        if (!life.log_ && !(status = life.open()).is_ok()) continue;
        static_cast<void>(life.append(step % 3 == 2 ? 1 : 0, 1 + step % 5));
        if (step % 4 == 3) static_cast<void>(life.log_->sync());
        life.note_promises();
      }
      ASSERT_TRUE(life.log_ != nullptr);
      EXPECT_TRUE(life.log_->sync().is_ok());
      life.note_promises();
      EXPECT_EQ(life.promised_, life.handed_);  // the disk is sound again: all came through
      SCOPED_TRACE("error at operation " + std::to_string(skip));
      const bool fired = disk->fired(fault) > 0;
      disk->clear_faults();
      EXPECT_EQ(read_all(*life.log_, life.schemas_), life.handed_);
      life.log_.reset();
      check_image(life, disk->crash(kSeed + skip), 2);
      if (HasFatalFailure()) return;
      if (!fired) break;
    }
  }
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
