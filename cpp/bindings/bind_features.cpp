// edgecore._core.features: plans, engines, and the batch kernel.
#include <pybind11/stl.h>

#include <mutex>
#include <numeric>

#include "bindings/features.hpp"
#include "bindings/rows.hpp"
#include "features/batch.hpp"
#include "features/category.hpp"
#include "features/engine.hpp"
#include "features/entity.hpp"
#include "features/expression.hpp"

namespace edgecore::bindings {

using features::FeatureSpec;
using features::Joined;
using features::Plan;
using features::PlanPtr;

features::PlanPtr plan_of(py::handle object) {
  return object.cast<std::shared_ptr<Plan>>();
}

features::PartsPtr parts_of(py::handle object) {
  if (py::isinstance<Plan>(object)) return take(features::Parts::make(plan_of(object)));
  std::vector<features::StreamPart> parts;
  for (const py::handle item : object) {
    const auto one = item.cast<py::tuple>();
    if (one.size() != 3) throw py::value_error("a part is a plan, its columns, and its key");
    parts.push_back(
        {plan_of(one[0]), one[1].cast<std::vector<std::uint16_t>>(), one[2].cast<bool>()});
  }
  return take(features::Parts::make(std::move(parts)));
}

namespace {

// A feature's map, as docs/formats/feature-definition.md has it: what is absent is as by default.
class SpecReader {
 public:
  explicit SpecReader(const py::dict& map) : map_(map) {}

  // Sets `to` where the map has `key`.
  template <typename T>
  SpecReader& take(const char* key, T& to) {
    if (!map_.contains(key)) return *this;
    ++taken_;
    if constexpr (std::is_same_v<T, Digest>)
      to = digest_of(map_[key]);
    else if constexpr (std::is_same_v<T, Bytes>)
      to = bytes_of(map_[key]);
    else if constexpr (std::is_same_v<T, features::OnStale>)
      to = on_stale(map_[key].cast<std::string>());
    else
      to = map_[key].template cast<T>();
    return *this;
  }
  // 0, which is no operator, where this build does not know the name in that version.
  SpecReader& take(const char* key, features::Op& to, std::uint16_t version) {
    ++taken_;
    const auto* found = features::find_operator(map_[key].cast<std::string>(), version);
    to = found != nullptr ? found->op : features::Op{};
    return *this;
  }
  void finish() const {
    if (taken_ != map_.size()) throw py::value_error("a feature with a key that is not known");
  }

 private:
  static Bytes bytes_of(const py::object& value) {
    const BufferView view(value);
    return {view.bytes().begin(), view.bytes().end()};
  }
  static features::OnStale on_stale(const std::string& name) {
    if (name == "use") return features::OnStale::kUse;
    if (name == "default") return features::OnStale::kDefault;
    if (name == "missing") return features::OnStale::kMissing;
    if (name == "recompute") return features::OnStale::kRecompute;
    if (name == "refuse") return features::OnStale::kRefuse;
    throw py::value_error("on_stale: use, default, missing, recompute or refuse");
  }

  const py::dict& map_;
  std::size_t taken_ = 0;
};

FeatureSpec spec_of(const py::dict& map) {
  FeatureSpec spec;
  SpecReader reader(map);
  reader.take("name", spec.name)
      .take("version", spec.version)
      .take("op", spec.op, spec.version)
      .take("window", spec.window_ns)
      .take("field", spec.field)
      .take("expr", spec.expression)
      .take("ttl", spec.ttl_ns)
      .take("on_stale", spec.on_stale)
      .take("default", spec.default_value)
      .take("min_coverage", spec.min_coverage)
      .take("min_count", spec.min_count)
      .take("hop", spec.hop_ns)
      .take("gap", spec.gap_ns)
      .take("hold", spec.hold_ns)
      .take("numerator", spec.numerator)
      .take("denominator", spec.denominator)
      .take("permille", spec.permille)
      .take("at_least", spec.at_least)
      .take("below", spec.below)
      .take("value", spec.value)
      .take("approx", spec.approx)
      .take("fingerprint", spec.fingerprint);
  reader.finish();
  return spec;
}

using RuleNumbers = std::tuple<std::int64_t, std::int64_t, std::uint32_t, std::uint64_t>;

std::shared_ptr<Plan> make_plan(const std::string& name, const std::string& entity,
                                const std::string& stream, std::int64_t lateness_ns,
                                const py::list& specs, const py::bytes& fingerprint,
                                const py::object& schema, const RuleNumbers& rules) {
  features::ViewSpec view;
  view.name = name;
  view.entity = entity;
  view.stream = stream;
  view.lateness_ns = lateness_ns;
  view.rules = {std::get<0>(rules), std::get<1>(rules), std::get<2>(rules), std::get<3>(rules)};
  for (const py::handle item : specs) view.features.push_back(spec_of(item.cast<py::dict>()));
  view.fingerprint = digest_of(fingerprint);
  return std::const_pointer_cast<Plan>(
      take(features::make_plan(std::move(view), schema_of(schema)->schema())));
}

// An engine that several threads may call: one at a time enters.
class PyEngine {
 public:
  explicit PyEngine(std::unique_ptr<Joined> engine) : engine_(std::move(engine)) {}

