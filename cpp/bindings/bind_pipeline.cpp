// edgecore._core.pipeline: the fused path, its predictions, and their rebuilding.
#include <pybind11/stl.h>

#include <mutex>

#include "base/exact.hpp"
#include "bindings/features.hpp"
#include "bindings/log.hpp"
#include "pipeline/pipeline.hpp"
#include "pipeline/rebuild.hpp"

namespace edgecore::bindings {
namespace {

using inference::Executor;
using inference::Quantisation;
using pipeline::Part;
using pipeline::Pipeline;
using pipeline::Prediction;
using pipeline::RoleSpec;

constexpr std::size_t kRowsUnderGil = 16;  // a batch this small costs less than giving it up

Part part_of(const std::string& word) {
  for (std::size_t i = 0; i < pipeline::kParts; ++i)
    if (word == pipeline::part_word(static_cast<Part>(i))) return static_cast<Part>(i);
  raise_if_bad(Status::invalid("role '" + word + "': active, shadow, fallback or rule"));
  return Part::kActive;
}

inference::ScoreKind score_of(const std::string& word) {
  if (word == "reconstruction") return inference::ScoreKind::kReconstruction;
  if (word == "identity") return inference::ScoreKind::kIdentity;
  if (word == "argmax") return inference::ScoreKind::kArgmax;
  raise_if_bad(Status::invalid("score '" + word + "': reconstruction, identity or argmax"));
  return inference::ScoreKind::kReconstruction;
}

// A runtime that only Python reaches, as an executor. Runs with the GIL, whoever holds it.
class PyExecutor final : public Executor {
 public:
  explicit PyExecutor(py::object backend) : backend_(std::move(backend)) {
    input_size_ = backend_.attr("input_size").cast<std::size_t>();
    output_size_ = backend_.attr("output_size").cast<std::size_t>();
    input_scale_ = scale_of("input_quantisation");
    output_scale_ = scale_of("output_quantisation");
  }
  ~PyExecutor() override {
    const py::gil_scoped_acquire gil;
    backend_ = py::object();
  }
  std::size_t input_size() const override { return input_size_; }
  std::size_t output_size() const override { return output_size_; }
  Quantisation input_quantisation() const override { return input_scale_; }
  Quantisation output_quantisation() const override { return output_scale_; }
  std::size_t arena_bytes() const override { return 0; }
  inference::Description describe() const override { return {"python", "", "", {}, {}}; }
  Status run(const std::int8_t* in, std::int8_t* out, inference::Scratch& scratch) const override {
    return run_batch(in, out, 1, scratch);
  }
  Status run_batch(const std::int8_t* in, std::int8_t* out, std::size_t rows,
                   inference::Scratch&) const override {
    const py::gil_scoped_acquire gil;
    try {
      const auto input =
          py::memoryview::from_memory(in, static_cast<py::ssize_t>(rows * input_size_));
      const py::object found = backend_.attr("run_batch")(input, rows);
      const BufferView view(found);
      if (view.bytes().size() != rows * output_size_)
        return Status::unavailable("the runtime gave " + std::to_string(view.bytes().size()) +
                                   " bytes instead of " + std::to_string(rows * output_size_));
      std::memcpy(out, view.bytes().data(), view.bytes().size());
      return Status::ok();
    } catch (const std::exception& error) {
      return Status::unavailable(std::string("the runtime failed: ") + error.what());
    }
  }

