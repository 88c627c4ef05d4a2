// One contract, two implementations; and the crash model itself: it must flag a wrong protocol
// and pass a right one.
#include "base/fs.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <set>

#include "base/fs_memory.hpp"

namespace edgecore {
namespace {

struct Place {
  std::shared_ptr<Fs> fs;
  std::string directory;
  std::shared_ptr<void> owned;  // what goes with the place
};

Place memory_place() {
  auto fs = std::make_shared<MemoryFs>();
  EXPECT_TRUE(fs->make_directories("/d").is_ok());
  return {fs, "/d", nullptr};
}

Place direct_place() {
  auto fs = std::make_shared<MemoryFs>(MemoryFsOptions{.direct_writes = true});
  EXPECT_TRUE(fs->make_directories("/d").is_ok());
  return {fs, "/d", nullptr};
}

Place posix_place() {
  static int number = 0;
  auto fs = make_posix_fs();
  const std::string root = testing::TempDir() + "edgecore-fs-" + std::to_string(::getpid()) + "-" +
                           std::to_string(number++);
  const std::shared_ptr<void> owned(nullptr, [root](void*) { std::filesystem::remove_all(root); });
  EXPECT_TRUE(fs->make_directories(root + "/a/b").is_ok());
  return {fs, root + "/a/b", owned};
}

class FsContract : public testing::TestWithParam<Place (*)()> {
 protected:
  Place place_ = GetParam()();
  Fs& fs_ = *place_.fs;
  std::string at(const std::string& name) { return join_path(place_.directory, name); }
  Bytes read(const std::string& name) { return read_file(fs_, at(name), 1 << 20).value(); }
};

Bytes bytes_of(std::string_view text) {
  const auto span = as_byte_span(text);
  return {span.begin(), span.end()};
}

TEST_P(FsContract, WhatWasWrittenIsReadAndAGapReadsAsZeros) {
  auto file = fs_.open(at("f"), OpenMode::kCreate).value();
  ASSERT_TRUE(file->write_at(3, as_byte_span("abc")).is_ok());
  EXPECT_EQ(read("f"), bytes_of(std::string_view("\0\0\0abc", 6)));
  ASSERT_TRUE(file->write_at(1, as_byte_span("X")).is_ok());
  ASSERT_TRUE(file->sync().is_ok());
  EXPECT_EQ(read("f"), bytes_of(std::string_view("\0X\0abc", 6)));
  Bytes out(10);
  EXPECT_EQ(file->read_at(4, out).value(), 2u);
  EXPECT_EQ(file->read_at(400, out).value(), 0u);
}

TEST_P(FsContract, TruncateCutsAndFillZerosExtends) {
  auto file = fs_.open(at("f"), OpenMode::kCreateNew).value();
  ASSERT_TRUE(file->write_at(0, as_byte_span("abcdef")).is_ok());
  ASSERT_TRUE(file->truncate(2).is_ok());
  ASSERT_TRUE(file->fill_zeros(9000).is_ok());
  EXPECT_EQ(file->size().value(), 9000u);
  Bytes expected(9000);
  expected[0] = std::byte{'a'};
  expected[1] = std::byte{'b'};
  EXPECT_EQ(read("f"), expected);
  ASSERT_TRUE(file->fill_zeros(5).is_ok());
  EXPECT_EQ(file->size().value(), 9000u);
}

TEST_P(FsContract, ModesAndOutcomes) {
  const auto missing = fs_.open(at("f"), OpenMode::kRead).status();
  EXPECT_EQ(missing.outcome(), Outcome::kUnavailable);
  EXPECT_NE(missing.message().find(at("f")), std::string::npos);
  EXPECT_EQ(fs_.open(at("f"), OpenMode::kReadWrite).status().outcome(), Outcome::kUnavailable);
  EXPECT_TRUE(fs_.open(at("f"), OpenMode::kCreateNew).is_ok());
  EXPECT_EQ(fs_.open(at("f"), OpenMode::kCreateNew).status().outcome(), Outcome::kInvalid);
  EXPECT_EQ(fs_.open(at("no/f"), OpenMode::kCreate).status().outcome(), Outcome::kUnavailable);
  EXPECT_FALSE(fs_.open(at("f"), OpenMode::kRead).value()->write_at(0, as_byte_span("x")).is_ok());
  EXPECT_EQ(read_file(fs_, at("gone"), 9).status().outcome(), Outcome::kUnavailable);
  EXPECT_EQ(fs_.list(at("gone")).status().outcome(), Outcome::kUnavailable);
  ASSERT_TRUE(fs_.make_directories(at("d")).is_ok());
  EXPECT_FALSE(fs_.open(at("d"), OpenMode::kRead).is_ok());
}

TEST_P(FsContract, NamesAreListedRenamedAndRemoved) {
  ASSERT_TRUE(write_file_atomic(fs_, at("b"), as_byte_span("1")).is_ok());
  ASSERT_TRUE(write_file_atomic(fs_, at("a"), as_byte_span("22")).is_ok());
  ASSERT_TRUE(write_file_atomic(fs_, at("a"), as_byte_span("3")).is_ok());
  ASSERT_TRUE(fs_.make_directories(at("sub")).is_ok());
  EXPECT_EQ(fs_.list(place_.directory).value(), (std::vector<std::string>{"a", "b", "sub"}));
  ASSERT_TRUE(fs_.rename(at("a"), at("b")).is_ok());
  EXPECT_EQ(read("b"), bytes_of("3"));
  EXPECT_FALSE(fs_.exists(at("a")).value());
  EXPECT_EQ(fs_.rename(at("a"), at("c")).outcome(), Outcome::kUnavailable);
  EXPECT_TRUE(fs_.remove(at("b")).is_ok());
  EXPECT_TRUE(fs_.remove(at("b")).is_ok());
  EXPECT_EQ(fs_.list(place_.directory).value(), (std::vector<std::string>{"sub"}));
}

TEST_P(FsContract, ALockHasOneHolder) {
  auto held = fs_.lock(at("lock")).value();
  EXPECT_EQ(fs_.lock(at("lock")).status().outcome(), Outcome::kUnavailable);
  held.reset();
  EXPECT_TRUE(fs_.lock(at("lock")).is_ok());
}

TEST_P(FsContract, AFileLongerThanTheLimitIsNotRead) {
  ASSERT_TRUE(write_file_atomic(fs_, at("f"), as_byte_span("123456")).is_ok());
  EXPECT_EQ(read_file(fs_, at("f"), 5).status().outcome(), Outcome::kCorrupt);
}

// Past the page cache or through it: readers of this and of other descriptors see the last write.
TEST_P(FsContract, DurableAndOtherWritesInAnyOrderAreReadAsTheyCame) {
  constexpr std::size_t kSize = 64 * 1024;
  auto file = fs_.open(at("f"), OpenMode::kCreate).value();
  ASSERT_TRUE(file->fill_zeros(kSize).is_ok());
  ASSERT_TRUE(file->sync().is_ok());
  ASSERT_TRUE(fs_.rename(at("f"), at("g")).is_ok());  // what is open goes on under another name
  auto other = fs_.open(at("g"), OpenMode::kRead).value();
  Bytes expected(kSize);
  std::uint64_t random = 20240611;
  const auto below = [&](std::size_t n) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    return static_cast<std::size_t>(random >> 33) % n;
  };
  for (int step = 0; step < 400; ++step) {
    const bool whole = below(4) != 0;  // sectors
    const std::size_t from = whole ? below(kSize / 512) * 512 : below(kSize);
    std::size_t size = whole ? (1 + below(12)) * 512 : 1 + below(3000);
    const bool durable = below(2) == 0;
    if (below(40) != 0) size = std::min(size, expected.size() - from);  // else: may go beyond
    const Bytes bytes(size, static_cast<std::byte>(step));
    if (from + size > expected.size()) expected.resize(from + size);
    std::copy(bytes.begin(), bytes.end(), expected.begin() + static_cast<std::ptrdiff_t>(from));
    const Status status = durable ? file->write_durable(from, bytes) : file->write_at(from, bytes);
    ASSERT_TRUE(status.is_ok()) << status.to_string();
    Bytes found(expected.size() + 1);
    const auto got = (step % 2 == 0 ? file : other)->read_at(0, found);
    ASSERT_EQ(got.value(), expected.size());
    found.resize(expected.size());
    ASSERT_EQ(found, expected) << "step " << step;
  }
  EXPECT_EQ(read("g"), expected);
}

INSTANTIATE_TEST_SUITE_P(All, FsContract,
                         testing::Values(&memory_place, &direct_place, &posix_place));

// ------------------------------------------------------------------ the crash model

using Protocol = std::function<Status(Fs&)>;

Status activate_unsynced(Fs& fs) {
  EDGECORE_ASSIGN(auto file, fs.open("/d/f.new", OpenMode::kCreate));
  EDGECORE_TRY(file->write_at(0, Bytes(1500, std::byte{2})));
  return fs.rename("/d/f.new", "/d/f");
}

Status activate_atomic(Fs& fs) {
  return write_file_atomic(fs, "/d/f", Bytes(1500, std::byte{2}));
}

struct Tally {
  std::size_t states = 0;
  std::size_t violations = 0;
};

// Cuts `protocol`, which replaces 1,100 ones by 1,500 twos, before each of its operations.
Tally cut_everywhere(const Protocol& protocol, MemoryFsOptions options) {
  Tally tally;
  for (std::uint64_t cut = 1;; ++cut) {
    MemoryFs fs(options);
    EXPECT_TRUE(fs.make_directories("/d").is_ok());
    EXPECT_TRUE(write_file_atomic(fs, "/d/f", Bytes(1100, std::byte{1})).is_ok());
    fs.cut_power_at(cut);
    const bool done = protocol(fs).is_ok();
    for (const auto& image : fs.crash_states(2000, cut)) {
      const auto found = read_file(*image, "/d/f", 1 << 20);
      const bool old = found.is_ok() && found.value() == Bytes(1100, std::byte{1});
      const bool fresh = found.is_ok() && found.value() == Bytes(1500, std::byte{2});
      ++tally.states;
      tally.violations += !(fresh || old);
    }
    if (done) return tally;
  }
}

TEST(MemoryFs, ARenameWithNothingSyncedIsFlaggedInBothModels) {
  // Renamed without its size: empty. With it: 2^3 choices of sectors, one of them right.
  EXPECT_EQ(cut_everywhere(activate_unsynced, {}).violations, 8u);
  EXPECT_GT(cut_everywhere(activate_unsynced, {512, DiskModel::kExt4}).violations, 0u);
}

TEST(MemoryFs, AnAtomicReplacementIsCleanAtEveryCut) {
  for (const auto model : {DiskModel::kPosix, DiskModel::kExt4})
    for (const std::uint32_t sector : {512u, 4096u}) {
      const Tally tally = cut_everywhere(activate_atomic, {sector, model});
      EXPECT_EQ(tally.violations, 0u);
      EXPECT_GE(tally.states, 8u);
    }
}

TEST(MemoryFs, AtomicReplacementOnALyingDiskIsFlagged) {
  const Protocol lied_to = [](Fs& fs) {
    auto& memory = static_cast<MemoryFs&>(fs);
    const auto fault =
        memory.inject({.effect = FaultEffect::kLyingSync, .path_contains = {}, .sticky = true});
    const Status status = activate_atomic(fs);
    if (status.is_ok()) {
      EXPECT_EQ(memory.fired(fault), 1u);
    }
    return status;
  };
  EXPECT_GT(cut_everywhere(lied_to, {}).violations, 0u);
}

TEST(MemoryFs, AFailedSyncIsNeverMadeGoodByALaterOne) {
  MemoryFs fs;
  ASSERT_TRUE(fs.make_directories("/d").is_ok());
  auto file = fs.open("/d/f", OpenMode::kCreate).value();
  ASSERT_TRUE(fs.sync_directory("/d").is_ok());
  ASSERT_TRUE(file->write_at(0, Bytes(512, std::byte{7})).is_ok());
  const auto fault =
      fs.inject({.on = static_cast<std::uint32_t>(Operation::kSync), .path_contains = {}});
  EXPECT_EQ(file->sync().outcome(), Outcome::kUnavailable);
  EXPECT_TRUE(file->sync().is_ok());  // the lie of fsyncgate
  EXPECT_EQ(fs.fired(fault), 1u);
  bool lost = false;
  for (const auto& image : fs.crash_states(100, 1))
    lost = lost || read_file(*image, "/d/f", 999).value() != Bytes(512, std::byte{7});
  EXPECT_TRUE(lost);
  ASSERT_TRUE(file->write_at(0, Bytes(512, std::byte{8})).is_ok());  // written again: promised
  ASSERT_TRUE(file->truncate(513).is_ok());
  ASSERT_TRUE(file->sync().is_ok());
  for (const auto& image : fs.crash_states(100, 1))
    EXPECT_EQ(read_file(*image, "/d/f", 999).value()[0], std::byte{8});
}

// 4,096 ones, durable, then what a test does to the disk, then every legal image.
struct Overwritten {
  Overwritten() : fs({.direct_writes = true}) {
    EXPECT_TRUE(write_file_atomic(fs, "f", Bytes(4096, std::byte{1})).is_ok());
    file = fs.open("f", OpenMode::kReadWrite).value();
  }
  std::set<std::string> images() const {
    std::set<std::string> out;
    for (const auto& image : fs.crash_states(1000, 1))
      out.emplace(as_text(read_file(*image, "f", 1 << 20).value()));
    return out;
  }
  MemoryFs fs;
  std::unique_ptr<File> file;
};

std::string sectors(std::initializer_list<char> values) {
  std::string out;
  for (const char value : values) out.append(512, value);
  return out;
}

TEST(MemoryFs, ADirectWritePromisesItsOwnRangeAlone) {
  Overwritten disk;
  ASSERT_TRUE(disk.file->write_at(0, as_byte_span(sectors({2, 2}))).is_ok());
  const auto before = disk.fs.operations();
  ASSERT_TRUE(disk.file->write_durable(512, as_byte_span(sectors({3, 3}))).is_ok());
  EXPECT_EQ(disk.fs.operations(), before + 1);
  EXPECT_EQ(disk.images(), (std::set<std::string>{sectors({1, 3, 3, 1, 1, 1, 1, 1}),
                                                  sectors({2, 3, 3, 1, 1, 1, 1, 1})}));
  ASSERT_TRUE(
      disk.file->write_at(1024, as_byte_span(sectors({4}))).is_ok());  // later: may be lost again
  EXPECT_EQ(disk.images().size(), 4u);
  ASSERT_TRUE(disk.file->sync().is_ok());
  EXPECT_EQ(disk.images(), (std::set<std::string>{sectors({2, 3, 4, 1, 1, 1, 1, 1})}));
}

TEST(MemoryFs, ADirectWriteCutOrFailedInItsMidstLeavesAnyOfItsSectors) {
  const std::set<std::string> any{
      sectors({1, 1, 1, 1, 1, 1, 1, 1}), sectors({2, 1, 1, 1, 1, 1, 1, 1}),
      sectors({1, 2, 1, 1, 1, 1, 1, 1}), sectors({2, 2, 1, 1, 1, 1, 1, 1})};
  Overwritten cut;
  cut.fs.cut_power_at(1);
  EXPECT_EQ(cut.file->write_durable(0, as_byte_span(sectors({2, 2}))).outcome(),
            Outcome::kUnavailable);
  EXPECT_EQ(cut.images(), any);
  EXPECT_EQ(cut.file->write_durable(1024, as_byte_span(sectors({2}))).outcome(),
            Outcome::kUnavailable);
  EXPECT_EQ(cut.images(), any);
  for (const FaultEffect effect :
       {FaultEffect::kIoError, FaultEffect::kShortWrite, FaultEffect::kNoSpace}) {
    Overwritten failed;
    const auto fault = failed.fs.inject({.effect = effect,
                                         .on = static_cast<std::uint32_t>(Operation::kWriteDurable),
                                         .path_contains = {}});
    EXPECT_FALSE(failed.file->write_durable(0, as_byte_span(sectors({2, 2}))).is_ok());
    EXPECT_EQ(failed.fs.fired(fault), 1u);
    EXPECT_TRUE(failed.file->sync().is_ok());  // makes good nothing
    const std::size_t states[] = {4, 2, 1};
    EXPECT_EQ(failed.images().size(), states[effect == FaultEffect::kIoError      ? 0
                                             : effect == FaultEffect::kShortWrite ? 1
                                                                                  : 2]);
    ASSERT_TRUE(failed.file->write_durable(0, as_byte_span(sectors({3, 3}))).is_ok());
    EXPECT_EQ(failed.images(), (std::set<std::string>{sectors({3, 3, 1, 1, 1, 1, 1, 1})}));
  }
}

TEST(MemoryFs, ADirectWriteBringsTheSizeItNeedsAndNoMore) {
  Overwritten disk;
  ASSERT_TRUE(disk.file->truncate(700).is_ok());
  ASSERT_TRUE(disk.file->fill_zeros(8192).is_ok());
  ASSERT_TRUE(disk.file->write_durable(1024, as_byte_span(sectors({2}))).is_ok());
  std::set<std::size_t> sizes;
  for (const std::string& image : disk.images()) {
    ASSERT_GE(image.size(), 1536u);
    sizes.insert(image.size());
    EXPECT_EQ(image[699], 1);
    EXPECT_EQ(image[700], 0);
    EXPECT_EQ(image[1024], 2);
  }
  EXPECT_GT(sizes.size(), 1u);
  ASSERT_TRUE(disk.file->sync().is_ok());
  ASSERT_EQ(disk.images().size(), 1u);
  EXPECT_EQ(disk.images().begin()->size(), 8192u);
}

TEST(MemoryFs, ALyingDirectWriteIsLosable) {
  Overwritten disk;
  const auto fault = disk.fs.inject({.effect = FaultEffect::kLyingSync, .path_contains = {}});
  ASSERT_TRUE(disk.file->write_durable(0, as_byte_span(sectors({2}))).is_ok());
  EXPECT_EQ(disk.fs.fired(fault), 1u);
  EXPECT_EQ(disk.images().size(), 2u);
}

TEST(MemoryFs, EveryFaultFiresWhereItIsTold) {
  MemoryFs counting;
  ASSERT_TRUE(counting.make_directories("/d").is_ok());
  const auto before = counting.operations();
  ASSERT_TRUE(activate_atomic(counting).is_ok());
  const auto total = counting.operations() - before;
  EXPECT_EQ(total, 6u);
  for (const auto effect : {FaultEffect::kIoError, FaultEffect::kNoSpace, FaultEffect::kShortWrite})
    for (std::uint64_t n = 0; n < total; ++n) {
      MemoryFs fs;
      ASSERT_TRUE(fs.make_directories("/d").is_ok());
      const auto fault = fs.inject({.effect = effect, .path_contains = {}, .skip = n});
      const Status status = activate_atomic(fs);
      // A truncate of a new file and the like all report; nothing is swallowed.
      EXPECT_EQ(fs.fired(fault), 1u) << n;
      EXPECT_FALSE(status.is_ok()) << n;
      EXPECT_TRUE(activate_atomic(fs).is_ok()) << "one shot";
    }
}

TEST(MemoryFs, AFullDiskIsExhaustedAndOverwritesStillWork) {
  MemoryFs fs({512, DiskModel::kPosix, 1000});
  auto file = fs.open("f", OpenMode::kCreate).value();
  ASSERT_TRUE(file->fill_zeros(1000).is_ok());
  EXPECT_EQ(file->write_at(1000, as_byte_span("x")).outcome(), Outcome::kExhausted);
  EXPECT_TRUE(file->write_at(999, as_byte_span("x")).is_ok());
  EXPECT_EQ(fs.free_bytes(".").value(), 0u);
}

TEST(MemoryFs, AfterThePowerCutNothingAnswers) {
  MemoryFs fs;
  fs.cut_power_at(1);
  EXPECT_EQ(fs.open("f", OpenMode::kCreate).status().outcome(), Outcome::kUnavailable);
  EXPECT_EQ(fs.list(".").status().outcome(), Outcome::kUnavailable);
  EXPECT_TRUE(fs.power_is_cut());
  EXPECT_TRUE(fs.crash(1)->list(".").is_ok());
}

}  // namespace
}  // namespace edgecore
