// edgecore._core.columns: column blocks.
#include "bindings/rows.hpp"
#include "columns/block.hpp"
#include "columns/decimal.hpp"

namespace edgecore::bindings {
namespace {

using ArrivalTuple = std::tuple<std::uint32_t, std::uint64_t, std::uint64_t, int>;

Coding coding_of(const std::string& name) {
  if (name != "fast" && name != "dense")
    raise_if_bad(Status::invalid("coding " + name + ": fast or dense"));
  return name == "fast" ? Coding::kFast : Coding::kDense;
}

BlockIdentity identity_of(const py::bytes& store, std::uint32_t partition, std::uint64_t first) {
  BlockIdentity out{{}, partition, first};
  const BufferView view(store);
  if (view.bytes().size() != out.store.size())
    raise_if_bad(Status::invalid("a store id has 16 bytes"));
  std::copy(view.bytes().begin(), view.bytes().end(), out.store.begin());
  return out;
}

std::vector<Arrival> arrivals_of(const py::list& tuples) {
  std::vector<Arrival> out;
  for (const py::handle item : tuples) {
    const auto [rows, position, hlc, trust] = item.cast<ArrivalTuple>();
    if (trust < 0 || trust > 255) raise_if_bad(Status::invalid("clock trust is one byte"));
    out.push_back({rows, position, hlc, static_cast<std::uint8_t>(trust)});
  }
  return out;
}

py::bytes encode(const py::object& schema, const py::bytes& store, std::uint32_t partition,
                 std::uint64_t first, std::uint32_t count, const py::object& rows,
                 const py::list& arrivals, const std::string& coding) {
  const SchemaPtr core = schema_of(schema)->schema();
  const BlockIdentity identity = identity_of(store, partition, first);
  const std::vector<Arrival> arrived = arrivals_of(arrivals);
  const Coding chosen = coding_of(coding);
  const BufferView view(rows);
  const Bytes block = unlocked([&]() -> Result<Bytes> {
    RowBatch batch(core);
    EDGECORE_TRY(decode_rows(view.bytes(), count, batch));
    return encode_block(identity, batch, arrived, chosen);
  });
  return to_py_bytes(block);
}

py::tuple decode(const py::object& block, const py::object& schema) {
  const PySchemaPtr core = schema_of(schema);
  const BufferView view(block);
  DecodedBlock decoded = unlocked([&] { return decode_block(view.bytes(), core->schema()); });
  py::list arrivals;
  for (const Arrival& a : decoded.arrivals)
    arrivals.append(py::make_tuple(a.rows, a.position, a.hlc, int{a.clock_trust}));
  auto batch = std::make_shared<PyBatch>(core);
  batch->rows() = std::move(decoded.rows);
  return py::make_tuple(batch, arrivals);
}

py::tuple decode_to_rows(const py::object& block, const py::object& schema) {
  const PySchemaPtr core = schema_of(schema);
  const BufferView view(block);
  const DecodedBlock decoded = unlocked([&] { return decode_block(view.bytes(), core->schema()); });
  py::list arrivals;
  for (const Arrival& a : decoded.arrivals)
    arrivals.append(py::make_tuple(a.rows, a.position, a.hlc, int{a.clock_trust}));
  return py::make_tuple(to_py_bytes(decoded.canonical), arrivals);
}

py::tuple header(const py::object& block) {
  const BufferView view(block);
  const BlockHeader found = take(read_block_header(view.bytes()));
  const BlockIdentity& identity = found.identity;
  py::dict bounds;
  for (const ErrorBound& bound : found.bounds) bounds[py::int_(bound.field)] = bound.max_error;
  return py::make_tuple(to_py_bytes(identity.store), identity.partition, identity.first,
                        found.count, to_py_bytes(found.schema), to_py_bytes(found.digest),
                        found.coding == Coding::kFast ? "fast" : "dense", found.row_bytes, bounds);
}

// An array.array of `count` 8-byte cells, to be filled.
py::object array_of(const char* code, std::size_t count) {
  const py::object one = py::module_::import("array").attr("array")(code, py::make_tuple(0));
  return one * py::int_(count);
}

std::span<std::uint64_t> cells_of(const py::object& array) {
  const py::buffer_info info = py::reinterpret_borrow<py::buffer>(array).request(true);
  return {static_cast<std::uint64_t*>(info.ptr), static_cast<std::size_t>(info.size)};
}

// Null is NaN, a decimal the double nearest to it.
void to_doubles(DType dtype, unsigned scale, std::span<const std::uint8_t> presence,
                std::span<std::uint64_t> cells) {
  if (dtype == DType::kDecimal) grid_to_doubles(scale, cells);
  for (std::size_t row = 0; row < presence.size(); ++row)
    if (presence[row] == 0) cells[row] = 0x7ff8000000000000;
}

// Integers, of which some may be null.
py::object list_of_integers(DType dtype, std::span<const std::uint8_t> presence,
                            std::span<const std::uint64_t> cells) {
  py::list out;
  for (std::size_t row = 0; row < cells.size(); ++row) {
    if (!presence.empty() && presence[row] == 0)
      out.append(py::none());
    else if (dtype == DType::kBool)
      out.append(py::bool_(cells[row] != 0));
    else if (is_unsigned(dtype))
      out.append(py::int_(cells[row]));
    else
      out.append(py::int_(static_cast<std::int64_t>(cells[row])));
  }
  return out;
}

py::object list_of_texts(BlockReader& reader, std::size_t column) {
  Column found;
  unlocked([&] { return reader.read(column, found); });
  py::list out;
  for (std::size_t row = 0; row < found.cells.size(); ++row) {
    if (found.presence[row] == 0)
      out.append(py::none());
    else if (reader.dtype(column) == DType::kBytes)
      out.append(to_py_bytes(found.text(row)));
    else
      out.append(py::reinterpret_steal<py::object>(
          PyUnicode_DecodeUTF8(reinterpret_cast<const char*>(found.text(row).data()),
                               static_cast<Py_ssize_t>(found.text(row).size()), "replace")));
  }
  return out;
}

py::object values_of(BlockReader& reader, const Schema& schema, const std::string& name) {
  const std::size_t column = take(reader.find(name));
  const DType dtype = reader.dtype(column);
  if (is_variable(dtype)) return list_of_texts(reader, column);
  const bool doubles = dtype == DType::kDecimal || is_float(dtype);
  const int field = schema.find(name);
  const unsigned scale = field < 0 ? 0 : schema.fields[static_cast<std::size_t>(field)].scale;
  const py::object out =
      array_of(doubles ? "d" : (is_unsigned(dtype) ? "Q" : "q"), reader.header().count);
  const std::span<std::uint64_t> cells = cells_of(out);
  std::vector<std::uint8_t> presence;
  unlocked([&]() -> Status {
    EDGECORE_TRY(reader.read_cells(column, cells, presence));
    if (doubles) to_doubles(dtype, scale, presence, cells);
    return Status::ok();
  });
  if (doubles || (presence.empty() && dtype != DType::kBool)) return out;
  return list_of_integers(dtype, presence, cells);
}

py::list arrays(const py::object& block, const py::object& schema, const py::list& names) {
  const SchemaPtr core = schema_of(schema)->schema();
  const BufferView view(block);
  BlockReader reader = unlocked([&] { return BlockReader::open(view.bytes(), *core); });
  py::list out;
  for (const py::handle name : names)
    out.append(values_of(reader, *core, name.cast<std::string>()));
  return out;
}

py::object column(const py::object& block, const py::object& schema, const std::string& name) {
  py::list names;
  names.append(name);
  return arrays(block, schema, names)[0];
}

}  // namespace

void bind_columns(py::module_& m) {
  m.doc() = "see python/edgecore/_core/columns.pyi";
  m.def("encode", &encode, py::arg("schema"), py::arg("store"), py::arg("partition"),
        py::arg("first"), py::arg("count"), py::arg("rows"), py::arg("arrivals"),
        py::arg("coding") = "fast");
  m.def("decode", &decode, py::arg("block"), py::arg("schema"));
  m.def("decode_to_rows", &decode_to_rows, py::arg("block"), py::arg("schema"));
  m.def("header", &header, py::arg("block"));
  m.def("arrays", &arrays, py::arg("block"), py::arg("schema"), py::arg("names"));
  m.def("column", &column, py::arg("block"), py::arg("schema"), py::arg("name"));
}

}  // namespace edgecore::bindings