  // With the GIL held for as long as nobody is inside.
  template <typename Work>
  auto quick(Work work) {
    std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock()) {
      const py::gil_scoped_release release;
      lock.lock();
    }
    return work(*engine_);
  }
  // Without the GIL.
  template <typename Work>
  auto unlocked(Work work) {
    const py::gil_scoped_release release;
    const std::lock_guard lock(mutex_);
    return work(*engine_);
  }

  void update(const PyBatch& batch, std::size_t first, std::size_t count, std::uint64_t position) {
    raise_if_bad(
        unlocked([&](Joined& e) { return e.update(batch.rows(), first, count, position); }));
  }

  // Rows [first, first + count), each applied and answered: (values f64, states u8).
  py::tuple follow(const PyBatch& batch, std::size_t first, std::size_t count,
                   std::uint64_t position, const GapNumbers& numbers) {
    const auto gaps = gaps_of(numbers);
    if (engine_->parts().all().size() > 1)
      raise_if_bad(Status::invalid("features: rows of one stream alone can't be followed"));
    if (first > batch.rows().count() || count > batch.rows().count() - first)
      raise_if_bad(Status::invalid("features: rows beyond the end of the batch"));
    const Room<double> values(count * engine_->width());
    const Room<std::uint8_t> states(count * engine_->width());
    std::vector<std::uint32_t> order(count);
    std::iota(order.begin(), order.end(), static_cast<std::uint32_t>(first));
    raise_if_bad(unlocked([&](Joined& e) {
      return features::follow(e.own(), batch.rows(), order, position, values.span, states.span,
                              gaps);
    }));
    return py::make_tuple(values.object, states.object);
  }

  // Of the view's own stream unless another is named. A gap whose position the engine has seen
  // already is left out, as rows are.
  void gap(std::int64_t from_ns, std::int64_t to_ns, std::uint64_t position,
           const std::string& stream) {
    raise_if_bad(quick([&](Joined& e) {
      return e.gap(stream.empty() ? e.own().plan().view().stream : stream, from_ns, to_ns,
                   position);
    }));
  }

  // (position, time, by, kind) of each row.
  py::list take_set_aside() {
    py::list out;
    for (const features::SetAside& one : quick([](Joined& e) { return e.take_set_aside(); }))
      out.append(py::make_tuple(one.position, one.time_ns, one.by_ns, static_cast<int>(one.kind)));
    return out;
  }

  py::tuple read(const std::vector<std::string>& entities, std::int64_t as_of) {
    const std::size_t width = engine_->width();
    const std::size_t count = entities.size() * width;
    const Room<double> values(count);
    const Room<std::uint8_t> states(count);
    const Room<std::int64_t> ages(count);
    const Room<double> coverage(count);
    const Room<std::uint8_t> reasons(count);
    raise_if_bad(quick([&](Joined& e) {
      for (std::size_t i = 0; i < entities.size(); ++i) {
        const std::size_t at = i * width;
        EDGECORE_TRY(e.read(entities[i], as_of,
                            {values.span.subspan(at, width), states.span.subspan(at, width),
                             ages.span.subspan(at, width), coverage.span.subspan(at, width),
                             reasons.span.subspan(at, width)}));
      }
      return Status::ok();
    }));
    return py::make_tuple(values.object, states.object, ages.object, coverage.object,
                          reasons.object);
  }

