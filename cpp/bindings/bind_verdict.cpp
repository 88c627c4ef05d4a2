// edgecore._core.verdict: the running verdict, one score at a time or a whole history.
#include <pybind11/stl.h>

#include "bindings/common.hpp"
#include "pipeline/verdict.hpp"

namespace edgecore::bindings {
namespace {

using pipeline::Decision;
using pipeline::Verdict;
using pipeline::VerdictSpec;

py::tuple to_tuple(const Decision& decision) {
  return py::make_tuple(decision.threshold, static_cast<int>(decision.verdict), decision.episode);
}

std::vector<std::int64_t> integers_of(const py::handle& buffer) {
  const BufferView view(buffer);
  if (view.bytes().size() % sizeof(std::int64_t) != 0)
    raise_if_bad(Status::invalid("a buffer of i64 values is needed"));
  std::vector<std::int64_t> out(view.bytes().size() / sizeof(std::int64_t));
  if (!out.empty()) std::memcpy(out.data(), view.bytes().data(), view.bytes().size());
  return out;
}

py::list decide_all(Verdict& verdict, const py::object& scores, const py::object& times) {
  const auto scored = integers_of(scores), timed = integers_of(times);
  if (scored.size() != timed.size())
    raise_if_bad(Status::invalid("as many times as scores are needed"));
  py::list out(scored.size());
  for (std::size_t i = 0; i < scored.size(); ++i)
    out[i] = to_tuple(verdict.decide(scored[i], timed[i]));
  return out;
}

void bind_spec(py::module_& m) {
  const VerdictSpec standard;
  py::class_<VerdictSpec>(m, "VerdictSpec")
      .def(py::init([](std::uint32_t window, std::uint32_t warmup, std::uint16_t quantile_permille,
                       std::uint16_t exit_permille, std::uint32_t factor_permille,
                       std::uint32_t enter_count, std::uint32_t exit_count, std::int64_t floor,
                       std::int64_t gap_ns) {
             const VerdictSpec spec{window,        warmup,          quantile_permille,
                                    exit_permille, factor_permille, enter_count,
                                    exit_count,    floor,           gap_ns};
             raise_if_bad(Verdict::make(spec).status());
             return spec;
           }),
           py::kw_only(), py::arg("window") = standard.window, py::arg("warmup") = standard.warmup,
           py::arg("quantile_permille") = standard.quantile_permille,
           py::arg("exit_permille") = standard.exit_permille,
           py::arg("factor_permille") = standard.factor_permille,
           py::arg("enter_count") = standard.enter_count,
           py::arg("exit_count") = standard.exit_count, py::arg("floor") = standard.floor,
           py::arg("gap_ns") = standard.gap_ns)
      .def_readonly("window", &VerdictSpec::window)
      .def_readonly("warmup", &VerdictSpec::warmup)
      .def_readonly("quantile_permille", &VerdictSpec::quantile_permille)
      .def_readonly("exit_permille", &VerdictSpec::exit_permille)
      .def_readonly("factor_permille", &VerdictSpec::factor_permille)
      .def_readonly("enter_count", &VerdictSpec::enter_count)
      .def_readonly("exit_count", &VerdictSpec::exit_count)
      .def_readonly("floor", &VerdictSpec::floor)
      .def_readonly("gap_ns", &VerdictSpec::gap_ns)
      .def("to_bytes",
           [](const VerdictSpec& self) { return to_py_bytes(take(verdict_to_bytes(self))); })
      .def_static(
          "from_bytes",
          [](const py::object& data) {
            const BufferView view(data);
            return take(pipeline::verdict_from_bytes(view.bytes()));
          },
          py::arg("data"));
}

}  // namespace

void bind_verdict(py::module_& m) {
  m.doc() = "see python/edgecore/_core/verdict.pyi";
  bind_spec(m);
  py::class_<Verdict>(m, "Verdict")
      .def(py::init([](const VerdictSpec& spec) { return take(Verdict::make(spec)); }),
           py::arg("spec"))
      .def(
          "decide",
          [](Verdict& self, std::int64_t score, std::int64_t time_ns) {
            return to_tuple(self.decide(score, time_ns));
          },
          py::arg("score"), py::arg("time_ns"))
      .def("decide_all", &decide_all, py::arg("scores"), py::arg("times"))
      .def("state", [](const Verdict& self) { return to_py_bytes(self.state()); })
      .def(
          "restore",
          [](Verdict& self, const py::object& state) {
            const BufferView view(state);
            raise_if_bad(self.restore(view.bytes()));
          },
          py::arg("state"));
}

}  // namespace edgecore::bindings
