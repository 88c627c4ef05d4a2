// Tree ensembles: the vectors of the format page, and files that are not as they should be.
#include "inference/trees.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <limits>
#include <random>
#include <sstream>
#include <string>

#include "base/crc32c.hpp"

namespace edgecore::inference {
namespace {

struct Row {
  std::vector<double> values, margins, scores;
};
struct Case {
  std::string name;
  Bytes bytes;
  std::vector<Row> rows;
};

Bytes unhex(const std::string& text) {
  Bytes out(text.size() / 2);
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = static_cast<std::byte>(std::stoi(text.substr(2 * i, 2), nullptr, 16));
  return out;
}

std::vector<double> doubles(const std::string& text) {
  const Bytes bytes = unhex(text);
  std::vector<double> out;
  for (std::size_t at = 0; at < bytes.size(); at += 8)
    out.push_back(load_le<double>(bytes.data() + at));
  return out;
}

std::vector<Case> vectors() {
  std::ifstream file(EDGECORE_VECTORS "/tree-ensemble.txt");
  std::vector<Case> out;
  for (std::string line, word, text; std::getline(file, line);) {
    std::istringstream rest(line);
    rest >> word;
    if (word == "#") continue;
    rest >> text;
    if (word == "model") out.push_back({text, {}, {}});
    if (word == "bytes") out.back().bytes = unhex(text);
    if (word != "row") continue;
    Row row{doubles(text), {}, {}};
    while (rest >> word >> text) (word == "score" ? row.scores : row.margins) = doubles(text);
    out.back().rows.push_back(row);
  }
  return out;
}

// The checksum made good again, so that what is behind it is seen.
void seal(Bytes& bytes) {
  store_le(bytes.data() + bytes.size() - 4, crc32c(ByteSpan(bytes).first(bytes.size() - 4)));
}

TEST(TreeVectors, GiveTheMarginsOfTheLibraryThatGrewThem) {
  const auto cases = vectors();
  ASSERT_EQ(cases.size(), 7U);
  TreeScratch scratch;
  for (const Case& one : cases) {
    const auto made = TreeEnsemble::load(one.bytes);
    ASSERT_TRUE(made.is_ok()) << one.name << made.status().to_string();
    ASSERT_EQ(one.rows.size(), 20U);
    made->prepare(scratch);
    std::vector<double> all, together(one.rows.size() * made->outputs());
    for (const Row& row : one.rows) {
      ASSERT_EQ(row.values.size(), made->features());
      std::vector<double> margins(made->outputs());
      made->margins(row.values.data(), margins.data(), scratch);
      EXPECT_EQ(margins, row.margins) << one.name;
      if (made->isolation()) {
        EXPECT_EQ(isolation_score(margins[0]), row.scores.at(0));
      }
      all.insert(all.end(), row.values.begin(), row.values.end());
    }
    ASSERT_TRUE(made->margins_batch<double>(all, together, scratch).is_ok());
    for (std::size_t i = 0; i < together.size(); ++i)
      EXPECT_EQ(together[i], one.rows[i / made->outputs()].margins[i % made->outputs()]);
  }
}

TEST(Trees, RowsOfF32ThenTheSameMarginsAsTheirDoubles) {
  const auto cases = vectors();
  const auto made = TreeEnsemble::load(cases.at(0).bytes);
  ASSERT_TRUE(made.is_ok());
  TreeScratch scratch;
  for (const Row& row : cases[0].rows) {
    const std::vector<float> narrow(row.values.begin(), row.values.end());
    std::vector<double> margins(made->outputs());
    ASSERT_TRUE(made->margins_batch<float>(narrow, margins, scratch).is_ok());
    EXPECT_EQ(margins, row.margins);
  }
}

TEST(Trees, RowsOfOtherSizesThenInvalid) {
  const auto made = TreeEnsemble::load(vectors().at(1).bytes);
  TreeScratch scratch;
  std::vector<double> out(2), rows(2 * made->features() + 1);
  EXPECT_EQ(made->margins_batch<double>(rows, out, scratch).outcome(), Outcome::kInvalid);
  rows.resize(made->features());
  EXPECT_EQ(made->margins_batch<double>(rows, out, scratch).outcome(), Outcome::kInvalid);
}

TEST(Trees, DamagedOrLaterThenRefusedByTheRightWord) {
  const Bytes good = vectors().at(2).bytes;
  for (std::size_t size = 0; size < good.size(); ++size)
    ASSERT_EQ(TreeEnsemble::load(ByteSpan(good).first(size)).status().outcome(), Outcome::kCorrupt);
  for (std::size_t at = 0; at < good.size(); ++at) {
    Bytes bytes = good;
    bytes[at] ^= std::byte{0x10};
    ASSERT_FALSE(TreeEnsemble::load(bytes).is_ok()) << at;
  }
  const auto outcome = [&](std::size_t at, auto value) {
    Bytes bytes = good;
    store_le(bytes.data() + at, value);
    seal(bytes);
    return TreeEnsemble::load(bytes).status().outcome();
  };
  EXPECT_EQ(outcome(4, std::uint16_t{2}), Outcome::kIncompatible);
  EXPECT_EQ(outcome(8, std::uint32_t{1}), Outcome::kIncompatible);
  EXPECT_EQ(outcome(12, std::uint32_t{1}), Outcome::kOk);  // optional
  for (const std::size_t at : {20U, 24U, 28U, 32U})        // counts beyond the limits
    EXPECT_EQ(outcome(at, std::uint32_t{0xFFFFFFFF}), Outcome::kIncompatible);
  EXPECT_EQ(outcome(36, std::uint32_t{0xFFFFFFFF}), Outcome::kCorrupt);
  EXPECT_EQ(outcome(40, std::numeric_limits<double>::quiet_NaN()), Outcome::kCorrupt);
  EXPECT_EQ(outcome(good.size() - 12, std::numeric_limits<double>::infinity()),
            Outcome::kCorrupt);  // a leaf
}

// One chain of splits for each of `trees` trees: the slowest there is.
Bytes chains(std::uint32_t trees, std::uint32_t depth) {
  Bytes out;
  ByteWriter writer(out);
  writer.put_text("ECTE");
  writer.put(std::uint16_t{1});
  writer.put_zeros(12);
  writer.put(std::uint16_t{1});
  for (const std::uint32_t size : {1U, 1U, trees, trees * depth, 1U}) writer.put(size);
  writer.put(1.0);
  writer.put(0.0);
  writer.put(std::uint16_t{1});
  writer.put(0.5F);
  writer.put_zeros(std::size_t{2} * trees);
  for (std::uint32_t t = 0; t < trees; ++t) {
    for (std::uint32_t i = 0; i < depth; ++i) {
      writer.put(std::uint16_t{1});
      writer.put(std::uint16_t{0});
    }
    writer.put_zeros(std::size_t{2} * (depth + 1));
  }
  for (std::uint32_t i = 0; i < trees * (depth + 1); ++i) writer.put(1.0F);
  writer.put_zeros(4);
  seal(out);
  return out;
}

TEST(Trees, MoreComparisonsThanARowMayTakeThenIncompatible) {
  const auto slow = TreeEnsemble::load(chains(8, kTreeStepsMax / 8));
  ASSERT_TRUE(slow.is_ok()) << slow.status().to_string();
  EXPECT_EQ(slow->steps(), kTreeStepsMax);
  EXPECT_EQ(TreeEnsemble::load(chains(1, kTreeStepsMax / 8 + 1)).status().outcome(),
            Outcome::kIncompatible);
  TreeScratch scratch;
  double out = 0;
  for (const float value : {0.0F, 1.0F}) {
    ASSERT_TRUE(slow->margins_batch<float>({&value, 1}, {&out, 1}, scratch).is_ok());
    EXPECT_EQ(out, 8.0);
  }
}

TEST(Trees, ThirtyThousandMutantsThenRefusedOrRun) {
  std::mt19937 random(20240607);
  const auto cases = vectors();
  int refused = 0, ran = 0;
  for (int i = 0; i < 30000; ++i) {
    Bytes bytes = cases[static_cast<std::size_t>(i) % cases.size()].bytes;
    for (auto n = 1 + random() % 3; n > 0; --n) {
      const std::size_t at = random() % (random() % 2 == 0 ? 48 : bytes.size());
      const auto small = static_cast<std::uint8_t>(random() % 2 == 0 ? random() : random() % 4);
      bytes[at] = std::byte{small};
    }
    if (random() % 10 == 0) bytes.resize(4 + random() % bytes.size());
    seal(bytes);
    const auto made = TreeEnsemble::load(bytes);
    if (!made.is_ok()) {
      ++refused;
      ASSERT_TRUE(made.status().outcome() == Outcome::kCorrupt ||
                  made.status().outcome() == Outcome::kIncompatible);
      continue;
    }
    const std::vector<double> row(made->features(), 0.25);
    std::vector<double> out(made->outputs());
    TreeScratch scratch;
    ASSERT_TRUE(made->margins_batch<double>(row, out, scratch).is_ok());
    ++ran;
  }
  EXPECT_GT(refused, 5000);
  EXPECT_GT(ran, 5000);
}

}  // namespace
}  // namespace edgecore::inference
