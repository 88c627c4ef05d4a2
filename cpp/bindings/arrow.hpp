// Record batches that Python holds, to be given away (bind_arrow.cpp).
#pragma once

#include <map>
#include <memory>

#include "bindings/log.hpp"
#include "columns/table.hpp"

namespace edgecore::bindings {

struct PyArrowBatch {
  std::shared_ptr<const ArrowType> type;
  ArrowData data;
};

// Rows of one schema, as log.arrow() would give them.
PyArrowBatch arrow_batch_of(const RowBatch& rows, const RowPlaces& place,
                            const std::map<std::string, ArrowMetadata>& of_columns);

}  // namespace edgecore::bindings
