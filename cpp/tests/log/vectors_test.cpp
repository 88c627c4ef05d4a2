// The golden vectors of docs/formats, read by the core. tests/log/test_vectors.py reads the same
// with code of its own.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "base/normalise.hpp"
#include "log/contents.hpp"
#include "log/mark.hpp"
#include "log/pack.hpp"
#include "log/reader.hpp"
#include "log/rows_block.hpp"
#include "log/stale.hpp"

namespace edgecore {
namespace {

using Lines = std::vector<std::pair<std::string, std::string>>;  // first word, rest

Lines read_vectors(const std::string& name) {
  std::ifstream file(std::string(EDGECORE_VECTORS) + "/" + name);
  EXPECT_TRUE(file.good()) << name;
  Lines out;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("#")) continue;
    const std::size_t space = line.find(' ');
    out.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
  return out;
}

Bytes from_hex(const std::string& text) {
  Bytes out;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2)
    out.push_back(static_cast<std::byte>(std::stoi(text.substr(i, 2), nullptr, 16)));
  return out;
}

std::string value_of(const Lines& lines, const std::string& name) {
  for (const auto& [word, rest] : lines)
    if (word == name) return rest;
  ADD_FAILURE() << "no " << name;
  return {};
}

StoreId store_of(const Lines& lines) {
  StoreId id{};
  const Bytes bytes = from_hex(value_of(lines, "store"));
  std::memcpy(id.data(), bytes.data(), id.size());
  return id;
}

SchemaPtr every_dtype(const Bytes& canonical) {
  auto schema = std::make_shared<Schema>();
  for (int dtype = 1; dtype <= static_cast<int>(DType::kBytes); ++dtype) {
    Field field;
    field.name = "field " + std::to_string(dtype);
    field.dtype = static_cast<DType>(dtype);
    field.scale = field.dtype == DType::kDecimal ? 3 : 0;
    schema->fields.push_back(field);
  }
  schema->canonical = canonical;
  schema->fingerprint = blake3(canonical);
  return schema;
}

TEST(Vectors, CanonicalRowsAndTheirDigestAreThoseOfTheFormatPage) {
  const Lines lines = read_vectors("canonical-rows.txt");
  const SchemaPtr schema = every_dtype(from_hex(value_of(lines, "schema")));
  const Bytes fingerprint = from_hex(value_of(lines, "fingerprint"));
  EXPECT_TRUE(std::equal(fingerprint.begin(), fingerprint.end(), schema->fingerprint.begin()));
  RowBatch rows(schema);
  NormaliseCounts counts;
  for (const auto& [word, rest] : lines) {
    if (word != "row") continue;
    std::vector<std::string> cells;
    std::stringstream stream(rest + "\t");
    for (std::string cell; std::getline(stream, cell, '\t');) cells.push_back(cell);
    ASSERT_EQ(cells.size(), 3 + schema->fields.size());
    const std::size_t row = rows.add_row(std::stoll(cells[0]), cells[1], std::stoull(cells[2]));
    for (std::size_t i = 0; i < schema->fields.size(); ++i)
      ASSERT_TRUE(cell_from_text(rows, row, i, cells[3 + i], counts).is_ok()) << cells[3 + i];
  }
  Bytes encoded;
  encode_rows(rows, 0, rows.count(), encoded);
  const Bytes bytes = from_hex(value_of(lines, "bytes"));
  EXPECT_EQ(encoded, bytes);
  const Digest digest = run_digest(
      store_of(lines), static_cast<std::uint32_t>(std::stoul(value_of(lines, "partition"))),
      std::stoull(value_of(lines, "first")), rows.count(), schema->fingerprint, bytes);
  const Bytes wanted = from_hex(value_of(lines, "digest"));
  EXPECT_TRUE(std::equal(wanted.begin(), wanted.end(), digest.begin()));
  RowBatch decoded(schema);
  ASSERT_TRUE(decode_rows(bytes, rows.count(), decoded).is_ok());
  Bytes again;
  encode_rows(decoded, 0, decoded.count(), again);
  EXPECT_EQ(again, bytes);
  // Every shorter form is refused.
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    RowBatch cut(schema);
    EXPECT_EQ(decode_rows(ByteSpan(bytes).first(size), rows.count(), cut).outcome(),
              Outcome::kCorrupt);
  }
}

std::string hex_of(ByteSpan bytes) {
  std::string out;
  for (const std::byte b : bytes) {
    char text[3];
    std::snprintf(text, sizeof text, "%02x", static_cast<unsigned>(b));
    out += text;
  }
  return out;
}