 private:
  Quantisation scale_of(const char* name) const {
    const auto pair = backend_.attr(name).cast<std::pair<float, std::int32_t>>();
    return {pair.first, pair.second};
  }
  py::object backend_;
  std::size_t input_size_ = 0, output_size_ = 0;
  Quantisation input_scale_, output_scale_;
};

std::shared_ptr<const Executor> executor_of(const py::object& object) {
  if (object.is_none()) return nullptr;
  if (py::isinstance<Executor>(object)) return object.cast<std::shared_ptr<Executor>>();
  return std::make_shared<PyExecutor>(object);
}

RoleSpec role_of(const py::dict& from) {
  RoleSpec spec;
  spec.context = from["context"].cast<std::uint32_t>();
  spec.aliases = from["aliases"].cast<std::vector<std::uint32_t>>();
  spec.run = digest_of(from["run"]);
  spec.since = from["since"].cast<std::uint64_t>();
  spec.at = from["at"].cast<std::uint64_t>();
  spec.binding = from["binding"].cast<std::shared_ptr<inference::Binding>>();
  spec.executor = executor_of(from["executor"]);
  spec.score = score_of(from["score"].cast<std::string>());
  if (const py::object verdict = from["verdict"]; !verdict.is_none()) {
    const BufferView view(verdict);
    spec.verdict = take(pipeline::verdict_from_bytes(view.bytes()));
  }
  spec.limit = from["limit"].cast<std::int64_t>();
  return spec;
}

// ---------------------------------------------------------------- predictions

double real(std::int64_t millionths) {
  return grid_to_double(millionths, inference::kScoreScale);
}

py::object score_or_none(const Prediction& one, std::int64_t value, bool present) {
  if (!one.answer.scored || !present) return py::none();
  return py::float_(real(value));
}

// Columns of a list of predictions: little-endian values, cast to a typed memoryview.
template <typename T, typename Value>
py::object column(const std::vector<Prediction>& rows, const char* format, const Value& value) {
  auto bytes = py::reinterpret_steal<py::bytes>(
      PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(rows.size() * sizeof(T))));
  if (!bytes) throw py::error_already_set();
  auto* at = reinterpret_cast<std::byte*>(PyBytes_AS_STRING(bytes.ptr()));
  for (const Prediction& one : rows) {
    store_le(at, static_cast<T>(value(one)));
    at += sizeof(T);
  }
  return py::memoryview(bytes).attr("cast")(format);
}

struct PyPredictions {
  std::vector<Prediction> rows;
  Appended appended;
  bool recorded = true;
  py::object rejected;  // null: none
  std::vector<Prediction> shadow;
};

py::object column_of(const std::vector<Prediction>& rows, const std::string& name) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  if (name == "position")
    return column<std::uint64_t>(rows, "Q", [](const Prediction& p) { return p.position; });
  if (name == "as_of")
    return column<std::int64_t>(rows, "q", [](const Prediction& p) { return p.as_of; });
  if (name == "context")
    return column<std::uint32_t>(rows, "I", [](const Prediction& p) { return p.context; });
  if (name == "score")
    return column<double>(rows, "d", [&](const Prediction& p) {
      return p.answer.scored ? real(p.answer.score) : nan;
    });
  if (name == "threshold")
    return column<double>(rows, "d", [&](const Prediction& p) {
      return p.answer.verdict == pipeline::kNotJudged ? nan : real(p.answer.threshold);
    });
  if (name == "verdict")
    return column<std::uint8_t>(rows, "B", [](const Prediction& p) { return p.answer.verdict; });
  if (name == "episode")
    return column<std::uint32_t>(rows, "I", [](const Prediction& p) { return p.answer.episode; });
  if (name == "clipped")
    return column<std::uint16_t>(rows, "H", [](const Prediction& p) { return p.answer.clipped; });
  if (name == "substituted")
    return column<std::uint16_t>(rows, "H",
                                 [](const Prediction& p) { return p.answer.substituted; });
  raise_if_bad(Status::invalid("predictions have no column '" + name + "'"));
  return py::none();
}

// ---------------------------------------------------------------- pipeline

template <typename Work>
auto unlocked(const Work& work) {
  const py::gil_scoped_release release;
  return work();
}

// Methods need the GIL. A batch, and whatever may wait, runs without it, with `busy` held.
class PyPipeline {
 public:
  PyPipeline(PyLogPtr log, const features::PartsPtr& parts, PySchemaPtr source,
             const PySchemaPtr& prediction, const std::vector<std::uint32_t>& serving,
             const PySchemaPtr& gap)
      : log_(std::move(log)), parts_(parts), batch_(std::move(source)) {
    // The log outlives the pipeline by log_; every use asks first whether it is still open.
    const std::shared_ptr<Log> borrowed(std::shared_ptr<void>(), &log_->core());
    // Registers schemas, which waits for a commit.
    core_ = take(unlocked([&] {
      return Pipeline::create(borrowed, parts, batch_.schema()->schema(), prediction->schema(),
                              serving, gap ? gap->schema() : nullptr);
    }));
    core_->set_waiter([](const std::function<Status()>& work) {
      if (PyGILState_Check() == 0) return work();
      const py::gil_scoped_release release;
      return work();
    });
  }

