#include <pybind11/stl.h>

#include "bindings/common.hpp"
#include "learning/trainer.hpp"

namespace edgecore::bindings {
namespace {

std::vector<float> floats_of(const py::handle& buffer) {
  const BufferView view(buffer);
  if (view.bytes().size() % sizeof(float) != 0)
    raise_if_bad(Status::invalid("a buffer of f32 values is needed"));
  std::vector<float> out(view.bytes().size() / sizeof(float));
  std::memcpy(out.data(), view.bytes().data(), view.bytes().size());
  return out;
}

std::unique_ptr<Trainer> make_trainer(const std::vector<std::uint32_t>& widths,
                                      const py::object& parameters, const py::object& inputs,
                                      const py::object& targets, const TrainingPlan& plan) {
  std::vector<float> start;
  if (!parameters.is_none()) start = floats_of(parameters);
  return std::make_unique<Trainer>(take(
      Trainer::create({widths}, std::move(start), floats_of(inputs), floats_of(targets), plan)));
}

void bind_histogram(py::module_& m) {
  py::class_<RangeHistogram>(m, "RangeHistogram")
      .def(py::init<>())
      .def("add", &RangeHistogram::add, py::arg("value"))
      .def("merge", &RangeHistogram::merge, py::arg("other"))
      .def_property_readonly("total", &RangeHistogram::total)
      .def(
          "range",
          [](const RangeHistogram& self, double outside) {
            const Range range = self.range(outside);
            return py::make_tuple(range.low, range.high);
          },
          py::arg("outside"))
      .def("to_bytes", [](const RangeHistogram& self) { return to_py_bytes(self.to_bytes()); })
      .def_static(
          "from_bytes",
          [](const py::object& data) {
            const BufferView view(data);
            return take(RangeHistogram::from_bytes(view.bytes()));
          },
          py::arg("data"));
}

}  // namespace

void bind_learning(py::module_& m) {
  m.doc() = "see python/edgecore/_core/learning.pyi";
  bind_histogram(m);
  py::class_<TrainingPlan>(m, "TrainingPlan")
      .def(py::init([](std::uint64_t seed, std::uint32_t batch, double learning_rate, double beta1,
                       double beta2, double epsilon) {
             return TrainingPlan{seed, batch, learning_rate, beta1, beta2, epsilon};
           }),
           py::arg("seed") = 1, py::arg("batch") = 32, py::arg("learning_rate") = 1e-3,
           py::arg("beta1") = 0.9, py::arg("beta2") = 0.999, py::arg("epsilon") = 1e-8);
  py::class_<Trainer>(m, "Trainer")
      .def(py::init(&make_trainer), py::arg("widths"), py::arg("parameters"), py::arg("inputs"),
           py::arg("targets"), py::arg("plan"))
      .def("step", &Trainer::step, py::arg("count"), py::call_guard<py::gil_scoped_release>())
      .def_property_readonly("steps", &Trainer::steps)
      .def("parameters",
           [](const Trainer& self) { return to_py_bytes(std::as_bytes(self.parameters())); })
      .def("state", [](const Trainer& self) { return to_py_bytes(self.state()); })
      .def(
          "restore",
          [](Trainer& self, const py::object& state) {
            const BufferView view(state);
            raise_if_bad(self.restore(view.bytes()));
          },
          py::arg("state"))
      .def("activation_ranges", &Trainer::activation_ranges,
           py::call_guard<py::gil_scoped_release>());
}

}  // namespace edgecore::bindings