 private:
  std::unique_ptr<Joined> engine_;
  std::mutex mutex_;
};
using PyEnginePtr = std::shared_ptr<PyEngine>;

// One stream's rows into all engines that read it; a row is normalised once.
class PyFeed {
 public:
  PyFeed(const py::object& schema, std::vector<PyEnginePtr> engines)
      : row_(schema_of(schema)), engines_(std::move(engines)) {}

  void update(PyObject* row, std::uint64_t position) {
    row_.clear();
    raise_if_bad(row_.add_dict(row));
    for (const PyEnginePtr& engine : engines_)
      raise_if_bad(engine->quick([&](Joined& e) { return e.take(row_.rows(), 0, 1, position); }));
  }

  // Rows that an engine has seen already, by position, are left out for it.
  void update_batch(const PyBatch& batch, std::uint64_t position) {
    const std::size_t count = batch.rows().count();
    for (const PyEnginePtr& engine : engines_)
      raise_if_bad(
          engine->unlocked([&](Joined& e) { return e.take(batch.rows(), 0, count, position); }));
  }

 private:
  PyBatch row_;
  std::vector<PyEnginePtr> engines_;
};

// Feed.update(row, position), against the C API: what a lone event costs is decided here.
PyObject* feed_update(PyObject* self, PyObject* const* given, Py_ssize_t count) {
  try {
    if (count != 2) throw py::type_error("update: a row and a position are needed");
    // The descriptor has checked that `self` is a Feed, which has one base and one C++ object.
    auto* feed = static_cast<PyFeed*>(
        reinterpret_cast<py::detail::instance*>(self)->get_value_and_holder().value_ptr());
    if (feed == nullptr) throw py::type_error("update: a feed that was never made");
    const unsigned long long position = PyLong_AsUnsignedLongLong(given[1]);
    if (PyErr_Occurred() != nullptr) {
      if (PyErr_ExceptionMatches(PyExc_OverflowError) == 0) throw py::error_already_set();
      PyErr_Clear();
      raise_if_bad(Status::invalid("features: a position is 0 to 2^64 - 1"));
    }
    feed->update(given[0], position);
    return Py_NewRef(Py_None);
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::builtin_exception& error) {
    error.set_error();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

void bind_feed(py::module_& m) {
  py::class_<PyFeed> feed(m, "Feed");
  feed.def(py::init<const py::object&, std::vector<PyEnginePtr>>(), py::arg("schema"),
           py::arg("engines"))
      .def("update_batch", &PyFeed::update_batch, py::arg("batch"), py::arg("position"));
  static PyMethodDef method = {
      "update", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(feed_update)), METH_FASTCALL,
      "update(self: Feed, row: dict, position: int, /) -> None"};
  PyObject* made = PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(feed.ptr()), &method);
  if (made == nullptr) throw py::error_already_set();
  feed.attr("update") = py::reinterpret_steal<py::object>(made);
}

// (name, version, family, ddof, value of an empty window, of a single event) by operator number.
py::list operators() {
  py::list out;
  for (const features::Operator& one : features::operators())
    out.append(py::make_tuple(one.name, one.version, static_cast<int>(one.family),
                              one.ddof < 0 ? py::object(py::none()) : py::int_(one.ddof), one.empty,
                              one.single));
  return out;
}

// (kind, denominator, unit) of what each feature reads; None where it reads other features.
py::list grids(const Plan& plan) {
  std::vector<py::object> found(plan.width(), py::none());
  for (const features::Group& group : plan.groups()) {
    const auto& series = plan.series()[static_cast<std::size_t>(group.series)];
    for (const std::uint16_t feature : group.features)
      found[feature] =
          py::make_tuple(static_cast<int>(series.grid), series.denominator, series.unit);
  }
  py::list out;
  for (const py::object& one : found) out.append(one);
  return out;
}

void bind_engine(py::module_& m) {
  const auto number = [](auto method) {
    return
        [method](PyEngine& self) { return self.quick([&](Joined& e) { return (e.*method)(); }); };
  };
  py::class_<PyEngine, PyEnginePtr>(m, "Engine")
      .def(py::init([](const py::object& plan) {
             return std::make_shared<PyEngine>(take(Joined::create(parts_of(plan))));
           }),
           py::arg("plan"))
      .def_static(
          "restore",
          [](const py::object& plan, const py::object& data) {
            const BufferView view(data);
            return std::make_shared<PyEngine>(take(Joined::restore(parts_of(plan), view.bytes())));
          },
          py::arg("plan"), py::arg("data"))
      .def("update", &PyEngine::update, py::arg("batch"), py::arg("first"), py::arg("count"),
           py::arg("position"))
      .def("read", &PyEngine::read, py::arg("entities"), py::arg("as_of"))
      .def("follow", &PyEngine::follow, py::arg("batch"), py::arg("first"), py::arg("count"),
           py::arg("position"), py::arg("gaps") = GapNumbers())
      .def("gap", &PyEngine::gap, py::arg("from_ns"), py::arg("to_ns"), py::arg("position"),
           py::arg("stream") = "")
      .def("take_set_aside", &PyEngine::take_set_aside)
      .def("snapshot",
           [](PyEngine& self) {
             return to_py_bytes(self.unlocked([](Joined& e) { return e.snapshot(); }));
           })
      .def_property_readonly("position", number(&Joined::position))
      .def_property_readonly("late_rows", number(&Joined::late_rows))
      .def_property_readonly("ahead_rows", number(&Joined::ahead_rows))
      .def_property_readonly("evicted", number(&Joined::evicted))
      .def_property_readonly("state_bytes", number(&Joined::state_bytes))
      .def_property_readonly("final_before", number(&Joined::final_before))
      .def_property_readonly("undefined_values", number(&Joined::undefined_values))
      .def_property_readonly("entities", number(&Joined::entities))
      .def_property_readonly("memory_bytes", number(&Joined::memory_bytes));
}

}  // namespace

