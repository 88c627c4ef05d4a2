// Bytes whose checksums pass and whose fields are wrong, as a faulty writer, or one who wishes
// harm, could leave them: each field of each structure in a log's directory set to odd values and
// sealed again. What comes of it can't be right; but it is bounded: an outcome, or rows that
// decode, in little time and memory, and nothing is read out of bounds (sanitizers watch this
// test).
#include "base/crc32c.hpp"
#include "log/contents.hpp"
#include "log/pack.hpp"
#include "log/runs.hpp"
#include "tests/log/log_cases.hpp"

namespace edgecore {
namespace {

constexpr std::uint64_t kSegmentBytes = 8192;

// A structure: the bytes that its checksum covers, and where that stands.
struct Structure {
  std::size_t begin, end, crc;
  std::uint32_t seed = 0;
  // Another end and another place of the checksum, where changed fields say so.
  std::function<void(ByteSpan file, Structure& changed)> measure = nullptr;
};

class WrongFields : public testing::Test {
 protected:
  Result<std::unique_ptr<Log>> open(const std::shared_ptr<MemoryFs>& disk, bool read_only) {
    LogOptions options;
    options.read_only = read_only;
    options.segment_bytes = kSegmentBytes;
    options.store.fill(std::byte{7});
    options.epoch = ++epoch_;
    options.salt = epoch_ * 0x7654321;
    options.durability[0].level = Durability::kSync;
    if (!read_only) options.keep.rows = 20;
    EDGECORE_ASSIGN(auto log, Log::open(disk, "log", options, clock_));
    for (const SchemaPtr& schema : schemas_) {
      if (read_only)
        static_cast<void>(log->attach_schema(schema));
      else
        EDGECORE_TRY(log->register_schema(schema).status());
    }
    return log;
  }

  std::shared_ptr<MemoryFs> make() {
    auto disk = std::make_shared<MemoryFs>();
    for (int life = 0; life < 3; ++life) {
      auto log = open(disk, false).value();
      for (int i = 0; i < 40; ++i) {
        EXPECT_TRUE(log->append(rows_of(schemas_[0], i, 1 + i % 3)).is_ok());
        EXPECT_TRUE(log->append(rows_of(schemas_[1], i, 1)).is_ok());
      }
      if (life > 0) {
        EXPECT_GT(log->seal({}).value().packs, 0u);
      }
      EXPECT_TRUE(log->sync().is_ok());
    }
    return disk;
  }

