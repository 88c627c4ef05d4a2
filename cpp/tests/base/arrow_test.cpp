// Arrow data given away: who holds it, and for how long.
#include "base/arrow.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <string_view>

namespace edgecore {
namespace {

using Numbers = std::vector<std::int32_t>;

std::shared_ptr<const void> buffer_of(const std::shared_ptr<Numbers>& numbers) {
  return {numbers, numbers->data()};
}

ArrowData column_of(const std::shared_ptr<Numbers>& numbers) {
  ArrowData out;
  out.length = static_cast<std::int64_t>(numbers->size());
  out.buffers = {nullptr, buffer_of(numbers)};
  return out;
}

ArrowData table_of(std::vector<ArrowData> columns) {
  ArrowData out;
  out.length = columns[0].length;
  out.buffers = {nullptr};
  out.children = std::move(columns);
  return out;
}

TEST(Arrow, BuffersLiveUntilTheArrayIsReleased) {
  auto numbers = std::make_shared<Numbers>(Numbers{1, 2, 3});
  const std::weak_ptr<Numbers> watch = numbers;
  ArrowArray array{};
  export_array(table_of({column_of(numbers), column_of(numbers)}), array);
  numbers.reset();
  ASSERT_FALSE(watch.expired());
  ASSERT_EQ(array.n_children, 2);
  EXPECT_EQ(array.length, 3);
  const auto* values = static_cast<const std::int32_t*>(array.children[1]->buffers[1]);
  EXPECT_EQ(values[2], 3);
  EXPECT_EQ(array.children[0]->buffers[0], nullptr);
  array.release(&array);
  EXPECT_EQ(array.release, nullptr);
  EXPECT_TRUE(watch.expired());
}

TEST(Arrow, ChildThatWasTakenOutOutlivesItsParent) {
  auto kept = std::make_shared<Numbers>(Numbers{4, 5});
  auto left = std::make_shared<Numbers>(Numbers{6, 7});
  const std::weak_ptr<Numbers> watch_kept = kept, watch_left = left;
  Released<ArrowArray> child;
  {
    Released<ArrowArray> parent;
    export_array(table_of({column_of(kept), column_of(left)}), parent.value);
    kept.reset();
    left.reset();
    child.value = *parent.value.children[0];  // as a consumer moves one
    parent.value.children[0]->release = nullptr;
  }
  EXPECT_TRUE(watch_left.expired());
  ASSERT_FALSE(watch_kept.expired());
  EXPECT_EQ(static_cast<const std::int32_t*>(child.value.buffers[1])[1], 5);
  child.reset();
  EXPECT_TRUE(watch_kept.expired());
}

TEST(Arrow, DictionaryIsHeldAndLetGoWithItsKeys) {
  auto texts = std::make_shared<Numbers>(Numbers{9});
  const std::weak_ptr<Numbers> watch = texts;
  ArrowData keys = column_of(std::make_shared<Numbers>(Numbers{0, 0}));
  keys.dictionary = std::make_shared<const ArrowData>(column_of(texts));
  texts.reset();
  Released<ArrowArray> first, second;
  export_array(keys, first.value);
  export_array(keys, second.value);  // data may be given away more than once
  keys = {};
  ASSERT_NE(first.value.dictionary, nullptr);
  first.reset();
  ASSERT_FALSE(watch.expired());
  EXPECT_EQ(*static_cast<const std::int32_t*>(second.value.dictionary->buffers[1]), 9);
  second.reset();
  EXPECT_TRUE(watch.expired());
}

TEST(Arrow, SchemaSaysFormatsNamesAndMetadata) {
  ArrowType field;
  field.format = "g";
  field.name = "temp";
  field.metadata = {{"unit", "degC"}};
  ArrowType table;
  table.format = "+s";
  table.children = {field, field};
  Released<ArrowSchema> out;
  export_schema(table, out.value);
  EXPECT_STREQ(out.value.format, "+s");
  EXPECT_EQ(out.value.metadata, nullptr);
  ASSERT_EQ(out.value.n_children, 2);
  const ArrowSchema& child = *out.value.children[1];
  EXPECT_STREQ(child.format, "g");
  EXPECT_STREQ(child.name, "temp");
  EXPECT_EQ(child.flags, kArrowNullable);
  const std::string_view said(child.metadata, 4 + 4 + 4 + 4 + 4);
  EXPECT_EQ(said, std::string_view("\1\0\0\0\4\0\0\0unit\4\0\0\0degC", 20));
}

// Gives `good` arrays, then an error for ever, or the end.
class Source final : public ArrowSource {
 public:
  Source(std::shared_ptr<Numbers> numbers, int good, Status then)
      : numbers_(std::move(numbers)), good_(good), then_(std::move(then)) {
    type_.format = "i";
  }
  const ArrowType& type() const override { return type_; }
  Result<bool> next(ArrowData& out) override {
    if (good_-- > 0) {
      out = column_of(numbers_);
      return true;
    }
    if (then_.outcome() == Outcome::kExhausted) throw std::bad_alloc();
    EDGECORE_TRY(then_);
    return false;
  }