  std::unique_ptr<PyPredictions> process(const py::object& rows, const py::object& on_invalid) {
    const Busy busy(*this);
    auto out = std::make_unique<PyPredictions>();
    const RowBatch* batch = &batch_.rows();
    PyBatchPtr given;
    const bool skip = skips(on_invalid);
    if (PyDict_Check(rows.ptr()) && !skip) {  // first: it is the path of a single event
      batch_.clear();
      raise_if_bad(batch_.add_dict(rows.ptr()));
    } else if (py::isinstance<PyBatch>(rows)) {
      given = rows.cast<PyBatchPtr>();
      batch = &given->rows();
    } else {
      batch_.clear();
      out->rejected = batch_.extend(rows, skip);
    }
    if (batch->count() == 0) return out;
    if (batch->count() <= kRowsUnderGil) {
      raise_if_bad(core_->process(*batch, predictions_));
    } else {
      raise_if_bad(unlocked([&] { return core_->process(*batch, predictions_); }));
    }
    out->rows = std::move(predictions_.served);
    out->shadow = std::move(predictions_.shadow);
    out->appended = predictions_.appended;
    out->recorded = predictions_.recorded;
    return out;
  }

  void set_role(const std::string& part, const py::dict& role) {
    const Busy busy(*this);
    RoleSpec spec = role_of(role);
    raise_if_bad(unlocked([&] { return core_->set_role(part_of(part), std::move(spec)); }));
  }
  void clear_role(const std::string& part) {
    const Busy busy(*this);
    core_->clear_role(part_of(part));
  }
  void replay() {
    const Busy busy(*this);
    raise_if_bad(unlocked([&] { return core_->replay(); }));
  }
  py::bytes snapshot() {
    const Busy busy(*this);
    return to_py_bytes(take(unlocked([&] { return core_->snapshot(); })));
  }
  void restore(const py::object& data) {
    const Busy busy(*this);
    const BufferView view(data);
    raise_if_bad(unlocked([&] { return core_->restore(view.bytes()); }));
  }
  void follow() {
    const Busy busy(*this);
    raise_if_bad(unlocked([&] { return core_->follow(); }));
  }
  void observe(const PyBatch& batch, std::uint64_t position) {
    const Busy busy(*this);
    unlocked([&] { core_->observe(batch.rows(), position); });
  }
  std::uint64_t position() {
    const Busy busy(*this);
    return core_->position();
  }
  std::uint64_t met() {
    const Busy busy(*this);
    return core_->met();
  }
  py::dict counters() {
    const Busy busy(*this);
    const pipeline::Counters& all = core_->counters();
    py::dict out;
    out["rows"] = all.rows;
    out["replayed"] = all.replayed;
    out["completed"] = all.completed;
    out["by_fallback"] = all.by_fallback;
    out["by_rule"] = all.by_rule;
    for (std::size_t i = 0; i < pipeline::kParts; ++i)
      out[py::str("refused_" + std::string(part_word(static_cast<Part>(i))))] = all.refused[i];
    out["unanswered"] = all.unanswered;
    out["late"] = all.late;
    out["feature_errors"] = all.feature_errors;
    return out;
  }
  // (position, time, by, kind, stream) of each row.
  py::list take_set_aside() {
    const Busy busy(*this);
    py::list out;
    for (const features::SetAside& one : core_->take_set_aside())
      out.append(py::make_tuple(one.position, one.time_ns, one.by_ns, static_cast<int>(one.kind),
                                parts_->all()[one.part].plan->view().stream));
    return out;
  }
  // (context, failures, retired, last failure), or None.
  py::object role(const std::string& part) {
    const Busy busy(*this);
    const pipeline::Role* one = core_->find_role(part_of(part));
    if (one == nullptr) return py::none();
    return py::make_tuple(one->spec().context, one->failures(), one->retired(),
                          one->failure().message());
  }

 private:
  static bool skips(const py::object& on_invalid) {
    if (!PyUnicode_Check(on_invalid.ptr()) ||
        PyUnicode_CompareWithASCIIString(on_invalid.ptr(), "raise") == 0)
      return false;
    if (PyUnicode_CompareWithASCIIString(on_invalid.ptr(), "skip") != 0)
      raise_if_bad(Status::invalid("on_invalid: raise or skip"));
    return true;
  }

