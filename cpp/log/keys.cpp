#include "log/keys.hpp"

#include <algorithm>
#include <utility>

#include "base/crc32c.hpp"

namespace edgecore {
namespace {

constexpr std::uint32_t kKeyMagic = 0x594B4345;  // "ECKY"
constexpr std::size_t kKeyCopyBytes = 2048;
constexpr std::size_t kKeyHeadBytes = 44;
constexpr std::size_t kUseBytes = 18;  // number, cipher, kind, tier, of
constexpr std::size_t kPagesGrown = 8;
constexpr std::uint64_t kKeysBytesMax = 1u << 30;
constexpr std::uint16_t kLive = 1;
constexpr std::uint16_t kDestroyed = 2;
constexpr std::string_view kContext = "edgecore log key 1";

void put_use(const KeyEntry& entry, std::byte* out) {
  store_le(out, entry.id);
  store_le(out + 4, entry.cipher);
  store_le(out + 6, static_cast<std::uint16_t>(entry.use.kind));
  store_le(out + 8, entry.use.tier);
  store_le(out + 10, entry.use.of);
}

std::optional<KeyEntry> decode_copy(ByteSpan copy, const StoreId& store) {
  if (copy.size() < kKeyHeadBytes + 4 || load_le<std::uint32_t>(copy.data()) != kKeyMagic ||
      load_le<std::uint16_t>(copy.data() + 4) != wal::kVersion)
    return std::nullopt;
  const std::size_t length = load_le<std::uint16_t>(copy.data() + 42);
  const std::size_t end = kKeyHeadBytes + length;
  if (length > wal::kWrappedBytesMax || copy.size() < end + 4 ||
      crc32c(copy.first(end)) != load_le<std::uint32_t>(copy.data() + end) ||
      std::memcmp(copy.data() + 8, store.data(), store.size()) != 0)
    return std::nullopt;
  const auto state = load_le<std::uint16_t>(copy.data() + 6);
  const auto kind = load_le<std::uint16_t>(copy.data() + 30);
  KeyEntry entry;
  entry.destroyed = state == kDestroyed;
  entry.id = load_le<std::uint32_t>(copy.data() + 24);
  entry.cipher = load_le<std::uint16_t>(copy.data() + 28);
  entry.use = {static_cast<KeyUse::Kind>(kind), load_le<std::uint16_t>(copy.data() + 32),
               load_le<std::uint64_t>(copy.data() + 34)};
  if ((state != kLive && state != kDestroyed) || entry.id == 0 ||
      (kind != KeyUse::kSegment && kind != KeyUse::kPack) || entry.destroyed != (length == 0))
    return std::nullopt;
  const ByteSpan wrapped = copy.subspan(kKeyHeadBytes, length);
  entry.wrapped.assign(wrapped.begin(), wrapped.end());
  return entry;
}

}  // namespace

namespace wal {

Bytes encode_key(const KeyEntry& entry, const StoreId& store) {
  Bytes page(kKeyPageBytes);
  std::byte* const out = page.data();
  store_le(out, kKeyMagic);
  store_le(out + 4, kVersion);
  store_le(out + 6, entry.destroyed ? kDestroyed : kLive);
  std::memcpy(out + 8, store.data(), store.size());
  put_use(entry, out + 24);
  store_le(out + 42, static_cast<std::uint16_t>(entry.wrapped.size()));
  std::copy(entry.wrapped.begin(), entry.wrapped.end(), out + kKeyHeadBytes);
  const std::size_t end = kKeyHeadBytes + entry.wrapped.size();
  store_le(out + end, crc32c({out, end}));
  std::memcpy(out + kKeyCopyBytes, out, kKeyCopyBytes);
  return page;
}

std::optional<KeyEntry> decode_key(ByteSpan page, const StoreId& store) {
  for (const std::size_t at : {std::size_t{0}, kKeyCopyBytes}) {
    if (page.size() < at) break;
    auto entry = decode_copy(page.subspan(at), store);
    if (entry) return entry;
  }
  return std::nullopt;
}

Bytes key_context(const KeyEntry& entry, const StoreId& store) {
  const std::size_t named = kContext.size() + store.size();
  Bytes out(named + kUseBytes);
  std::memcpy(out.data(), kContext.data(), kContext.size());
  std::memcpy(out.data() + kContext.size(), store.data(), store.size());
  put_use(entry, out.data() + named);
  return out;
}

}  // namespace wal

KeyRing::KeyRing(std::shared_ptr<Fs> fs, const std::string& directory, const StoreId& store,
                 std::shared_ptr<Cipher> cipher)
    : fs_(std::move(fs)),
      directory_(directory),
      path_(join_path(directory, "keys")),
      store_(store),
      cipher_(std::move(cipher)) {}

Result<std::shared_ptr<KeyRing>> KeyRing::open(std::shared_ptr<Fs> fs, const std::string& directory,
                                               const StoreId& store,
                                               std::shared_ptr<Cipher> cipher) {
  std::shared_ptr<KeyRing> ring(new KeyRing(std::move(fs), directory, store, std::move(cipher)));
  EDGECORE_TRY(ring->read());
  return ring;
}

Status KeyRing::read() {
  EDGECORE_ASSIGN(present_, fs_->exists(path_));
  if (!present_) return Status::ok();
  EDGECORE_ASSIGN(const auto file, fs_->open(path_, OpenMode::kRead));
  EDGECORE_ASSIGN(const std::uint64_t size, file->size());
  if (size > kKeysBytesMax) return Status::exhausted(path_ + ": too large to be a file of keys");
  pages_ = static_cast<std::size_t>((size + wal::kKeyPageBytes - 1) / wal::kKeyPageBytes);
  Bytes page(wal::kKeyPageBytes);
  for (std::size_t i = 0; i < pages_; ++i) {
    EDGECORE_ASSIGN(const std::size_t got, file->read_at(i * wal::kKeyPageBytes, page));
    const ByteSpan bytes = ByteSpan(page).first(got);
    auto found = wal::decode_key(bytes, store_);
    if (!found) {
      if (std::any_of(bytes.begin(), bytes.end(), [](std::byte b) { return b != std::byte{0}; }))
        damaged_.insert(i);
      continue;
    }
    if (entries_.contains(found->id)) {  // no two pages of one key are ever written
      damaged_.insert(i);
      continue;
    }
    taken_.insert(i);
    page_of_[found->id] = i;
    // A cut may have left the key in the other copy.
    if (found->destroyed &&
        !std::equal(bytes.begin(), bytes.end(), wal::encode_key(*found, store_).begin()))
      half_destroyed_.insert(found->id);
    next_id_ = std::max(next_id_, found->id + 1);
    entries_[found->id] = std::move(*found);
  }
  return Status::ok();
}

bool KeyRing::present() const {
  const std::lock_guard guard(mutex_);
  return present_;
}

std::optional<KeyEntry> KeyRing::entry(std::uint32_t id) const {
  const std::lock_guard guard(mutex_);
  const auto found = entries_.find(id);
  if (found == entries_.end()) return std::nullopt;
  return found->second;
}

KeyRing::State KeyRing::state(std::uint32_t id) const {
  const auto found = entry(id);
  if (!found) return State::kUnknown;
  return found->destroyed ? State::kDestroyed : State::kLive;
}

std::vector<KeyEntry> KeyRing::entries() const {
  const std::lock_guard guard(mutex_);
  std::vector<KeyEntry> out;
  for (const auto& [id, entry] : entries_) out.push_back(entry);
  return out;
}

Result<std::shared_ptr<CipherKey>> KeyRing::find(std::uint32_t id) const {
  if (cipher_ == nullptr)
    return Status::unavailable(directory_ +
                               ": rows are encrypted; open the log with its cipher (--key)");
  if (!present()) return Status::unavailable(path_ + ": not there, and rows are encrypted with it");
  const auto found = entry(id);
  const std::string name = path_ + ": key " + std::to_string(id);
  if (!found || found->destroyed)
    return Status::unavailable(name + (found ? " was destroyed" : " is damaged or gone"));
  auto key = cipher_->open_key(found->cipher, found->wrapped, wal::key_context(*found, store_));
  if (!key.is_ok()) return Status(key.status().outcome(), name + ": " + key.status().message());
  return key;
}

// After an error the descriptor is left, and never synced again.
Status KeyRing::write_page(std::size_t page, ByteSpan bytes) {
  if (file_ == nullptr) {
    EDGECORE_ASSIGN(auto file, fs_->open(path_, OpenMode::kReadWrite));
    EDGECORE_TRY(fs_->sync_directory(directory_));  // should a replacement have stopped short of it
    file_ = std::move(file);
  }
  Status status = file_->write_at(page * wal::kKeyPageBytes, bytes);
  if (status.is_ok()) status = file_->sync();
  if (!status.is_ok()) file_.reset();
  return status;
}

// A larger file takes the place of the full one: a size whose sync has failed in place may never
// become durable.
Result<std::size_t> KeyRing::free_page() {
  for (std::size_t page = 0; page < pages_; ++page)
    if (!taken_.contains(page) && !damaged_.contains(page)) return page;
  Bytes bytes;
  if (present()) {
    EDGECORE_ASSIGN(bytes, read_file(*fs_, path_, kKeysBytesMax));
  }
  const std::size_t pages = pages_ + std::max(kPagesGrown, pages_ / 2);
  bytes.resize(pages * wal::kKeyPageBytes);
  file_.reset();
  EDGECORE_TRY(write_file_atomic(*fs_, path_, bytes));
  const std::lock_guard guard(mutex_);
  present_ = true;
  return std::exchange(pages_, pages);
}

Result<KeyRing::Made> KeyRing::make(const KeyUse& use) {
  if (cipher_ == nullptr) return Status::invalid("a key without a cipher");
  if (next_id_ == 0) return Status::exhausted(path_ + ": no number is left for a key");
  EDGECORE_ASSIGN(const std::size_t page, free_page());
  KeyEntry entry;
  entry.id = next_id_;
  entry.cipher = cipher_->id();
  entry.use = use;
  const Bytes context = wal::key_context(entry, store_);
  EDGECORE_ASSIGN(entry.wrapped, cipher_->make_key(context));
  if (entry.wrapped.empty() || entry.wrapped.size() > wal::kWrappedBytesMax)
    return Status::invalid("a wrapped key of " + std::to_string(entry.wrapped.size()) + " bytes");
  EDGECORE_ASSIGN(auto key, cipher_->open_key(entry.cipher, entry.wrapped, context));
  ++next_id_;
  taken_.insert(page);  // also when the write fails: what it left there is not known
  EDGECORE_TRY(write_page(page, wal::encode_key(entry, store_)));
  page_of_[entry.id] = page;
  const std::lock_guard guard(mutex_);
  const Made made{entry.id, entry.cipher, std::move(key)};
  entries_[entry.id] = std::move(entry);
  return made;
}

Status KeyRing::destroy(const std::set<std::uint32_t>& ids) {
  for (const std::uint32_t id : ids) {
    auto found = entry(id);
    if (!found || (found->destroyed && !half_destroyed_.contains(id))) continue;
    found->destroyed = true;
    found->wrapped.clear();
    EDGECORE_TRY(write_page(page_of_[id], wal::encode_key(*found, store_)));
    half_destroyed_.erase(id);
    const std::lock_guard guard(mutex_);
    entries_[id] = std::move(*found);
  }
  return Status::ok();
}

Status KeyRing::forget(const std::set<std::uint32_t>& ids) {
  const Bytes blank(wal::kKeyPageBytes);
  for (const std::uint32_t id : ids) {
    const auto page = page_of_.find(id);
    if (page == page_of_.end()) continue;
    EDGECORE_TRY(write_page(page->second, blank));
    taken_.erase(page->second);
    page_of_.erase(page);
    half_destroyed_.erase(id);
    const std::lock_guard guard(mutex_);
    entries_.erase(id);
  }
  return Status::ok();
}

Status KeyRing::keep_only(const std::set<std::uint32_t>& live) {
  std::set<std::uint32_t> gone;
  bool missing = false;
  for (const auto& [id, page] : page_of_)
    if (!live.contains(id)) gone.insert(id);
  for (const std::uint32_t id : live) {
    next_id_ = std::max(next_id_, id + 1);
    missing = missing || !page_of_.contains(id);
  }
  // Torn pages are free again, unless one may be what is left of a key that a file needs.
  if (!missing) damaged_.clear();
  EDGECORE_TRY(forget(gone));
  return destroy(std::set<std::uint32_t>(half_destroyed_));
}

}  // namespace edgecore
