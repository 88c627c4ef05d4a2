// Encrypted logs: what is on disk, what opens it, what becomes of damage, forgery and lost keys.
#include "log/encryption.hpp"

#include <algorithm>
#include <atomic>
#include <thread>

#include "base/crc32c.hpp"
#include "tests/log/log_cases.hpp"
#include "tests/log/toy_cipher.hpp"

namespace edgecore {
namespace {

constexpr std::uint64_t kSegmentBytes = 20 * 1024;
const std::string kFirst = "log/wal-0000000000000001.seg";

class Encrypted : public testing::Test {
 protected:
  LogOptions options(std::shared_ptr<Cipher> cipher, bool read_only = false) {
    LogOptions out;
    out.read_only = read_only;
    out.segment_bytes = kSegmentBytes;
    out.store.fill(std::byte{7});
    out.epoch = ++epoch_;
    out.salt = epoch_ * 0x7654321;
    out.durability[0].level = Durability::kSync;
    out.cipher = std::move(cipher);
    return out;
  }

  Result<std::unique_ptr<Log>> try_open(std::shared_ptr<Cipher> cipher, bool read_only = false) {
    return Log::open(disk_, "log", options(std::move(cipher), read_only), clock_);
  }

  std::unique_ptr<Log> open(std::shared_ptr<Cipher> cipher, bool read_only = false) {
    auto log = try_open(std::move(cipher), read_only);
    EXPECT_TRUE(log.is_ok()) << log.status().to_string();
    for (const auto& schema : schemas_) {
      if (read_only) {
        static_cast<void>(log.value()->attach_schema(schema));
      } else {
        EXPECT_TRUE(log.value()->register_schema(schema).is_ok());
      }
    }
    return std::move(log).value();
  }

  // One block each, alternately of the two streams.
  void append(Log& log, int blocks) {
    for (int i = 0; i < blocks; ++i, ++value_) {
      const auto& schema = schemas_[static_cast<std::size_t>(value_ % 2)];
      ASSERT_TRUE(log.append(rows_of(schema, value_, 1)).is_ok());
      ASSERT_TRUE(log.sync().is_ok());
    }
  }

  Bytes file(const std::string& path) { return read_file(*disk_, path, 1u << 24).value(); }
  void put_file(const std::string& path, ByteSpan bytes) {
    ASSERT_TRUE(disk_->open(path, OpenMode::kReadWrite).value()->write_at(0, bytes).is_ok());
  }

  struct Block {
    std::size_t at;
    wal::BlockHead head;
  };
  // Those with records.
  static std::vector<Block> blocks(ByteSpan bytes) {
    const auto header = wal::decode_header(bytes);
    std::vector<Block> out;
    for (std::size_t at = wal::kHeaderBytes; at < bytes.size(); at += header->sector)
      if (const auto head = wal::decode_block_head(bytes.subspan(at), header->salt))
        if (head->records > 0) out.push_back({at, *head});
    return out;
  }
  // After a change of what is encrypted: the checksum passes again.
  static void repair(Bytes& bytes, const Block& block) {
    std::byte* span = bytes.data() + block.at + block.head.head_bytes();
    const std::size_t size = block.head.length - block.head.head_bytes() - kSpanCrcBytes;
    store_le(span,
             crc32c({span + kSpanCrcBytes, size}, wal::salted(wal::decode_header(bytes)->salt)));
  }

