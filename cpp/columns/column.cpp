#include "columns/column.hpp"

#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "columns/decimal.hpp"

namespace edgecore {
namespace {

// What a part (a column, or one group of it) is made of.
enum Kind : std::uint8_t {
  kIntegers = 0,    // stream
  kDecimals = 1,    // scale, streams of integers and of units in the last place, patches
  kBits = 2,        // stream of IEEE bits
  kDictionary = 3,  // entries, lengths, bytes; stream of indices
  kTexts = 4,       // lengths, bytes
};
// Bits are read at the speed of a copy: decimals must save this part of them.
constexpr std::size_t kDecimalsGain = 16;
// A dictionary pays when entries are used twice.
constexpr std::size_t kUsesMin = 2;

std::span<const std::int64_t> as_signed(std::span<const std::uint64_t> cells) {
  return {reinterpret_cast<const std::int64_t*>(cells.data()), cells.size()};
}
std::span<std::int64_t> as_signed(std::span<std::uint64_t> cells) {
  return {reinterpret_cast<std::int64_t*>(cells.data()), cells.size()};
}

// ---------------------------------------------------------------- numbers out

void put_decimals(StreamSink& sink, DType dtype, unsigned scale,
                  std::span<const std::uint64_t> cells) {
  Integers integers, ulps, gaps, patches;
  std::size_t next = 0;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    DecimalParts parts;
    if (!to_decimal(dtype, cells[i], scale, parts)) {
      gaps.push_back(static_cast<std::int64_t>(i - next));
      patches.push_back(static_cast<std::int64_t>(bits_of_cell(dtype, cells[i])));
      next = i + 1;
      parts = {integers.empty() ? 0 : integers.back(), 0};
    }
    integers.push_back(parts.integer);
    ulps.push_back(parts.ulps);
  }
  sink.put_count(kDecimals);
  sink.put_count(scale);
  sink.put_integers(integers);
  sink.put_integers(ulps);
  sink.put_count(gaps.size());
  sink.put_integers(gaps);
  sink.put_integers(patches);
}

void put_bits(StreamSink& sink, DType dtype, std::span<const std::uint64_t> cells) {
  Integers bits;
  for (const std::uint64_t cell : cells)
    bits.push_back(static_cast<std::int64_t>(bits_of_cell(dtype, cell)));
  sink.put_count(kBits);
  sink.put_integers(bits);
}

void put_numbers(StreamSink& sink, DType dtype, std::span<const std::uint64_t> cells) {
  if (!is_float(dtype)) {
    sink.put_count(kIntegers);
    sink.put_integers(as_signed(cells));
    return;
  }
  const unsigned scale = likely_scale(dtype, cells);
  const auto decimals = make_sink(Coding::kFast), bits = make_sink(Coding::kFast);
  put_decimals(*decimals, dtype, scale, cells);
  put_bits(*bits, dtype, cells);
  const std::size_t plain = bits->finish().size();
  if (decimals->finish().size() < plain - plain / kDecimalsGain)
    put_decimals(sink, dtype, scale, cells);
  else
    put_bits(sink, dtype, cells);
}

// ---------------------------------------------------------------- texts out

struct Dictionary {
  std::vector<std::string_view> entries;
  Integers indices;
};

Dictionary dictionary_of(std::span<const std::string_view> texts) {
  Dictionary out;
  std::unordered_map<std::string_view, std::int64_t> known;
  for (const std::string_view text : texts) {
    const auto [found, fresh] =
        known.try_emplace(text, static_cast<std::int64_t>(out.entries.size()));
    if (fresh) out.entries.push_back(text);
    out.indices.push_back(found->second);
  }
  return out;
}

void put_texts(StreamSink& sink, std::span<const std::string_view> texts) {
  Integers lengths;
  Bytes bytes;
  for (const std::string_view text : texts) {
    lengths.push_back(static_cast<std::int64_t>(text.size()));
    const auto raw = as_byte_span(text);
    bytes.insert(bytes.end(), raw.begin(), raw.end());
  }
  sink.put_integers(lengths);
  sink.put_bytes(bytes);
}

std::vector<std::string_view> present_texts(const Column& column) {
  std::vector<std::string_view> out;
  for (std::size_t row = 0; row < column.cells.size(); ++row)
    if (column.presence[row] != 0) out.push_back(as_text(column.text(row)));
  return out;
}

void put_variable(StreamSink& sink, const Column& column) {
  const auto texts = present_texts(column);
  const Dictionary dictionary = dictionary_of(texts);
  if (dictionary.entries.size() * kUsesMin <= texts.size() || dictionary.entries.size() == 1) {
    sink.put_count(kDictionary);
    sink.put_count(dictionary.entries.size());
    put_texts(sink, dictionary.entries);
    sink.put_integers(dictionary.indices);
  } else {
    sink.put_count(kTexts);
    put_texts(sink, texts);
  }
}

// ---------------------------------------------------------------- columns out

// No presence: all are.
bool is_present(std::span<const std::uint8_t> presence, std::size_t row) {
  return presence.empty() || presence[row] != 0;
}

// The present rows of each group, in order.
std::vector<std::vector<std::uint32_t>> rows_of_groups(const Grouping& grouping,
                                                       std::span<const std::uint8_t> presence) {
  std::vector<std::vector<std::uint32_t>> out(grouping.groups);
  for (std::uint32_t row = 0; row < grouping.of_row.size(); ++row)
    if (is_present(presence, row)) out[grouping.of_row[row]].push_back(row);
  return out;
}

WrittenColumn write_one(Coding coding, DType dtype, const Column& column,
                        const Grouping* grouping) {
  WrittenColumn out;
  const auto sink = make_sink(coding);
  if (grouping != nullptr) {
    out.flags |= kColumnGrouped;
    sink->put_count(grouping->field);
  }
  if (std::find(column.presence.begin(), column.presence.end(), 0) != column.presence.end()) {
    out.flags |= kColumnHasNulls;
    sink->put_integers(Integers(column.presence.begin(), column.presence.end()));
  }
  if (is_variable(dtype)) {
    put_variable(*sink, column);
  } else if (grouping != nullptr) {
    for (const auto& rows : rows_of_groups(*grouping, column.presence)) {
      std::vector<std::uint64_t> cells;
      for (const std::uint32_t row : rows) cells.push_back(column.cells[row]);
      if (!cells.empty()) put_numbers(*sink, dtype, cells);
    }
  } else {
    std::vector<std::uint64_t> cells;
    for (std::size_t row = 0; row < column.cells.size(); ++row)
      if (column.presence[row] != 0) cells.push_back(column.cells[row]);
    put_numbers(*sink, dtype, cells);
  }
  out.bytes = sink->finish();
  return out;
}

// ---------------------------------------------------------------- numbers in

[[nodiscard]] bool take_gaps(StreamSource& source, std::size_t rows, Integers& gaps,
                             Integers& values) {
  std::uint64_t count = 0;
  if (!source.take_count(count) || count > rows) return false;
  gaps.resize(count);
  values.resize(count);
  return source.take_integers(gaps) && source.take_integers(values);
}

[[nodiscard]] bool take_decimals(StreamSource& source, DType dtype,
                                 std::span<std::uint64_t> cells) {
  std::uint64_t scale = 0;
  Integers ulps(cells.size()), gaps, patches;
  if (!source.take_count(scale) || scale > kDecimalScaleMax) return false;
  if (!source.take_integers(as_signed(cells)) || !source.take_integers(ulps)) return false;
  if (!take_gaps(source, cells.size(), gaps, patches)) return false;
  if (!from_decimals(dtype, static_cast<unsigned>(scale), ulps, cells)) return false;
  std::size_t next = 0;
  for (std::size_t i = 0; i < gaps.size(); ++i) {
    const auto gap = static_cast<std::uint64_t>(gaps[i]);
    if (gap >= cells.size() - next) return false;
    cells[next + gap] = cell_of_bits(dtype, static_cast<std::uint64_t>(patches[i]));
    next += gap + 1;
  }
  return true;
}

// Not a number has one form; anything else was not written by an encoder.
bool all_canonical(std::span<const std::uint64_t> cells) {
  constexpr std::uint64_t kSign = std::uint64_t{1} << 63, kInfinity = 0x7ff0000000000000u;
  std::uint64_t any = 0;  // its sign, when something is beyond infinity; most columns have none
  for (const std::uint64_t cell : cells) any |= kInfinity - (cell & ~kSign);
  if (any < kSign) return true;
  unsigned wrong = 0;
  for (const std::uint64_t cell : cells)
    wrong |= static_cast<unsigned>((cell & ~kSign) > kInfinity) &
             static_cast<unsigned>(cell != 0x7ff8000000000000u);
  return wrong == 0;
}

// True when the cell is one that the dtype can have.
bool in_dtype(DType dtype, std::uint64_t cell) {
  const auto value = static_cast<std::int64_t>(cell);
  switch (dtype) {
    case DType::kBool:
      return cell <= 1;
    case DType::kI8:
      return value == static_cast<std::int8_t>(value);
    case DType::kI16:
      return value == static_cast<std::int16_t>(value);
    case DType::kI32:
      return value == static_cast<std::int32_t>(value);
    case DType::kU8:
      return cell <= 0xffu;
    case DType::kU16:
      return cell <= 0xffffu;
    case DType::kU32:
      return cell <= 0xffffffffu;
    default:
      return true;
  }
}

[[nodiscard]] bool take_numbers(StreamSource& source, DType dtype, std::span<std::uint64_t> cells) {
  std::uint64_t kind = 0;
  if (!source.take_count(kind)) return false;
  if (!is_float(dtype))
    return kind == kIntegers && source.take_integers(as_signed(cells)) &&
           std::all_of(cells.begin(), cells.end(), [&](auto c) { return in_dtype(dtype, c); });
  if (kind == kDecimals) return take_decimals(source, dtype, cells) && all_canonical(cells);
  if (kind != kBits || !source.take_integers(as_signed(cells))) return false;
  if (dtype == DType::kF32)
    for (std::uint64_t& cell : cells) {
      if (cell > 0xffffffffu) return false;
      cell = cell_of_bits(dtype, cell);
    }
  return all_canonical(cells);
}

// ---------------------------------------------------------------- texts in

// Cells of `count` texts, whose bytes go to the column's blob.
[[nodiscard]] bool take_texts(StreamSource& source, std::size_t count, std::size_t blob_max,
                              Bytes& blob, std::vector<std::uint64_t>& cells) {
  Integers lengths(count);
  if (!source.take_integers(lengths)) return false;
  std::uint64_t total = 0;
  for (const std::int64_t length : lengths) {
    const auto size = static_cast<std::uint64_t>(length);
    if (size > blob_max - total) return false;
    cells.push_back(total | (size << 32));
    total += size;
  }
  return source.take_bytes(total, blob);
}

[[nodiscard]] bool take_variable(StreamSource& source, const ColumnRequest& request,
                                 std::span<std::uint64_t> cells, CellsOut out) {
  std::uint64_t kind = 0, count = 0;
  std::vector<std::uint64_t> texts;
  if (!source.take_count(kind)) return false;
  if (kind == kTexts) {
    if (!take_texts(source, cells.size(), request.blob_max, out.blob, texts)) return false;
    std::copy(texts.begin(), texts.end(), cells.begin());
    return true;
  }
  if (kind != kDictionary || !source.take_count(count) || count > cells.size()) return false;
  if (!take_texts(source, count, request.blob_max, out.blob, texts)) return false;
  Integers indices(cells.size());
  if (!source.take_integers(indices)) return false;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const auto index = static_cast<std::uint64_t>(indices[i]);
    if (index >= count) return false;
    cells[i] = texts[index];
  }
  if (request.made != nullptr) {
    std::size_t at = 0;
    request.made->groups = static_cast<std::uint32_t>(count) + 1;
    for (std::size_t row = 0; row < request.rows; ++row)
      request.made->of_row.push_back(static_cast<std::uint32_t>(
          is_present(out.presence, row) ? static_cast<std::uint64_t>(indices[at++]) : count));
  }
  return true;
}