  // One caller at a time. A caller that must wait does so without the GIL, which the one at work
  // may need.
  class Busy {
   public:
    explicit Busy(PyPipeline& self) : self_(self) {
      if (!self.busy_.try_lock()) {
        const py::gil_scoped_release release;
        self.busy_.lock();
      }
      try {
        self.log_->core();  // raises when it was closed
      } catch (...) {
        self.busy_.unlock();
        throw;
      }
    }
    ~Busy() { self_.busy_.unlock(); }
    Busy(const Busy&) = delete;
    Busy& operator=(const Busy&) = delete;

   private:
    PyPipeline& self_;
  };
  std::mutex busy_;
  PyLogPtr log_;
  features::PartsPtr parts_;
  PyBatch batch_;
  std::unique_ptr<Pipeline> core_;
  pipeline::Predictions predictions_;
};

// ---------------------------------------------------------------- history

py::list contexts(const PyLogPtr& log, const PySchemaPtr& schema) {
  Log& open = log->core();
  const auto found =
      take(unlocked([&] { return pipeline::read_contexts(open.reader(), schema->schema()); }));
  py::list out;
  for (const auto& one : found)
    out.append(py::make_tuple(one.number, one.position, to_py_bytes(one.body)));
  return out;
}

std::uint64_t last_served(const PyLogPtr& log, const PySchemaPtr& prediction,
                          const std::set<std::uint32_t>& serving) {
  Log& open = log->core();
  const auto found = take(unlocked(
      [&] { return pipeline::Recordings::read(open.reader(), prediction->schema(), 0, serving); }));
  return found.last_served();
}

py::tuple find_prediction(const PyLogPtr& log, const PySchemaPtr& schema, std::uint32_t partition,
                          std::uint64_t sequence) {
  Log& open = log->core();
  auto found = take(unlocked([&] {
    return pipeline::find_prediction(open.reader(), schema->schema(), partition, sequence);
  }));
  return py::make_tuple(found.prediction, found.entity, found.position);
}

// Why roles did not answer, as it is recorded; None: there is nothing to say.
py::object reason_of(const Prediction& prediction) {
  const std::string text = pipeline::reason_text(prediction.why);
  return text.empty() ? py::object(py::none()) : py::str(text);
}

// (prediction, entity, values, states). `others`: (role, binding) of roles that did not answer.
using OtherRoles = std::vector<std::pair<std::string, std::shared_ptr<inference::Binding>>>;
py::tuple rebuild(const PyLogPtr& log, const py::object& plan, const PySchemaPtr& source,
                  const PySchemaPtr& prediction, const std::set<std::uint32_t>& serving,
                  const std::string& part, const py::dict& role, std::uint64_t position,
                  const PySchemaPtr& gap, const OtherRoles& others) {
  Log& open = log->core();
  pipeline::RebuildPlan all{parts_of(plan), source->schema(), prediction->schema(),         serving,
                            part_of(part),  role_of(role),    gap ? gap->schema() : nullptr};
  for (const auto& [word, binding] : others) all.others.emplace_back(part_of(word), binding);
  auto found = take(unlocked([&] { return pipeline::rebuild(open.reader(), all, position); }));
  return py::make_tuple(found.prediction, found.entity, py::cast(found.values),
                        py::cast(std::vector<int>(found.states.begin(), found.states.end())));
}

