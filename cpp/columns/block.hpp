// Column blocks: a contiguous run of one partition and one schema version, column by column, the
// unit after sealing and of sync. The coding is free, the content is not: decoding gives canonical
// rows, whose run digest must be the header's. docs/formats/column-block.md
//
// Thread-safe: pure functions of their arguments. Bytes to read are hostile; counts and lengths are
// checked before anything is allocated on their word.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "columns/canonical.hpp"
#include "columns/column.hpp"

namespace edgecore {

inline constexpr std::uint32_t kBlockRowsMax = 1u << 16;
inline constexpr std::uint32_t kBlockRowBytesMax = 16u << 20;  // of its canonical rows

// Whose run it is: together with the count and the content, what the run digest names.
struct BlockIdentity {
  StoreId store{};
  std::uint32_t partition = 0;
  std::uint64_t first = 0;
};

// A field whose values were rounded before they were rows, and by how much at most.
struct ErrorBound {
  std::uint16_t field = 0;
  double max_error = 0;  // in the field's unit
  bool operator==(const ErrorBound&) const = default;
};

struct BlockHeader {
  BlockIdentity identity;
  Coding coding = Coding::kFast;
  std::uint32_t optional_features = 0;
  std::uint32_t count = 0;
  std::uint32_t row_bytes = 0;  // of the canonical rows
  Digest schema{};
  Digest digest{};
  std::vector<ErrorBound> bounds;   // in the order of fields; none: values are what came in
  std::vector<std::uint8_t> flags;  // per column: time, source, source_seq, arrivals, fields
  std::vector<ByteSpan> columns;    // borrowed from the block
};

struct DecodedBlock {
  RowBatch rows;
  std::vector<Arrival> arrivals;
  Bytes canonical;  // the same rows
};

// Invalid: no rows, more than fit, or arrivals that are not those of the rows.
Result<Bytes> encode_block(const BlockIdentity& identity, const RowBatch& rows,
                           std::span<const Arrival> arrivals, Coding coding);

// Checks everything but the columns' content. Corrupt: checksum or structure. Incompatible:
// another version, coding or required feature.
Result<BlockHeader> read_block_header(ByteSpan block);

// Corrupt also when the rows are not those that the run digest names; Incompatible when the schema
// is another than the block's.
Result<DecodedBlock> decode_block(ByteSpan block, SchemaPtr schema);

// The columns of one block, each without the others; the category that they are grouped by is
// decoded once. The bytes have passed the checksum; the run digest is not looked at. Borrows the
// block and the schema.
class BlockReader {
 public:
  static Result<BlockReader> open(ByteSpan block, const Schema& schema);
  const BlockHeader& header() const { return header_; }
  // Which column a name is: a field's, "time", "source" or "source_seq".
  Result<std::size_t> find(std::string_view name) const;
  DType dtype(std::size_t column) const;
  Status read(std::size_t column, Column& out);
  // The cells (rows.hpp) of a column of fixed width, straight to where they are wanted: one per
  // row. `presence` is left empty when no value is null, else has one entry per row.
  Status read_cells(std::size_t column, std::span<std::uint64_t> cells,
                    std::vector<std::uint8_t>& presence);
  Status read_arrivals(std::vector<Arrival>& out) const;

 private:
  BlockReader(BlockHeader header, const Schema& schema)
      : header_(std::move(header)), schema_(&schema) {}
  Status fill(std::size_t column, CellsOut out);
  Status find_groups(ByteSpan bytes);
  std::string name_of(std::size_t column) const;

  BlockHeader header_;
  const Schema* schema_;
  Grouping groups_;
};

// One column (and the category it is grouped by), without the others: `name` is a field, "time" or
// "source_seq" or "source". As a BlockReader reads it.
Result<Column> decode_column(ByteSpan block, const Schema& schema, std::string_view name);

}  // namespace edgecore
