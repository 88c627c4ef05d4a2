#include "base/crc32c.hpp"
#include "log/reader.hpp"

namespace edgecore {
namespace {

constexpr std::uint32_t kCatalogueMagic = 0x54434345;  // "ECCT"
constexpr std::uint64_t kCatalogueBytesMax = 64u << 20;

}  // namespace

const CatalogueEntry* Catalogue::find(std::uint32_t number) const {
  for (const CatalogueEntry& entry : entries)
    if (entry.number == number) return &entry;
  return nullptr;
}

Result<const CatalogueEntry*> Catalogue::named(std::uint32_t number) const {
  if (const CatalogueEntry* entry = find(number)) return entry;
  return Status::incompatible("schema " + std::to_string(number) +
                              " is not in the log's catalogue");
}

Result<const CatalogueEntry*> Catalogue::attached(std::uint32_t number) const {
  const CatalogueEntry* entry = find(number);
  if (entry != nullptr && entry->schema != nullptr) return entry;
  return Status::incompatible("schema " + std::to_string(number) + " of the log is not attached");
}

const CatalogueEntry* Catalogue::find(const SchemaPtr& schema) const {
  for (const CatalogueEntry& entry : entries)
    if (entry.schema == schema) return &entry;
  for (const CatalogueEntry& entry : entries)
    if (entry.fingerprint == schema->fingerprint) return &entry;
  return nullptr;
}

Bytes Catalogue::to_bytes() const {
  Bytes out;
  ByteWriter writer(out);
  writer.put(kCatalogueMagic);
  writer.put(wal::kVersion);
  writer.put(std::uint16_t{0});
  writer.put(static_cast<std::uint32_t>(entries.size()));
  for (const CatalogueEntry& entry : entries) {
    writer.put(entry.number);
    writer.put(entry.partition);
    writer.put(static_cast<std::uint32_t>(entry.tier));
    writer.put(static_cast<std::uint32_t>(entry.stream.size()));
    writer.put_text(entry.stream);
    writer.put(static_cast<std::uint32_t>(entry.canonical.size()));
    writer.put_bytes(entry.canonical);
  }
  writer.put(crc32c(out));
  return out;
}

Result<Catalogue> Catalogue::from_bytes(ByteSpan bytes) {
  const Status damaged = Status::corrupt("log catalogue is damaged");
  if (bytes.size() < 16 || bytes.size() > kCatalogueBytesMax ||
      crc32c(bytes.first(bytes.size() - 4)) !=
          load_le<std::uint32_t>(bytes.data() + bytes.size() - 4))
    return damaged;
  ByteReader reader(bytes.first(bytes.size() - 4));
  std::uint32_t magic = 0, count = 0;
  std::uint16_t version = 0, zero = 0;
  if (!reader.take(magic) || !reader.take(version) || !reader.take(zero) || !reader.take(count) ||
      magic != kCatalogueMagic)
    return damaged;
  if (version != wal::kVersion) return Status::incompatible("log catalogue: version not known");
  Catalogue out;
  for (std::uint32_t i = 0; i < count; ++i) {
    CatalogueEntry entry;
    std::uint32_t tier = 0, length = 0;
    ByteSpan stream, canonical;
    if (!reader.take(entry.number) || !reader.take(entry.partition) || !reader.take(tier) ||
        tier > 4 || !reader.take(length) || !reader.take_bytes(length, stream) ||
        !reader.take(length) || !reader.take_bytes(length, canonical))
      return damaged;
    entry.tier = static_cast<std::uint8_t>(tier);
    entry.stream = std::string(as_text(stream));
    entry.canonical.assign(canonical.begin(), canonical.end());
    entry.fingerprint = blake3(canonical);
    out.entries.push_back(std::move(entry));
  }
  if (reader.remaining() != 0) return damaged;
  return out;
}

}  // namespace edgecore
