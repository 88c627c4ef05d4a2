// What bindings of other rooms need of features.
#pragma once

#include "bindings/common.hpp"
#include "features/batch.hpp"
#include "features/joined.hpp"

namespace edgecore::bindings {

// Takes `_core.features.Plan`; TypeError otherwise.
features::PlanPtr plan_of(py::handle object);
// Takes a Plan, or of a view of several streams its parts: [(Plan, columns, keyed)].
features::PartsPtr parts_of(py::handle object);

// Memory that Python owns and the core fills.
template <typename T>
struct Room {
  explicit Room(std::size_t count)
      : object(py::reinterpret_steal<py::object>(
            PyByteArray_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(count * sizeof(T))))) {
    if (!object) throw py::error_already_set();
    span = {reinterpret_cast<T*>(PyByteArray_AS_STRING(object.ptr())), count};
  }
  py::object object;
  std::span<T> span;
};

// (row, from, to): known before that row came.
using GapNumbers = std::vector<std::tuple<std::uint32_t, std::int64_t, std::int64_t>>;

inline std::vector<features::GapBefore> gaps_of(const GapNumbers& numbers) {
  std::vector<features::GapBefore> out;
  for (const auto& [row, from, to] : numbers) out.push_back({row, from, to});
  return out;
}

void bind_backfill(py::module_& m);  // history, in bind_backfill.cpp

}  // namespace edgecore::bindings
