// What a pack holds in place of a column block of rows whose schema this build can't read (another
// build has written them): the records as they came, without a look into their rows, so that such
// rows leave the segments like any others. docs/formats/pack.md. Encoding and decoding only; bytes
// to read are hostile.
#pragma once

#include "log/pack.hpp"
#include "log/span.hpp"

namespace edgecore {

// Of `rows.arrivals` each is one record, and of `rows.sizes` the bytes of its rows.
Bytes encode_rows_block(const PackBlock& place, const SealedRows& rows);

// Whether a pack's block, in the clear, is one.
bool is_rows_block(ByteSpan block);

// Corrupt unless it is one of what the index says, intact.
Result<SealedRows> decode_rows_block(ByteSpan block, const PackBlock& place);

}  // namespace edgecore
