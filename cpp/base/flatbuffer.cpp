// See flatbuffer.hpp.
#include "base/flatbuffer.hpp"

namespace edgecore::flatbuffer {
namespace {

Status outside(const char* what) {
  return Status::corrupt(std::string("FlatBuffer: ") + what + " is outside the buffer");
}

bool fits(ByteSpan buffer, std::uint64_t at, std::uint64_t bytes) {
  return at <= buffer.size() && bytes <= buffer.size() - at;
}

}  // namespace

Result<Table> Table::root(ByteSpan buffer, std::string_view identifier) {
  if (buffer.size() < 8) return Status::corrupt("FlatBuffer: shorter than its header");
  if (buffer.size() > 0x7fffffffU) return Status::corrupt("FlatBuffer: longer than 2 GiB");
  if (as_text(buffer.subspan(4, 4)) != identifier)
    return Status::corrupt("FlatBuffer: the file identifier is not " + std::string(identifier));
  return open(buffer, load_le<std::uint32_t>(buffer.data()));
}

Result<Table> Table::open(ByteSpan buffer, std::size_t at) {
  if (!fits(buffer, at, 4)) return outside("a table");
  const std::int64_t vtable =
      static_cast<std::int64_t>(at) - load_le<std::int32_t>(buffer.data() + at);
  if (vtable < 0 || !fits(buffer, static_cast<std::uint64_t>(vtable), 4))
    return outside("a vtable");
  const auto vat = static_cast<std::size_t>(vtable);
  const auto vtable_bytes = load_le<std::uint16_t>(buffer.data() + vat);
  const auto table_bytes = load_le<std::uint16_t>(buffer.data() + vat + 2);
  if (vtable_bytes < 4 || vtable_bytes % 2 != 0 || !fits(buffer, vat, vtable_bytes))
    return outside("a vtable");
  if (table_bytes < 4 || !fits(buffer, at, table_bytes)) return outside("a table");
  return Table(buffer, at, vat, vtable_bytes, table_bytes);
}

Result<std::size_t> Table::locate(std::uint16_t field, std::size_t bytes) const {
  const std::size_t entry = 4 + std::size_t{2} * field;
  if (entry + 2 > vtable_bytes_) return std::size_t{0};
  const auto offset = load_le<std::uint16_t>(buffer_.data() + vtable_ + entry);
  if (offset == 0) return std::size_t{0};
  if (offset < 4 || offset + bytes > table_bytes_) return outside("a field");
  return at_ + offset;
}

Result<std::size_t> Table::follow(std::uint16_t field) const {
  EDGECORE_ASSIGN(const std::size_t at, locate(field, 4));
  if (at == 0) return at;
  const std::size_t to = at + load_le<std::uint32_t>(buffer_.data() + at);
  if (to == at || !fits(buffer_, to, 4)) return outside("an offset");
  return to;
}

Result<Vector> Table::vector(std::uint16_t field, std::size_t element_bytes) const {
  EDGECORE_ASSIGN(const std::size_t at, follow(field));
  if (at == 0) return Vector{};
  const auto count = load_le<std::uint32_t>(buffer_.data() + at);
  const std::uint64_t bytes = std::uint64_t{count} * element_bytes;
  if (!fits(buffer_, at + 4, bytes)) return outside("a vector");
  return Vector{buffer_.subspan(at + 4, static_cast<std::size_t>(bytes)), count, at + 4};
}

Result<std::optional<Table>> Table::table(std::uint16_t field) const {
  EDGECORE_ASSIGN(const std::size_t at, follow(field));
  if (at == 0) return std::optional<Table>{};
  EDGECORE_ASSIGN(Table found, open(buffer_, at));
  return std::optional<Table>(found);
}

Result<Table> Table::element(const Vector& tables, std::size_t i) const {
  const std::size_t at = tables.start + 4 * i;
  return open(buffer_, at + tables.at<std::uint32_t>(i));
}

}  // namespace edgecore::flatbuffer
