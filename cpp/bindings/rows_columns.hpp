// Tables from elsewhere (numpy structured arrays, Arrow) as rows of a batch.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bindings/rows.hpp"

namespace edgecore::bindings {

// One value of a table, in the type it had there. `text` borrows until the next cell.
struct Cell {
  enum Kind : std::uint8_t { kNull, kBool, kSigned, kUnsigned, kDouble, kText, kBytes, kDigits };
  Kind kind = kNull;
  std::int64_t integer = 0;  // kBool, kSigned; kUnsigned as bits
  double number = 0;
  std::string_view text;  // kDigits: a decimal number
};

// A chunk of a table. Columns are borrowed from their owner.
class Table {
 public:
  virtual ~Table() = default;
  virtual std::size_t rows() const = 0;
  virtual const std::vector<std::string>& names() const = 0;
  virtual Cell cell(std::size_t column, std::size_t row) = 0;
};

// The chunks of a table; null when the object is no table (an iterable of dicts, then).
// Invalid when it is one whose types are not taken.
class TableReader {
 public:
  virtual ~TableReader() = default;
  virtual Table* next() = 0;  // null at the end
};
std::unique_ptr<TableReader> read_table(py::handle object);
std::unique_ptr<TableReader> read_arrow(py::handle object);

// Takes the rows of a table into a batch, as dicts are taken: whole rows, by name.
class ColumnWriter {
 public:
  // Rows that bring no time have `now_ns`.
  ColumnWriter(PyBatch& batch, const std::vector<std::string>& names, std::int64_t now_ns);
  Status add(Table& table, std::size_t row);

 private:
  enum Key : int { kTime = -1, kSource = -2, kSourceSeq = -3 };
  Status set(Table& table, std::size_t column, std::size_t from, std::size_t row);
  Status set_key(int key, const Cell& cell);

  PyBatch& batch_;
  std::int64_t now_ns_;
  std::vector<int> targets_;  // by column: a field, or a Key
};

}  // namespace edgecore::bindings
