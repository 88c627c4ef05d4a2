#include "columns/block.hpp"

#include <algorithm>
#include <array>
#include <optional>

#include "base/crc32c.hpp"

namespace edgecore {
namespace {

constexpr std::uint32_t kMagic = 0x42434345;  // "ECCB"
constexpr std::uint16_t kVersion = 1;
constexpr std::uint32_t kBoundedError = 1;  // required feature: bounds stand behind the header
// Offsets of the header's fields.
constexpr std::size_t kStoreAt = 16;
constexpr std::size_t kSchemaAt = 52;
constexpr std::size_t kDigestAt = 84;
constexpr std::size_t kChecksumAt = 122;
constexpr std::size_t kHeaderBytes = 126;
constexpr std::size_t kDirectoryBytesMax = 11;  // of a column: flags and length
constexpr std::size_t kBoundBytes = 10;
// The columns that every block has, before those of the fields.
constexpr std::size_t kTime = 0;
constexpr std::size_t kSource = 1;
constexpr std::size_t kSourceSeq = 2;
constexpr std::size_t kArrivals = 3;
constexpr std::size_t kKeys = 4;
constexpr std::array<const char*, kKeys> kKeyNames = {"time", "source", "source_seq", "arrivals"};
constexpr std::size_t kRowBytesMin = 20;  // time, source length, source sequence

std::uint32_t checksum_of(ByteSpan block) {
  return crc32c(block.subspan(kHeaderBytes), crc32c(block.first(kChecksumAt)));
}

Status malformed(const std::string& what) {
  return Status::corrupt("column block: " + what + "; ask for the run again");
}

// ---------------------------------------------------------------- out

Column column_of_texts(const RowBatch& rows, ByteSpan (*text)(const RowBatch&, std::size_t)) {
  Column out;
  for (std::size_t row = 0; row < rows.count(); ++row) {
    const ByteSpan bytes = text(rows, row);
    out.cells.push_back(out.blob.size() | (static_cast<std::uint64_t>(bytes.size()) << 32));
    out.blob.insert(out.blob.end(), bytes.begin(), bytes.end());
  }
  out.presence.assign(rows.count(), 1);
  return out;
}

Column column_of_key(const RowBatch& rows, std::size_t key) {
  if (key == kSource)
    return column_of_texts(
        rows, [](const RowBatch& r, std::size_t row) { return as_byte_span(r.source(row)); });
  Column out;
  out.presence.assign(rows.count(), 1);
  for (std::size_t row = 0; row < rows.count(); ++row)
    out.cells.push_back(key == kTime ? static_cast<std::uint64_t>(rows.time_ns(row))
                                     : rows.source_seq(row));
  return out;
}

Column column_of_field(const RowBatch& rows, std::size_t field) {
  Column out;
  const bool variable = is_variable(rows.schema()->fields[field].dtype);
  for (std::size_t row = 0; row < rows.count(); ++row) {
    out.presence.push_back(rows.present(row, field) ? 1 : 0);
    if (!variable || !rows.present(row, field)) {
      out.cells.push_back(rows.cell(row, field));
      continue;
    }
    const ByteSpan bytes = rows.bytes(row, field);
    out.cells.push_back(out.blob.size() | (static_cast<std::uint64_t>(bytes.size()) << 32));
    out.blob.insert(out.blob.end(), bytes.begin(), bytes.end());
  }
  return out;
}

// By the first category field that has few enough entries.
std::optional<Grouping> find_grouping(const RowBatch& rows) {
  const auto& fields = rows.schema()->fields;
  for (std::size_t f = 0; f < fields.size(); ++f) {
    if (fields[f].dtype != DType::kCategory) continue;
    Grouping grouping = grouping_of(static_cast<std::uint32_t>(f), column_of_field(rows, f));
    if (grouping.groups > 0) return grouping;
  }
  return std::nullopt;
}

// Positions and clocks as steps: what follows on without a gap is 0.
WrittenColumn write_arrivals(Coding coding, std::span<const Arrival> arrivals) {
  Integers rows, steps, clocks, trusts;
  std::int64_t expected = 0;
  for (const Arrival& arrival : arrivals) {
    const auto position = static_cast<std::int64_t>(arrival.position);
    rows.push_back(arrival.rows);
    steps.push_back(wrap_sub(position, expected));
    clocks.push_back(static_cast<std::int64_t>(arrival.hlc));
    trusts.push_back(arrival.clock_trust);
    expected = wrap_add(position, arrival.rows);
  }
  const auto sink = make_sink(coding);
  sink->put_count(arrivals.size());
  for (const auto* stream : {&rows, &steps, &clocks, &trusts}) sink->put_integers(*stream);
  return {0, sink->finish()};
}

Status check_run(const BlockIdentity& identity, const RowBatch& rows,
                 std::span<const Arrival> arrivals) {
  if (rows.count() == 0 || rows.count() > kBlockRowsMax)
    return Status::invalid("column block: " + std::to_string(rows.count()) +
                           " rows; a block holds 1 to 65536");
  if (identity.first == 0) return Status::invalid("column block: sequences begin at 1");
  std::uint64_t arrived = 0;
  for (const Arrival& arrival : arrivals) {
    if (arrival.rows == 0) return Status::invalid("column block: an arrival of no rows");
    arrived += arrival.rows;
  }
  if (arrived != rows.count())
    return Status::invalid("column block: the arrivals are of " + std::to_string(arrived) +
                           " rows, the run has " + std::to_string(rows.count()));
  return Status::ok();
}

std::vector<ErrorBound> bounds_of(const Schema& schema) {
  std::vector<ErrorBound> out;
  for (std::size_t f = 0; f < schema.fields.size(); ++f)
    if (schema.fields[f].max_error > 0)
      out.push_back({static_cast<std::uint16_t>(f), schema.fields[f].max_error});
  return out;
}

void put_header(const BlockIdentity& identity, const RowBatch& rows, Coding coding,
                ByteSpan canonical, std::size_t columns, Bytes& out) {
  const Digest& schema = rows.schema()->fingerprint;
  const auto bounds = bounds_of(*rows.schema());
  ByteWriter writer(out);
  writer.put(kMagic);
  writer.put(kVersion);
  writer.put(static_cast<std::uint8_t>(coding));
  writer.put(std::uint8_t{0});
  writer.put(bounds.empty() ? std::uint32_t{0} : kBoundedError);  // required features
  writer.put(std::uint32_t{0});                                   // optional features
  writer.put_bytes(identity.store);
  writer.put(identity.partition);
  writer.put(identity.first);
  writer.put(static_cast<std::uint32_t>(rows.count()));
  writer.put(static_cast<std::uint32_t>(canonical.size()));
  writer.put_bytes(schema);
  writer.put_bytes(run_digest(identity.store, identity.partition, identity.first, rows.count(),
                              schema, canonical));
  writer.put(static_cast<std::uint16_t>(columns));
  writer.put_zeros(8);  // body length and checksum, when they are known
  if (bounds.empty()) return;
  writer.put(static_cast<std::uint16_t>(bounds.size()));
  for (const ErrorBound& bound : bounds) {
    writer.put(bound.field);
    writer.put(bound.max_error);
  }
}

// ---------------------------------------------------------------- in

// In the order of fields, of fields that there are.
bool take_bounds(ByteReader& reader, std::size_t fields, std::vector<ErrorBound>& out) {
  std::uint16_t count = 0;
  if (!reader.take(count) || count == 0 || count > fields) return false;
  std::size_t next = 0;
  for (std::size_t i = 0; i < count; ++i) {
    ErrorBound bound;
    if (!reader.take(bound.field) || !reader.take(bound.max_error)) return false;
    if (bound.field < next || bound.field >= fields) return false;
    if (!(bound.max_error > 0 && bound.max_error - bound.max_error == 0)) return false;
    next = bound.field + std::size_t{1};
    out.push_back(bound);
  }
  return true;
}

Status check_shape(const BlockHeader& header, const Schema& schema) {
  if (header.schema != schema.fingerprint)
    return Status::incompatible("column block: its schema is not this version of stream " +
                                schema.stream + "; decode it with the schema it names");
  if (header.columns.size() != kKeys + schema.fields.size())
    return malformed("not as many columns as its schema has");
  if (header.bounds != bounds_of(schema)) return malformed("not the error bounds of its schema");
  if (std::uint64_t{header.count} * (kRowBytesMin + schema.fields.size()) > header.row_bytes)
    return malformed("more rows than their bytes could hold");
  return Status::ok();
}

// Fills the batch with a field's values; `room` is what the canonical rows may still take.
Status fill_field(const Column& column, bool variable, std::size_t field, std::size_t& room,
                  RowBatch& out) {
  for (std::size_t row = 0; row < column.cells.size(); ++row) {
    if (column.presence[row] == 0) continue;
    if (!variable) {
      out.set_cell(row, field, column.cells[row]);
      continue;
    }
    const ByteSpan text = column.text(row);
    if (text.size() > room) return malformed("more text than its rows hold");
    room -= text.size();
    out.set_bytes(row, field, text);
  }
  return Status::ok();
}

Status fill_rows(BlockReader& reader, RowBatch& out) {
  const BlockHeader& header = reader.header();
  Column times, sources, sequences;
  EDGECORE_TRY(reader.read(kTime, times));
  EDGECORE_TRY(reader.read(kSource, sources));
  EDGECORE_TRY(reader.read(kSourceSeq, sequences));
  std::size_t room = header.row_bytes;
  for (std::size_t row = 0; row < header.count; ++row) {
    const ByteSpan source = sources.text(row);
    if (source.size() > room) return malformed("more text than its rows hold");
    room -= source.size();
    out.add_row(static_cast<std::int64_t>(times.cells[row]), as_text(source), sequences.cells[row]);
  }
  const auto& fields = out.schema()->fields;
  for (std::size_t f = 0; f < fields.size(); ++f) {
    Column column;
    EDGECORE_TRY(reader.read(kKeys + f, column));
    EDGECORE_TRY(fill_field(column, is_variable(fields[f].dtype), f, room, out));
  }
  return Status::ok();
}

}  // namespace

Result<Bytes> encode_block(const BlockIdentity& identity, const RowBatch& rows,
                           std::span<const Arrival> arrivals, Coding coding) {
  EDGECORE_TRY(check_run(identity, rows, arrivals));
  Bytes canonical;
  encode_rows(rows, 0, rows.count(), canonical);
  if (canonical.size() > kBlockRowBytesMax)
    return Status::invalid("column block: rows of " + std::to_string(canonical.size()) +
                           " bytes; a block holds 16 MiB, cut the run");
  const auto grouping = find_grouping(rows);
  const Grouping* groups = grouping ? &*grouping : nullptr;
  const auto& fields = rows.schema()->fields;
  std::vector<WrittenColumn> columns;
  columns.push_back(write_column(coding, DType::kI64, column_of_key(rows, kTime), groups));
  columns.push_back(write_column(coding, DType::kUtf8, column_of_key(rows, kSource), nullptr));
  columns.push_back(write_column(coding, DType::kU64, column_of_key(rows, kSourceSeq), groups));
  columns.push_back(write_arrivals(coding, arrivals));
  for (std::size_t f = 0; f < fields.size(); ++f)
    columns.push_back(write_column(coding, fields[f].dtype, column_of_field(rows, f), groups));

  Bytes out;
  std::size_t size = kHeaderBytes + 2 + fields.size() * kBoundBytes;
  for (const WrittenColumn& column : columns) size += kDirectoryBytesMax + column.bytes.size();
  out.reserve(size);
  put_header(identity, rows, coding, canonical, columns.size(), out);
  for (const WrittenColumn& column : columns) {
    out.push_back(static_cast<std::byte>(column.flags));
    put_varint(out, column.bytes.size());
  }
  for (const WrittenColumn& column : columns)
    out.insert(out.end(), column.bytes.begin(), column.bytes.end());
  store_le(out.data() + kChecksumAt - 4, static_cast<std::uint32_t>(out.size() - kHeaderBytes));
  store_le(out.data() + kChecksumAt, checksum_of(out));
  return out;
}

Result<BlockHeader> read_block_header(ByteSpan block) {
  BlockHeader out;
  ByteReader reader(block);
  std::uint32_t magic = 0, required = 0, body = 0, checksum = 0;
  std::uint16_t version = 0, columns = 0;
  std::uint8_t coding = 0, reserved = 0;
  if (block.size() < kHeaderBytes) return malformed("it ends within its header");
  const bool taken = reader.take(magic) && reader.take(version) && reader.take(coding) &&
                     reader.take(reserved) && reader.take(required) &&
                     reader.take(out.optional_features) && reader.skip(16) &&
                     reader.take(out.identity.partition) && reader.take(out.identity.first) &&
                     reader.take(out.count) && reader.take(out.row_bytes) && reader.skip(64) &&
                     reader.take(columns) && reader.take(body) && reader.take(checksum);
  if (!taken || magic != kMagic) return malformed("no such thing");
  if (body != block.size() - kHeaderBytes) return malformed("its length is not what it says");
  if (checksum != checksum_of(block)) return malformed("checksum");
  if (version != kVersion || (required & ~kBoundedError) != 0 || reserved != 0 || coding < 1 ||
      coding > 2)
    return Status::incompatible("column block: version " + std::to_string(version) + ", coding " +
                                std::to_string(coding) + " or a feature this build does not know");
  if (out.count == 0 || out.count > kBlockRowsMax || out.row_bytes > kBlockRowBytesMax ||
      out.identity.first == 0 || out.identity.first > UINT64_MAX - out.count)
    return malformed("counts out of bounds");
  out.coding = static_cast<Coding>(coding);
  std::memcpy(out.identity.store.data(), block.data() + kStoreAt, 16);
  std::memcpy(out.schema.data(), block.data() + kSchemaAt, 32);
  std::memcpy(out.digest.data(), block.data() + kDigestAt, 32);
  if (required != 0 && !take_bounds(reader, columns < kKeys ? 0 : columns - kKeys, out.bounds))
    return malformed("its error bounds");
  std::vector<std::uint64_t> lengths;
  for (std::size_t i = 0; i < columns; ++i) {
    std::uint8_t flags = 0;
    std::uint64_t length = 0;
    if (!reader.take(flags) || !take_varint(reader, length)) return malformed("its directory");
    out.flags.push_back(flags);
    lengths.push_back(length);
  }
  for (const std::uint64_t length : lengths) {
    ByteSpan bytes;
    if (!reader.take_bytes(length, bytes)) return malformed("a column beyond its end");
    out.columns.push_back(bytes);
  }
  if (reader.remaining() != 0) return malformed("bytes behind the last column");
  return out;
}

Result<BlockReader> BlockReader::open(ByteSpan block, const Schema& schema) {
  EDGECORE_ASSIGN(auto header, read_block_header(block));
  EDGECORE_TRY(check_shape(header, schema));
  return BlockReader(std::move(header), schema);
}

Result<std::size_t> BlockReader::find(std::string_view name) const {
  for (std::size_t key = 0; key < kKeys; ++key)
    if (key != kArrivals && name == kKeyNames[key]) return key;
  const int field = schema_->find(name);
  if (field < 0)
    return Status::invalid("column block: stream " + schema_->stream + " has no field '" +
                           std::string(name) + "'");
  return kKeys + static_cast<std::size_t>(field);
}

DType BlockReader::dtype(std::size_t column) const {
  if (column == kSource) return DType::kUtf8;
  if (column == kSourceSeq) return DType::kU64;
  return column < kKeys ? DType::kI64 : schema_->fields[column - kKeys].dtype;
}

std::string BlockReader::name_of(std::size_t column) const {
  return column < kKeys ? kKeyNames[column] : schema_->fields[column - kKeys].name;
}

Status BlockReader::fill(std::size_t column, CellsOut out) {
  const bool grouped = (header_.flags[column] & kColumnGrouped) != 0;
  if (grouped) EDGECORE_TRY(find_groups(header_.columns[column]));
  const ColumnRequest request{dtype(column),     header_.flags[column],        header_.count,
                              header_.row_bytes, grouped ? &groups_ : nullptr, nullptr};
  if (!edgecore::read_cells(header_.coding, header_.columns[column], request, out))
    return malformed("column " + name_of(column));
  const bool may_be_null = column >= kKeys && !schema_->fields[column - kKeys].required;
  if (!may_be_null && std::find(out.presence.begin(), out.presence.end(), 0) != out.presence.end())
    return malformed("a null in column " + name_of(column));
  return Status::ok();
}

Status BlockReader::read(std::size_t column, Column& out) {
  out.cells.resize(header_.count);
  out.blob.clear();
  EDGECORE_TRY(fill(column, {out.cells, out.presence, out.blob}));
  if (out.presence.empty()) out.presence.assign(header_.count, 1);
  return Status::ok();
}

Status BlockReader::read_cells(std::size_t column, std::span<std::uint64_t> cells,
                               std::vector<std::uint8_t>& presence) {
  Bytes none;
  if (column == kArrivals || column >= header_.columns.size() || is_variable(dtype(column)) ||
      cells.size() != header_.count)
    return Status::invalid("column block: cells are of columns of fixed width, one per row");
  return fill(column, {cells, presence, none});
}

Status BlockReader::read_arrivals(std::vector<Arrival>& out) const {
  const auto source = make_source(header_.coding, header_.columns[kArrivals]);
  std::uint64_t count = 0;
  if (header_.flags[kArrivals] != 0 || !source->take_count(count) || count > header_.count)
    return malformed("arrivals");
  Integers rows(count), steps(count), clocks(count), trusts(count);
  for (auto* stream : {&rows, &steps, &clocks, &trusts})
    if (!source->take_integers(*stream)) return malformed("arrivals");
  std::uint64_t arrived = 0;
  std::int64_t expected = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const auto size = static_cast<std::uint64_t>(rows[i]);
    if (size == 0 || size > header_.count - arrived || trusts[i] < 0 || trusts[i] > 255)
      return malformed("arrivals");
    arrived += size;
    const std::int64_t position = wrap_add(expected, steps[i]);
    out.push_back({static_cast<std::uint32_t>(size), static_cast<std::uint64_t>(position),
                   static_cast<std::uint64_t>(clocks[i]), static_cast<std::uint8_t>(trusts[i])});
    expected = wrap_add(position, rows[i]);
  }
  if (arrived != header_.count || !source->at_end()) return malformed("arrivals");
  return Status::ok();
}

