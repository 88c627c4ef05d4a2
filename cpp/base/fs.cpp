// What holds over any Fs: a durable write in two steps, and the whole-file helpers of every room.
#include "base/fs.hpp"

namespace edgecore {

Status File::write_durable(std::uint64_t offset, ByteSpan bytes) {
  EDGECORE_TRY(write_at(offset, bytes));
  return sync();
}

std::string join_path(const std::string& directory, const std::string& name) {
  if (directory.empty() || directory == ".") return name;
  return directory.back() == '/' ? directory + name : directory + "/" + name;
}

std::string parent_path(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Result<Bytes> read_file(Fs& fs, const std::string& path, std::uint64_t size_max, Bytes buffer) {
  EDGECORE_ASSIGN(auto file, fs.open(path, OpenMode::kRead));
  EDGECORE_ASSIGN(const std::uint64_t size, file->size());
  if (size > size_max)
    return Status::corrupt(path + ": " + std::to_string(size) + " bytes, at most " +
                           std::to_string(size_max) + " belong there");
  buffer.resize(static_cast<std::size_t>(size));
  EDGECORE_ASSIGN(const std::size_t got, file->read_at(0, buffer));
  buffer.resize(got);
  return buffer;
}

Status write_file_atomic(Fs& fs, const std::string& path, ByteSpan bytes) {
  const std::string temporary = path + ".new";
  {
    EDGECORE_ASSIGN(auto file, fs.open(temporary, OpenMode::kCreate));
    // What an earlier, interrupted attempt left is no part of this one.
    EDGECORE_TRY(file->truncate(0));
    EDGECORE_TRY(file->write_at(0, bytes));
    EDGECORE_TRY(file->sync());
  }
  EDGECORE_TRY(fs.rename(temporary, path));
  return fs.sync_directory(parent_path(path));
}

}  // namespace edgecore
