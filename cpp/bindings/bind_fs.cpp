#include "base/fs_memory.hpp"
#include "bindings/common.hpp"

namespace edgecore::bindings {
namespace {

OpenMode mode_of(const std::string& word) {
  if (word == "read") return OpenMode::kRead;
  if (word == "read_write") return OpenMode::kReadWrite;
  if (word == "create") return OpenMode::kCreate;
  if (word == "create_new") return OpenMode::kCreateNew;
  raise_if_bad(Status::invalid("mode " + word + ": read, read_write, create or create_new"));
  return OpenMode::kRead;
}

DiskModel model_of(const std::string& word) {
  if (word == "posix") return DiskModel::kPosix;
  if (word == "ext4") return DiskModel::kExt4;
  raise_if_bad(Status::invalid("model " + word + ": posix or ext4"));
  return DiskModel::kPosix;
}

FaultEffect effect_of(const std::string& word) {
  if (word == "io_error") return FaultEffect::kIoError;
  if (word == "no_space") return FaultEffect::kNoSpace;
  if (word == "short_write") return FaultEffect::kShortWrite;
  if (word == "lying_sync") return FaultEffect::kLyingSync;
  raise_if_bad(
      Status::invalid("effect " + word + ": io_error, no_space, short_write or lying_sync"));
  return FaultEffect::kIoError;
}

std::uint32_t operations_of(const std::string& word) {
  if (word == "mutations") return kMutations;
  if (word == "all") return kAllOperations;
  const std::pair<const char*, Operation> kWords[] = {
      {"create", Operation::kCreate},
      {"write", Operation::kWrite},
      {"sync", Operation::kSync},
      {"truncate", Operation::kTruncate},
      {"fill_zeros", Operation::kFillZeros},
      {"rename", Operation::kRename},
      {"remove", Operation::kRemove},
      {"make_directories", Operation::kMakeDirectories},
      {"sync_directory", Operation::kSyncDirectory},
      {"open", Operation::kOpen},
      {"read", Operation::kRead},
      {"list", Operation::kList},
      {"lock", Operation::kLock}};
  for (const auto& [name, operation] : kWords)
    if (word == name) return static_cast<std::uint32_t>(operation);
  raise_if_bad(Status::invalid("operation " + word + " is not known"));
  return 0;
}

using PyFile = Closable<File>;
using PyLock = Closable<FileLock>;

void bind_file(py::module_& m) {
  py::class_<PyFile>(m, "File")
      .def(
          "read_at",
          [](PyFile& self, std::uint64_t offset, std::size_t size) {
            File& file = self.get();
            const auto whole = unlocked([&] { return file.size(); });
            const auto rest = offset < whole ? whole - offset : 0;
            Bytes bytes(static_cast<std::size_t>(std::min<std::uint64_t>(size, rest)));
            const auto count = unlocked([&] { return file.read_at(offset, bytes); });
            return to_py_bytes(ByteSpan(bytes).first(count));
          },
          py::arg("offset"), py::arg("size"))
      .def(
          "write_at",
          [](PyFile& self, std::uint64_t offset, const py::object& data) {
            const BufferView view(data);
            File& file = self.get();
            unlocked([&] { return file.write_at(offset, view.bytes()); });
          },
          py::arg("offset"), py::arg("data"))
      .def("sync", [](PyFile& self) { unlocked([&f = self.get()] { return f.sync(); }); })
      .def("size", [](PyFile& self) { return unlocked([&f = self.get()] { return f.size(); }); })
      .def(
          "truncate",
          [](PyFile& self, std::uint64_t size) {
            unlocked([&f = self.get(), size] { return f.truncate(size); });
          },
          py::arg("size"))
      .def(
          "fill_zeros",
          [](PyFile& self, std::uint64_t size) {
            unlocked([&f = self.get(), size] { return f.fill_zeros(size); });
          },
          py::arg("size"))
      .def("close", &PyFile::close)
      .def("__enter__", [](py::object self) { return self; })
      .def("__exit__", [](PyFile& self, const py::args&) { self.close(); });
  py::class_<PyLock>(m, "FileLock")
      .def("release", &PyLock::close)
      .def("__enter__", [](py::object self) { return self; })
      .def("__exit__", [](PyLock& self, const py::args&) { self.close(); });
}

void bind_seam(py::module_& m) {
  using Text = const std::string&;
  py::class_<Fs, std::shared_ptr<Fs>>(m, "Fs")
      .def(
          "read_file",
          [](Fs& fs, Text path, std::uint64_t size_max) {
            return to_py_bytes(unlocked([&] { return read_file(fs, path, size_max); }));
          },
          py::arg("path"), py::arg("size_max"))
      .def(
          "write_atomic",
          [](Fs& fs, Text path, const py::object& data) {
            const BufferView view(data);
            unlocked([&] { return write_file_atomic(fs, path, view.bytes()); });
          },
          py::arg("path"), py::arg("data"))
      .def(
          "open",
          [](Fs& fs, Text path, Text mode) {
            const OpenMode how = mode_of(mode);
            return PyFile(unlocked([&] { return fs.open(path, how); }));
          },
          py::arg("path"), py::arg("mode") = "read")
      .def(
          "exists", [](Fs& fs, Text path) { return unlocked([&] { return fs.exists(path); }); },
          py::arg("path"))
      .def(
          "list",
          [](Fs& fs, Text directory) {
            py::list names;
            for (const auto& name : unlocked([&] { return fs.list(directory); }))
              names.append(py::str(name));
            return names;
          },
          py::arg("directory"))
      .def(
          "remove", [](Fs& fs, Text path) { unlocked([&] { return fs.remove(path); }); },
          py::arg("path"))
      .def(
          "rename",
          [](Fs& fs, Text from, Text to) { unlocked([&] { return fs.rename(from, to); }); },
          py::arg("source"), py::arg("target"))
      .def(
          "make_directories",
          [](Fs& fs, Text directory) { unlocked([&] { return fs.make_directories(directory); }); },
          py::arg("directory"))
      .def(
          "sync_directory",
          [](Fs& fs, Text directory) { unlocked([&] { return fs.sync_directory(directory); }); },
          py::arg("directory"))
      .def(
          "lock", [](Fs& fs, Text path) { return PyLock(unlocked([&] { return fs.lock(path); })); },
          py::arg("path"))
      .def(
          "free_bytes",
          [](Fs& fs, Text directory) { return unlocked([&] { return fs.free_bytes(directory); }); },
          py::arg("directory"))
      .def("sector_size", &Fs::sector_size);
  m.def("posix_fs", &make_posix_fs);
}

void bind_memory(py::module_& m) {
  py::class_<MemoryFs, Fs, std::shared_ptr<MemoryFs>>(m, "MemoryFs")
      .def(
          py::init([](std::uint32_t sector_size, const std::string& model, std::uint64_t capacity) {
            return std::make_shared<MemoryFs>(
                MemoryFsOptions{sector_size, model_of(model), capacity});
          }),
          py::arg("sector_size") = 512, py::arg("model") = "posix",
          py::arg("capacity") = std::uint64_t{1} << 40)
      .def("operations", &MemoryFs::operations)
      .def("cut_power_at", &MemoryFs::cut_power_at, py::arg("operation"))
      .def("power_is_cut", &MemoryFs::power_is_cut)
      .def(
          "inject",
          [](MemoryFs& fs, const std::string& effect, const std::string& on,
             const std::string& path_contains, std::uint64_t skip, bool sticky) {
            return fs.inject({effect_of(effect), operations_of(on), path_contains, skip, sticky});
          },
          py::arg("effect"), py::arg("on") = "mutations", py::arg("path_contains") = "",
          py::arg("skip") = 0, py::arg("sticky") = false)
      .def("fired", &MemoryFs::fired, py::arg("fault"))
      .def("clear_faults", &MemoryFs::clear_faults)
      .def("set_capacity", &MemoryFs::set_capacity, py::arg("size"))
      .def("pending_units", &MemoryFs::pending_units)
      .def(
          "crash", [](const MemoryFs& fs, std::uint64_t seed) { return fs.crash(seed); },
          py::arg("seed"))
      .def(
          "crash_states",
          [](const MemoryFs& fs, std::size_t limit, std::uint64_t seed) {
            py::list states;
            for (auto& state : fs.crash_states(limit, seed)) states.append(py::cast(state));
            return states;
          },
          py::arg("limit"), py::arg("seed"));
}

}  // namespace

void bind_fs(py::module_& m) {
  m.doc() = "see python/edgecore/_core/fs.pyi";
  bind_file(m);
  bind_seam(m);
  bind_memory(m);
}

}  // namespace edgecore::bindings