Status BlockReader::find_groups(ByteSpan bytes) {
  std::uint32_t field = 0;
  if (!read_group_field(header_.coding, bytes, field)) return malformed("a group's field");
  if (groups_.groups > 0 && groups_.field == field) return Status::ok();
  if (field >= schema_->fields.size() || schema_->fields[field].dtype != DType::kCategory)
    return malformed("grouped by no category");
  const std::size_t index = kKeys + field;
  Grouping made;
  made.field = field;
  const ColumnRequest request{
      DType::kCategory, header_.flags[index], header_.count, header_.row_bytes, nullptr, &made};
  Column category;
  if (!read_column(header_.coding, header_.columns[index], request, category) ||
      made.of_row.size() != header_.count)
    return malformed("column " + name_of(index) + ", by which others are grouped");
  groups_ = std::move(made);
  return Status::ok();
}

Result<DecodedBlock> decode_block(ByteSpan block, SchemaPtr schema) {
  EDGECORE_ASSIGN(auto reader, BlockReader::open(block, *schema));
  const BlockHeader& header = reader.header();
  DecodedBlock out{RowBatch(schema), {}, {}};
  EDGECORE_TRY(reader.read_arrivals(out.arrivals));
  EDGECORE_TRY(fill_rows(reader, out.rows));
  Bytes canonical;
  encode_rows(out.rows, 0, header.count, canonical);
  const BlockIdentity& identity = header.identity;
  if (canonical.size() != header.row_bytes ||
      run_digest(identity.store, identity.partition, identity.first, header.count, header.schema,
                 canonical) != header.digest)
    return malformed("its rows are not those that its run digest names");
  out.canonical = std::move(canonical);
  return out;
}

Result<Column> decode_column(ByteSpan block, const Schema& schema, std::string_view name) {
  EDGECORE_ASSIGN(auto reader, BlockReader::open(block, schema));
  EDGECORE_ASSIGN(const std::size_t column, reader.find(name));
  Column out;
  EDGECORE_TRY(reader.read(column, out));
  return out;
}

}  // namespace edgecore
