// Power cuts, kills and disk errors at every operation of a store's life and of its recovery.
#include "tests/artifacts/workload.hpp"

namespace edgecore::artifacts {
namespace {

// A process that is killed at its n-th mutation: the call does not happen, nor any later one, but
// what the kernel was given stays in its cache. Forwards to `inner` until then.
class KilledFs final : public Fs {
 public:
  KilledFs(std::shared_ptr<Fs> inner, std::uint64_t operation)
      : inner_(std::move(inner)), left_(std::make_shared<std::uint64_t>(operation)) {}

  Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) override {
    if (mode >= OpenMode::kCreate) EDGECORE_TRY(pass());
    EDGECORE_TRY(alive());
    EDGECORE_ASSIGN(auto file, inner_->open(path, mode));
    return std::unique_ptr<File>(std::make_unique<KilledFile>(std::move(file), left_));
  }
  Status rename(const std::string& from, const std::string& to) override {
    EDGECORE_TRY(pass());
    return inner_->rename(from, to);
  }
  Status remove(const std::string& path) override {
    EDGECORE_TRY(pass());
    return inner_->remove(path);
  }
  Result<bool> exists(const std::string& path) override {
    EDGECORE_TRY(alive());
    return inner_->exists(path);
  }
  Result<std::vector<std::string>> list(const std::string& directory) override {
    EDGECORE_TRY(alive());
    return inner_->list(directory);
  }
  Status make_directories(const std::string& directory) override {
    EDGECORE_TRY(pass());
    return inner_->make_directories(directory);
  }
  Status sync_directory(const std::string& directory) override {
    EDGECORE_TRY(pass());
    return inner_->sync_directory(directory);
  }
  Result<std::unique_ptr<FileLock>> lock(const std::string& path) override {
    return inner_->lock(path);
  }
  Result<std::uint64_t> free_bytes(const std::string& directory) override {
    EDGECORE_TRY(alive());
    return inner_->free_bytes(directory);
  }
  std::uint32_t sector_size() const override { return inner_->sector_size(); }
  bool is_dead() const { return *left_ == 0; }

 private:
  static Status alive_by(const std::uint64_t& left) {
    return left != 0 ? Status::ok() : Status::unavailable("killed");
  }
  static Status pass_by(std::uint64_t& left) {
    if (left != 0) --left;
    return alive_by(left);
  }
  Status alive() const { return alive_by(*left_); }
  Status pass() { return pass_by(*left_); }

  class KilledFile final : public File {
   public:
    KilledFile(std::unique_ptr<File> inner, std::shared_ptr<std::uint64_t> left)
        : inner_(std::move(inner)), left_(std::move(left)) {}
    Result<std::size_t> read_at(std::uint64_t offset, std::span<std::byte> out) override {
      EDGECORE_TRY(alive_by(*left_));
      return inner_->read_at(offset, out);
    }
    Status write_at(std::uint64_t offset, ByteSpan bytes) override {
      EDGECORE_TRY(pass_by(*left_));
      return inner_->write_at(offset, bytes);
    }
    Status sync() override {
      EDGECORE_TRY(pass_by(*left_));
      return inner_->sync();
    }
    Result<std::uint64_t> size() override { return inner_->size(); }
    Status truncate(std::uint64_t size) override {
      EDGECORE_TRY(pass_by(*left_));
      return inner_->truncate(size);
    }
    Status fill_zeros(std::uint64_t size) override {
      EDGECORE_TRY(pass_by(*left_));
      return inner_->fill_zeros(size);
    }

   private:
    std::unique_ptr<File> inner_;
    std::shared_ptr<std::uint64_t> left_;
  };

  std::shared_ptr<Fs> inner_;
  std::shared_ptr<std::uint64_t> left_;
};

// After a recovery: steps behind each of which the power is cut once more.
constexpr std::size_t kWatchedSteps = 2;

struct Counts {
  std::size_t cuts = 0;
  std::size_t states = 0;         // first crash images
  std::size_t second_states = 0;  // images of cuts within recovery
};

class CrashTest : public testing::TestWithParam<DiskModel> {
 protected:
  std::shared_ptr<MemoryFs> make_disk() const {
    return std::make_shared<MemoryFs>(MemoryFsOptions{.model = GetParam()});
  }

  // Runs the life until a step fails; how many steps were acknowledged.
  std::size_t live(const std::shared_ptr<Fs>& fs) const {
    auto store = open_store(fs);
    if (!store.is_ok()) return 0;
    for (std::size_t done = 0; done < steps_.size(); ++done)
      if (!steps_[done].run(*store.value()).is_ok()) return done;
    return steps_.size();
  }

  std::string where(std::size_t done, std::uint64_t cut) const {
    return "cut at operation " + std::to_string(cut) + ", in step " +
           (done < steps_.size() ? steps_[done].name : "none");
  }

