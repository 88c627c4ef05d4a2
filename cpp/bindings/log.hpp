// `_core.log.Log` as other bindings see it.
#pragma once

#include <map>

#include "bindings/rows.hpp"
#include "log/log.hpp"

namespace edgecore::bindings {

// A log that Python may close before the object dies; closed use is Invalid. Methods need the GIL
// and give it up around whatever may wait.
class PyLog {
 public:
  PyLog(std::unique_ptr<Log> log, std::shared_ptr<Clock> clock)
      : log_(std::move(log)), clock_(std::move(clock)) {}
  ~PyLog() {
    const py::gil_scoped_release release;  // the flusher that is waited for may need it
    log_.reset();
  }
  PyLog(const PyLog&) = delete;
  PyLog& operator=(const PyLog&) = delete;
  Log& core() {
    if (!log_) raise_if_bad(Status::invalid("the log is closed"));
    return *log_;
  }
  // For those who may outlive close().
  std::weak_ptr<Log> share() {
    core();
    return log_;
  }
  void close();
  // The schemas that were given to register or attach, by stream: the newest one.
  PySchemaPtr schema_of_stream(const std::string& stream) const;
  // By catalogue number; null when unknown.
  PySchemaPtr schema_of_number(std::uint32_t number) const;
  std::uint32_t register_schema(const PySchemaPtr& schema);
  void attach_schema(const PySchemaPtr& schema);
  // An empty batch of the stream, to be given back: while an append waits without the GIL, another
  // thread's must not meet its rows.
  PyBatchPtr take_scratch(const py::str& stream);
  void give_scratch(const py::str& stream, PyBatchPtr batch);

  // Where to begin looking for sequences above `after`: what the last look found.
  std::uint64_t position_hint(std::uint32_t partition, std::uint64_t after) const {
    const auto found = hints_.find(partition);
    return found == hints_.end() || found->second.first > after ? 0 : found->second.second;
  }
  void remember_position(std::uint32_t partition, std::uint64_t sequence, std::uint64_t position) {
    hints_[partition] = {sequence, position};
  }

 private:
  void remember(const PySchemaPtr& schema);

  std::shared_ptr<Log> log_;  // others hold it while they read, no longer
  std::map<std::string, PySchemaPtr, std::less<>> by_stream_;
  std::map<std::uint32_t, PySchemaPtr> by_number_;
  py::object scratch_stream_;  // the text object that scratch_ was given back with
  PyBatchPtr scratch_;
  std::map<std::uint32_t, std::pair<std::uint64_t, std::uint64_t>> hints_;
  std::shared_ptr<Clock> clock_;
};
using PyLogPtr = std::shared_ptr<PyLog>;

// Appends a batch; the GIL is given up when the append may do I/O.
Appended append_batch(Log& log, const RowBatch& rows);

// bind_append.cpp, bind_arrow.cpp, bind_scan.cpp
void bind_append(py::module_& m, py::class_<PyLog, PyLogPtr>& log);
void bind_arrow(py::module_& m, py::class_<PyLog, PyLogPtr>& log);
void bind_scan(py::module_& m, py::class_<PyLog, PyLogPtr>& log);
// bind_cipher.cpp
void bind_encryption(py::class_<PyLog, PyLogPtr>& log);

}  // namespace edgecore::bindings