[[nodiscard]] bool take_presence(StreamSource& source, std::vector<std::uint8_t>& presence,
                                 std::size_t& present) {
  Integers bits(presence.size());
  if (!source.take_integers(bits)) return false;
  present = 0;
  for (std::size_t row = 0; row < bits.size(); ++row) {
    if (bits[row] != 0 && bits[row] != 1) return false;
    presence[row] = static_cast<std::uint8_t>(bits[row]);
    present += presence[row];
  }
  return true;
}

[[nodiscard]] bool take_grouped(StreamSource& source, const ColumnRequest& request, CellsOut out) {
  if (!out.presence.empty()) std::fill(out.cells.begin(), out.cells.end(), 0);
  std::vector<std::uint64_t> cells;
  for (const auto& rows : rows_of_groups(*request.grouping, out.presence)) {
    if (rows.empty()) continue;
    cells.resize(rows.size());
    if (!take_numbers(source, request.dtype, cells)) return false;
    for (std::size_t i = 0; i < rows.size(); ++i) out.cells[rows[i]] = cells[i];
  }
  return true;
}

// The values that stand in front of the cells go to the rows that have one, the last first.
void spread(std::span<const std::uint8_t> presence, std::size_t values,
            std::span<std::uint64_t> cells) {
  for (std::size_t row = cells.size(); row-- > 0;)
    cells[row] = presence[row] != 0 ? cells[--values] : 0;
}

}  // namespace