TEST(Vectors, SegmentsAreReadAsTheFormatPageSays) {
  const Lines lines = read_vectors("segment.txt");
  std::vector<std::string> records, burnt, wanted_records, wanted_burnt;
  std::map<std::uint32_t, wal::TableEntry> table;
  std::vector<Bytes> files;
  for (const auto& [word, rest] : lines) {
    if (word == "file") files.push_back(from_hex(rest));
    if (word == "record") wanted_records.push_back(rest);
    if (word == "burnt") wanted_burnt.push_back(rest);
  }
  ASSERT_EQ(files.size(), 2u);
  for (Bytes& file : files) file.resize(32768);
  for (std::size_t i = 0; i < files.size(); ++i) {
    const auto header = wal::decode_header(ByteSpan(files[i]).first(wal::kHeaderBytes));
    ASSERT_TRUE(header.is_ok());
    EXPECT_EQ(header->store, store_of(lines));
    std::uint64_t limit = files[i].size();
    if (i + 1 < files.size())
      limit = wal::decode_header(ByteSpan(files[i + 1]).first(wal::kHeaderBytes))->previous_end;
    const SegmentWalk walk = walk_segment(
        files[i], header.value(), limit, UINT64_MAX - 1, table, [&](const RecordView& view) {
          std::ostringstream text;
          text << view.head.partition << ' ' << view.head.first << ' ' << view.head.count << ' '
               << view.head.schema << ' ' << view.position << ' ' << view.hlc << ' '
               << int{view.clock_trust} << ' ' << hex_of(view.payload);
          records.push_back(text.str());
          return true;
        });
    EXPECT_TRUE(walk.losses.empty());
    EXPECT_EQ(walk.closed, i == 1);
    for (const LossRange& range : walk.burnt)
      burnt.push_back(std::to_string(range.partition) + " " + std::to_string(range.first) + " " +
                      std::to_string(range.last));
    table = walk.table;
  }
  EXPECT_EQ(records, wanted_records);
  EXPECT_EQ(burnt, wanted_burnt);
}

TEST(Vectors, CatalogueAndMarkAreReadAndWrittenAsTheFormatPageSays) {
  const Lines lines = read_vectors("log-side-files.txt");
  const Bytes bytes = from_hex(value_of(lines, "catalogue"));
  const auto catalogue = Catalogue::from_bytes(bytes);
  ASSERT_TRUE(catalogue.is_ok());
  ASSERT_EQ(catalogue->entries.size(), 3u);
  EXPECT_EQ(catalogue->entries[0].stream, "edgecore.schemas");
  EXPECT_EQ(catalogue->entries[2].stream, "vector");
  EXPECT_EQ(catalogue->entries[2].partition, 2u);
  EXPECT_EQ(catalogue->to_bytes(), bytes);
  Bytes file;
  std::uint64_t generation = 0;
  for (const auto& [word, rest] : lines) {
    if (word != "mark") continue;
    Bytes slot = from_hex(rest);
    slot.resize(wal::kMarkSlotBytes);
    file.insert(file.end(), slot.begin(), slot.end());
    generation = std::max(generation, load_le<std::uint64_t>(slot.data() + 8));
  }
  const auto mark = wal::decode_marks(file);
  ASSERT_TRUE(mark.has_value());
  EXPECT_EQ(mark->generation, generation);
  EXPECT_TRUE(mark->clean);
  EXPECT_EQ(mark->position, 11u);
  EXPECT_EQ(mark->segment, 2u);
  Bytes written = wal::encode_mark(*mark);
  written.resize(wal::kMarkSlotBytes);
  const auto at = static_cast<std::ptrdiff_t>((generation % 2) * wal::kMarkSlotBytes);
  EXPECT_TRUE(std::equal(written.begin(), written.end(), file.begin() + at));
}

