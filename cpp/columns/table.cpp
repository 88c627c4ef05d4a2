#include "columns/table.hpp"

#include <algorithm>
#include <array>

namespace edgecore {
namespace {

constexpr std::array<const char*, TableColumn::kField> kKeyNames = {
    "partition", "sequence", "position", "time", "source", "source_seq"};
constexpr std::array<DType, TableColumn::kField> kKeyDtypes = {
    DType::kU32, DType::kU64, DType::kU64, DType::kI64, DType::kCategory, DType::kU64};
constexpr unsigned kDecimalDigits = 19;  // of any grid integer
constexpr std::size_t kRoomMin = 64;

std::string form_of(const Field& field) {
  static constexpr const char* kNames[] = {"",        "bool",     "i8",   "i16",  "i32", "i64",
                                           "u8",      "u16",      "u32",  "u64",  "f32", "f64",
                                           "decimal", "category", "utf8", "bytes"};
  const std::string name = kNames[static_cast<std::size_t>(field.dtype)];
  return field.dtype == DType::kDecimal ? name + "(" + std::to_string(field.scale) + ")" : name;
}

// Those that a schema names so, the newest first.
std::vector<const Field*> fields_named(const std::vector<SchemaPtr>& schemas,
                                       const std::string& name) {
  std::vector<const Field*> out;
  for (const SchemaPtr& schema : schemas)
    if (const int found = schema->find(name); found >= 0)
      out.push_back(&schema->fields[static_cast<std::size_t>(found)]);
  return out;
}

std::string table_name(const std::string& field) {
  const auto identity = std::span(kKeyNames).first(TableColumn::kTime);
  const bool taken = std::find(identity.begin(), identity.end(), field) != identity.end();
  return taken ? "values." + field : field;
}

TableColumn key_column(std::size_t key) {
  TableColumn out;
  out.kind = static_cast<TableColumn::Kind>(key);
  out.name = kKeyNames[key];
  out.dtype = kKeyDtypes[key];
  return out;
}

Result<TableColumn> field_column(const std::vector<SchemaPtr>& schemas, const std::string& name) {
  const auto found = fields_named(schemas, name);
  TableColumn out;
  out.name = table_name(name);
  out.field = name;
  out.dtype = found[0]->dtype;
  unsigned scale_min = found[0]->scale;
  std::vector<std::string> forms;
  for (const Field* field : found) {
    scale_min = std::min<unsigned>(scale_min, field->scale);
    out.scale = std::max<unsigned>(out.scale, field->scale);
    forms.push_back(form_of(*field));
  }
  out.digits = kDecimalDigits + out.scale - scale_min;
  const bool one = std::all_of(found.begin(), found.end(),
                               [&](const Field* field) { return field->dtype == out.dtype; });
  if (one) return out;
  std::sort(forms.begin(), forms.end());
  forms.erase(std::unique(forms.begin(), forms.end()), forms.end());
  std::string text = forms[0];
  for (std::size_t i = 1; i < forms.size(); ++i) text += " and " + forms[i];
  return Status::incompatible("field " + name + ": " + text +
                              " in versions of one stream, which no column of a table is");
}

std::string format_of(const TableColumn& column) {
  switch (column.dtype) {
    case DType::kBool:
      return "b";
    case DType::kI8:
      return "c";
    case DType::kI16:
      return "s";
    case DType::kI32:
    case DType::kCategory:  // keys of the dictionary
      return "i";
    case DType::kI64:
      return column.kind == TableColumn::kTime ? "tsn:UTC" : "l";
    case DType::kU8:
      return "C";
    case DType::kU16:
      return "S";
    case DType::kU32:
      return "I";
    case DType::kU64:
      return "L";
    case DType::kF32:
      return "f";
    case DType::kF64:
      return "g";
    case DType::kDecimal:
      return "d:" + std::to_string(column.digits) + "," + std::to_string(column.scale);
    case DType::kUtf8:
      return "u";
    default:
      return "z";
  }
}

std::vector<std::unique_ptr<ColumnValues>> values_of(const std::vector<TableColumn>& columns) {
  std::vector<std::unique_ptr<ColumnValues>> out;
  for (const TableColumn& column : columns) out.push_back(make_values(column.dtype, column.scale));
  return out;
}

}  // namespace

ArrowType TableColumn::type() const {
  ArrowType out;
  out.format = format_of(*this);
  out.name = name;
  out.metadata = metadata;
  if (dtype == DType::kCategory) {
    ArrowType texts;
    texts.format = "u";
    out.dictionary = std::make_shared<const ArrowType>(std::move(texts));
  }
  return out;
}

Result<std::vector<TableColumn>> table_columns(std::vector<SchemaPtr> schemas,
                                               const std::vector<std::string>& names) {
  std::stable_sort(schemas.begin(), schemas.end(),
                   [](const auto& a, const auto& b) { return a->version > b->version; });
  std::vector<std::string> fields;
  for (const SchemaPtr& schema : schemas)
    for (const Field& field : schema->fields)
      if (std::find(fields.begin(), fields.end(), field.name) == fields.end())
        fields.push_back(field.name);
  std::vector<std::string> wanted = names;
  if (names.empty()) {
    wanted.assign(kKeyNames.begin(), kKeyNames.end());
    for (const std::string& field : fields) wanted.push_back(table_name(field));
  }
  std::vector<TableColumn> out;
  for (const std::string& name : wanted) {
    const auto key = std::find(kKeyNames.begin(), kKeyNames.end(), name);
    const auto field = std::find_if(fields.begin(), fields.end(), [&](const std::string& one) {
      return table_name(one) == name;
    });
    if (key != kKeyNames.end()) {
      out.push_back(key_column(static_cast<std::size_t>(key - kKeyNames.begin())));
    } else if (field != fields.end()) {
      EDGECORE_ASSIGN(auto column, field_column(schemas, *field));
      out.push_back(std::move(column));
    } else {
      return Status::invalid("no column '" + name + "': partition, sequence, position, time, " +
                             "source, source_seq, or a field of the stream");
    }
  }
  return out;
}

// ---------------------------------------------------------------- filling

TableBuilder::TableBuilder(std::vector<TableColumn> columns, TimeSpan times)
    : columns_(std::move(columns)), values_(values_of(columns_)), times_(times) {}

ArrowType TableBuilder::type() const {
  ArrowType out;
  out.format = "+s";
  for (const TableColumn& column : columns_) out.children.push_back(column.type());
  return out;
}

bool TableBuilder::has_room(std::size_t more) const {
  if (rows_ == 0) return true;
  std::size_t texts = 0;
  for (const auto& values : values_) texts += values->text_bytes();
  return rows_ + more <= kTableRowsMax && texts <= kTableTextBytesMax;
}

const Field* TableBuilder::field_of(std::size_t index) const {
  return fields_[index] < 0 ? nullptr : &schema_->fields[static_cast<std::size_t>(fields_[index])];
}

void TableBuilder::plan(const SchemaPtr& schema) {
  if (schema_ == schema) return;
  schema_ = schema;
  fields_.clear();
  for (const TableColumn& column : columns_)
    fields_.push_back(column.kind == TableColumn::kField ? schema->find(column.field) : -1);
}

// Of the rows with these times, those that are wanted; none are given when all are.
void TableBuilder::choose(std::span<const std::int64_t> times) {
  chosen_.clear();
  for (std::uint32_t row = 0; row < times.size(); ++row)
    if (times[row] >= times_.first && times[row] <= times_.last) chosen_.push_back(row);
  whole_ = times.empty() || chosen_.size() == times.size();
  added_ = whole_ ? count_ : chosen_.size();
}

void TableBuilder::make_room() {
  const std::size_t wanted = rows_ + added_;
  if (wanted <= room_) return;
  const std::size_t likely = std::min(kTableRowsMax, std::max({expected_, 2 * room_, kRoomMin}));
  room_ = std::max(wanted, likely);
  for (const auto& values : values_) values->make_room(room_, rows_);
}

// What the places say, a cell per row.
bool TableBuilder::fill_place(TableColumn::Kind kind) {
  if (kind > TableColumn::kPosition) return false;
  column_.presence.clear();
  column_.cells.clear();
  for (const RowPlaces& place : places_)
    for (std::size_t i = 0; i < place.count; ++i)
      column_.cells.push_back(kind == TableColumn::kPartition  ? place.partition
                              : kind == TableColumn::kSequence ? place.sequence + i
                                                               : place.position + i);
  return true;
}

// Adds the wanted ones of the column's cells. What has no source or number has none, not an empty
// one.
void TableBuilder::put(std::size_t index) {
  const TableColumn& column = columns_[index];
  auto& [presence, cells, blob] = column_;
  if (column.kind == TableColumn::kSource || column.kind == TableColumn::kSourceSeq) {
    presence.resize(cells.size());
    for (std::size_t row = 0; row < cells.size(); ++row)
      presence[row] =
          (column.kind == TableColumn::kSource ? cells[row] >> 32 : cells[row]) != 0 ? 1 : 0;
  }
  if (!whole_) {
    for (std::size_t i = 0; i < chosen_.size(); ++i) cells[i] = cells[chosen_[i]];
    for (std::size_t i = 0; i < chosen_.size() && !presence.empty(); ++i)
      presence[i] = presence[chosen_[i]];
    cells.resize(added_);
    if (!presence.empty()) presence.resize(added_);
  }
  const Field* field = field_of(index);
  values_[index]->put(rows_, column_, field == nullptr ? 0 : field->scale);
}

Status TableBuilder::add_column(BlockReader& reader, std::size_t index) {
  const TableColumn& column = columns_[index];
  const bool is_field = column.kind == TableColumn::kField;
  if (is_field && field_of(index) == nullptr) {
    column_.cells.assign(count_, 0);
    column_.presence.assign(count_, 0);
    put(index);
    return Status::ok();
  }
  if (fill_place(column.kind)) {
    put(index);
    return Status::ok();
  }
  EDGECORE_ASSIGN(const std::size_t from, reader.find(is_field ? column.field : column.name));
  const bool as_cells = whole_ && column.kind != TableColumn::kSourceSeq;
  const auto place = as_cells ? values_[index]->place(rows_, count_) : std::span<std::uint64_t>();
  if (!place.empty()) {
    EDGECORE_TRY(reader.read_cells(from, place, column_.presence));
    values_[index]->put_presence(rows_, count_, column_.presence);
    return Status::ok();
  }
  if (is_variable(column.dtype)) {
    EDGECORE_TRY(reader.read(from, column_));
  } else {
    column_.cells.resize(count_);
    EDGECORE_TRY(reader.read_cells(from, column_.cells, column_.presence));
  }
  put(index);
  return Status::ok();
}

// Its arrivals are needed for positions alone.
Status TableBuilder::place_block(const BlockReader& reader, const RowPlaces& place) {
  const BlockHeader& header = reader.header();
  if (header.identity.partition != place.partition || header.identity.first != place.sequence ||
      header.count != place.count)
    return Status::corrupt("a pack's block is another than its index says");
  places_.assign(1, place);
  const bool positions = std::any_of(columns_.begin(), columns_.end(), [](const auto& column) {
    return column.kind == TableColumn::kPosition;
  });
  if (!positions) return Status::ok();
  std::vector<Arrival> arrivals;
  EDGECORE_TRY(reader.read_arrivals(arrivals));
  places_.clear();
  std::size_t row = 0;
  for (const Arrival& arrival : arrivals) {
    places_.push_back({row, arrival.rows, place.partition, place.sequence + row, arrival.position});
    row += arrival.rows;
  }
  return Status::ok();
}

Status TableBuilder::add_block(const SchemaPtr& schema, ByteSpan block, const RowPlaces& place) {
  plan(schema);
  EDGECORE_ASSIGN(auto reader, BlockReader::open(block, *schema));
  EDGECORE_TRY(place_block(reader, place));
  count_ = place.count;
  row_times_.clear();
  if (timed()) {
    EDGECORE_ASSIGN(const std::size_t at, reader.find("time"));
    EDGECORE_TRY(reader.read(at, column_));
    for (const std::uint64_t cell : column_.cells)
      row_times_.push_back(static_cast<std::int64_t>(cell));
  }
  choose(row_times_);
  if (added_ == 0) return Status::ok();
  make_room();
  for (std::size_t i = 0; i < columns_.size(); ++i) EDGECORE_TRY(add_column(reader, i));
  rows_ += added_;
  return Status::ok();
}

// A key of the rows at the places.
void TableBuilder::fill_key(const RowBatch& rows, TableColumn::Kind kind) {
  column_.presence.clear();
  column_.cells.clear();
  column_.blob.clear();
  for (const RowPlaces& place : places_)
    for (std::size_t row = place.row; row < place.row + place.count; ++row) {
      if (kind == TableColumn::kTime) {
        column_.cells.push_back(static_cast<std::uint64_t>(rows.time_ns(row)));
      } else if (kind == TableColumn::kSourceSeq) {
        column_.cells.push_back(rows.source_seq(row));
      } else {
        column_.add_text(as_byte_span(rows.source(row)));
      }
    }
}

void TableBuilder::add_column(const RowBatch& rows, std::size_t index) {
  const TableColumn& column = columns_[index];
  if (column.kind != TableColumn::kField) {
    if (!fill_place(column.kind)) fill_key(rows, column.kind);
    return put(index);
  }
  column_.presence.clear();
  column_.cells.clear();
  column_.blob.clear();
  const bool variable = is_variable(column.dtype);
  const auto field = static_cast<std::size_t>(std::max(fields_[index], 0));
  for (const RowPlaces& place : places_)
    for (std::size_t row = place.row; row < place.row + place.count; ++row) {
      const bool present = fields_[index] >= 0 && rows.present(row, field);
      column_.presence.push_back(present ? 1 : 0);
      if (present && variable)
        column_.add_text(rows.bytes(row, field));
      else
        column_.cells.push_back(present ? rows.cell(row, field) : 0);
    }
  put(index);
}

void TableBuilder::add_rows(const RowBatch& rows, std::span<const RowPlaces> places) {
  plan(rows.schema());
  places_.assign(places.begin(), places.end());
  count_ = 0;
  row_times_.clear();
  for (const RowPlaces& place : places_) {
    count_ += place.count;
    for (std::size_t row = place.row; timed() && row < place.row + place.count; ++row)
      row_times_.push_back(rows.time_ns(row));
  }
  choose(row_times_);
  if (added_ == 0) return;
  make_room();
  for (std::size_t i = 0; i < columns_.size(); ++i) add_column(rows, i);
  rows_ += added_;
}

ArrowData TableBuilder::finish() {
  ArrowData out;
  out.length = static_cast<std::int64_t>(rows_);
  out.buffers.push_back(nullptr);
  for (const auto& values : values_) out.children.push_back(values->finish(rows_));
  expected_ -= std::min(expected_, rows_);
  rows_ = room_ = 0;
  return out;
}

}  // namespace edgecore
