#include "base/blake3.hpp"
#include "base/clock.hpp"
#include "base/crc32c.hpp"
#include "bindings/common.hpp"

namespace edgecore::bindings {
namespace {

// Below this, giving up the GIL costs more than it frees.
constexpr std::size_t kUnlockedBytesMin = 64 * 1024;

template <typename Work>
auto unlocked_if_long(ByteSpan bytes, Work work) {
  if (bytes.size() < kUnlockedBytesMin) return work();
  const py::gil_scoped_release release;
  return work();
}

void bind_digests(py::module_& m) {
  py::class_<Blake3>(m, "Blake3")
      .def(py::init<>())
      .def(
          "update",
          [](Blake3& self, const py::object& data) {
            // The GIL is kept: two threads on one hash would race.
            const BufferView view(data);
            self.update(view.bytes());
          },
          py::arg("data"))
      .def("digest", [](const Blake3& self) { return to_py_bytes(self.finish()); });
  m.def(
      "blake3",
      [](const py::object& data) {
        const BufferView view(data);
        return to_py_bytes(unlocked_if_long(view.bytes(), [&] { return blake3(view.bytes()); }));
      },
      py::arg("data"));
  m.def(
      "crc32c",
      [](const py::object& data, std::uint32_t crc) {
        const BufferView view(data);
        return unlocked_if_long(view.bytes(), [&] { return crc32c(view.bytes(), crc); });
      },
      py::arg("data"), py::arg("crc") = 0);
}

}  // namespace

void bind_base(py::module_& m) {
  m.doc() = "see python/edgecore/_core/base.pyi";
  bind_digests(m);
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
