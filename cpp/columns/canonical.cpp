#include "columns/canonical.hpp"

namespace edgecore {
namespace {

std::size_t fixed_width(DType dtype) {
  switch (dtype) {
    case DType::kBool:
    case DType::kI8:
    case DType::kU8:
      return 1;
    case DType::kI16:
    case DType::kU16:
      return 2;
    case DType::kI32:
    case DType::kU32:
    case DType::kF32:
      return 4;
    default:
      return 8;
  }
}

// The cell (rows.hpp) as the value's own bytes. Integers are a prefix of their 64-bit form.
std::uint64_t wire_of(DType dtype, std::uint64_t cell) {
  if (dtype != DType::kF32) return cell;
  return std::bit_cast<std::uint32_t>(static_cast<float>(std::bit_cast<double>(cell)));
}

std::uint64_t cell_of(DType dtype, std::uint64_t wire) {
  switch (dtype) {
    case DType::kI8:
      return static_cast<std::uint64_t>(static_cast<std::int64_t>(static_cast<std::int8_t>(wire)));
    case DType::kI16:
      return static_cast<std::uint64_t>(static_cast<std::int64_t>(static_cast<std::int16_t>(wire)));
    case DType::kI32:
      return static_cast<std::uint64_t>(static_cast<std::int64_t>(static_cast<std::int32_t>(wire)));
    case DType::kF32:
      return std::bit_cast<std::uint64_t>(
          static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(wire))));
    default:
      return wire;
  }
}

// A value as it stands in the bytes, zero-extended.
std::uint64_t load_wire(const std::byte* at, std::size_t width) {
  if (width == 8) return load_le<std::uint64_t>(at);
  std::uint64_t wire = 0;
  std::memcpy(&wire, at, width);
  return wire;
}

bool take_blob(ByteReader& reader, ByteSpan& out) {
  std::uint32_t length = 0;
  return reader.take(length) && reader.take_bytes(length, out);
}

bool take_value(ByteReader& reader, const Field& field, RowBatch& out, std::size_t row,
                std::size_t index) {
  std::uint8_t presence = 0;
  if (!reader.take(presence) || presence > 1) return false;
  if (presence == 0) return !field.required;
  if (is_variable(field.dtype)) {
    ByteSpan blob;
    if (!take_blob(reader, blob)) return false;
    out.set_bytes(row, index, blob);
    return true;
  }
  ByteSpan raw;
  if (!reader.take_bytes(fixed_width(field.dtype), raw)) return false;
  const std::uint64_t wire = load_wire(raw.data(), raw.size());
  if (field.dtype == DType::kBool && wire > 1) return false;
  out.set_cell(row, index, cell_of(field.dtype, wire));
  return true;
}

bool skip_value(ByteReader& reader, const Field& field) {
  std::uint8_t presence = 0;
  if (!reader.take(presence) || presence > 1) return false;
  if (presence == 0) return true;
  ByteSpan blob;
  return is_variable(field.dtype) ? take_blob(reader, blob) : reader.skip(fixed_width(field.dtype));
}

std::byte* put_blob(std::byte* at, ByteSpan bytes) {
  store_le(at, static_cast<std::uint32_t>(bytes.size()));
  if (!bytes.empty()) std::memcpy(at + 4, bytes.data(), bytes.size());
  return at + 4 + bytes.size();
}

// Bytes that rows [first, first + count) take at most.
std::size_t rows_bytes_max(const RowBatch& batch, std::size_t first, std::size_t count) {
  const auto& fields = batch.schema()->fields;
  std::size_t size = count * (20 + fields.size() * 9);
  for (std::size_t row = first; row < first + count; ++row) size += batch.source(row).size();
  for (std::size_t f = 0; f < fields.size(); ++f)
    for (std::size_t row = first; is_variable(fields[f].dtype) && row < first + count; ++row)
      if (batch.present(row, f)) size += batch.bytes(row, f).size();
  return size;
}

// Whether every value is its cell: 8 bytes.
bool is_wide(const Schema& schema) {
  for (const Field& field : schema.fields)
    if (is_variable(field.dtype) || fixed_width(field.dtype) != 8) return false;
  return true;
}

std::byte* put_wide_fields(const RowBatch& batch, std::size_t row, std::byte* at) {
  const auto cells = batch.row_cells(row);
  const auto presence = batch.row_presence(row);
  for (std::size_t f = 0; f < cells.size(); ++f) {
    *at = static_cast<std::byte>(presence[f]);
    store_le(at + 1, cells[f]);
    at += presence[f] != 0 ? 9 : 1;
  }
  return at;
}

std::byte* put_fields(const RowBatch& batch, std::size_t row, std::byte* at) {
  const auto& fields = batch.schema()->fields;
  for (std::size_t f = 0; f < fields.size(); ++f) {
    const bool present = batch.present(row, f);
    *at++ = static_cast<std::byte>(present);
    if (!present) continue;
    if (is_variable(fields[f].dtype)) {
      at = put_blob(at, batch.bytes(row, f));
      continue;
    }
    const std::uint64_t wire = wire_of(fields[f].dtype, batch.cell(row, f));
    std::memcpy(at, &wire, 8);  // little-endian: a narrower value is a prefix
    at += fixed_width(fields[f].dtype);
  }
  return at;
}

}  // namespace

