// edgecore._core.features: the batch kernel, of one stream and of several.
#include <pybind11/stl.h>

#include "bindings/features.hpp"
#include "bindings/rows.hpp"
#include "features/joined_batch.hpp"

namespace edgecore::bindings {

using features::Plan;

namespace {

py::str entity_text(const Plan& plan, const RowBatch& rows, std::size_t row) {
  if (plan.entity_field() < 0) return "";
  const auto field = static_cast<std::size_t>(plan.entity_field());
  if (!rows.present(row, field)) return "";
  const DType dtype = rows.schema()->fields[field].dtype;
  if (is_variable(dtype)) {
    const std::string_view text = rows.text(row, field);
    PyObject* decoded =
        PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "surrogateescape");
    if (decoded == nullptr) throw py::error_already_set();
    return py::reinterpret_steal<py::str>(decoded);
  }
  return is_unsigned(dtype) ? py::str(std::to_string(rows.cell(row, field)))
                            : py::str(std::to_string(rows.i64(row, field)));
}

// What a backfill says of `count` rows, `width` features each: (times i64, values f64, states u8,
// row numbers u32, final u8), and how many rows were late.
struct Told {
  Told(std::size_t count, std::size_t width)
      : times(count), numbers(count), values(count * width), states(count * width), final(count) {}
  features::Columns columns() const {
    return {times.span, numbers.span, final.span, values.span, states.span};
  }
  py::tuple tuple() const {
    return py::make_tuple(times.object, values.object, states.object, numbers.object, final.object,
                          late);
  }
  const Room<std::int64_t> times;
  const Room<std::uint32_t> numbers;
  const Room<double> values;
  const Room<std::uint8_t> states, final;
  std::uint64_t late = 0;
};

py::tuple backfill(const std::shared_ptr<Plan>& plan, const PyBatch& batch, bool arrival,
                   std::int64_t since, std::int64_t until, const GapNumbers& numbers) {
  const auto gaps = gaps_of(numbers);
  const features::Part part{since, until, arrival, gaps};
  features::Chosen chosen;
  {
    const py::gil_scoped_release release;
    chosen = features::choose(*plan, batch.rows(), part);
  }
  Told told(chosen.count, plan->width());
  Status status;
  {
    const py::gil_scoped_release release;
    status = features::answer(plan, batch.rows(), part, chosen, told.columns(), told.late);
  }
  raise_if_bad(status);
  return told.tuple();
}

using GapNumbersAt = std::vector<std::tuple<std::uint64_t, std::int64_t, std::int64_t>>;

// `histories`: of each stream, the view's own first, its batch, its rows' positions (u64) or
// nothing, and its gaps: (position, from, to).
py::tuple backfill_joined(const py::object& plans, const py::list& histories, bool arrival,
                          std::int64_t since, std::int64_t until) {
  const features::PartsPtr parts = parts_of(plans);
  std::vector<PyBatchPtr> batches;
  std::vector<std::vector<std::uint64_t>> positions;
  std::vector<std::vector<features::GapAt>> gaps;
  for (const py::handle item : histories) {
    const auto one = item.cast<py::tuple>();
    batches.push_back(one[0].cast<PyBatchPtr>());
    positions.push_back(one[1].cast<std::vector<std::uint64_t>>());
    gaps.emplace_back();
    for (const auto& [position, from, to] : one[2].cast<GapNumbersAt>())
      gaps.back().push_back({position, from, to});
  }
  if (batches.empty()) raise_if_bad(Status::invalid("backfill: no rows are given"));
  std::vector<features::History> of;
  for (std::size_t at = 0; at < batches.size(); ++at)
    of.push_back({&batches[at]->rows(), positions[at], gaps[at]});
  const features::Part part{since, until, arrival, {}};
  features::Chosen chosen;
  {
    const py::gil_scoped_release release;
    chosen = features::choose(parts->own(), *of.front().rows, part);
  }
  Told told(chosen.count, parts->width());
  Status status;
  {
    const py::gil_scoped_release release;
    status = features::answer(parts, of.front(), std::span(of).subspan(1), part, chosen,
                              told.columns(), told.late);
  }
  raise_if_bad(status);
  return told.tuple();
}

// The entity of each row, in the order of `numbers` (u32).
py::list entities(const std::shared_ptr<Plan>& plan, const PyBatch& batch,
                  const py::object& numbers) {
  const BufferView view(numbers);
  const std::size_t count = view.bytes().size() / sizeof(std::uint32_t);
  py::list out(count);
  for (std::size_t i = 0; i < count; ++i) {
    const auto row = load_le<std::uint32_t>(view.bytes().data() + i * sizeof(std::uint32_t));
    if (row >= batch.rows().count()) raise_if_bad(Status::invalid("a row beyond the batch"));
    out[i] = entity_text(*plan, batch.rows(), row);
  }
  return out;
}

}  // namespace

void bind_backfill(py::module_& m) {
  m.def("backfill_joined", &backfill_joined, py::arg("parts"), py::arg("histories"),
        py::arg("arrival"), py::arg("since"), py::arg("until"));
  m.def("backfill", &backfill, py::arg("plan"), py::arg("batch"), py::arg("arrival") = false,
        py::arg("since") = INT64_MIN, py::arg("until") = INT64_MAX, py::arg("gaps") = GapNumbers());
  m.def("entities", &entities, py::arg("plan"), py::arg("batch"), py::arg("numbers"));
}

}  // namespace edgecore::bindings