 private:
  ArrowType type_;
  std::shared_ptr<Numbers> numbers_;
  int good_;
  Status then_;
};

TEST(Arrow, StreamEndsWithAReleasedArrayAndStaysAtItsEnd) {
  Released<ArrowArrayStream> stream;
  export_stream(std::make_unique<Source>(std::make_shared<Numbers>(3), 1, Status::ok()),
                stream.value);
  Released<ArrowSchema> schema;
  ASSERT_EQ(stream.value.get_schema(&stream.value, &schema.value), 0);
  EXPECT_STREQ(schema.value.format, "i");
  for (const bool more : {true, false, false}) {
    Released<ArrowArray> array;
    ASSERT_EQ(stream.value.get_next(&stream.value, &array.value), 0);
    EXPECT_EQ(array.value.release != nullptr, more);
  }
  EXPECT_EQ(stream.value.get_last_error(&stream.value), nullptr);
}

TEST(Arrow, StreamErrorIsANumberAndALineAndLeavesNothingToRelease) {
  const std::pair<Status, int> cases[] = {{Status::corrupt("block 3"), EIO},
                                          {Status::unavailable("gone"), EIO},
                                          {Status::invalid("the log is closed"), EINVAL},
                                          {Status::exhausted(""), ENOMEM}};
  for (const auto& [status, number] : cases) {
    Released<ArrowArrayStream> stream;
    export_stream(std::make_unique<Source>(std::make_shared<Numbers>(1), 0, status), stream.value);
    Released<ArrowArray> array;
    EXPECT_EQ(stream.value.get_next(&stream.value, &array.value), number);
    EXPECT_EQ(array.value.release, nullptr);
    const char* said = stream.value.get_last_error(&stream.value);
    ASSERT_NE(said, nullptr);
    const bool memory = status.outcome() == Outcome::kExhausted;
    EXPECT_EQ(said, memory ? std::string("Exhausted: no memory") : status.to_string());
  }
}

TEST(Arrow, ConsumerThatStopsEarlyLetsTheSourceGoAndKeepsItsArrays) {
  auto numbers = std::make_shared<Numbers>(Numbers{8});
  const std::weak_ptr<Numbers> watch = numbers;
  Released<ArrowArray> array;
  {
    Released<ArrowArrayStream> stream;
    export_stream(std::make_unique<Source>(std::move(numbers), 99, Status::ok()), stream.value);
    ASSERT_EQ(stream.value.get_next(&stream.value, &array.value), 0);
  }
  ASSERT_EQ(watch.use_count(), 1);  // the array's
  EXPECT_EQ(*static_cast<const std::int32_t*>(array.value.buffers[1]), 8);
  array.reset();
  EXPECT_TRUE(watch.expired());
}

}  // namespace
}  // namespace edgecore