void bind_features(py::module_& m) {
  m.doc() = "see python/edgecore/_core/features.pyi";
  const auto each = [](auto member) {
    return [member](const Plan& plan) {
      py::list out;
      for (const features::FeaturePlan& one : plan.features()) out.append(one.*member);
      return out;
    };
  };
  py::class_<Plan, std::shared_ptr<Plan>>(m, "Plan")
      .def(py::init(&make_plan), py::arg("name"), py::arg("entity"), py::arg("stream"),
           py::arg("lateness_ns"), py::arg("features"), py::arg("fingerprint"), py::arg("schema"),
           py::arg("rules") = RuleNumbers{})
      .def_property_readonly("width", &Plan::width)
      .def_property_readonly("horizon_ns", &Plan::horizon_ns)
      .def_property_readonly("fingerprints",
                             [](const Plan& plan) {
                               py::list out;
                               for (const FeatureSpec& one : plan.view().features)
                                 out.append(to_py_bytes(one.fingerprint));
                               return out;
                             })
      .def_property_readonly("errors", each(&features::FeaturePlan::error))
      .def_property_readonly("relative_errors", each(&features::FeaturePlan::relative_error))
      .def_property_readonly("horizons", each(&features::FeaturePlan::horizon_ns))
      .def_property_readonly("grids", &grids)
      .def_property_readonly("entity_bytes",
                             [](const Plan& plan) {
                               features::Entity entity;
                               entity.reset(plan);
                               return entity.memory_bytes(plan);
                             })
      .def_property_readonly("event_bytes",
                             [](const Plan& plan) {
                               std::size_t total = 0;
                               for (const features::SeriesPlan& one : plan.series())
                                 total += features::event_bytes(one);
                               return total;
                             })
      .def_property_readonly("state_digest",
                             [](const Plan& plan) { return to_py_bytes(plan.state_digest()); });
  m.def("operators", &operators);
  m.def(
      "category_code",
      [](const py::bytes& text) {
        return features::category_code(static_cast<std::string_view>(text));
      },
      py::arg("text"));
  bind_engine(m);
  bind_feed(m);
  bind_backfill(m);
  m.def(
      "expression_fields",
      [](const py::object& data) {
        const BufferView view(data);
        return take(features::parse_expression(view.bytes())).fields;
      },
      py::arg("data"));
}

}  // namespace edgecore::bindings
