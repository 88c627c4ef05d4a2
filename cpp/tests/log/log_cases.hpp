// What the log's tests share: two streams, rows with a value each, and everything read back.
#pragma once

#include <gtest/gtest.h>

#include <map>

#include "base/fs_memory.hpp"
#include "log/log.hpp"

namespace edgecore {

// Every operation is cut, every byte flipped; under AddressSanitizer every third, and under
// ThreadSanitizer, twenty times as slow and with one thread to watch, every thirteenth.
#if defined(__SANITIZE_THREAD__)
inline constexpr std::uint64_t kStride = 13;
#elif defined(__SANITIZE_ADDRESS__)
inline constexpr std::uint64_t kStride = 3;
#else
inline constexpr std::uint64_t kStride = 1;
#endif

inline SchemaPtr make_schema(const std::string& stream, Tier tier) {
  auto schema = std::make_shared<Schema>();
  schema->stream = stream;
  schema->tier = tier;
  schema->fields.resize(2);
  schema->fields[0].name = "value";
  schema->fields[0].dtype = DType::kI64;
  schema->fields[1].name = "text";
  schema->fields[1].dtype = DType::kUtf8;
  const std::string canonical = "schema of " + stream;
  const ByteSpan bytes = as_byte_span(canonical);
  schema->canonical.assign(bytes.begin(), bytes.end());
  schema->fingerprint = blake3(schema->canonical);
  return schema;
}

inline RowBatch rows_of(const SchemaPtr& schema, std::int64_t from, int count) {
  RowBatch rows(schema);
  for (int i = 0; i < count; ++i) {
    const std::size_t row = rows.add_row(1000 + from + i, "src", static_cast<std::uint64_t>(i));
    rows.set_i64(row, 0, from + i);
    rows.set_bytes(row, 1, as_byte_span("text " + std::to_string(from + i)));
  }
  return rows;
}

// (partition, sequence) -> value
using Events = std::map<std::pair<std::uint32_t, std::uint64_t>, std::int64_t>;

// Everything the log reads, checked: rows whole, positions growing, no identity twice.
inline Events read_all(const Log& log, const std::vector<SchemaPtr>& schemas) {
  Events out;
  std::uint64_t position = 0;
  const auto catalogue = log.catalogue();
  const Status status = log.reader().visit(0, [&](const RecordView& view) {
    EXPECT_GT(view.position, position);
    position = view.position + view.head.count - 1;
    for (const CatalogueEntry& entry : catalogue) {
      if (entry.number != view.head.schema) continue;
      for (const SchemaPtr& schema : schemas) {
        if (schema->fingerprint != entry.fingerprint) continue;
        RowBatch rows(schema);
        EXPECT_TRUE(decode_rows(view.payload, view.head.count, rows).is_ok());
        for (std::size_t i = 0; i < rows.count(); ++i) {
          EXPECT_EQ(rows.text(i, 1), "text " + std::to_string(rows.i64(i, 0)));
          const bool fresh =
              out.emplace(std::pair(view.head.partition, view.head.first + i), rows.i64(i, 0))
                  .second;
          EXPECT_TRUE(fresh) << "sequence " << view.head.first + i << " twice";
        }
      }
    }
    return true;
  });
  EXPECT_TRUE(status.is_ok()) << status.to_string();
  return out;
}

}  // namespace edgecore