  std::shared_ptr<MemoryFs> disk_ = std::make_shared<MemoryFs>();
  std::shared_ptr<ManualClock> clock_ = std::make_shared<ManualClock>(1'700'000'000'000'000'000);
  std::vector<SchemaPtr> schemas_ = {make_schema("bulk", Tier::kBulk),
                                     make_schema("critical", Tier::kCritical)};
  std::shared_ptr<ToyCipher> cipher_ = std::make_shared<ToyCipher>();
  std::uint64_t epoch_ = 0;
  std::int64_t value_ = 1;
};

bool contains(ByteSpan bytes, std::string_view text) {
  const ByteSpan wanted = as_byte_span(text);
  return std::search(bytes.begin(), bytes.end(), wanted.begin(), wanted.end()) != bytes.end();
}

TEST_F(Encrypted, RowsComeBackAndStandNowhereInTheClear) {
  auto log = open(cipher_);
  append(*log, 120);
  const Events all = read_all(*log, schemas_);
  EXPECT_EQ(all.size(), 120u);
  ASSERT_TRUE(log->close().is_ok());
  const auto names = disk_->list("log");
  for (const std::string& name : names.value()) {
    if (name.starts_with("wal-")) {
      EXPECT_FALSE(contains(file("log/" + name), "text ")) << name;
    }
  }
  log = open(cipher_, true);
  EXPECT_GT(log->recovery().segments, 2u);
  EXPECT_TRUE(log->recovery().clean);
  EXPECT_EQ(read_all(*log, schemas_), all);
}

TEST_F(Encrypted, EverySegmentHasAKeyOfItsOwnAndEveryOpenNewOnes) {
  for (int open_count = 0; open_count < 3; ++open_count) {
    auto log = open(cipher_);
    append(*log, 60);
  }
  auto log = open(cipher_, true);
  std::set<std::uint64_t> segments;
  for (const KeyEntry& entry : log->keys().entries()) {
    EXPECT_EQ(entry.use.kind, KeyUse::kSegment);
    EXPECT_TRUE(segments.insert(entry.use.of).second);
  }
  EXPECT_EQ(segments.size(), log->recovery().segments);
}

TEST_F(Encrypted, WithoutItsCipherALogIsNotOpenedForWritingAndNothingIsChanged) {
  append(*open(cipher_), 30);
  const std::uint64_t before = disk_->operations();
  const auto none = try_open(nullptr);
  EXPECT_EQ(none.status().outcome(), Outcome::kUnavailable) << none.status().to_string();
  const auto other = try_open(std::make_shared<ToyCipher>(2));
  EXPECT_EQ(other.status().outcome(), Outcome::kUntrusted) << other.status().to_string();
  EXPECT_EQ(disk_->operations(), before + 2);  // the directory is made, if absent
  EXPECT_EQ(read_all(*open(cipher_), schemas_).size(), 30u);
}

TEST_F(Encrypted, WithoutAKeyChecksumsAreCheckedAndRowsAreNotRead) {
  append(*open(cipher_), 90);
  for (const auto& cipher : {std::shared_ptr<ToyCipher>(), std::make_shared<ToyCipher>(2)}) {
    const auto log = open(cipher, true);
    EXPECT_EQ(log->position(), 90u);
    const auto visit = [](const RecordView&) {
      ADD_FAILURE() << "a record without its key";
      return true;
    };
    EXPECT_EQ(log->reader().visit(0, visit).outcome(),
              cipher ? Outcome::kUntrusted : Outcome::kUnavailable);
    std::vector<LossRange> losses;
    Unopened unopened;
    EXPECT_TRUE(log->reader().visit(0, visit, &losses, &unopened).is_ok());
    EXPECT_TRUE(losses.empty());
    EXPECT_EQ(unopened.rows, 90u);
    EXPECT_EQ(unopened.missing, 0u);
  }
  Bytes bytes = file(kFirst);
  const Block hit = blocks(bytes)[4];
  bytes[hit.at + hit.head.head_bytes() + 9] ^= std::byte{4};
  put_file(kFirst, bytes);
  std::vector<LossRange> losses;
  Unopened unopened;
  const auto visit = [](const RecordView&) { return true; };
  EXPECT_TRUE(open(nullptr, true)->reader().visit(0, visit, &losses, &unopened).is_ok());
  ASSERT_EQ(losses.size(), 1u);
  EXPECT_EQ(losses[0].first, losses[0].last);
  EXPECT_EQ(unopened.rows, 89u);
}

// Any bit of a block that is encrypted: its rows are lost, told exactly, and all others are read.
TEST_F(Encrypted, AFlippedBitCostsItsBlockAndNothingElse) {
  append(*open(cipher_), 40);
  const Events all = read_all(*open(cipher_, true), schemas_);
  const Bytes sound = file(kFirst);
  const Block hit = blocks(sound)[6];
  const std::size_t head = hit.head.head_bytes();
  for (std::size_t i = 0; i < hit.head.length; ++i) {
    Bytes bytes = sound;
    bytes[hit.at + i] ^= std::byte{static_cast<unsigned char>(1u << (i % 8))};
    put_file(kFirst, bytes);
    const auto log = open(cipher_, true);
    const Events found = read_all(*log, schemas_);
    std::vector<LossRange> losses;
    const auto visit = [](const RecordView&) { return true; };
    ASSERT_TRUE(log->reader().visit(0, visit, &losses).is_ok());
    ASSERT_EQ(found.size(), all.size() - 1) << "byte " << i << " (head " << head << ")";
    ASSERT_EQ(losses.size(), 1u) << "byte " << i;
    ASSERT_EQ(losses[0].reason, LossRange::kLost);
    ASSERT_FALSE(found.contains({losses[0].partition, losses[0].first}));
    for (const auto& [key, value] : found) ASSERT_EQ(all.at(key), value);
  }
}

// Bytes whose checksum passes, but that the key did not seal in that place.
TEST_F(Encrypted, WhatIsForgedMovedOrSwappedIsNotServed) {
  append(*open(cipher_), 40);
  const Events all = read_all(*open(cipher_, true), schemas_);
  const Bytes sound = file(kFirst);
  const auto found = blocks(sound);
  const auto check = [&](const Bytes& bytes, std::size_t lost) {
    put_file(kFirst, bytes);
    const auto log = open(cipher_, true);
    const Events left = read_all(*log, schemas_);
    std::vector<LossRange> losses;
    const auto visit = [](const RecordView&) { return true; };
    ASSERT_TRUE(log->reader().visit(0, visit, &losses).is_ok());
    EXPECT_EQ(left.size(), all.size() - lost);
    std::uint64_t told = 0;
    for (const LossRange& range : losses) told += range.last - range.first + 1;
    EXPECT_EQ(told, lost);
    for (const auto& [key, value] : left) EXPECT_EQ(all.at(key), value);
  };
  Bytes forged = sound;
  forged[found[3].at + found[3].head.head_bytes() + 30] ^= std::byte{1};
  repair(forged, found[3]);
  check(forged, 1);
  // Encrypted spans of two blocks of the same size change places.
  Bytes swapped = sound;
  const std::size_t head = found[5].head.head_bytes();
  ASSERT_EQ(found[5].head.length, found[7].head.length);
  std::swap_ranges(
      swapped.begin() + static_cast<std::ptrdiff_t>(found[5].at + head),
      swapped.begin() + static_cast<std::ptrdiff_t>(found[5].at + found[5].head.length),
      swapped.begin() + static_cast<std::ptrdiff_t>(found[7].at + head));
  repair(swapped, found[5]);
  repair(swapped, found[7]);
  check(swapped, 2);
  // The head is bound too: here the time of arrival.
  Bytes redated = sound;
  wal::BlockHead later = found[9].head;
  later.hlc += 1;
  wal::encode_block_head(later, wal::decode_header(sound)->salt, redated.data() + found[9].at);
  check(redated, 1);
  check(sound, 0);
}

TEST_F(Encrypted, RowsOfADestroyedKeyAreUnreadableAndAccountedFor) {
  append(*open(cipher_), 120);
  const Events all = read_all(*open(cipher_, true), schemas_);
  std::uint32_t first = 0;
  {
    auto ring = KeyRing::open(disk_, "log", options(cipher_).store, cipher_);
    first = ring.value()->entries().front().id;
    ASSERT_TRUE(ring.value()->destroy({first}).is_ok());
    EXPECT_EQ(ring.value()->state(first), KeyRing::State::kDestroyed);
  }
  const auto log = open(cipher_);
  const Events left = read_all(*log, schemas_);
  std::vector<LossRange> losses;
  const auto visit = [](const RecordView&) { return true; };
  ASSERT_TRUE(log->reader().visit(0, visit, &losses).is_ok());
  std::uint64_t told = 0;
  for (const LossRange& range : losses) {
    EXPECT_EQ(range.reason, LossRange::kPurged);
    told += range.last - range.first + 1;
    for (std::uint64_t at = range.first; at <= range.last; ++at)
      EXPECT_FALSE(left.contains({range.partition, at}));
  }
  EXPECT_GT(told, 10u);
  EXPECT_EQ(left.size() + told, all.size());
  // And the log goes on.
  append(*log, 5);
  EXPECT_EQ(read_all(*log, schemas_).size(), left.size() + 5);
}

TEST_F(Encrypted, WithoutTheFileOfKeysNothingIsDoneUntilItIsBack) {
  append(*open(cipher_), 30);
  ASSERT_TRUE(disk_->rename("log/keys", "log/elsewhere").is_ok());
  const auto missing = try_open(cipher_);
  EXPECT_EQ(missing.status().outcome(), Outcome::kUnavailable) << missing.status().to_string();
  ASSERT_TRUE(disk_->rename("log/elsewhere", "log/keys").is_ok());
  EXPECT_EQ(read_all(*open(cipher_), schemas_).size(), 30u);
}

TEST_F(Encrypted, ADamagedKeyCostsItsSegmentOnlyAndTheLogGoesOn) {
  append(*open(cipher_), 120);
  Bytes keys = file("log/keys");
  for (const std::size_t copy : {0, 2048}) keys[copy + 50] ^= std::byte{1};
  put_file("log/keys", keys);
  const auto log = open(cipher_);
  std::vector<LossRange> losses;
  const auto visit = [](const RecordView&) { return true; };
  ASSERT_TRUE(log->reader().visit(0, visit, &losses).is_ok());
  ASSERT_FALSE(losses.empty());
  EXPECT_EQ(losses[0].reason, LossRange::kLost);
  append(*log, 60);
  // What is left of the key is not written over: it may be put right.
  EXPECT_TRUE(std::equal(keys.begin(), keys.begin() + 4096, file("log/keys").begin()));
}

TEST_F(Encrypted, ALogThatWasWrittenInTheClearIsSealedFromHereOn) {
  append(*open(nullptr), 10);
  append(*open(cipher_), 10);
  const auto log = open(cipher_);
  EXPECT_EQ(read_all(*log, schemas_).size(), 20u);
  EXPECT_TRUE(contains(file(kFirst), "text 10"));
  EXPECT_FALSE(contains(file("log/wal-0000000000000002.seg"), "text 11"));
}

TEST_F(Encrypted, RowsWaitWhileTheCipherFailsAndAreWrittenWhenItDoesNot) {
  auto log = open(cipher_);
  append(*log, 3);
  cipher_->fail(true);
  ASSERT_TRUE(log->append(rows_of(schemas_[0], value_, 2)).is_ok());
  value_ += 2;
  EXPECT_EQ(log->sync().outcome(), Outcome::kUnavailable);
  EXPECT_EQ(log->durable_position(), 3u);
  EXPECT_FALSE(log->append(rows_of(schemas_[1], value_, 1)).is_ok());  // critical: durable or not
  cipher_->fail(false);
  EXPECT_TRUE(log->sync().is_ok());
  append(*log, 3);
  EXPECT_EQ(read_all(*log, schemas_).size(), log->position());
  log.reset();
  EXPECT_EQ(read_all(*open(cipher_), schemas_).size(), 8u);
}

// A sync fails, and what is to be written again can't be encrypted just then.
TEST_F(Encrypted, RetainedRowsThatCantBeEncryptedStayUntilTheyCan) {
  auto log = open(cipher_);
  append(*log, 3);
  ASSERT_TRUE(log->append(rows_of(schemas_[0], value_, 2)).is_ok());
  value_ += 2;
  ASSERT_TRUE(log->flush().is_ok());
  disk_->inject(
      {FaultEffect::kIoError, static_cast<std::uint32_t>(Operation::kSync), "wal-", 0, false});
  cipher_->fail(true);
  EXPECT_FALSE(log->sync().is_ok());
  cipher_->fail(false);
  EXPECT_TRUE(log->sync().is_ok());
  EXPECT_EQ(log->durable_position(), 5u);
  log.reset();
  disk_ = disk_->crash(std::vector<bool>(disk_->pending_units(), false));
  EXPECT_EQ(read_all(*open(cipher_), schemas_).size(), 5u);
}

// The same without a cipher, when there is no room for the segment that the rows are to go to.
TEST_F(Encrypted, RetainedRowsThatFindNoRoomStayUntilTheyDo) {
  auto log = open(nullptr);
  append(*log, 3);
  ASSERT_TRUE(log->append(rows_of(schemas_[0], value_, 2)).is_ok());
  ASSERT_TRUE(log->flush().is_ok());
  for (const auto& [effect, on] : {std::pair(FaultEffect::kIoError, Operation::kSync),
                                   std::pair(FaultEffect::kNoSpace, Operation::kCreate)})
    disk_->inject({effect, static_cast<std::uint32_t>(on), "wal-", 0, false});
  EXPECT_EQ(log->sync().outcome(), Outcome::kExhausted);
  EXPECT_EQ(log->durable_position(), 3u);
  EXPECT_TRUE(log->sync().is_ok());
  EXPECT_EQ(log->durable_position(), 5u);
  log.reset();
  disk_ = disk_->crash(std::vector<bool>(disk_->pending_units(), false));
  EXPECT_EQ(read_all(*open(nullptr), schemas_).size(), 5u);
}

TEST_F(Encrypted, TheKeyOfAReleasedSegmentIsForgottenAndItsPageUsedAgain) {
  LogOptions with = options(cipher_);
  with.keep.rows = 10;
  auto log = std::move(Log::open(disk_, "log", with, clock_)).value();
  for (const auto& schema : schemas_) ASSERT_TRUE(log->register_schema(schema).is_ok());
  std::size_t size = 0;
  for (int round = 0; round < 30; ++round) {
    append(*log, 30);
    const Log::Sequences acked = {{1, log->next_sequence(1) - 1}, {2, log->next_sequence(2) - 1}};
    ASSERT_TRUE(log->release(acked).is_ok());
    EXPECT_LE(log->keys().entries().size(), 4u);
    if (round == 3) size = file("log/keys").size();
  }
  EXPECT_EQ(file("log/keys").size(), size);
  // On the disk too.
  std::size_t live = 0;
  const Bytes keys = file("log/keys");
  for (std::size_t at = 0; at < keys.size(); at += wal::kKeyPageBytes)
    if (wal::decode_key(ByteSpan(keys).subspan(at, wal::kKeyPageBytes), log->store())) ++live;
  EXPECT_EQ(live, log->keys().entries().size());
}

// ---------------------------------------------------------------- packs

class EncryptedPacks : public Encrypted {
 protected:
  // Everything but the newest segments in packs.
  std::unique_ptr<Log> sealed_log(std::shared_ptr<Cipher> cipher, int blocks = 200) {
    auto log = open(std::move(cipher));
    append(*log, blocks);
    const auto done = log->seal({2, 1u << 20, Coding::kFast});
    EXPECT_TRUE(done.is_ok()) << done.status().to_string();
    EXPECT_GE(done->packs, 2u);
    return log;
  }
  std::vector<std::string> packs() const {
    std::vector<std::string> out;
    const auto names = disk_->list("log");
    for (const std::string& name : names.value())
      if (name.starts_with("pack-")) out.push_back("log/" + name);
    return out;
  }
  static std::uint64_t count(const std::vector<LossRange>& losses, LossRange::Reason reason) {
    std::uint64_t rows = 0;
    for (const LossRange& range : losses)
      if (range.reason == reason) rows += range.last - range.first + 1;
    return rows;
  }
  static std::vector<LossRange> losses_of(const Log& log, Unopened* unopened = nullptr) {
    std::vector<LossRange> losses;
    const auto visit = [](const RecordView&) { return true; };
    EXPECT_TRUE(log.reader().visit(0, visit, &losses, unopened).is_ok());
    return losses;
  }
};

TEST_F(EncryptedPacks, RowsAreReadAsBeforeAndStandNowhereInTheClear) {
  auto log = sealed_log(cipher_);
  Events wanted;
  for (std::int64_t value = 1; value <= 200; ++value)
    wanted[{value % 2 == 0 ? 1 : 2, static_cast<std::uint64_t>((value + 1) / 2)}] = value;
  EXPECT_EQ(read_all(*log, schemas_), wanted);
  for (const std::string& path : packs()) {
    EXPECT_FALSE(contains(file(path), "text ")) << path;
    EXPECT_LE(file(path).size(), kPackBytesMax);
  }
  std::set<std::uint16_t> tiers;
  for (const KeyEntry& entry : log->keys().entries())
    if (entry.use.kind == KeyUse::kPack) {
      EXPECT_TRUE(tiers.insert(entry.use.tier).second);
    }
  EXPECT_EQ(tiers, (std::set<std::uint16_t>{0, 4}));
  ASSERT_TRUE(log->close().is_ok());
  EXPECT_EQ(read_all(*open(cipher_, true), schemas_), wanted);
}

TEST_F(EncryptedPacks, AnotherOpenOrPeriodTakesAnotherKey) {
  const auto pack_keys = [](const Log& log) {
    std::set<std::pair<std::uint32_t, std::uint64_t>> out;  // number, period
    for (const KeyEntry& entry : log.keys().entries())
      if (entry.use.kind == KeyUse::kPack && entry.use.tier == 4)
        out.insert({entry.id, entry.use.of});
    return out;
  };
  EXPECT_EQ(pack_keys(*sealed_log(cipher_)).size(), 1u);
  auto log = sealed_log(cipher_);
  EXPECT_EQ(pack_keys(*log).size(), 2u);
  clock_->advance(86'400'000'000'000);
  append(*log, 200);
  ASSERT_TRUE(log->seal({2, 1u << 20, Coding::kDense}).is_ok());
  const auto all = pack_keys(*log);
  EXPECT_EQ(all.size(), 3u);
  EXPECT_EQ(all.rbegin()->second, all.begin()->second + 1);
}

TEST_F(EncryptedPacks, DamageAndForgeryCostTheirBlockAndNothingElse) {
  const auto log = sealed_log(cipher_);
  const Events all = read_all(*log, schemas_);
  const std::string path = packs().back();
  const Bytes sound = file(path);
  const auto index = decode_pack(sound);
  ASSERT_TRUE(index.is_ok());
  const PackBlock block = index->blocks.back();
  const auto check = [&](const Bytes& bytes) {
    put_file(path, bytes);
    const Events left = read_all(*log, schemas_);
    EXPECT_EQ(left.size(), all.size() - block.count);
    EXPECT_EQ(count(losses_of(*log), LossRange::kLost), block.count);
    for (const auto& [key, value] : left) ASSERT_EQ(all.at(key), value);
  };
  for (std::size_t i = 0; i < block.length; ++i) {
    Bytes bytes = sound;
    bytes[block.offset + i] ^= std::byte{static_cast<unsigned char>(1u << (i % 8))};
    check(bytes);
  }
  Bytes forged = sound;
  forged[block.offset + 9] ^= std::byte{1};
  const ByteSpan span = ByteSpan(forged).subspan(block.offset + 4, block.length - 4);
  store_le(forged.data() + block.offset, crc32c(span));
  check(forged);
  // What the index says of a block is bound to it: here its time of arrival.
  PackIndex other = index.value();
  other.blocks.back().hlc += 1;
  const std::size_t begin = index->blocks.front().offset;
  check(encode_pack(other, ByteSpan(sound).subspan(begin, block.offset + block.length - begin)));
}

TEST_F(EncryptedPacks, WithoutAKeyBlocksAreCheckedAndNotRead) {
  ASSERT_TRUE(sealed_log(cipher_)->close().is_ok());
  EXPECT_EQ(try_open(nullptr).status().outcome(), Outcome::kUnavailable);
  const auto log = open(nullptr, true);
  const auto none = [](const RecordView&) {
    ADD_FAILURE() << "a record without its key";
    return true;
  };
  EXPECT_EQ(log->reader().visit(0, none).outcome(), Outcome::kUnavailable);
  Unopened unopened;
  EXPECT_TRUE(losses_of(*log, &unopened).empty());
  EXPECT_EQ(unopened.rows, 200u);
  const std::string path = packs().front();
  Bytes bytes = file(path);
  const PackBlock hit = decode_pack(bytes)->blocks.front();
  bytes[hit.offset + 40] ^= std::byte{16};
  put_file(path, bytes);
  Unopened after;
  EXPECT_EQ(count(losses_of(*log, &after), LossRange::kLost), hit.count);
  EXPECT_EQ(after.rows, 200u - hit.count);
}

TEST_F(EncryptedPacks, ADestroyedKeyPurgesItsTierAndPeriodAndNothingElse) {
  ASSERT_TRUE(sealed_log(cipher_)->close().is_ok());
  std::uint64_t rows = 0;
  for (const std::string& path : packs()) {
    const auto index = decode_pack(file(path));
    if (index->tier == 4) rows += index->entry(0).rows;
  }
  {
    const auto ring = KeyRing::open(disk_, "log", options(cipher_).store, cipher_).value();
    for (const KeyEntry& entry : ring->entries())
      if (entry.use.kind == KeyUse::kPack && entry.use.tier == 4) {
        ASSERT_TRUE(ring->destroy({entry.id}).is_ok());
      }
  }
  const auto log = open(cipher_);
  const auto losses = losses_of(*log);
  EXPECT_GT(rows, 10u);
  EXPECT_EQ(count(losses, LossRange::kPurged), rows);
  EXPECT_EQ(count(losses, LossRange::kLost), 0u);
  EXPECT_EQ(read_all(*log, schemas_).size(), 200u - rows);
  // The wrapped key is on the disk no more.
  append(*log, 200);
  ASSERT_TRUE(log->seal({2, 1u << 20, Coding::kFast}).is_ok());
  EXPECT_EQ(read_all(*log, schemas_).size(), 400u - rows);
}

TEST_F(EncryptedPacks, ThreadsAppendSealReleaseAndReadAtOnce) {
  LogOptions with = options(cipher_);
  with.keep.rows = 100;
  with.flusher_thread = true;
  for (Durability& level : with.durability) level = {Durability::kGroup, 1'000'000, 1024};
  auto log = std::move(Log::open(disk_, "log", with, std::make_shared<SystemClock>())).value();
  for (const auto& schema : schemas_) ASSERT_TRUE(log->register_schema(schema).is_ok());
  std::atomic<int> failures = 0;
  std::atomic<bool> done = false;
  std::vector<std::thread> threads;
  for (std::size_t number = 0; number < 2; ++number)
    threads.emplace_back([&, number] {
      for (int i = 0; i < 600; ++i) {
        const auto at = log->append(rows_of(schemas_[number], i, 3));
        if (!at.is_ok() || (i % 50 == 0 && !log->wait_durable(at->position).is_ok())) ++failures;
      }
    });
  threads.emplace_back([&] {
    while (!done) {
      if (!log->seal({2, 30'000, Coding::kFast}).is_ok()) ++failures;
      const Log::Sequences acked = {{1, log->next_sequence(1) / 2}, {2, log->next_sequence(2) / 2}};
      if (!log->release(acked).is_ok()) ++failures;
    }
  });
  threads.emplace_back([&] {
    while (!done) {
      std::vector<LossRange> losses;
      const auto visit = [](const RecordView&) { return true; };
      if (!log->reader().visit(0, visit, &losses).is_ok() || !losses.empty()) ++failures;
    }
  });
  threads[0].join();
  threads[1].join();
  done = true;
  threads[2].join();
  threads[3].join();
  EXPECT_EQ(failures, 0);
  ASSERT_TRUE(log->close().is_ok());
  EXPECT_EQ(log->position(), 3600u);
}

// Cut anywhere: rows are readable or purged, and when the purge has come to its end, purged; no
// wrapped key is left on the disk then, nor after the next open.
TEST_F(EncryptedPacks, APurgeThatIsCutLeavesNothingBetween) {
  std::size_t images = 0, purged = 0, readable = 0;
  for (std::uint64_t cut = 1;; ++cut) {
    disk_ = std::make_shared<MemoryFs>();
    value_ = 1;
    auto log = sealed_log(cipher_);
    disk_->cut_power_at(cut);
    const bool done = log->purge(4, UINT64_MAX).is_ok();
    log.reset();
    const auto disk = disk_;
    for (const auto& image : disk->crash_states(64, cut)) {
      disk_ = image;
      const auto after = open(cipher_);
      append(*after, 2);
      const Events found = read_all(*after, schemas_);
      const std::uint64_t gone = count(losses_of(*after), LossRange::kPurged);
      ASSERT_EQ(count(losses_of(*after), LossRange::kLost), 0u);
      ASSERT_EQ(found.size() + gone, 202u);
      ASSERT_TRUE(!done || gone > 0);
      ++(gone > 0 ? purged : readable);
      ++images;
      const Bytes keys = file("log/keys");
      for (const KeyEntry& entry : after->keys().entries()) {
        if (!entry.destroyed) continue;
        const Bytes page = wal::encode_key(entry, after->store());
        ASSERT_NE(std::search(keys.begin(), keys.end(), page.begin(), page.end()), keys.end());
      }
      value_ = 201;
    }
    if (!disk->power_is_cut()) break;
  }
  EXPECT_GT(images, 4u);
  EXPECT_GT(purged, 0u);
  EXPECT_GT(readable, 0u);
}

TEST_F(EncryptedPacks, KeysGoWithTheLastPackThatNeedsThem) {
  LogOptions with = options(cipher_);
  with.keep.rows = 10;
  for (int round = 0; round < 4; ++round) {
    with.epoch = with.salt = ++epoch_;
    auto log = std::move(Log::open(disk_, "log", with, clock_)).value();
    for (const auto& schema : schemas_) ASSERT_TRUE(log->register_schema(schema).is_ok());
    append(*log, 200);
    ASSERT_TRUE(log->seal({2, 1u << 20, Coding::kFast}).is_ok());
    const Log::Sequences acked = {{1, log->next_sequence(1) - 1}, {2, log->next_sequence(2) - 1}};
    ASSERT_TRUE(log->release(acked).is_ok());
    EXPECT_TRUE(packs().empty());
    EXPECT_LE(log->keys().entries().size(), 5u);  // segments, and two of this open
    EXPECT_GE(read_all(*log, schemas_).size(), 10u);
    ASSERT_TRUE(log->close().is_ok());
  }
}

TEST(KeyPage, EveryFlippedBitOfOneCopyIsHealedByTheOther) {
  StoreId store;
  store.fill(std::byte{3});
  KeyEntry entry{5, kAes256Gcm, false, {KeyUse::kPack, 4, 19'000}, Bytes(60, std::byte{9})};
  const Bytes page = wal::encode_key(entry, store);
  ASSERT_EQ(page.size(), wal::kKeyPageBytes);
  const std::size_t used = 44 + 60 + 4;
  for (std::size_t bit = 0; bit < used * 8; ++bit) {
    Bytes damaged = page;
    damaged[bit / 8] ^= std::byte{static_cast<unsigned char>(1u << bit % 8)};
    const auto found = wal::decode_key(damaged, store);
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ(found->id, entry.id);
    EXPECT_EQ(found->cipher, entry.cipher);
    EXPECT_EQ(found->use, entry.use);
    EXPECT_EQ(found->wrapped, entry.wrapped);
    damaged[2048 + bit / 8] ^= std::byte{static_cast<unsigned char>(1u << bit % 8)};
    EXPECT_FALSE(wal::decode_key(damaged, store).has_value());
  }
  store.fill(std::byte{4});
  EXPECT_FALSE(wal::decode_key(page, store).has_value());
  for (std::size_t size = 0; size < used; ++size)
    EXPECT_FALSE(wal::decode_key(ByteSpan(page).first(size), entry.use.of ? StoreId{} : store));
}

TEST(KeyPage, AKeyThatWasMadeIsThereAfterACutAnywhere) {
  const auto cipher = std::make_shared<ToyCipher>();
  std::size_t images = 0;
  for (std::uint64_t cut = 1;; ++cut) {
    const auto disk = std::make_shared<MemoryFs>();
    ASSERT_TRUE(disk->make_directories("log").is_ok());
    disk->cut_power_at(cut);
    std::set<std::uint32_t> made;
    const auto ring = KeyRing::open(disk, "log", {}, cipher);
    for (std::uint64_t i = 1; ring.is_ok() && i <= 14; ++i) {  // the file grows twice
      const auto key = ring.value()->make({KeyUse::kSegment, 0, i});
      if (!key.is_ok()) break;
      made.insert(key->id);
      if (i == 6 && ring.value()->forget({3}).is_ok()) made.erase(3);
    }
    for (const auto& image : disk->crash_states(24, cut)) {
      const auto again = KeyRing::open(image, "log", {}, cipher).value();
      for (const std::uint32_t id : made) ASSERT_TRUE(id == 3 || again->find(id).is_ok()) << id;
      ASSERT_TRUE(again->make({KeyUse::kSegment, 0, 99}).is_ok());
      for (const std::uint32_t id : made) ASSERT_TRUE(id == 3 || again->find(id).is_ok()) << id;
      ++images;
    }
    if (!disk->power_is_cut()) break;
  }
  EXPECT_GT(images, 60u);
}

TEST(KeyPage, KeysOfNoFileAreForgottenAndNumbersGoOn) {
  const auto disk = std::make_shared<MemoryFs>();
  ASSERT_TRUE(disk->make_directories("log").is_ok());
  const auto cipher = std::make_shared<ToyCipher>();
  const StoreId store{};
  {
    auto ring = KeyRing::open(disk, "log", store, cipher).value();
    for (std::uint64_t i = 1; i <= 20; ++i) EXPECT_EQ(ring->make({KeyUse::kSegment, 0, i})->id, i);
  }
  auto ring = KeyRing::open(disk, "log", store, cipher).value();
  EXPECT_EQ(ring->entries().size(), 20u);
  ASSERT_TRUE(ring->keep_only({4, 19, 70}).is_ok());
  EXPECT_EQ(ring->entries().size(), 2u);
  EXPECT_TRUE(ring->find(19).is_ok());
  EXPECT_EQ(ring->find(5).status().outcome(), Outcome::kUnavailable);
  EXPECT_EQ(ring->make({KeyUse::kSegment, 0, 21})->id, 71u);
  ring = KeyRing::open(disk, "log", store, cipher).value();
  EXPECT_EQ(ring->entries().size(), 3u);
}

}  // namespace
}  // namespace edgecore
