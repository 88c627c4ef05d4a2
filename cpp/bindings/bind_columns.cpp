// edgecore._core.columns: column blocks.
#include "base/exact.hpp"
#include "bindings/rows.hpp"
#include "columns/block.hpp"

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
  Bytes rows;
  const DecodedBlock decoded = unlocked([&]() -> Result<DecodedBlock> {
    EDGECORE_ASSIGN(auto out, decode_block(view.bytes(), core->schema()));
    encode_rows(out.rows, 0, out.rows.count(), rows);
    return out;
  });
  py::list arrivals;
  for (const Arrival& a : decoded.arrivals)
    arrivals.append(py::make_tuple(a.rows, a.position, a.hlc, int{a.clock_trust}));
  return py::make_tuple(to_py_bytes(rows), arrivals);
}

py::tuple header(const py::object& block) {
  const BufferView view(block);
  const BlockHeader found = take(read_block_header(view.bytes()));
  const BlockIdentity& identity = found.identity;
  return py::make_tuple(to_py_bytes(identity.store), identity.partition, identity.first,
                        found.count, to_py_bytes(found.schema), to_py_bytes(found.digest),
                        found.coding == Coding::kFast ? "fast" : "dense");
}

// array.array of 8-byte cells.
py::object array_of(const char* code, const std::vector<std::uint64_t>& cells) {
  const py::object made = py::module_::import("array").attr("array")(code);
  made.attr("frombytes")(py::memoryview::from_memory(
      cells.data(), static_cast<py::ssize_t>(cells.size() * sizeof(std::uint64_t))));
  return made;
}

py::object column(const py::object& block, const py::object& schema, const std::string& name) {
  const SchemaPtr core = schema_of(schema)->schema();
  const BufferView view(block);
  Column found = unlocked([&]() -> Result<Column> {
    EDGECORE_ASSIGN(auto out, decode_column(view.bytes(), *core, name));
    const int index = core->find(name);
    if (index < 0) return out;
    const Field& field = core->fields[static_cast<std::size_t>(index)];
    if (field.dtype != DType::kDecimal && !is_float(field.dtype)) return out;
    for (std::size_t i = 0; i < out.cells.size(); ++i)
      if (out.presence[i] == 0)
        out.cells[i] = 0x7ff8000000000000;
      else if (field.dtype == DType::kDecimal)
        out.cells[i] = std::bit_cast<std::uint64_t>(
            grid_to_double(static_cast<std::int64_t>(out.cells[i]), field.scale));
    return out;
  });
  const int index = core->find(name);
  const DType dtype = index >= 0         ? core->fields[static_cast<std::size_t>(index)].dtype
                      : name == "time"   ? DType::kI64
                      : name == "source" ? DType::kUtf8
                                         : DType::kU64;
  if (dtype == DType::kDecimal || is_float(dtype)) return array_of("d", found.cells);
  const bool whole =
      std::find(found.presence.begin(), found.presence.end(), 0) == found.presence.end();
  if (whole && is_integer(dtype) && dtype != DType::kBool)
    return array_of(is_unsigned(dtype) ? "Q" : "q", found.cells);
  py::list out;
  for (std::size_t i = 0; i < found.cells.size(); ++i) {
    const std::uint64_t cell = found.cells[i];
    if (found.presence[i] == 0)
      out.append(py::none());
    else if (dtype == DType::kBool)
      out.append(py::bool_(cell != 0));
    else if (is_unsigned(dtype))
      out.append(py::int_(cell));
    else if (!is_variable(dtype))
      out.append(py::int_(static_cast<std::int64_t>(cell)));
    else if (dtype == DType::kBytes)
      out.append(to_py_bytes(found.text(i)));
    else
      out.append(py::reinterpret_steal<py::object>(
          PyUnicode_DecodeUTF8(reinterpret_cast<const char*>(found.text(i).data()),
                               static_cast<Py_ssize_t>(found.text(i).size()), "replace")));
  }
  return out;
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
  m.def("column", &column, py::arg("block"), py::arg("schema"), py::arg("name"));
}

}  // namespace edgecore::bindings