WrittenColumn write_column(Coding coding, DType dtype, const Column& column,
                           const Grouping* grouping) {
  if (grouping == nullptr || is_variable(dtype)) return write_one(coding, dtype, column, nullptr);
  WrittenColumn plain = write_one(Coding::kFast, dtype, column, nullptr);
  WrittenColumn grouped = write_one(Coding::kFast, dtype, column, grouping);
  const bool groups = grouped.bytes.size() < plain.bytes.size();
  if (coding == Coding::kFast) return groups ? std::move(grouped) : std::move(plain);
  return write_one(coding, dtype, column, groups ? grouping : nullptr);
}

Grouping grouping_of(std::uint32_t field, const Column& column) {
  const Dictionary dictionary = dictionary_of(present_texts(column));
  const std::size_t entries = dictionary.entries.size();
  Grouping out;
  out.field = field;
  if (entries < 2 || entries >= kGroupsMax || entries * 4 > column.cells.size()) return out;
  out.groups = static_cast<std::uint32_t>(entries) + 1;
  std::size_t at = 0;
  for (const std::uint8_t present : column.presence)
    out.of_row.push_back(present != 0 ? static_cast<std::uint32_t>(dictionary.indices[at++])
                                      : static_cast<std::uint32_t>(entries));
  return out;
}

