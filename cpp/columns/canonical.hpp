// Canonical rows: the one encoding of rows whose bytes have meaning. It is the payload of the log's
// records, the input of the run digest, and what a row-batch envelope carries, so that nothing is
// recoded between append and hub. docs/formats/canonical-rows.md (final).
#pragma once

#include "base/blake3.hpp"
#include "base/rows.hpp"
#include "base/status.hpp"

namespace edgecore {

using StoreId = std::array<std::byte, 16>;

// How rows came in, run-length coded beside them: rows that one append call brought. Outside the
// run digest.
struct Arrival {
  std::uint32_t rows = 0;
  std::uint64_t position = 0;  // of the first of them
  std::uint64_t hlc = 0;
  std::uint8_t clock_trust = 0;
  bool operator==(const Arrival&) const = default;
};

// Adds an arrival, joining it with the last one when it goes on in the same commit.
void add_arrival(std::vector<Arrival>& arrivals, const Arrival& arrival);

// Appends the canonical form of rows [first, first + count) of the batch.
void encode_rows(const RowBatch& batch, std::size_t first, std::size_t count, Bytes& out);

// Decodes `count` rows, adding them to `out`. Corrupt unless the bytes are exactly that.
Status decode_rows(ByteSpan bytes, std::size_t count, RowBatch& out);

// Rows that all have their values at the same places: fields of fixed width, no bool among them,
// no null, no source. Borrows the bytes and the schema.
class UniformRows {
 public:
  // Whether `bytes` are `count` such rows, exactly.
  static bool are(const Schema& schema, ByteSpan bytes, std::size_t count);
  // For bytes that are.
  UniformRows(const Schema& schema, ByteSpan bytes);
  std::int64_t time_ns(std::size_t row) const { return load_le<std::int64_t>(at(row)); }
  std::uint64_t source_seq(std::size_t row) const { return load_le<std::uint64_t>(at(row) + 12); }
  std::uint64_t cell(std::size_t row, std::size_t field) const;  // as in a RowBatch

 private:
  const std::byte* at(std::size_t row) const { return bytes_.data() + row * stride_; }
  const Schema& schema_;
  ByteSpan bytes_;
  std::size_t stride_;
  std::vector<std::size_t> offsets_;  // of the fields' values
};

// Bytes of the first `count` rows of `bytes`, without decoding them. Corrupt when they end early.
Result<std::size_t> rows_size(const Schema& schema, ByteSpan bytes, std::size_t count);

// Identity of content: BLAKE3 of store id, partition u32, first sequence u64, count u64, schema
// fingerprint, canonical rows. The same events in any coding have the same digest.
Digest run_digest(const StoreId& store, std::uint32_t partition, std::uint64_t first,
                  std::uint64_t count, const Digest& schema, ByteSpan rows);

}  // namespace edgecore
