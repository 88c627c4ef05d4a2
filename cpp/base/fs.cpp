#include "base/fs.hpp"

namespace edgecore {

std::string join_path(const std::string& directory, const std::string& name) {
  if (directory.empty() || directory.back() == '/') return directory + name;
  return directory + "/" + name;
}

std::string parent_path(const std::string& path) {
  const std::size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Result<Bytes> read_file(Fs& fs, const std::string& path, std::uint64_t size_max) {
  EDGECORE_ASSIGN(auto file, fs.open(path, OpenMode::kRead));
  EDGECORE_ASSIGN(const std::uint64_t size, file->size());
  if (size > size_max)
    return Status::corrupt(path + ": " + std::to_string(size) + " bytes, at most " +
                           std::to_string(size_max));
  Bytes out(size);
  EDGECORE_ASSIGN(const std::size_t got, file->read_at(0, out));
  out.resize(got);
  return out;
}

Status write_file_atomic(Fs& fs, const std::string& path, ByteSpan bytes) {
  const std::string temporary = path + ".new";
  EDGECORE_TRY(fs.remove(temporary));
  {
    EDGECORE_ASSIGN(auto file, fs.open(temporary, OpenMode::kCreateNew));
    EDGECORE_TRY(file->write_at(0, bytes));
    EDGECORE_TRY(file->sync());
  }
  EDGECORE_TRY(fs.rename(temporary, path));
  return fs.sync_directory(parent_path(path));
}

}  // namespace edgecore
