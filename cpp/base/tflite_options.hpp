// What operators of a .tflite file declare: a part of tflite.cpp.
#pragma once

#include "base/flatbuffer.hpp"
#include "base/tflite.hpp"

namespace edgecore::tflite {

// The options of an operator out of its table. Incompatible: an operator, version or option that
// is not read here; Corrupt: options of another operator, or without a meaning.
Result<Options> read_options(const flatbuffer::Table& table, Op op, std::int32_t version);

}  // namespace edgecore::tflite
