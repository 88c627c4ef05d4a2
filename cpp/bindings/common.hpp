// What every binding file shares: one place where a Status becomes an exception, and byte-buffer
// conversion. Bindings convert; they decide nothing.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <memory>
#include <string>
#include <type_traits>

#include "base/blake3.hpp"
#include "base/bytes.hpp"
#include "base/status.hpp"

namespace edgecore::bindings {

namespace py = pybind11;

// Raises edgecore.errors.<Outcome> with the status message when it is not Ok. Needs the GIL.
void raise_if_bad(const Status& status);

template <typename T>
T take(Result<T>&& result) {
  raise_if_bad(result.status());
  return std::move(result).value();
}

template <typename T>
inline constexpr bool is_result = false;
template <typename T>
inline constexpr bool is_result<Result<T>> = true;

// Runs `work` without the GIL (it waits, or does I/O under a core lock); raises a bad Status or
// Result with the GIL, passes on anything else.
template <typename Work>
auto unlocked(Work work) {
  auto done = [&] {
    const py::gil_scoped_release release;
    return work();
  }();
  if constexpr (std::is_same_v<decltype(done), Status>)
    raise_if_bad(done);
  else if constexpr (is_result<decltype(done)>)
    return take(std::move(done));
  else
    return done;
}

// A resource that Python may close before its object dies. Closed use is Invalid.
template <typename T>
class Closable {
 public:
  explicit Closable(std::unique_ptr<T> held) : held_(std::move(held)) {}
  T& get() {
    if (!held_) raise_if_bad(Status::invalid("used after close"));
    return *held_;
  }
  void close() { held_.reset(); }

 private:
  std::unique_ptr<T> held_;
};

inline py::bytes to_py_bytes(ByteSpan bytes) {
  return py::bytes(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

// A borrowed, C-contiguous, read-only view of any object with the buffer protocol. Holds the
// buffer for its lifetime; needs the GIL to make and to destroy.
class BufferView {
 public:
  explicit BufferView(const py::handle& object) {
    if (PyObject_GetBuffer(object.ptr(), &view_, PyBUF_SIMPLE) != 0) throw py::error_already_set();
  }
  ~BufferView() { PyBuffer_Release(&view_); }
  BufferView(const BufferView&) = delete;
  BufferView& operator=(const BufferView&) = delete;
  ByteSpan bytes() const {
    return {static_cast<const std::byte*>(view_.buf), static_cast<std::size_t>(view_.len)};
  }

 private:
  Py_buffer view_{};
};

// Invalid unless it has 32 bytes.
inline Digest digest_of(const py::handle& object) {
  const BufferView view(object);
  Digest digest{};
  if (view.bytes().size() != digest.size())
    raise_if_bad(Status::invalid("digest: " + std::to_string(view.bytes().size()) +
                                 " bytes, 32 are needed"));
  std::copy(view.bytes().begin(), view.bytes().end(), digest.begin());
  return digest;
}

// One per file bind_<room>.cpp.
void bind_base(py::module_& m);
void bind_fs(py::module_& m);
void bind_rows(py::module_& m);
void bind_columns(py::module_& m);
void bind_log(py::module_& m);
void bind_features(py::module_& m);
void bind_artifacts(py::module_& m);
void bind_inference(py::module_& m);
void bind_learning(py::module_& m);
void bind_pipeline(py::module_& m);
void bind_verdict(py::module_& m);

}  // namespace edgecore::bindings