bool read_group_field(Coding coding, ByteSpan bytes, std::uint32_t& out) {
  std::uint64_t field = 0;
  if (!make_source(coding, bytes)->take_count(field) || field > 0xffffu) return false;
  out = static_cast<std::uint32_t>(field);
  return true;
}

bool read_cells(Coding coding, ByteSpan bytes, const ColumnRequest& request, CellsOut out) {
  const auto source = make_source(coding, bytes);
  const bool grouped = (request.flags & kColumnGrouped) != 0;
  const bool nulls = (request.flags & kColumnHasNulls) != 0;
  if (request.flags > (kColumnGrouped | kColumnHasNulls)) return false;
  if (grouped && (request.grouping == nullptr || is_variable(request.dtype))) return false;
  std::uint64_t field = 0;
  if (grouped && !source->take_count(field)) return false;
  std::size_t present = request.rows;
  out.presence.assign(nulls ? request.rows : 0, 0);
  if (nulls && !take_presence(*source, out.presence, present)) return false;
  if (grouped) return take_grouped(*source, request, out) && source->at_end();
  const auto values = out.cells.first(present);
  if (is_variable(request.dtype) ? !take_variable(*source, request, values, out)
                                 : !take_numbers(*source, request.dtype, values))
    return false;
  if (nulls) spread(out.presence, present, out.cells);
  return source->at_end();
}

bool read_column(Coding coding, ByteSpan bytes, const ColumnRequest& request, Column& out) {
  out.cells.resize(request.rows);
  if (!read_cells(coding, bytes, request, {out.cells, out.presence, out.blob})) return false;
  if (out.presence.empty()) out.presence.assign(request.rows, 1);
  return true;
}

}  // namespace edgecore