TEST(Vectors, ContentsAndStaleAreReadAndWrittenAsTheFormatPageSays) {
  const Lines lines = read_vectors("log-side-files.txt");
  const Bytes used = from_hex(value_of(lines, "contents"));
  Bytes file = used;
  file.resize(8192);
  const auto contents = wal::decode_contents(file);
  ASSERT_TRUE(contents.has_value());
  EXPECT_EQ(wal::encode_contents(*contents), used);
  EXPECT_EQ(contents->generation, 4u);
  EXPECT_EQ(contents->segment, 9u);
  EXPECT_EQ(contents->position, std::uint64_t{1} << 33);
  EXPECT_EQ(contents->next_pack, 6u);
  EXPECT_EQ(contents->announced, 3u);
  EXPECT_EQ(contents->kept.at(1).first, 55u);
  EXPECT_EQ(contents->kept.at(1).segment, 99u);
  ASSERT_EQ(contents->packs.size(), 1u);
  EXPECT_EQ(contents->packs[0].number, 5u);
  EXPECT_EQ(contents->packs[0].time_min, -7);
  EXPECT_EQ(contents->untold, (std::vector<LossRange>{{1, 60, 62, LossRange::kLost}}));
  wal::SegmentHeader header;
  header.number = 9;
  header.salt = 0x0123456789abcdef;
  header.capacity = 1536;
  Bytes segment(1536);
  for (std::size_t i = 0; i < segment.size(); ++i) segment[i] = static_cast<std::byte>(i / 512);
  const Bytes slot = from_hex(value_of(lines, "stale"));
  EXPECT_EQ(wal::encode_stale(header, segment), slot);
  EXPECT_TRUE(wal::only_stale(slot, header, segment, 512));
  segment[600] = std::byte{7};
  EXPECT_FALSE(wal::only_stale(slot, header, segment, 512));
  EXPECT_TRUE(wal::only_stale(slot, header, segment, 1024));
  for (std::size_t i = 0; i < slot.size(); ++i) {
    Bytes bad = slot;
    bad[i] ^= std::byte{0x21};
    EXPECT_FALSE(wal::only_stale(bad, header, segment, 1024)) << "byte " << i;
  }
}

TEST(Vectors, PackIsReadAndWrittenAsTheFormatPageSays) {
  const Bytes file = from_hex(value_of(read_vectors("pack.txt"), "pack"));
  auto index = decode_pack(file);
  ASSERT_TRUE(index.is_ok()) << index.status().to_string();
  EXPECT_EQ(index->tier, 4u);
  EXPECT_EQ(index->number, 5u);
  EXPECT_EQ(index->epoch, 0x1122334455667788u);
  ASSERT_EQ(index->blocks.size(), 2u);
  EXPECT_EQ(index->blocks[1].partition, 3u);
  EXPECT_EQ(index->blocks[0].time_min, -7);
  EXPECT_EQ(index->blocks[1].position_last, 1010u);
  EXPECT_EQ(index->gaps, (std::vector<LossRange>{{1, 58, 59, LossRange::kBurnt}}));
  const PackEntry entry = index->entry(file.size());
  EXPECT_EQ(entry.rows, 5u);
  EXPECT_EQ(entry.time_max, 8);
  const std::size_t begin = index->blocks[0].offset;
  EXPECT_EQ(file[begin], std::byte{1});
  const Bytes blocks(file.begin() + static_cast<std::ptrdiff_t>(begin),
                     file.begin() + static_cast<std::ptrdiff_t>(begin + 12));
  EXPECT_EQ(encode_pack(index.value(), blocks), file);
  // One flipped byte costs one of the two indexes at most; both gone, the pack is refused.
  for (std::size_t at = 0; at < file.size(); ++at) {
    Bytes bad = file;
    bad[at] ^= std::byte{0x21};
    const auto again = decode_pack(bad);
    ASSERT_TRUE(again.is_ok()) << "byte " << at;
    EXPECT_EQ(again->blocks[1].offset, index->blocks[1].offset);
    bad[file.size() - 40] ^= std::byte{0x12};
    if (at < begin) {
      EXPECT_EQ(decode_pack(bad).status().outcome(), Outcome::kCorrupt) << "byte " << at;
    }
  }
  for (std::size_t size = 0; size < begin; ++size)
    EXPECT_FALSE(decode_pack(ByteSpan(file).first(size)).is_ok());
}

TEST(Vectors, BlockOfRowsIsReadAndWrittenAsTheFormatPageSays) {
  const Bytes block = from_hex(value_of(read_vectors("pack.txt"), "rows-block"));
  PackBlock place;
  place.partition = 7;
  place.first = 41;
  place.count = 5;
  const auto rows = decode_rows_block(block, place);
  ASSERT_TRUE(rows.is_ok()) << rows.status().to_string();
  EXPECT_EQ(rows->arrivals, (std::vector<Arrival>{{2, 100, 9'000, 0}, {3, 107, 9'500, 1}}));
  EXPECT_EQ(rows->sizes, (std::vector<std::uint32_t>{10, 4}));
  EXPECT_EQ(encode_rows_block(place, rows.value()), block);
}

}  // namespace
}  // namespace edgecore