  // The state is the one acknowledged last or the one that was on its way; which of them.
  std::size_t expect_legal(ArtifactStore& store, std::size_t done, const std::string& at) const {
    expect_whole(store, at);
    const JournalState state = store.state();
    const std::size_t next = std::min(done + 1, steps_.size());
    const bool happened = state.generation > states_[done].generation;
    const std::size_t step = happened ? next : done;
    EXPECT_TRUE(state == states_[step]) << at << ": generation " << state.generation;
    return step;
  }

  // Opens, checks, and goes on to the end of the life: nothing that a crash left may stand in the
  // way. What open told stays true if the power fails right after.
  void recover(const std::shared_ptr<MemoryFs>& disk, std::size_t done, const std::string& at) {
    std::size_t from = 0;
    {
      auto store = open_store(disk);
      ASSERT_TRUE(store.is_ok()) << at << ": " << store.status().to_string();
      from = expect_legal(*store.value(), done, at);
    }
    for (const auto& again : disk->crash_states(4, 11)) {
      auto store = open_store(again);
      ASSERT_TRUE(store.is_ok()) << at << ": " << store.status().to_string();
      EXPECT_TRUE(store.value()->state() == states_[from]) << at << ", then cut after open";
      expect_whole(*store.value(), at);
    }
    auto store = open_store(disk);
    ASSERT_TRUE(store.is_ok()) << at;
    for (std::size_t i = from; i < steps_.size(); ++i) {
      const Status status = steps_[i].run(*store.value());
      ASSERT_TRUE(status.is_ok()) << at << ": " << steps_[i].name << ": " << status.to_string();
      if (i >= from + kWatchedSteps) continue;
      for (const auto& again : disk->crash_states(3, i)) {
        auto after = open_store(again);
        ASSERT_TRUE(after.is_ok()) << at << ": " << after.status().to_string();
        EXPECT_TRUE(after.value()->state() == states_[i + 1]) << at << ", cut after a later step";
        expect_whole(*after.value(), at + ", cut after " + steps_[i].name);
      }
    }
    EXPECT_TRUE(store.value()->state() == states_.back()) << at;
  }

  // Cuts the power at every operation of the recovery of `image`, then recovers.
  void cut_recovery(const MemoryFs& image, std::size_t done, const std::string& at,
                    Counts& counts) {
    for (std::uint64_t cut = 1;; cut += kStride) {
      const auto disk = image.crash(0);
      disk->cut_power_at(cut);
      const bool opened = open_store(disk).is_ok();
      for (const auto& second : disk->crash_states(6, cut)) {
        ++counts.second_states;
        auto store = open_store(second);
        ASSERT_TRUE(store.is_ok())
            << at << ", recovery cut at " << cut << ": " << store.status().to_string();
        expect_legal(*store.value(), done, at + ", recovery cut at " + std::to_string(cut));
      }
      if (opened) return;
    }
  }