  // Everything that a reader and then a writer do with it.
  void exercise(const std::shared_ptr<MemoryFs>& image) {
    if (auto log = open(image, true); log.is_ok()) {
      std::vector<LossRange> losses;
      std::size_t rows_read = 0;
      static_cast<void>(log.value()->reader().visit(
          0,
          [&](const RecordView& view) {
            RowBatch rows(schemas_[0]);
            if (decode_rows(view.payload, view.head.count, rows).is_ok()) rows_read += rows.count();
            return rows_read < 100'000;
          },
          &losses));
      EXPECT_LT(rows_read, 10'000u);
      for (std::uint32_t partition = 0; partition < 4; ++partition) {
        static_cast<void>(
            collect_runs(log.value()->reader(), {partition, 0, 0, UINT64_MAX - 1, 1u << 20}));
        static_cast<void>(sequence_at(log.value()->reader(), partition, 50));
      }
      static_cast<void>(log.value()->reader().is_whole("bulk"));
    }
    if (auto log = open(image, false); log.is_ok()) {
      static_cast<void>(log.value()->append(rows_of(schemas_[0], 1, 2)));
      static_cast<void>(log.value()->sync());
      static_cast<void>(log.value()->seal({}));
      static_cast<void>(log.value()->release({{1, UINT64_MAX}, {2, UINT64_MAX}}));
      static_cast<void>(log.value()->close());
    }
  }

  void set_fields(MemoryFs& disk, const std::string& path, const Bytes& good,
                  const Structure& structure, const std::vector<std::size_t>& copies = {}) {
    for (std::size_t at = structure.begin; at + 4 <= structure.end; at += 4) {
      const auto old = load_le<std::uint32_t>(good.data() + at);
      for (const std::uint32_t value : {0u, 1u, 0x7fffffffu, 0xffffffffu, old + 1, old - 1}) {
        if (value == old) continue;
        Bytes bad = good;
        store_le(bad.data() + at, value);
        Structure now = structure;
        if (now.measure) now.measure(bad, now);
        if (now.crc + 4 > bad.size() || now.end > bad.size() || now.begin > now.end) continue;
        store_le(bad.data() + now.crc,
                 crc32c(ByteSpan(bad).subspan(now.begin, now.end - now.begin), now.seed));
        for (const std::size_t copy : copies)
          std::copy_n(bad.begin() + static_cast<std::ptrdiff_t>(structure.begin),
                      structure.end - structure.begin + 4,
                      bad.begin() + static_cast<std::ptrdiff_t>(copy));
        const auto image = disk.crash(std::vector<bool>(disk.pending_units(), true));
        ASSERT_TRUE(write_file_atomic(*image, path, bad).is_ok());
        exercise(image);
        ++tried_;
        if (HasFailure()) {
          ADD_FAILURE() << path << ": field at " << at - structure.begin << " of "
                        << structure.begin << " set to " << value;
          return;
        }
      }
    }
  }

  std::string name_of(MemoryFs& disk, const std::string& prefix, bool last = false) {
    std::string found;
    const auto names = disk.list("log").value();
    for (const std::string& name : names)
      if (name.starts_with(prefix) && (found.empty() || last)) found = name;
    return join_path("log", found);
  }

  Bytes bytes_of(MemoryFs& disk, const std::string& path) {
    return read_file(disk, path, 1 << 20).value();
  }

  void TearDown() override { std::printf("%zu tried\n", tried_); }

  std::shared_ptr<ManualClock> clock_ = std::make_shared<ManualClock>(1'700'000'000'000'000'000);
  std::vector<SchemaPtr> schemas_ = {make_schema("bulk", Tier::kBulk),
                                     make_schema("critical", Tier::kCritical)};
  std::uint64_t epoch_ = 0;
  std::size_t tried_ = 0;
};

TEST_F(WrongFields, CatalogueAndMark) {
  const auto disk = make();
  const Bytes catalogue = bytes_of(*disk, "log/catalogue");
  set_fields(*disk, "log/catalogue", catalogue, {0, catalogue.size() - 4, catalogue.size() - 4});
  const Bytes mark = bytes_of(*disk, "log/mark");
  for (const std::size_t slot : {0, 4096})
    set_fields(*disk, "log/mark", mark, {slot, slot + 40, slot + 40});
}

TEST_F(WrongFields, Contents) {
  const auto disk = make();
  const Bytes good = bytes_of(*disk, "log/contents");
  for (const std::size_t slot : {std::size_t{0}, good.size() / 2}) {
    const auto contents = wal::decode_contents(ByteSpan(good).subspan(slot, good.size() / 2));
    ASSERT_TRUE(contents.has_value());
    const std::size_t end = slot + wal::encode_contents(*contents).size() - 4;
    const auto measure = [slot](ByteSpan file, Structure& changed) {
      const auto count = [&](std::size_t at) {
        return std::uint64_t{load_le<std::uint32_t>(file.data() + slot + at)};
      };
      changed.end = changed.crc = slot + 56 + count(44) * 20 + count(48) * 64 + count(52) * 24;
    };
    set_fields(*disk, "log/contents", good, {slot, end, end, 0, measure});
  }
}

TEST_F(WrongFields, SegmentHeaderBlocksAndRecords) {
  const auto disk = make();
  const std::string first = name_of(*disk, "wal-"), path = name_of(*disk, "wal-", true);
  ASSERT_NE(first, path);
  set_fields(*disk, first, bytes_of(*disk, first), {0, 132, 132}, {2048});
  const Bytes good = bytes_of(*disk, path);
  set_fields(*disk, path, good, {0, 132, 132}, {2048});
  const auto header = wal::decode_header(ByteSpan(good).first(wal::kHeaderBytes)).value();
  const std::uint32_t seed = wal::salted(header.salt);
  int blocks = 0;
  for (std::size_t at = wal::kHeaderBytes; at < good.size() && blocks < 4; at += header.sector) {
    const auto head = wal::decode_block_head(ByteSpan(good).subspan(at), header.salt);
    if (!head) continue;
    ++blocks;
    const auto measure_block = [at](ByteSpan file, Structure& changed) {
      changed.end = at + 80 + std::size_t{load_le<std::uint16_t>(file.data() + at + 12)} * 24;
    };
    set_fields(*disk, path, good, {at + 8, at + head->head_bytes(), at + 4, seed, measure_block});
    if (head->records == 0) continue;
    const std::size_t record = at + head->head_bytes();
    const auto measure_record = [record](ByteSpan file, Structure& changed) {
      changed.end = record + 32 + std::size_t{load_le<std::uint32_t>(file.data() + record + 24)};
    };
    const std::size_t end = record + 32 + load_le<std::uint32_t>(good.data() + record + 24);
    set_fields(*disk, path, good, {record + 4, end, record, seed, measure_record});
  }
  EXPECT_EQ(blocks, 4);
}

TEST_F(WrongFields, PackIndexes) {
  const auto disk = make();
  for (const bool last : {false, true}) {
    const std::string path = name_of(*disk, "pack-", last);
    const Bytes good = bytes_of(*disk, path);
    const std::size_t length = load_le<std::uint32_t>(good.data() + good.size() - 8);
    const auto measure = [](ByteSpan file, Structure& changed) {
      const auto count = [&](std::size_t at) {
        return std::uint64_t{load_le<std::uint32_t>(file.data() + at)};
      };
      changed.end = changed.crc = 104 + count(88) * 76 + count(92) * 20 + count(96) * 24;
    };
    set_fields(*disk, path, good, {0, length - 4, length - 4, 0, measure},
               {good.size() - 8 - length});
  }
}

}  // namespace
}  // namespace edgecore
