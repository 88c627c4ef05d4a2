#include "log/table_stream.hpp"

#include <algorithm>

namespace edgecore {
namespace {

constexpr std::size_t kPendingRows = 4096;
constexpr std::size_t kPendingBytes = 1u << 20;  // of texts

}  // namespace

Result<std::unique_ptr<TableStream>> TableStream::open(LogReader reader,
                                                       const TableRequest& request) {
  std::vector<SchemaPtr> schemas;
  for (const CatalogueEntry& entry : reader.catalogue().entries)
    if (entry.schema != nullptr && request.partitions.contains(entry.partition))
      schemas.push_back(entry.schema);
  EDGECORE_ASSIGN(auto columns, table_columns(std::move(schemas), request.names));
  for (TableColumn& column : columns)
    if (const auto found = request.of_columns.find(column.name); found != request.of_columns.end())
      column.metadata = found->second;
  return std::unique_ptr<TableStream>(
      new TableStream(std::move(reader), request, std::move(columns)));
}

TableStream::TableStream(LogReader reader, const TableRequest& request,
                         std::vector<TableColumn> columns)
    : reader_(std::move(reader)),
      wanted_{.partitions = request.partitions,
              .time_min = request.times.first,
              .time_max = request.times.last,
              .by_position = true},
      after_(request.after),
      until_(std::min(request.until, reader_.position_max())),
      through_(request.after),
      builder_(std::move(columns), request.times) {
  type_ = builder_.type();
  type_.metadata = request.metadata;
  const std::uint64_t span = until_ - std::min(until_, after_);
  builder_.expect(static_cast<std::size_t>(std::min(span, reader_.rows_max(wanted_))));
}

Result<bool> TableStream::next(ArrowData& out) {
  EDGECORE_TRY(status_);
  while (ready_.empty() && through_ < until_ && status_.is_ok()) status_ = read_part();
  EDGECORE_TRY(status_);
  if (ready_.empty()) {
    add_pending();
    emit();
  }
  if (ready_.empty()) return false;
  out = std::move(ready_.front());
  ready_.pop_front();
  return true;
}

Status TableStream::read_part() {
  EDGECORE_ASSIGN(through_,
                  reader_.visit_part_blocks(
                      through_, until_, wanted_,
                      [this](const auto& entry, const auto& item, ByteSpan block) -> Result<bool> {
                        EDGECORE_TRY(reader_.catalogue().attached(entry.number).status());
                        EDGECORE_TRY(add_block(entry, item, block));
                        return true;
                      },
                      [this](const auto& entry, const auto& view) -> Result<bool> {
                        EDGECORE_TRY(reader_.catalogue().attached(entry.number).status());
                        EDGECORE_TRY(add_record(entry, view));
                        return true;
                      },
                      packs_, buffer_));
  return Status::ok();
}

Status TableStream::add_block(const CatalogueEntry& entry, const PackBlock& item, ByteSpan block) {
  add_pending();
  make_room(item.count);
  return builder_.add_block(entry.schema, block,
                            {0, item.count, item.partition, item.first, item.position_first});
}

// The rows of a record whose positions are wanted.
Status TableStream::add_record(const CatalogueEntry& entry, const RecordView& view) {
  const bool other = pending_ && pending_->schema() != entry.schema;
  if (other ||
      (pending_ && (pending_->count() >= kPendingRows || pending_->blob_bytes() >= kPendingBytes)))
    add_pending();
  if (other || !pending_) pending_.emplace(entry.schema);
  const std::size_t before = pending_->count();
  EDGECORE_TRY(decode_rows(view.payload, view.head.count, *pending_));
  std::uint64_t from = after_ >= view.position ? after_ - view.position + 1 : 0;
  const std::uint64_t to = std::min<std::uint64_t>(view.head.count, until_ - view.position + 1);
  while (from < to) {
    const std::uint64_t count = std::min<std::uint64_t>(to - from, kTableRowsMax);
    places_.push_back(
        {before + from, count, view.head.partition, view.head.first + from, view.position + from});
    from += count;
  }
  return Status::ok();
}

void TableStream::add_pending() {
  for (std::size_t first = 0; first < places_.size();) {
    std::size_t end = first, rows = 0;
    while (end < places_.size() && rows + places_[end].count <= kTableRowsMax)
      rows += places_[end++].count;
    make_room(rows);
    builder_.add_rows(*pending_, std::span(places_).subspan(first, end - first));
    first = end;
  }
  places_.clear();
  if (pending_) pending_->clear();
}

void TableStream::make_room(std::size_t rows) {
  if (!builder_.has_room(rows)) emit();
}

void TableStream::emit() {
  if (builder_.rows() > 0) ready_.push_back(builder_.finish());
}

}  // namespace edgecore
