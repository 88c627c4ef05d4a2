#include "base/blake3.hpp"
#include "base/clock.hpp"
#include "bindings/common.hpp"

namespace edgecore::bindings {

void bind_base(py::module_& m) {
  m.doc() = "see python/edgecore/_core/base.pyi";
  m.def(
      "blake3",
      [](const py::object& data) {
        const BufferView view(data);
        Digest digest;
        {
          const py::gil_scoped_release release;
          digest = blake3(view.bytes());
        }
        return to_py_bytes(digest);
      },
      py::arg("data"));
  py::class_<Clock, std::shared_ptr<Clock>>(m, "Clock")
      .def("wall_ns", &Clock::wall_ns)
      .def("monotonic_ns", &Clock::monotonic_ns);
  py::class_<SystemClock, Clock, std::shared_ptr<SystemClock>>(m, "SystemClock").def(py::init<>());
  py::class_<ManualClock, Clock, std::shared_ptr<ManualClock>>(m, "ManualClock")
      .def(py::init<std::int64_t>(), py::arg("wall_ns") = 0)
      .def("advance", &ManualClock::advance, py::arg("ns"))
      .def("jump_wall", &ManualClock::jump_wall, py::arg("to_ns"));
}

}  // namespace edgecore::bindings
