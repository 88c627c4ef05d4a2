// Bytes at rest that change: one flipped byte anywhere, a file cut at any length, and journal
// copies made by an enemy who can compute checksums.
#include "tests/artifacts/workload.hpp"

namespace edgecore::artifacts {
namespace {

using Disk = std::shared_ptr<MemoryFs>;

// A disk in the middle of a trial: release 1 stable, release 2 tried, an object half received.
constexpr std::size_t kArrivingBytes = kChunkBytes + 300;
const std::uint64_t kArriving = 77;

Disk make_world() {
  auto disk = std::make_shared<MemoryFs>();
  auto store = open_store(disk);
  EXPECT_TRUE(store.is_ok());
  const std::vector<Step> steps = life();
  for (std::size_t i = 0; i < 11; ++i) EXPECT_TRUE(steps[i].run(*store.value()).is_ok());
  const Bytes bytes = content(kArriving, kArrivingBytes);
  auto staging = store.value()->stage(blake3(bytes), bytes.size());
  EXPECT_TRUE(staging.is_ok());
  EXPECT_TRUE(staging.value()->write(0, bytes).is_ok());
  return disk;
}

std::string file_of(const Digest& digest, const std::string& suffix = "") {
  return std::string(kPlace) + "/objects/" + to_hex(digest) + suffix;
}

Bytes contents(const Disk& disk, const std::string& path) {
  return read_file(*disk, path, 1 << 24).value();
}

void flip(const Disk& disk, const std::string& path, std::size_t at, std::byte with) {
  auto file = disk->open(path, OpenMode::kReadWrite);
  ASSERT_TRUE(file.is_ok());
  std::byte byte[1];
  ASSERT_TRUE(file.value()->read_at(at, byte).is_ok());
  byte[0] ^= with;
  ASSERT_TRUE(file.value()->write_at(at, byte).is_ok());
}

void cut(const Disk& disk, const std::string& path, std::size_t size) {
  auto file = disk->open(path, OpenMode::kReadWrite);
  ASSERT_TRUE(file.is_ok());
  ASSERT_TRUE(file.value()->truncate(size).is_ok());
}

std::byte pattern(std::size_t at) {  // one bit, or all of them
  return at % 3 == 0 ? std::byte{0xff} : static_cast<std::byte>(1u << (at % 8));
}

class DamageTest : public testing::Test {
 protected:
  Disk damaged() const { return world_->crash(0); }
  Disk world_ = make_world();
  JournalState state_ = expected_states()[11];
};

TEST_F(DamageTest, FlippedByteOfTheJournalIsHealedAndUndoesNothing) {
  const std::string path = std::string(kPlace) + "/journal";
  for (std::size_t at = 0; at < 2 * kJournalCopyBytes; ++at) {
    const Disk disk = damaged();
    flip(disk, path, at, pattern(at));
    {
      auto store = open_store(disk);
      ASSERT_TRUE(store.is_ok()) << at;
      ASSERT_TRUE(store.value()->state() == state_) << at;
    }
    const Bytes healed = contents(disk, path);
    ASSERT_EQ(healed, contents(world_, path)) << at;
  }
}

TEST_F(DamageTest, JournalCutShortIsHealedOrCorruptAndNeverOlder) {
  const std::string path = std::string(kPlace) + "/journal";
  for (std::size_t size = 0; size < 2 * kJournalCopyBytes; size += size % 64 == 0 ? 1 : 63) {
    const Disk disk = damaged();
    cut(disk, path, size);
    auto store = open_store(disk);
    if (size < kJournalCopyBytes) {
      ASSERT_EQ(store.status().outcome(), Outcome::kCorrupt) << size;
    } else {
      ASSERT_TRUE(store.is_ok()) << size;
      ASSERT_TRUE(store.value()->state() == state_) << size;
    }
  }
}

TEST_F(DamageTest, JournalDamagedInBothCopiesIsCorruptWithWhatToDo) {
  const Disk disk = damaged();
  flip(disk, std::string(kPlace) + "/journal", 100, std::byte{1});
  flip(disk, std::string(kPlace) + "/journal", kJournalCopyBytes + 4000, std::byte{1});
  auto store = open_store(disk);
  EXPECT_EQ(store.status().outcome(), Outcome::kCorrupt);
  EXPECT_NE(store.status().message().find("move the file away"), std::string::npos);
}

TEST_F(DamageTest, FlippedByteOfAnObjectIsCorruptAndNeverServed) {
  const Digest view = digest_of(22, 100);
  for (std::size_t at = 0; at < 100; ++at) {
    const Disk disk = damaged();
    flip(disk, file_of(view), at, pattern(at));
    auto store = open_store(disk);
    ASSERT_TRUE(store.is_ok());
    EXPECT_EQ(store.value()->get(view).status().outcome(), Outcome::kCorrupt) << at;
    EXPECT_EQ(store.value()->verify(view).outcome(), Outcome::kCorrupt) << at;
    EXPECT_EQ(store.value()->activate().outcome(), Outcome::kCorrupt) << at;
    EXPECT_TRUE(store.value()->state() == state_) << at;
    auto staging = store.value()->stage(view, 100);  // fetched again
    ASSERT_TRUE(staging.is_ok());
    EXPECT_EQ(staging.value()->received(), 0u);
    ASSERT_TRUE(staging.value()->write(0, content(22, 100)).is_ok());
    ASSERT_TRUE(staging.value()->finish().is_ok());
    EXPECT_TRUE(store.value()->activate().is_ok()) << at;
  }
}

TEST_F(DamageTest, ObjectCutAtAnyLengthIsCorrupt) {
  const Digest model = digest_of(21, kModelBytes);
  for (std::size_t size = 0; size < kModelBytes; size += 1 + size / 7) {
    const Disk disk = damaged();
    cut(disk, file_of(model), size);
    auto store = open_store(disk);
    ASSERT_TRUE(store.is_ok());
    EXPECT_EQ(store.value()->get(model).status().outcome(), Outcome::kCorrupt) << size;
    EXPECT_EQ(store.value()->verify(model).outcome(), Outcome::kCorrupt) << size;
  }
}

// What is left of a damaged staging is completed to the right object.
void expect_completes(const Disk& disk, std::uint64_t resent_max, const std::string& at) {
  const Bytes bytes = content(kArriving, kArrivingBytes);
  auto store = open_store(disk);
  ASSERT_TRUE(store.is_ok()) << at;
  auto staging = store.value()->stage(blake3(bytes), bytes.size());
  ASSERT_TRUE(staging.is_ok()) << at << ": " << staging.status().to_string();
  std::uint64_t resent = 0;
  for (const Range& gap : staging.value()->missing()) {
    const auto piece = ByteSpan(bytes).subspan(static_cast<std::size_t>(gap.offset),
                                               static_cast<std::size_t>(gap.length));
    ASSERT_TRUE(staging.value()->write(gap.offset, piece).is_ok()) << at;
    resent += gap.length;
  }
  EXPECT_LE(resent, resent_max) << at;
  ASSERT_TRUE(staging.value()->finish().is_ok()) << at;
  ASSERT_TRUE(store.value()->verify(blake3(bytes)).is_ok()) << at;
}

TEST_F(DamageTest, FlippedByteOfAStagingCostsItsChunk) {
  const Digest arriving = digest_of(kArriving, kArrivingBytes);
  const std::size_t progress = contents(world_, file_of(arriving, ".progress")).size();
  ASSERT_EQ(progress, kProgressHeaderBytes + 2 * 8);
  for (std::size_t at = 0; at < progress; ++at) {
    const Disk disk = damaged();
    flip(disk, file_of(arriving, ".progress"), at, pattern(at));
    const bool header = at < kProgressHeaderBytes;
    expect_completes(disk, header ? kArrivingBytes : kChunkBytes, "progress " + std::to_string(at));
  }
  for (std::size_t at = 0; at < kArrivingBytes; at += 1 + at % 13) {
    const Disk disk = damaged();
    flip(disk, file_of(arriving, ".part"), at, pattern(at));
    expect_completes(disk, kChunkBytes, "part " + std::to_string(at));
  }
}

TEST_F(DamageTest, StagingCutAtAnyLengthIsFetchedAgain) {
  const Digest arriving = digest_of(kArriving, kArrivingBytes);
  for (std::size_t size = 0; size < kProgressHeaderBytes + 16; ++size) {
    const Disk disk = damaged();
    cut(disk, file_of(arriving, ".progress"), size);
    expect_completes(disk, kArrivingBytes, "progress cut at " + std::to_string(size));
  }
  for (std::size_t size = 0; size < kArrivingBytes; size += 97) {
    const Disk disk = damaged();
    cut(disk, file_of(arriving, ".part"), size);
    expect_completes(disk, kArrivingBytes, "part cut at " + std::to_string(size));
  }
}

TEST_F(DamageTest, StrangeNamesAreLeftAlone) {
  const std::string objects = std::string(kPlace) + "/objects/";
  const std::string hex(64, 'a');
  const std::vector<std::string> strange = {"README", hex + ".mine", std::string(64, 'A'),
                                            hex.substr(1), hex.substr(1) + "g"};
  for (const std::string& name : strange)
    ASSERT_TRUE(write_file_atomic(*world_, objects + name, content(1, 5)).is_ok());
  ASSERT_TRUE(write_file_atomic(*world_, objects + hex + ".new", content(1, 5)).is_ok());
  auto store = open_store(world_);
  ASSERT_TRUE(store.is_ok());
  ASSERT_TRUE(store.value()->gc({}).is_ok());
  for (const std::string& name : strange)
    EXPECT_TRUE(world_->exists(objects + name).value()) << name;
  EXPECT_FALSE(world_->exists(objects + hex + ".new").value());
}

// ------------------------------------------------------------------ hostile journal copies

Bytes signed_again(Bytes copy) {
  const std::size_t covered = kJournalCopyBytes - sizeof(Digest);
  const Digest digest = blake3(ByteSpan(copy).first(covered));
  std::copy(digest.begin(), digest.end(), copy.begin() + static_cast<std::ptrdiff_t>(covered));
  return copy;
}

TEST(JournalBytes, EveryStateOfALifeIsReadBack) {
  for (const JournalState& state : expected_states()) {
    const auto decoded = decode_journal(encode_journal(state));
    ASSERT_TRUE(decoded.is_ok()) << decoded.status().to_string();
    EXPECT_TRUE(decoded.value() == state);
  }
}

TEST(JournalBytes, HostileCopyWithARightChecksumIsAStateOrAnError) {
  std::size_t read = 0;
  std::size_t refused = 0;
  for (const JournalState& state : expected_states()) {
    const Bytes copy = encode_journal(state);
    for (std::size_t at = 0; at < 400; ++at) {
      for (const unsigned value : {1u, 0xffu}) {
        Bytes bytes = copy;
        bytes[at] = static_cast<std::byte>(value);
        const auto decoded = decode_journal(signed_again(std::move(bytes)));
        if (!decoded.is_ok()) {
          ++refused;
          continue;
        }
        ++read;
        EXPECT_TRUE(decode_journal(encode_journal(decoded.value())).value() == decoded.value());
      }
    }
  }
  EXPECT_GT(read, 1000u);
  EXPECT_GT(refused, 100u);
}

TEST(JournalBytes, NewerVersionOrUnknownFeatureIsIncompatibleAndKept) {
  for (const std::size_t at : {std::size_t{4}, std::size_t{8}}) {  // version, required features
    const auto disk = std::make_shared<MemoryFs>();
    ASSERT_TRUE(open_store(disk).is_ok());
    const std::string path = std::string(kPlace) + "/journal";
    Bytes copy = contents(disk, path);
    copy.resize(kJournalCopyBytes);
    copy[at] = std::byte{9};
    copy = signed_again(std::move(copy));
    ASSERT_TRUE(disk->open(path, OpenMode::kReadWrite).value()->write_at(0, copy).is_ok());
    EXPECT_EQ(open_store(disk).status().outcome(), Outcome::kIncompatible);
    EXPECT_TRUE(std::ranges::equal(ByteSpan(contents(disk, path)).first(kJournalCopyBytes), copy));
  }
}

}  // namespace
}  // namespace edgecore::artifacts
