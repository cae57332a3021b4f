// One process at a time for a file or folder.
#pragma once

#include <filesystem>
#include <string>

namespace halfstep {

/// An advisory lock (flock) on a regular file or a folder for as long as it lives; a process that ends lets go of it,
/// however it ends. None where there is nothing at the path, something else, or a file system without locks.
class FileLock {
 public:
  FileLock() = default;
  /// Throws Error(failure), which requires `required`, when another process or FileLock has it.
  FileLock(const std::filesystem::path& path, const std::string& required);
  ~FileLock();
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&& other) noexcept;

 private:
  int descriptor_ = -1;
};

}  // namespace halfstep
