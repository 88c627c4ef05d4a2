#include <mutex>
#include <shared_mutex>

#include "bindings/cipher.hpp"
#include "bindings/log.hpp"

namespace edgecore::bindings {
namespace {

// Closed when the interpreter ends: from then on its lock is not to be had, and a thread that asks
// for it does not come back.
struct Gate {
  std::shared_mutex mutex;
  bool closed = false;
};

Gate& gate() {
  static Gate* const made = [] {
    auto* one = new Gate();  // outlives every thread
    const auto close = [one] {
      const py::gil_scoped_release release;  // those inside may wait for it
      const std::unique_lock guard(one->mutex);
      one->closed = true;
    };
    py::module_::import("atexit").attr("register")(py::cpp_function(close));
    return one;
  }();
  return *made;
}

// The outcome word of an exception; what is none of edgecore's is Unavailable.
Status status_of(const py::error_already_set& error) {
  static constexpr Outcome kOutcomes[] = {
      Outcome::kStale,     Outcome::kIncompatible, Outcome::kCorrupt, Outcome::kUntrusted,
      Outcome::kExhausted, Outcome::kUnavailable,  Outcome::kInvalid};
  const py::module_ errors = py::module_::import("edgecore.errors");
  for (const Outcome outcome : kOutcomes)
    if (error.matches(errors.attr(std::string(outcome_word(outcome)).c_str())))
      return {outcome, std::string(py::str(error.value()))};
  return Status::unavailable("cipher: " + std::string(py::str(error.value())));
}

Status in_python(const std::function<Status()>& work) {
  const auto run = [&]() -> Status {
    try {
      return work();
    } catch (const py::error_already_set& error) {
      try {
        return status_of(error);
      } catch (const std::exception&) {
        return Status::unavailable("cipher: failed, and so did saying why");
      }
    } catch (const std::exception& error) {
      return Status::unavailable("cipher: " + std::string(error.what()));
    }
  };
  if (PyGILState_Check() != 0) return run();
  const std::shared_lock pass(gate().mutex);
  if (gate().closed) return Status::unavailable("cipher: the interpreter is ending");
  const py::gil_scoped_acquire gil;
  return run();
}

// A Python object that threads without the GIL may let go.
class Held {
 public:
  explicit Held(py::object object) : object_(std::move(object)) {}
  ~Held() {
    py::handle left = object_.release();
    static_cast<void>(in_python([&] {
      left.dec_ref();
      return Status::ok();
    }));
  }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  py::object attr(const char* name) const { return object_.attr(name); }

 private:
  py::object object_;
};

// What a callback sees of the core's memory, while it runs.
class Lent {
 public:
  explicit Lent(ByteSpan bytes)
      : view_(py::memoryview::from_memory(static_cast<const void*>(bytes.data()),
                                          static_cast<py::ssize_t>(bytes.size()))) {}
  ~Lent() {
    try {
      view_.attr("release")();
    } catch (const py::error_already_set&) {  // somebody keeps what will not be there
      PyErr_Clear();
    }
  }
  Lent(const Lent&) = delete;
  Lent& operator=(const Lent&) = delete;
  const py::object& view() const { return view_; }

 private:
  py::object view_;
};

class PyKey : public CipherKey {
 public:
  explicit PyKey(py::object object) : object_(std::move(object)) {}

  Status seal(const Nonce& nonce, ByteSpan associated, ByteSpan plain,
              std::span<std::byte> out) override {
    return call("seal", nonce, associated, plain, out);
  }
  Status open(const Nonce& nonce, ByteSpan associated, ByteSpan sealed,
              std::span<std::byte> out) override {
    return call("open", nonce, associated, sealed, out);
  }

 private:
  Status call(const char* name, const Nonce& nonce, ByteSpan associated, ByteSpan data,
              std::span<std::byte> out) {
    return in_python([&] {
      const Lent lent(data);
      const py::object made =
          object_.attr(name)(to_py_bytes(nonce), lent.view(), to_py_bytes(associated));
      const BufferView view(made);
      if (view.bytes().size() != out.size())
        return Status::unavailable("cipher: a span of another size than it should have");
      std::memcpy(out.data(), view.bytes().data(), out.size());
      return Status::ok();
    });
  }

  Held object_;
};

class PyCipher : public Cipher {
 public:
  explicit PyCipher(py::object object)
      : id_(object.attr("id").cast<std::uint16_t>()), object_(std::move(object)) {
    static_cast<void>(gate());  // made while the GIL is held
  }

  std::uint16_t id() const override { return id_; }

  Result<Bytes> make_key(ByteSpan context) override {
    Bytes wrapped;
    EDGECORE_TRY(in_python([&] {
      const py::object made = object_.attr("make_key")(to_py_bytes(context));
      const BufferView view(made);
      wrapped.assign(view.bytes().begin(), view.bytes().end());
      return Status::ok();
    }));
    return wrapped;
  }

  Result<std::shared_ptr<CipherKey>> open_key(std::uint16_t id, ByteSpan wrapped,
                                              ByteSpan context) override {
    std::shared_ptr<CipherKey> key;
    EDGECORE_TRY(in_python([&] {
      key = std::make_shared<PyKey>(
          object_.attr("open_key")(id, to_py_bytes(wrapped), to_py_bytes(context)));
      return Status::ok();
    }));
    return key;
  }

 private:
  std::uint16_t id_;
  Held object_;
};

}  // namespace

void bind_encryption(py::class_<PyLog, PyLogPtr>& log) {
  // ([(segment, cipher, key)], [(key, cipher, destroyed, kind, tier, of)]).
  log.def("encryption", [](PyLog& self) {
    const Log& core = self.core();
    py::list segments, keys;
    for (const SegmentInfo& segment : core.segments())
      segments.append(
          py::make_tuple(segment.header.number, segment.header.cipher, segment.header.key));
    for (const KeyEntry& entry : core.keys().entries())
      keys.append(py::make_tuple(entry.id, entry.cipher, entry.destroyed, int{entry.use.kind},
                                 entry.use.tier, entry.use.of));
    return py::make_tuple(segments, keys);
  });
  log.def(
         "purge",
         [](PyLog& self, std::uint32_t tier, std::uint64_t period) {
           Log& core = self.core();
           unlocked([&] { return core.purge(tier, period); });
         },
         py::arg("tier"), py::arg("period"))
      .def("rotate",
           [](PyLog& self) {
             Log& core = self.core();
             unlocked([&] { return core.rotate(); });
           })
      .def("purged", [](PyLog& self) {
        const Log& core = self.core();
        py::list out;
        for (const LossRange& range : unlocked([&] { return core.purged(); }))
          out.append(py::make_tuple(range.partition, range.first, range.last));
        return out;
      });
}

std::shared_ptr<Cipher> cipher_of(const py::object& cipher) {
  if (cipher.is_none()) return nullptr;
  const auto id = cipher.attr("id").cast<std::uint16_t>();
  if (id == kPlain || id > kAes256Gcm)
    raise_if_bad(Status::invalid("cipher " + std::to_string(id) + ": 1 or 2"));
  return std::make_shared<PyCipher>(cipher);
}

}  // namespace edgecore::bindings