// One resize and plain stores: this is the append path.
void add_arrival(std::vector<Arrival>& arrivals, const Arrival& arrival) {
  Arrival* last = arrivals.empty() ? nullptr : &arrivals.back();
  if (last != nullptr && last->position + last->rows == arrival.position &&
      last->hlc == arrival.hlc && last->clock_trust == arrival.clock_trust)
    last->rows += arrival.rows;
  else
    arrivals.push_back(arrival);
}

void encode_rows(const RowBatch& batch, std::size_t first, std::size_t count, Bytes& out) {
  const bool wide = is_wide(*batch.schema());
  const std::size_t start = out.size();
  // The last store of a row may reach 8 bytes beyond its end.
  out.resize(start + rows_bytes_max(batch, first, count) + 8);
  std::byte* at = out.data() + start;
  for (std::size_t row = first; row < first + count; ++row) {
    store_le(at, batch.time_ns(row));
    at = put_blob(at + 8, as_byte_span(batch.source(row)));
    store_le(at, batch.source_seq(row));
    at = wide ? put_wide_fields(batch, row, at + 8) : put_fields(batch, row, at + 8);
  }
  out.resize(static_cast<std::size_t>(at - out.data()));
}

bool UniformRows::are(const Schema& schema, ByteSpan bytes, std::size_t count) {
  std::size_t stride = 20;
  for (const Field& field : schema.fields) {
    if (is_variable(field.dtype) || field.dtype == DType::kBool) return false;
    stride += 1 + fixed_width(field.dtype);
  }
  if (bytes.size() != count * stride) return false;
  const UniformRows rows(schema, bytes);
  std::uint32_t wrong = 0;
  for (std::size_t row = 0; row < count; ++row) {
    const std::byte* at = rows.at(row);
    wrong |= load_le<std::uint32_t>(at + 8);  // the length of the source
    for (const std::size_t offset : rows.offsets_)
      wrong |= static_cast<std::uint32_t>(at[offset - 1]) ^ 1u;
  }
  return wrong == 0;
}

UniformRows::UniformRows(const Schema& schema, ByteSpan bytes)
    : schema_(schema), bytes_(bytes), stride_(20) {
  offsets_.reserve(schema.fields.size());
  for (const Field& field : schema.fields) {
    offsets_.push_back(stride_ + 1);
    stride_ += 1 + fixed_width(field.dtype);
  }
}

std::uint64_t UniformRows::cell(std::size_t row, std::size_t field) const {
  const DType dtype = schema_.fields[field].dtype;
  const std::byte* from = at(row) + offsets_[field];
  if (dtype == DType::kF64) return load_le<std::uint64_t>(from);
  return cell_of(dtype, load_wire(from, fixed_width(dtype)));
}

Status decode_rows(ByteSpan bytes, std::size_t count, RowBatch& out) {
  const auto& fields = out.schema()->fields;
  ByteReader reader(bytes);
  if (count > kBatchRowsMax) return Status::corrupt("canonical rows: too many rows");
  if (UniformRows::are(*out.schema(), bytes, count)) {
    const UniformRows rows(*out.schema(), bytes);
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t row = out.add_row(rows.time_ns(i), {}, rows.source_seq(i));
      for (std::size_t f = 0; f < fields.size(); ++f) out.set_cell(row, f, rows.cell(i, f));
    }
    return Status::ok();
  }
  for (std::size_t i = 0; i < count; ++i) {
    std::int64_t time = 0;
    std::uint64_t source_seq = 0;
    ByteSpan source;
    if (!reader.take(time) || !take_blob(reader, source) || !reader.take(source_seq))
      return Status::corrupt("canonical rows: row " + std::to_string(i) + " ends early");
    const std::size_t row = out.add_row(time, as_text(source), source_seq);
    for (std::size_t f = 0; f < fields.size(); ++f)
      if (!take_value(reader, fields[f], out, row, f))
        return Status::corrupt("canonical rows: row " + std::to_string(i) + ", field " +
                               fields[f].name + " is malformed");
  }
  if (reader.remaining() != 0) return Status::corrupt("canonical rows: bytes behind the last row");
  return Status::ok();
}

Result<std::size_t> rows_size(const Schema& schema, ByteSpan bytes, std::size_t count) {
  ByteReader reader(bytes);
  for (std::size_t i = 0; i < count; ++i) {
    ByteSpan source;
    bool whole = reader.skip(8) && take_blob(reader, source) && reader.skip(8);
    for (const Field& field : schema.fields) whole = whole && skip_value(reader, field);
    if (!whole) return Status::corrupt("canonical rows: row " + std::to_string(i) + " ends early");
  }
  return reader.position();
}

Digest run_digest(const StoreId& store, std::uint32_t partition, std::uint64_t first,
                  std::uint64_t count, const Digest& schema, ByteSpan rows) {
  Bytes head;
  ByteWriter writer(head);
  writer.put_bytes(store);
  writer.put(partition);
  writer.put(first);
  writer.put(count);
  writer.put_bytes(schema);
  Blake3 hasher;
  hasher.update(head);
  hasher.update(rows);
  return hasher.finish();
}

}  // namespace edgecore