  std::vector<Step> steps_ = life();
  std::vector<JournalState> states_ = expected_states();
};

TEST_P(CrashTest, PowerCutAtEveryOperationLeavesTheStateBeforeOrAfter) {
  Counts counts;
  for (std::uint64_t cut = 1;; cut += kStride) {
    const auto disk = make_disk();
    disk->cut_power_at(cut);
    const std::size_t done = live(disk);
    if (done == steps_.size() && !disk->power_is_cut()) break;
    ++counts.cuts;
    const auto images = disk->crash_states(24, cut);
    for (std::size_t i = 0; i < images.size(); ++i) {
      ++counts.states;
      cut_recovery(*images[i], done, where(done, cut), counts);
      recover(images[i], done, where(done, cut));
      if (HasFatalFailure()) return;
    }
  }
  EXPECT_GT(counts.cuts * kStride, 100u);
  std::printf("%zu cuts, %zu states, %zu states after a second cut\n", counts.cuts, counts.states,
              counts.second_states);
}

TEST_P(CrashTest, KillAtEveryOperationThenPowerCutAfterRestart) {
  std::size_t kills = 0;
  for (std::uint64_t operation = 1;; operation += kStride) {
    const auto disk = make_disk();
    const auto killed = std::make_shared<KilledFs>(disk, operation);
    const std::size_t done = live(killed);
    if (!killed->is_dead()) break;
    ++kills;
    recover(disk, done, "killed: " + where(done, operation));
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(kills * kStride, 100u);
}

// What the killed process left in the page cache is what the recovery meets when it is cut itself.
TEST_P(CrashTest, KillAtEveryOperationThenPowerCutWithinRecovery) {
  for (std::uint64_t operation = 1;; operation += kStride) {
    bool opened = false;
    for (std::uint64_t cut = 1; !opened; cut += kStride) {
      const auto disk = make_disk();
      const auto killed = std::make_shared<KilledFs>(disk, operation);
      const std::size_t done = live(killed);
      if (!killed->is_dead()) return;
      disk->cut_power_at(cut);
      opened = open_store(disk).is_ok();
      const std::string at = "killed: " + where(done, operation) + ", recovery cut at ";
      for (const auto& image : disk->crash_states(12, cut)) {
        auto store = open_store(image);
        ASSERT_TRUE(store.is_ok()) << at << cut << ": " << store.status().to_string();
        expect_legal(*store.value(), done, at + std::to_string(cut));
      }
    }
  }
}

struct Trouble {
  const char* name;
  FaultEffect effect;
  std::uint32_t on;
};

// The error is met once or for a while; the store is then opened again, as its errors ask for.
TEST_P(CrashTest, ErrorAtEveryCallLosesNothingThatWasAcknowledged) {
  constexpr auto kWrites = static_cast<std::uint32_t>(Operation::kWrite);
  const Trouble troubles[] = {{"EIO", FaultEffect::kIoError, kAllOperations},
                              {"ENOSPC", FaultEffect::kNoSpace, kMutations},
                              {"short write", FaultEffect::kShortWrite, kWrites}};
  for (const Trouble& trouble : troubles) {
    for (const bool sticky : {false, true}) {
      for (std::uint64_t skip = 0;; skip += kStride) {
        const auto disk = make_disk();
        const std::size_t fault = disk->inject({.effect = trouble.effect,
                                                .on = trouble.on,
                                                .path_contains = {},
                                                .skip = skip,
                                                .sticky = sticky});
        const std::size_t done = live(disk);
        if (disk->fired(fault) == 0) break;
        disk->clear_faults();
        recover(disk, done, std::string(trouble.name) + ": " + where(done, skip));
        if (HasFatalFailure()) return;
        ASSERT_LT(skip, 5000u);
      }
    }
  }
}

// A step that failed is tried again on the same store; only what says so needs to be reopened.
TEST_P(CrashTest, ErrorIsSurvivedByTryingTheStepAgain) {
  for (std::uint64_t skip = 0;; skip += kStride) {
    const auto disk = make_disk();
    auto store = open_store(disk);
    ASSERT_TRUE(store.is_ok());
    const std::size_t fault = disk->inject(
        {.effect = FaultEffect::kIoError, .on = kMutations, .path_contains = {}, .skip = skip});
    for (std::size_t i = 0; i < steps_.size(); ++i) {
      if (steps_[i].run(*store.value()).is_ok()) continue;
      Status status = steps_[i].run(*store.value());
      if (!status.is_ok()) {
        store.value().reset();
        store = open_store(disk);
        ASSERT_TRUE(store.is_ok());
        if (store.value()->state() != states_[i + 1]) status = steps_[i].run(*store.value());
      }
      ASSERT_TRUE(status.is_ok() || store.value()->state() == states_[i + 1])
          << steps_[i].name << ", operation " << skip << ": " << status.to_string();
      ASSERT_TRUE(store.value()->state() == states_[i + 1]) << steps_[i].name;
    }
    expect_whole(*store.value(), "operation " + std::to_string(skip));
    if (disk->fired(fault) == 0) break;
    for (const auto& image : disk->crash_states(4, skip)) {
      auto after = open_store(image);
      ASSERT_TRUE(after.is_ok());
      EXPECT_TRUE(after.value()->state() == states_.back());
      expect_whole(*after.value(), "after all, operation " + std::to_string(skip));
    }
  }
}

TEST_P(CrashTest, AcknowledgedBytesOfAStagingAreNotSentAgain) {
  const Bytes model = content(5, 5 * kChunkBytes);
  for (std::uint64_t cut = 1;; cut += kStride) {
    const auto disk = make_disk();
    std::uint64_t acknowledged = 0;
    {
      auto store = open_store(disk);
      ASSERT_TRUE(store.is_ok());
      auto staging = store.value()->stage(blake3(model), model.size());
      ASSERT_TRUE(staging.is_ok());
      disk->cut_power_at(cut);
      for (std::size_t at = 0; at < model.size(); at += kChunkBytes) {
        if (!staging.value()->write(at, ByteSpan(model).subspan(at, kChunkBytes)).is_ok()) break;
        acknowledged = at + kChunkBytes;
      }
    }
    for (const auto& image : disk->crash_states(30, cut)) {
      auto store = open_store(image);
      ASSERT_TRUE(store.is_ok());
      auto staging = store.value()->stage(blake3(model), model.size());
      ASSERT_TRUE(staging.is_ok());
      EXPECT_GE(staging.value()->received(), acknowledged);
      for (const Range& gap : staging.value()->missing()) {
        const auto bytes = ByteSpan(model).subspan(static_cast<std::size_t>(gap.offset),
                                                   static_cast<std::size_t>(gap.length));
        ASSERT_TRUE(staging.value()->write(gap.offset, bytes).is_ok());
      }
      ASSERT_TRUE(staging.value()->finish().is_ok());
      EXPECT_TRUE(store.value()->verify(blake3(model)).is_ok());
    }
    if (!disk->power_is_cut()) break;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, CrashTest, testing::Values(DiskModel::kPosix, DiskModel::kExt4),
                         [](const auto& model) {
                           return model.param == DiskModel::kPosix ? "Posix" : "Ext4";
                         });

}  // namespace
}  // namespace edgecore::artifacts
