// What the bindings of every room share about rows: schemas and row batches as Python objects.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/normalise.hpp"
#include "base/rows.hpp"
#include "base/schema.hpp"
#include "bindings/common.hpp"
#include "columns/canonical.hpp"

namespace edgecore::bindings {

// `_core.rows.Schema`: a schema with its field names as interned Python strings, so that a row's
// keys are found by pointer. Immutable. Every method needs the GIL.
class PySchema {
 public:
  PySchema(std::string stream, int tier, std::uint32_t version, const py::list& fields,
           const py::bytes& canonical);
  const SchemaPtr& schema() const { return schema_; }
  const std::vector<py::str>& names() const { return names_; }

 private:
  SchemaPtr schema_;
  std::vector<py::str> names_;
};
using PySchemaPtr = std::shared_ptr<PySchema>;

// Takes `_core.rows.Schema`, or an `edgecore.Schema` by its `core`; TypeError otherwise.
PySchemaPtr schema_of(py::handle object);

// `_core.rows.Batch`: normalised rows of one schema. Every way in (dicts, CSV text, numpy, Arrow)
// ends in the same cells. A row is taken whole or not at all. Not thread-safe; every method needs
// the GIL, but rows() may be read without it while no other thread holds the batch.
class PyBatch {
 public:
  // `clock` gives the time of rows that bring none; null: the system's.
  explicit PyBatch(PySchemaPtr schema, std::shared_ptr<Clock> clock = nullptr);

  const PySchemaPtr& schema() const { return schema_; }
  const RowBatch& rows() const { return rows_; }
  RowBatch& rows() { return rows_; }
  std::uint64_t off_grid() const { return counts_.off_grid; }

  // One row from a dict. Invalid names the field and the value; the batch is then as before.
  Status add_dict(PyObject* row);
  // The same; a row that brings no time has `now_ns`.
  Status add_dict(PyObject* row, std::int64_t now_ns);
  // One row from text cells, None or "" for null.
  Status add_text(const py::list& cells, std::int64_t time_ns, std::string_view source,
                  std::uint64_t source_seq);
  // Rows from a dict, an iterable of dicts, a numpy structured array or Arrow data.
  // Rows that bring no time share the time of the call.
  // With `skip`, refused rows are returned as (index, reason); without, the first one raises and
  // the batch is as before.
  py::list extend(py::handle rows, bool skip);

  void clear() {
    rows_.clear();
    counts_ = {};
  }
  void truncate(std::size_t count) {
    while (rows_.count() > count) rows_.drop_last_row();
  }

 private:
  friend class ColumnWriter;
  Status add_items(PyObject* row);
  Status set_key(std::size_t row, PyObject* key, PyObject* value);
  Status set_value(std::size_t row, std::size_t field, PyObject* value);
  Status check_required(std::size_t row) const;

  PySchemaPtr schema_;
  std::shared_ptr<Clock> clock_;
  RowBatch rows_;
  NormaliseCounts counts_;
  std::vector<std::size_t> required_;
  std::vector<std::uint8_t> any_double_;  // by field: an f64 that takes every double
  // The keys of the row being taken.
  std::int64_t time_ns_ = 0;
  bool has_time_ = false;
  std::string source_;
  std::uint64_t source_seq_ = 0;
};
using PyBatchPtr = std::shared_ptr<PyBatch>;

// A row as a dict: time, source, source_seq, then the fields; null is None. Decimals as floats, or
// with `exact` as their decimal text.
py::dict row_to_dict(const PySchema& schema, const RowBatch& rows, std::size_t row, bool exact);

// One column: array.array of doubles for floats and decimals (null is NaN), of 64-bit integers for
// integers without nulls; else a list. "time" and "source_seq" are arrays, "source" a list.
py::object column_of(const PySchema& schema, const RowBatch& rows, const std::string& name);
// The same of encoded rows, without decoding the others; null for a name that is no field of them.
py::object column_of(const UniformRows& rows, const Schema& schema, std::size_t count,
                     const std::string& name);

}  // namespace edgecore::bindings
