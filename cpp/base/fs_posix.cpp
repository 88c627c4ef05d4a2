// The Fs seam on POSIX system calls: interrupted and short calls are continued here, errno becomes
// an outcome word here, and nowhere else.
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <optional>
#include <system_error>

#include "base/fs.hpp"

namespace edgecore {
namespace {

constexpr std::size_t kZeroPieceBytes = 4096;
constexpr std::size_t kSectorBytes = 512;
constexpr std::size_t kDirectBytesMax = 64 * 1024;  // above it a page more or less is nothing
// It keeps page cache and direct writes coherent and overwrites in place. Elsewhere (tmpfs,
// overlayfs, copy-on-write ones) there is nothing to win, or no promise to rely on.
constexpr long kExt4Magic = 0xEF53;

Status errno_status(const char* call, const std::string& path, int error) {
  const std::string message = path + ": " + call + ": " + std::generic_category().message(error);
  switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return Status::exhausted(message);
    case EEXIST:
    case EINVAL:
    case EISDIR:
    case ENOTDIR:
    case ENAMETOOLONG:
      return Status::invalid(message);
    default:  // a missing file, a denied one, a disk error: asking again later may help
      return Status::unavailable(message);
  }
}

// Repeats a call for as long as a signal interrupts it.
template <typename Call>
auto uninterrupted(Call call) {
  auto result = call();
  while (result == -1 && errno == EINTR) result = call();
  return result;
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

// A second descriptor of a file, whose writes go past the page cache and are on stable storage
// when they return. The kernel drops the pages of the range, so that readers see what was written.
class DirectWriter {
 public:
  // Null where the file system does not serve.
  static std::unique_ptr<DirectWriter> open(int fd) {
    struct statfs info{};
    if (::fstatfs(fd, &info) != 0) return nullptr;
    if (info.f_type != kExt4Magic) return nullptr;
    // By the descriptor: the file's name may have changed.
    const std::string self = "/proc/self/fd/" + std::to_string(fd);
    Descriptor own(::open(self.c_str(), O_WRONLY | O_DIRECT | O_DSYNC | O_CLOEXEC));
    if (own.get() < 0) return nullptr;
    Buffer buffer(static_cast<std::byte*>(std::aligned_alloc(kBufferAlignment, kDirectBytesMax)));
    if (buffer == nullptr) return nullptr;
    return std::unique_ptr<DirectWriter>(new DirectWriter(std::move(own), std::move(buffer)));
  }

  // 0, or errno. EINVAL from the first write: sectors are larger, nothing was written. An error is
  // final, an interruption too: what a second call would report is not about the first.
  int write(std::uint64_t offset, ByteSpan bytes) {
    std::memcpy(buffer_.get(), bytes.data(), bytes.size());
    for (std::size_t done = 0; done < bytes.size();) {
      const auto count = ::pwrite(fd_.get(), buffer_.get() + done, bytes.size() - done,
                                  static_cast<off_t>(offset + done));
      if (count < 0) return errno;
      if (count == 0 || count % kSectorBytes != 0) return EIO;
      done += static_cast<std::size_t>(count);
      proven_ = true;
    }
    return 0;
  }
  bool proven() const { return proven_; }

 private:
  static constexpr std::size_t kBufferAlignment = 4096;
  struct Free {
    void operator()(std::byte* bytes) const { std::free(bytes); }
  };
  using Buffer = std::unique_ptr<std::byte, Free>;

  DirectWriter(Descriptor fd, Buffer buffer) : fd_(std::move(fd)), buffer_(std::move(buffer)) {}

  Descriptor fd_;
  Buffer buffer_;
  bool proven_ = false;  // a write has passed
};

class PosixFile final : public File {
 public:
  PosixFile(Descriptor fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  Result<std::size_t> read_at(std::uint64_t offset, std::span<std::byte> out) override {
    std::size_t done = 0;
    while (done < out.size()) {
      const auto count = uninterrupted([&] {
        return ::pread(fd_.get(), out.data() + done, out.size() - done,
                       static_cast<off_t>(offset + done));
      });
      if (count < 0) return errno_status("read", path_, errno);
      if (count == 0) break;
      done += static_cast<std::size_t>(count);
    }
    return done;
  }

  Status write_at(std::uint64_t offset, ByteSpan bytes) override {
    std::size_t done = 0;
    while (done < bytes.size()) {
      const auto count = uninterrupted([&] {
        return ::pwrite(fd_.get(), bytes.data() + done, bytes.size() - done,
                        static_cast<off_t>(offset + done));
      });
      if (count < 0) return errno_status("write", path_, errno);
      done += static_cast<std::size_t>(count);
    }
    return Status::ok();
  }

  Status write_durable(std::uint64_t offset, ByteSpan bytes) override {
    EDGECORE_ASSIGN(const bool direct, write_direct(offset, bytes));
    return direct ? Status::ok() : File::write_durable(offset, bytes);
  }

  Status sync() override {
    // Not retried on EINTR either: what a second call would report is not about the first.
    if (::fdatasync(fd_.get()) != 0) return errno_status("fdatasync", path_, errno);
    return Status::ok();
  }

  Result<std::uint64_t> size() override {
    // Not by stat: a time of change that was looked at is set anew by the next write, and an inode
    // is written with it.
    const off_t end = ::lseek(fd_.get(), 0, SEEK_END);
    if (end < 0) return errno_status("seek", path_, errno);
    return static_cast<std::uint64_t>(end);
  }

  Status truncate(std::uint64_t size) override {
    const int done =
        uninterrupted([&] { return ::ftruncate(fd_.get(), static_cast<off_t>(size)); });
    return done == 0 ? Status::ok() : errno_status("truncate", path_, errno);
  }

  Status fill_zeros(std::uint64_t size) override {
    static constexpr std::array<std::byte, kZeroPieceBytes> kZeros{};
    EDGECORE_ASSIGN(std::uint64_t at, this->size());
    while (at < size) {
      const auto piece = std::min<std::uint64_t>(kZeros.size() - at % kZeros.size(), size - at);
      EDGECORE_TRY(write_at(at, ByteSpan(kZeros).first(static_cast<std::size_t>(piece))));
      at += piece;
    }
    return Status::ok();
  }

 private:
  // False: not for this range, or not for this file; nothing was written.
  Result<bool> write_direct(std::uint64_t offset, ByteSpan bytes) {
    if (offset % kSectorBytes != 0 || bytes.size() % kSectorBytes != 0) return false;
    if (bytes.size() > kDirectBytesMax) return false;
    EDGECORE_ASSIGN(const std::uint64_t whole, this->size());
    if (offset + bytes.size() > whole) return false;  // it would allocate: metadata, twice
    const std::lock_guard guard(direct_mutex_);
    if (!direct_) direct_ = DirectWriter::open(fd_.get());
    DirectWriter* const writer = direct_->get();
    if (writer == nullptr) return false;
    const int error = writer->write(offset, bytes);
    if (error == 0) return true;
    if (error == EINVAL && !writer->proven()) {
      direct_->reset();
      return false;
    }
    return errno_status("direct write", path_, error);
  }

  Descriptor fd_;
  std::string path_;
  std::mutex direct_mutex_;
  // Opened by the first durable write; holds null when the file takes none.
  std::optional<std::unique_ptr<DirectWriter>> direct_;
};

class PosixLock final : public FileLock {
 public:
  explicit PosixLock(Descriptor fd) : fd_(std::move(fd)) {}

 private:
  Descriptor fd_;  // flock ends with the last descriptor
};

Result<Descriptor> open_descriptor(const std::string& path, int flags) {
  const int fd =
      uninterrupted([&] { return ::open(path.c_str(), flags | O_CLOEXEC, mode_t{0600}); });
  if (fd < 0) return errno_status("open", path, errno);
  return Descriptor(fd);
}

class PosixFs final : public Fs {
 public:
  Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) override {
    constexpr int kFlags[] = {O_RDONLY, O_RDWR, O_RDWR | O_CREAT, O_RDWR | O_CREAT | O_EXCL};
    EDGECORE_ASSIGN(auto fd, open_descriptor(path, kFlags[static_cast<std::size_t>(mode)]));
    struct stat info{};
    if (::fstat(fd.get(), &info) == 0 && S_ISDIR(info.st_mode))  // it can be opened for reading
      return errno_status("open", path, EISDIR);
    return std::unique_ptr<File>(std::make_unique<PosixFile>(std::move(fd), path));
  }

  Status rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) == 0) return Status::ok();
    return errno_status("rename", from + " to " + to, errno);
  }

  Status remove(const std::string& path) override {
    if (::unlink(path.c_str()) == 0 || errno == ENOENT) return Status::ok();
    return errno_status("remove", path, errno);
  }

  Result<bool> exists(const std::string& path) override {
    struct stat info{};
    if (::stat(path.c_str(), &info) == 0) return true;
    if (errno == ENOENT || errno == ENOTDIR) return false;
    return errno_status("stat", path, errno);
  }

  Result<std::vector<std::string>> list(const std::string& directory) override {
    DIR* stream = ::opendir(directory.c_str());
    if (stream == nullptr) return errno_status("list", directory, errno);
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = ::readdir(stream)) {
      const std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(name);
    }
    const int error = errno;
    ::closedir(stream);
    if (error != 0) return errno_status("list", directory, error);
    std::sort(names.begin(), names.end());
    return names;
  }

  Status make_directories(const std::string& directory) override {
    struct stat info{};
    if (::stat(directory.c_str(), &info) == 0)
      return S_ISDIR(info.st_mode) ? Status::ok() : errno_status("mkdir", directory, ENOTDIR);
    const std::string parent = parent_path(directory);
    if (parent != directory) EDGECORE_TRY(make_directories(parent));
    if (::mkdir(directory.c_str(), mode_t{0700}) != 0 && errno != EEXIST)
      return errno_status("mkdir", directory, errno);
    return sync_directory(parent);
  }

  Status sync_directory(const std::string& directory) override {
    EDGECORE_ASSIGN(auto fd, open_descriptor(directory, O_RDONLY | O_DIRECTORY));
    if (::fsync(fd.get()) == 0) return Status::ok();
    return errno_status("fsync", directory, errno);
  }

  Result<std::unique_ptr<FileLock>> lock(const std::string& path) override {
    EDGECORE_ASSIGN(auto fd, open_descriptor(path, O_RDWR | O_CREAT));
    if (uninterrupted([&] { return ::flock(fd.get(), LOCK_EX | LOCK_NB); }) != 0) {
      if (errno == EWOULDBLOCK) return Status::unavailable(path + ": another process holds it");
      return errno_status("lock", path, errno);
    }
    return std::unique_ptr<FileLock>(std::make_unique<PosixLock>(std::move(fd)));
  }

  Result<std::uint64_t> free_bytes(const std::string& directory) override {
    struct statvfs info{};
    if (::statvfs(directory.c_str(), &info) != 0) return errno_status("statvfs", directory, errno);
    return static_cast<std::uint64_t>(info.f_bavail) * info.f_frsize;
  }

  // Blocks of 512 B are safe on larger sectors too: a sector is written whole, and both its old
  // and its new content hold the blocks that were durable before.
  std::uint32_t sector_size() const override { return kSectorBytes; }
};

}  // namespace

std::shared_ptr<Fs> make_posix_fs() {
  return std::make_shared<PosixFs>();
}

}  // namespace edgecore