void bind_predictions(py::module_& m) {
  py::class_<Prediction>(m, "Prediction")
      .def_property_readonly("role",
                             [](const Prediction& p) { return std::string(part_word(p.part)); })
      .def_readonly("context", &Prediction::context)
      .def_readonly("position", &Prediction::position)
      .def_readonly("as_of", &Prediction::as_of)
      .def_property_readonly(
          "score", [](const Prediction& p) { return score_or_none(p, p.answer.score, true); })
      .def_property_readonly("threshold",
                             [](const Prediction& p) {
                               return score_or_none(p, p.answer.threshold,
                                                    p.answer.verdict != pipeline::kNotJudged);
                             })
      .def_property_readonly("verdict", [](const Prediction& p) { return p.answer.verdict; })
      .def_property_readonly("episode", [](const Prediction& p) { return p.answer.episode; })
      .def_property_readonly("clipped", [](const Prediction& p) { return p.answer.clipped; })
      .def_property_readonly("substituted",
                             [](const Prediction& p) { return p.answer.substituted; })
      .def_property_readonly("reason", &reason_of)
      .def_property_readonly("input_hash",
                             [](const Prediction& p) { return to_py_bytes(p.answer.input); })
      .def_property_readonly("output_hash",
                             [](const Prediction& p) { return to_py_bytes(p.answer.output); });
  auto predictions =
      py::class_<PyPredictions>(m, "Predictions")
          .def("__len__", [](const PyPredictions& self) { return self.rows.size(); })
          .def(
              "__getitem__",
              [](const PyPredictions& self, py::ssize_t index) {
                const auto count = static_cast<py::ssize_t>(self.rows.size());
                if (index < 0) index += count;
                if (index < 0 || index >= count) throw py::index_error();
                return self.rows[static_cast<std::size_t>(index)];
              },
              py::arg("index"))
          .def_readonly("recorded", &PyPredictions::recorded)
          .def_property_readonly("rejected",
                                 [](const PyPredictions& self) -> py::object {
                                   return self.rejected ? self.rejected : py::list();
                                 })
          .def_property_readonly("first",
                                 [](const PyPredictions& self) { return self.appended.first; })
          .def_property_readonly("count",
                                 [](const PyPredictions& self) { return self.appended.count; })
          .def_property_readonly("source_position",
                                 [](const PyPredictions& self) { return self.appended.position; })
          .def_property_readonly("reason",
                                 [](const PyPredictions& self) {
                                   py::list out;
                                   for (const Prediction& one : self.rows)
                                     out.append(reason_of(one));
                                   return out;
                                 })
          .def_property_readonly("shadow", [](const PyPredictions& self) {
            PyPredictions out;
            out.rows = self.shadow;
            out.appended = self.appended;
            out.recorded = self.recorded;
            return out;
          });
  for (const char* name : {"position", "as_of", "context", "score", "threshold", "verdict",
                           "episode", "clipped", "substituted"})
    predictions.def_property_readonly(
        name, [name](const PyPredictions& self) { return column_of(self.rows, name); });
}

}  // namespace

void bind_pipeline(py::module_& m) {
  m.doc() = "see python/edgecore/_core/pipeline.pyi";
  bind_predictions(m);
  py::class_<PyPipeline>(m, "Pipeline")
      .def(py::init([](const PyLogPtr& log, const py::object& plan, const PySchemaPtr& source,
                       const PySchemaPtr& prediction, const std::vector<std::uint32_t>& serving,
                       const PySchemaPtr& gap) {
             return std::make_unique<PyPipeline>(log, parts_of(plan), source, prediction, serving,
                                                 gap);
           }),
           py::arg("log"), py::arg("plan"), py::arg("source"), py::arg("prediction"),
           py::arg("serving"), py::arg("gap") = PySchemaPtr())
      .def("process", &PyPipeline::process, py::arg("rows"), py::arg("on_invalid") = "raise")
      .def("set_role", &PyPipeline::set_role, py::arg("part"), py::arg("role"))
      .def("clear_role", &PyPipeline::clear_role, py::arg("part"))
      .def("replay", &PyPipeline::replay)
      .def("follow", &PyPipeline::follow)
      .def("observe", &PyPipeline::observe, py::arg("batch"), py::arg("position"))
      .def("snapshot", &PyPipeline::snapshot)
      .def("restore", &PyPipeline::restore, py::arg("snapshot"))
      .def("role", &PyPipeline::role, py::arg("part"))
      .def("counters", &PyPipeline::counters)
      .def("take_set_aside", &PyPipeline::take_set_aside)
      .def_property_readonly("met", &PyPipeline::met)
      .def_property_readonly("position", &PyPipeline::position);
  m.def("contexts", &contexts, py::arg("log"), py::arg("schema"));
  m.def("last_served", &last_served, py::arg("log"), py::arg("prediction"), py::arg("serving"));
  m.def("find_prediction", &find_prediction, py::arg("log"), py::arg("schema"),
        py::arg("partition"), py::arg("sequence"));
  m.def("rebuild", &rebuild, py::arg("log"), py::arg("plan"), py::arg("source"),
        py::arg("prediction"), py::arg("serving"), py::arg("part"), py::arg("role"),
        py::arg("position"), py::arg("gap") = PySchemaPtr(), py::arg("others") = OtherRoles());
}

}  // namespace edgecore::bindings
