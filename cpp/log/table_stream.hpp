// A stream's rows as record batches, one part of the log read at a time, when a batch is asked for.
#pragma once

#include <deque>

#include "columns/table.hpp"
#include "log/reader.hpp"
#include "log/span.hpp"

namespace edgecore {

struct TableRequest {
  std::set<std::uint32_t> partitions;
  std::vector<std::string> names;  // of columns; none: all (columns/table.hpp)
  std::uint64_t after = 0;         // positions in (after, until]
  std::uint64_t until = UINT64_MAX;
  TimeSpan times;
  ArrowMetadata metadata;                           // of the table
  std::map<std::string, ArrowMetadata> of_columns;  // by column
};

// Batches of at most kTableRowsMax rows in order of position, none of them empty. What is sealed is
// read straight from its blocks; blocks that can't be read are passed over, as in a scan. Not
// thread-safe. After an error every call gives it again.
class TableStream final : public ArrowSource {
 public:
  // Invalid, Incompatible: as table_columns().
  static Result<std::unique_ptr<TableStream>> open(LogReader reader, const TableRequest& request);

  const ArrowType& type() const override { return type_; }
  Result<bool> next(ArrowData& out) override;

 private:
  TableStream(LogReader reader, const TableRequest& request, std::vector<TableColumn> columns);
  Status read_part();
  Status add_block(const CatalogueEntry& entry, const PackBlock& item, ByteSpan block);
  Status add_record(const CatalogueEntry& entry, const RecordView& view);
  void add_pending();
  void make_room(std::size_t rows);
  void emit();

  LogReader reader_;
  Wanted wanted_;
  std::uint64_t after_;
  std::uint64_t until_;
  std::uint64_t through_;  // what was read last
  ArrowType type_;
  TableBuilder builder_;
  std::deque<ArrowData> ready_;
  Status status_;
  // Rows of records, gathered until they are worth a turn over all columns.
  std::optional<RowBatch> pending_;
  std::vector<RowPlaces> places_;
  std::vector<Pack> packs_;  // buffers that are used again
  Bytes buffer_;
};

}  // namespace edgecore
