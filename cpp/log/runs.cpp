#include "log/runs.hpp"

#include <algorithm>

#include "columns/block.hpp"
#include "log/pack.hpp"

namespace edgecore {
namespace {

// Takes records in order of position until the request is filled.
class Collector {
 public:
  Collector(const Catalogue& catalogue, const RunRequest& request)
      : catalogue_(catalogue), request_(request), left_(request.bytes_max) {}

  bool take(const RecordView& record) {
    if (record.head.partition != request_.partition) return true;
    if (record.head.first + record.head.count <= request_.after + 1) return true;
    if (record.position > request_.position_max) {
      full_ = true;
      return false;
    }
    status_ = take_rows(record);
    return !done();
  }
  // A whole block above what was asked from. Corrupt when it can't be read.
  Result<bool> take_block(const CatalogueEntry& entry, const PackBlock& place, ByteSpan block) {
    EDGECORE_ASSIGN(const BlockHeader header, read_block_header(block));
    if (header.identity.first <= request_.after) {  // a part of it
      EDGECORE_TRY(catalogue_.attached(entry.number).status());
      EDGECORE_ASSIGN(const DecodedBlock decoded, decode_block(block, entry.schema));
      return take_decoded(entry, header, decoded);
    }
    if (block.size() > left_ && !runs_.empty()) {
      full_ = true;
      return false;
    }
    left_ -= std::min(left_, block.size());
    Run run;
    run.partition = request_.partition;
    run.first = header.identity.first;
    run.count = header.count;
    run.schema = header.schema;
    run.position = place.position_last;
    run.block.assign(block.begin(), block.end());
    runs_.push_back(std::move(run));
    return left_ > 0;
  }
  bool done() const { return full_ || !status_.is_ok(); }
  Result<std::vector<Run>> finish() && {
    if (!status_.is_ok()) return status_;
    return std::move(runs_);
  }

 private:
  Result<bool> take_decoded(const CatalogueEntry& entry, const BlockHeader& header,
                            const DecodedBlock& decoded) {
    ByteSpan rest = decoded.canonical;
    std::uint64_t first = header.identity.first;
    for (const Arrival& arrival : decoded.arrivals) {
      EDGECORE_ASSIGN(const std::size_t size, rows_size(*entry.schema, rest, arrival.rows));
      RecordView view;
      view.head = {request_.partition, entry.number, first, arrival.rows, 0};
      view.position = arrival.position;
      view.hlc = arrival.hlc;
      view.clock_trust = arrival.clock_trust;
      view.payload = rest.first(size);
      if (!take(view)) return false;
      first += arrival.rows;
      rest = rest.subspan(size);
    }
    EDGECORE_TRY(status_);
    return true;
  }

  Status take_rows(const RecordView& record) {
    EDGECORE_ASSIGN(const CatalogueEntry* entry, catalogue_.named(record.head.schema));
    if (entry->schema == nullptr) return take_whole(record, *entry);
    const std::uint64_t skip =
        request_.after >= record.head.first ? request_.after - record.head.first + 1 : 0;
    std::uint64_t end = record.head.count;
    end = std::min(end, request_.position_max - record.position + 1);
    ByteSpan rows = record.payload;
    EDGECORE_ASSIGN(const std::size_t start, rows_size(*entry->schema, rows, skip));
    rows = rows.subspan(start);
    std::size_t size = 0;
    std::uint32_t count = 0;
    while (skip + count < end) {
      EDGECORE_ASSIGN(const std::size_t row, rows_size(*entry->schema, rows.subspan(size), 1));
      const bool first_of_all = runs_.empty() && count == 0;
      if (row > left_ && !first_of_all) {
        full_ = true;
        break;
      }
      left_ -= std::min(left_, row);
      size += row;
      ++count;
    }
    if (count > 0) add(record, *entry, record.head.first + skip, count, rows.first(size));
    return Status::ok();
  }

  Status take_whole(const RecordView& record, const CatalogueEntry& entry) {
    const bool durable = record.position + record.head.count - 1 <= request_.position_max;
    full_ = !durable || (record.payload.size() > left_ && !runs_.empty());
    if (full_) return Status::ok();
    left_ -= std::min(left_, record.payload.size());
    add(record, entry, record.head.first, record.head.count, record.payload);
    return Status::ok();
  }

  void add(const RecordView& record, const CatalogueEntry& entry, std::uint64_t first,
           std::uint32_t count, ByteSpan rows) {
    if (runs_.empty() || runs_.back().first + runs_.back().count != first ||
        runs_.back().schema != entry.fingerprint || !runs_.back().block.empty())
      runs_.push_back({request_.partition, first, 0, entry.fingerprint, {}, {}, 0, {}});
    Run& run = runs_.back();
    run.count += count;
    run.rows.insert(run.rows.end(), rows.begin(), rows.end());
    const std::uint64_t position = record.position + (first - record.head.first);
    run.position = position + count - 1;
    add_arrival(run.arrivals, {count, position, record.hlc, record.clock_trust});
  }

  const Catalogue& catalogue_;
  const RunRequest& request_;
  std::size_t left_;
  bool full_ = false;
  Status status_;
  std::vector<Run> runs_;
};

}  // namespace

Result<std::vector<Run>> collect_runs(LogReader reader, const RunRequest& request) {
  Collector collector(reader.catalogue(), request);
  const auto take = [&](const RecordView& record) { return collector.take(record); };
  const Wanted wanted{.partitions = {request.partition}, .sequence_after = request.after};
  if (request.blocks) {
    const auto take_block = [&](const CatalogueEntry& entry, const PackBlock& place,
                                ByteSpan block) {
      return collector.take_block(entry, place, block);
    };
    const auto take_record = [&](const CatalogueEntry&, const RecordView& record) {
      return Result<bool>(collector.take(record));
    };
    EDGECORE_TRY(reader.visit_blocks(request.position_from, request.position_max, wanted,
                                     take_block, take_record));
    return std::move(collector).finish();
  }
  Bytes buffer;
  for (std::uint64_t at = request.position_from; at < reader.position_max() && !collector.done();) {
    EDGECORE_ASSIGN(at, reader.visit_part(at, &wanted, take, buffer));
  }
  return std::move(collector).finish();
}

Result<std::uint64_t> sequence_at(LogReader reader, std::uint32_t partition,
                                  std::uint64_t position) {
  std::uint64_t found = 0;
  const auto take = [&](const RecordView& record) {
    if (record.position > position) return false;
    const std::uint64_t rows =
        std::min<std::uint64_t>(record.head.count, position - record.position + 1);
    if (record.head.partition == partition) found = record.head.first + rows - 1;
    return true;
  };
  const Wanted wanted{.partitions = {partition}};
  Bytes buffer;
  for (std::uint64_t at = std::min(position, reader.position_max()); at > 0 && found == 0;) {
    const std::uint64_t base = reader.part_base(at);
    EDGECORE_TRY(reader.visit_part(std::min(base, at) - 1, &wanted, take, buffer).status());
    at = std::min(base, at) - 1;
  }
  return found;
}

}  // namespace edgecore
