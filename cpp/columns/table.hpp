// Rows of a stream as columns in Arrow's layout: what they are called, of which type, and how they
// fill from column blocks (straight from their streams, each column without the others) and from
// rows. Every column may hold nulls.
//
//   partition u32, sequence u64, position u64   identity and place
//   time                                        timestamp, ns, UTC
//   source, source_seq                          dictionary of texts, u64; null: none
//   fields: bool, integers, f32, f64 as they are; decimal(k) decimal128 with k digits behind the
//   point; category a dictionary of texts (of int32); utf8 text; bytes binary
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/arrow.hpp"
#include "columns/block.hpp"
#include "columns/table_values.hpp"

namespace edgecore {

inline constexpr std::size_t kTableRowsMax = 1u << 16;  // of one batch
inline constexpr std::size_t kTableTextBytesMax = 16u
                                                  << 20;  // of its columns, before the last rows

struct TableColumn {
  enum Kind : std::uint8_t { kPartition, kSequence, kPosition, kTime, kSource, kSourceSeq, kField };
  Kind kind = kField;
  std::string name;           // in the table: `values.NAME` for a field named as one of the first
  std::string field;          // in its schemas
  DType dtype = DType::kU64;  // as cells are
  unsigned scale = 0;         // decimals: the most digits that a schema gives it
  unsigned digits = 0;        // of the largest value
  ArrowMetadata metadata;     // given by the caller

  ArrowType type() const;
};

// The columns of a stream with these schemas: the keys above, the fields of the newest schema in
// its order, then those that only older ones have, the newest of these first; or, when there are
// any, the named ones. Invalid: a name that there is not. Incompatible: a field of two dtypes.
Result<std::vector<TableColumn>> table_columns(std::vector<SchemaPtr> schemas,
                                               const std::vector<std::string>& names);

// Where consecutive rows of a batch stand in the log.
struct RowPlaces {
  std::size_t row = 0;  // the first of them, in its batch
  std::size_t count = 0;
  std::uint32_t partition = 0;
  std::uint64_t sequence = 0;  // of the first
  std::uint64_t position = 0;
};

// Event times that are wanted, the last one included.
struct TimeSpan {
  std::int64_t first = INT64_MIN;
  std::int64_t last = INT64_MAX;
};

// Fills one batch after the other. Not thread-safe.
class TableBuilder {
 public:
  explicit TableBuilder(std::vector<TableColumn> columns, TimeSpan times = {});

  ArrowType type() const;  // a struct of the columns
  std::size_t rows() const { return rows_; }
  // Whether so many rows more are for this batch; an empty one takes any.
  bool has_room(std::size_t more) const;
  // At most so many rows are to come: room for them is made at once.
  void expect(std::size_t rows) { expected_ = rows; }

  // The wanted rows of a block that stands at `place` (its position is that of its first row): all
  // of them or, when it can't be read or is another one, none.
  Status add_block(const SchemaPtr& schema, ByteSpan block, const RowPlaces& place);
  void add_rows(const RowBatch& rows, std::span<const RowPlaces> places);
  // The batch; the next one begins.
  ArrowData finish();

 private:
  void plan(const SchemaPtr& schema);
  void choose(std::span<const std::int64_t> times);
  void make_room();
  bool timed() const { return times_.first != INT64_MIN || times_.last != INT64_MAX; }
  Status add_column(BlockReader& reader, std::size_t index);
  void add_column(const RowBatch& rows, std::size_t index);
  Status place_block(const BlockReader& reader, const RowPlaces& place);
  bool fill_place(TableColumn::Kind kind);
  void fill_key(const RowBatch& rows, TableColumn::Kind kind);
  void put(std::size_t index);
  const Field* field_of(std::size_t index) const;

  std::vector<TableColumn> columns_;
  std::vector<std::unique_ptr<ColumnValues>> values_;
  TimeSpan times_;
  std::size_t rows_ = 0;
  std::size_t room_ = 0;
  std::size_t expected_ = 0;
  SchemaPtr schema_;         // of what is added
  std::vector<int> fields_;  // by column: in that schema, or -1

  // What is added now: rows, of which some are wanted.
  std::vector<RowPlaces> places_;
  std::vector<std::uint32_t> chosen_;
  bool whole_ = true;  // all are wanted
  std::size_t count_ = 0;
  std::size_t added_ = 0;
  Column column_;
  std::vector<std::int64_t> row_times_;
};

}  // namespace edgecore
