// The dense coding: streams through one adaptive binary range code per column.
#pragma once

#include "columns/stream.hpp"

namespace edgecore {

std::unique_ptr<StreamSink> make_dense_sink();
std::unique_ptr<StreamSource> make_dense_source(ByteSpan bytes);

}  // namespace edgecore
