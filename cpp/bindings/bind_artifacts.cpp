#include <pybind11/stl.h>

#include "artifacts/staging.hpp"
#include "bindings/common.hpp"

namespace edgecore::bindings {
namespace {

using artifacts::ArtifactStore;
using artifacts::JournalState;
using artifacts::Phase;
using artifacts::Release;
using artifacts::Staging;
using PyStaging = Closable<Staging>;

std::optional<Digest> optional_digest_of(const py::object& object) {
  if (object.is_none()) return std::nullopt;
  return digest_of(object);
}

const char* word_of(Phase phase) {
  constexpr const char* kWords[] = {"empty", "staged", "trial", "active", "stable", "rolled_back"};
  return kWords[static_cast<std::size_t>(phase)];
}

py::object candidate_in(const JournalState& state, Phase phase) {
  if (state.phase != phase) return py::none();
  return py::cast(*state.candidate);
}

void bind_release(py::module_& m) {
  py::class_<Release>(m, "Release")
      .def(py::init([](const py::object& digest, std::uint64_t version, const py::iterable& all) {
             Release release{digest_of(digest), version, {}};
             for (const py::handle object : all) release.objects.push_back(digest_of(object));
             return release;
           }),
           py::arg("digest"), py::arg("version"), py::arg("objects"))
      .def_property_readonly("digest", [](const Release& self) { return to_py_bytes(self.digest); })
      .def_readonly("version", &Release::version)
      .def_property_readonly("objects",
                             [](const Release& self) {
                               py::tuple objects(self.objects.size());
                               for (std::size_t i = 0; i < self.objects.size(); ++i)
                                 objects[i] = to_py_bytes(self.objects[i]);
                               return objects;
                             })
      .def("__eq__",
           [](const Release& self, const py::object& other) {
             return py::isinstance<Release>(other) && self == other.cast<const Release&>();
           })
      .def("__hash__", [](const Release& self) { return py::hash(to_py_bytes(self.digest)); })
      .def("__repr__", [](const Release& self) {
        return "Release(" + to_hex(ByteSpan(self.digest).first(8)) + "..., version " +
               std::to_string(self.version) + ", " + std::to_string(self.objects.size()) +
               " objects)";
      });
  py::class_<JournalState>(m, "JournalState")
      .def_readonly("generation", &JournalState::generation)
      .def_property_readonly("phase", [](const JournalState& self) { return word_of(self.phase); })
      .def_readonly("attempt", &JournalState::attempt)
      .def_readonly("active", &JournalState::active)
      .def_readonly("previous", &JournalState::previous)
      .def_property_readonly(
          "staged", [](const JournalState& self) { return candidate_in(self, Phase::kStaged); })
      .def_property_readonly(
          "trial", [](const JournalState& self) { return candidate_in(self, Phase::kTrial); })
      .def_property_readonly("given_up",
                             [](const JournalState& self) -> py::object {
                               if (!self.given_up) return py::none();
                               return to_py_bytes(*self.given_up);
                             })
      .def_readonly("reason", &JournalState::reason)
      .def("__repr__", [](const JournalState& self) {
        return std::string("JournalState(") + word_of(self.phase) + ", attempt " +
               std::to_string(self.attempt) + ", generation " + std::to_string(self.generation) +
               ")";
      });
}

void bind_staging(py::module_& m) {
  py::class_<PyStaging>(m, "Staging")
      .def_property_readonly("length", [](PyStaging& self) { return self.get().length(); })
      .def_property_readonly(
          "received",
          [](PyStaging& self) { return unlocked([&s = self.get()] { return s.received(); }); })
      .def("missing",
           [](PyStaging& self) {
             py::list ranges;
             for (const auto& range : unlocked([&s = self.get()] { return s.missing(); }))
               ranges.append(py::make_tuple(range.offset, range.length));
             return ranges;
           })
      .def(
          "write",
          [](PyStaging& self, std::uint64_t offset, const py::object& data) {
            const BufferView view(data);
            Staging& staging = self.get();
            unlocked([&] { return staging.write(offset, view.bytes()); });
          },
          py::arg("offset"), py::arg("data"))
      .def("finish", [](PyStaging& self) { unlocked([&s = self.get()] { return s.finish(); }); })
      .def("close", &PyStaging::close, py::call_guard<py::gil_scoped_release>())
      .def("__enter__", [](py::object self) { return self; })
      .def("__exit__", [](PyStaging& self, const py::args&) { self.close(); });
}

void bind_objects(py::class_<ArtifactStore, std::shared_ptr<ArtifactStore>>& store) {
  store
      .def_static(
          "open",
          [](const std::shared_ptr<Fs>& fs, const std::string& path, std::uint64_t quota_bytes) {
            return unlocked([&] { return ArtifactStore::open(fs, path, quota_bytes); });
          },
          py::arg("fs"), py::arg("path"), py::arg("quota_bytes"))
      .def(
          "put",
          [](ArtifactStore& self, const py::object& data) {
            const BufferView view(data);
            return to_py_bytes(unlocked([&] { return self.put(view.bytes()); }));
          },
          py::arg("data"))
      .def(
          "get",
          [](ArtifactStore& self, const py::object& digest) {
            const Digest wanted = digest_of(digest);
            return to_py_bytes(unlocked([&] { return self.get(wanted); }));
          },
          py::arg("digest"))
      .def(
          "has",
          [](ArtifactStore& self, const py::object& digest) {
            const Digest wanted = digest_of(digest);
            return unlocked([&] { return self.has(wanted); });
          },
          py::arg("digest"))
      .def(
          "verify",
          [](ArtifactStore& self, const py::object& digest) {
            const Digest wanted = digest_of(digest);
            unlocked([&] { return self.verify(wanted); });
          },
          py::arg("digest"))
      .def(
          "stage",
          [](ArtifactStore& self, const py::object& digest, std::uint64_t length) {
            const Digest wanted = digest_of(digest);
            return PyStaging(unlocked([&] { return self.stage(wanted, length); }));
          },
          py::arg("digest"), py::arg("length"))
      .def(
          "gc",
          [](ArtifactStore& self, const py::iterable& keep) {
            std::set<Digest> named;
            for (const py::handle digest : keep) named.insert(digest_of(digest));
            return unlocked([&] { return self.gc(named); });
          },
          py::arg("keep"))
      .def("objects",
           [](ArtifactStore& self) {
             py::dict lengths;
             for (const auto& object : unlocked([&] { return self.objects(); }))
               lengths[to_py_bytes(object.digest)] = py::int_(object.length);
             return lengths;
           })
      .def("used_bytes",
           [](ArtifactStore& self) { return unlocked([&] { return self.used_bytes(); }); });
}

void bind_journal(py::class_<ArtifactStore, std::shared_ptr<ArtifactStore>>& store) {
  store.def("state", [](ArtifactStore& self) { return unlocked([&] { return self.state(); }); })
      .def(
          "stage_release",
          [](ArtifactStore& self, const Release& release) {
            unlocked([&] { return self.stage_release(release); });
          },
          py::arg("release"))
      .def("begin_trial", [](ArtifactStore& self) { unlocked([&] { return self.begin_trial(); }); })
      .def("activate", [](ArtifactStore& self) { unlocked([&] { return self.activate(); }); })
      .def("mark_stable", [](ArtifactStore& self) { unlocked([&] { return self.mark_stable(); }); })
      .def(
          "roll_back",
          [](ArtifactStore& self, const std::string& reason, const py::object& release) {
            const std::optional<Digest> which = optional_digest_of(release);
            unlocked([&] { return self.roll_back(reason, which); });
          },
          py::arg("reason"), py::arg("release") = py::none());
}

}  // namespace

void bind_artifacts(py::module_& m) {
  m.doc() = "see python/edgecore/_core/artifacts.pyi";
  m.attr("CHUNK_BYTES") = artifacts::kChunkBytes;
  m.attr("OBJECT_BYTES_MAX") = artifacts::kObjectBytesMax;
  bind_release(m);
  bind_staging(m);
  py::class_<ArtifactStore, std::shared_ptr<ArtifactStore>> store(m, "ArtifactStore");
  bind_objects(store);
  bind_journal(store);
}

}  // namespace edgecore::bindings
