// What every binding file shares: one place where a Status becomes an exception, and byte-buffer
// conversion. Bindings convert; they decide nothing.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>

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

// One per file bind_<room>.cpp.
void bind_base(py::module_& m);
void bind_fs(py::module_& m);
void bind_rows(py::module_& m);
void bind_log(py::module_& m);
void bind_features(py::module_& m);
void bind_artifacts(py::module_& m);
void bind_inference(py::module_& m);
void bind_learning(py::module_& m);
void bind_pipeline(py::module_& m);

}  // namespace edgecore::bindings
