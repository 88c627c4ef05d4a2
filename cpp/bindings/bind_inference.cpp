// edgecore._core.inference: executors, bindings (how features become model input), scores.
#include <pybind11/stl.h>

#include "bindings/common.hpp"
#include "inference/binding.hpp"
#include "inference/litert.hpp"
#include "inference/model.hpp"
#include "inference/score.hpp"
#include "inference/trees.hpp"

namespace edgecore::bindings {
namespace {

using inference::Binding;
using inference::Executor;
using inference::Isa;
using inference::Profile;
using inference::Quantisation;
using inference::ScoreKind;
using inference::Slot;
using inference::SlotKind;
using inference::TreeEnsemble;

template <typename T>
std::span<const T> span_of(const BufferView& view, const char* what) {
  if (view.bytes().size() % sizeof(T) != 0 ||
      reinterpret_cast<std::uintptr_t>(view.bytes().data()) % alignof(T) != 0)
    raise_if_bad(Status::invalid(std::string(what) + ": not whole, aligned values"));
  return {reinterpret_cast<const T*>(view.bytes().data()), view.bytes().size() / sizeof(T)};
}

Quantisation quantisation_of(const std::pair<float, std::int32_t>& pair) {
  return {pair.first, pair.second};
}

py::tuple to_tuple(Quantisation q) {
  return py::make_tuple(q.scale, q.zero_point);
}

// One scratch per thread serves every executor; it grows to the largest arena.
inference::Scratch& scratch() {
  thread_local inference::Scratch own;
  return own;
}

const char* element_name(inference::Element element) {
  return element == inference::Element::kInt8 ? "int8" : "float32";
}

py::bytes run_rows(const Executor& self, const py::object& input, std::size_t rows, bool unlock) {
  const BufferView view(input);
  const auto in = span_of<std::int8_t>(view, "input");
  const std::size_t width = self.input_size() * inference::element_bytes(self.input_element());
  if (in.size() / width != rows || in.size() % width != 0 ||
      reinterpret_cast<std::uintptr_t>(in.data()) %
              inference::element_bytes(self.input_element()) !=
          0)
    raise_if_bad(Status::invalid(
        "model input: " + std::to_string(rows) + " rows of " + std::to_string(self.input_size()) +
        " " + element_name(self.input_element()) + " values, aligned, are needed, got " +
        std::to_string(in.size()) + " bytes"));
  const auto size = static_cast<Py_ssize_t>(rows * self.output_size() *
                                            inference::element_bytes(self.output_element()));
  auto out = py::reinterpret_steal<py::bytes>(PyBytes_FromStringAndSize(nullptr, size));
  if (!out) throw py::error_already_set();
  auto* to = reinterpret_cast<std::int8_t*>(PyBytes_AS_STRING(out.ptr()));
  Status status;
  if (unlock) {
    const py::gil_scoped_release release;
    status = self.run_batch(in.data(), to, rows, scratch());
  } else {
    status = self.run(in.data(), to, scratch());
  }
  raise_if_bad(status);
  return out;
}

py::dict description_of(const Executor& self) {
  const auto found = self.describe();
  py::dict out;
  out["backend"] = found.backend;
  out["isa"] = found.isa;
  out["profile"] = found.profile;
  out["ops"] = found.ops;
  py::list costs;  // tuples, as Model.describe names them
  for (const auto& one : found.costs)
    costs.append(py::make_tuple(one.op, one.shape, one.products, one.packed_bytes));
  out["costs"] = costs;
  return out;
}

Profile profile_of(const std::string& name) {
  for (const Profile profile : {Profile::kLitertSingle, Profile::kTfliteDouble})
    if (name == inference::profile_name(profile)) return profile;
  raise_if_bad(Status::invalid("profile '" + name + "': litert-single or tflite-double"));
  return Profile::kLitertSingle;
}

Isa isa_of(const std::string& name) {
  static constexpr std::pair<const char*, Isa> kNames[] = {
      {"best", Isa::kBest},        {"portable", Isa::kPortable},
      {"avx2", Isa::kAvx2},        {"avx512-vnni", Isa::kAvx512Vnni},
      {"neon-dot", Isa::kNeonDot}, {"neon", Isa::kNeon}};
  for (const auto& [text, isa] : kNames)
    if (name == text) return isa;
  raise_if_bad(
      Status::invalid("isa '" + name + "': best, portable, avx2, avx512-vnni, neon-dot or neon"));
  return Isa::kBest;
}

std::shared_ptr<Executor> load_native(const py::object& data, const std::string& profile,
                                      const std::string& isa) {
  const BufferView view(data);
  auto made = take(inference::load_native(view.bytes(), profile_of(profile), isa_of(isa)));
  return std::const_pointer_cast<Executor>(made);  // pybind11 holds no pointer to const
}

std::shared_ptr<Executor> load_litert(const py::object& data, const std::string& library) {
  const BufferView view(data);
  Result<std::shared_ptr<const Executor>> made = [&] {
    const py::gil_scoped_release release;
    return inference::load_litert(view.bytes(), library);
  }();
  return std::const_pointer_cast<Executor>(take(std::move(made)));
}

void bind_executor(py::module_& m) {
  py::class_<Executor, std::shared_ptr<Executor>>(m, "Executor")
      .def_property_readonly("input_size", &Executor::input_size)
      .def_property_readonly("dtypes",
                             [](const Executor& self) {
                               return py::make_tuple(element_name(self.input_element()),
                                                     element_name(self.output_element()));
                             })
      .def_property_readonly("output_size", &Executor::output_size)
      .def_property_readonly(
          "input_quantisation",
          [](const Executor& self) { return to_tuple(self.input_quantisation()); })
      .def_property_readonly(
          "output_quantisation",
          [](const Executor& self) { return to_tuple(self.output_quantisation()); })
      .def_property_readonly("arena_bytes", &Executor::arena_bytes)
      .def("describe", &description_of)
      .def(
          "run",
          [](const Executor& self, const py::object& input) {
            return run_rows(self, input, 1, false);
          },
          py::arg("input"))
      .def(
          "run_batch",
          [](const Executor& self, const py::object& input, std::size_t rows) {
            return run_rows(self, input, rows, true);
          },
          py::arg("input"), py::arg("rows"));
  m.def("load_native", &load_native, py::arg("model"), py::arg("profile"), py::arg("isa") = "best");
  m.def("load_litert", &load_litert, py::arg("model"), py::arg("library"));
}

// (feature, kind, centre, scale, scale_floor, clip_lo, clip_hi, substitute, vocabulary, unknown,
// missing, max_age)
Slot slot_from(const py::handle& item) {
  const auto parts = item.cast<py::tuple>();
  if (parts.size() != 12) throw py::value_error("a slot has 12 parts");
  Slot slot;
  const BufferView feature(parts[0]);
  if (feature.bytes().size() != slot.feature.size())
    raise_if_bad(Status::invalid("binding: a feature fingerprint has 32 bytes"));
  std::memcpy(slot.feature.data(), feature.bytes().data(), slot.feature.size());
  slot.kind = static_cast<SlotKind>(parts[1].cast<std::uint8_t>());
  double* numbers[] = {&slot.centre,  &slot.scale,   &slot.scale_floor,
                       &slot.clip_lo, &slot.clip_hi, &slot.substitute};
  for (std::size_t i = 0; i < std::size(numbers); ++i) *numbers[i] = parts[2 + i].cast<double>();
  slot.vocabulary = parts[8].cast<std::vector<std::int64_t>>();
  slot.unknown = parts[9].cast<double>();
  slot.missing = parts[10].cast<double>();
  slot.max_age_ns = parts[11].cast<std::int64_t>();
  return slot;
}

std::shared_ptr<Binding> binding_of(const py::list& items, std::int64_t max_age, double min_full) {
  std::vector<Slot> slots;
  for (const py::handle item : items) slots.push_back(slot_from(item));
  return std::make_shared<Binding>(take(Binding::make(std::move(slots), {max_age, min_full})));
}

// Why a row is not fit, in the words of predictions; "" where it is. `ages`: i64 ns.
std::string refusal(const Binding& self, const py::object& values, const py::object& states,
                    const py::object& ages) {
  const BufferView value_view(values);
  const BufferView state_view(states);
  const BufferView age_view(ages);
  const auto row = span_of<double>(value_view, "values");
  const auto how = span_of<std::uint8_t>(state_view, "states");
  const auto old = span_of<std::int64_t>(age_view, "ages");
  if (row.size() != self.size() || how.size() != self.size() ||
      (old.size() != self.size() && (!old.empty() || self.needs_ages())))
    raise_if_bad(Status::invalid("the binding has " + std::to_string(self.size()) +
                                 " slots: so many values, states and ages are needed"));
  switch (self.refusal(row, how, old)) {
    case inference::Refusal::kOld:
      return "old";
    case inference::Refusal::kSparse:
      return "sparse";
    default:
      return "";
  }
}

py::tuple quantise(const Binding& self, const py::object& values, const py::object& states,
                   const std::pair<float, std::int32_t>& quantisation) {
  const BufferView value_view(values);
  const BufferView state_view(states);
  std::vector<std::int8_t> input(self.size());
  std::vector<double> normalised(self.size());
  const auto counts = take(self.quantise(span_of<double>(value_view, "values"),
                                         span_of<std::uint8_t>(state_view, "states"),
                                         quantisation_of(quantisation), input, normalised));
  return py::make_tuple(to_py_bytes(std::as_bytes(std::span(input))), counts.clipped,
                        counts.substituted, to_py_bytes(std::as_bytes(std::span(normalised))));
}

std::int64_t score(const std::string& kind, const py::object& normalised, const py::object& output,
                   const std::pair<float, std::int32_t>& quantisation) {
  const BufferView normalised_view(normalised);
  const BufferView output_view(output);
  ScoreKind which = ScoreKind::kReconstruction;
  if (kind == "identity")
    which = ScoreKind::kIdentity;
  else if (kind == "argmax")
    which = ScoreKind::kArgmax;
  else if (kind != "reconstruction")
    raise_if_bad(Status::invalid("score '" + kind + "': reconstruction, identity or argmax"));
  return take(inference::score(which, span_of<double>(normalised_view, "normalised"),
                               span_of<std::int8_t>(output_view, "output"),
                               quantisation_of(quantisation)));
}

// `rows`: f64, or f32 where `narrow`; f64 out.
py::bytes tree_margins(const TreeEnsemble& self, const py::object& rows, std::size_t count,
                       bool narrow) {
  const BufferView view(rows);
  const std::size_t values = count * self.outputs();
  auto out = py::reinterpret_steal<py::bytes>(
      PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(values * sizeof(double))));
  if (!out) throw py::error_already_set();
  const std::span<double> to(reinterpret_cast<double*>(PyBytes_AS_STRING(out.ptr())), values);
  const auto in64 = narrow ? std::span<const double>() : span_of<double>(view, "rows");
  const auto in32 = narrow ? span_of<float>(view, "rows") : std::span<const float>();
  unlocked([&] {
    thread_local inference::TreeScratch own;
    return narrow ? self.margins_batch(in32, to, own) : self.margins_batch(in64, to, own);
  });
  return out;
}

void bind_trees(py::module_& m) {
  py::class_<TreeEnsemble, std::shared_ptr<TreeEnsemble>>(m, "TreeEnsemble")
      .def(py::init([](const py::object& data) {
             const BufferView view(data);
             return std::make_shared<TreeEnsemble>(take(TreeEnsemble::load(view.bytes())));
           }),
           py::arg("data"))
      .def_property_readonly("sizes",
                             [](const TreeEnsemble& self) {
                               return py::make_tuple(self.features(), self.outputs(), self.trees(),
                                                     self.steps(), self.memory_bytes());
                             })
      .def_property_readonly("isolation", &TreeEnsemble::isolation)
      .def("margins", &tree_margins, py::arg("rows"), py::arg("count"), py::arg("narrow"));
  m.def("isolation_score", &inference::isolation_score, py::arg("margin"));
}

}  // namespace

void bind_inference(py::module_& m) {
  m.doc() = "see python/edgecore/_core/inference.pyi";
  bind_executor(m);
  bind_trees(m);
  py::class_<Binding, std::shared_ptr<Binding>>(m, "Binding")
      .def(py::init(&binding_of), py::arg("slots"), py::arg("max_age") = 0,
           py::arg("min_full") = 0.0)
      .def("__len__", &Binding::size)
      .def("quantise", &quantise, py::arg("values"), py::arg("states"), py::arg("quantisation"))
      .def("refusal", &refusal, py::arg("values"), py::arg("states"), py::arg("ages"));
  m.def("score", &score, py::arg("kind"), py::arg("normalised"), py::arg("output"),
        py::arg("quantisation"));
}

}  // namespace edgecore::bindings
