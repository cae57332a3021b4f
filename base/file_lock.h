// Exclusive access to a file or folder by one process.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>

#include "base/descriptor.h"

namespace halfstep {

/// An advisory lock (flock) on a regular file or a folder during its lifetime; it is released when the process ends in
/// any way. There is no lock if the path is missing or of another type, or the file system has no locks.
class FileLock {
 public:
  FileLock() = default;
  /// Throws Error(failure), which requires `required`, if another process or FileLock holds it for longer than
  /// `patience`.
  FileLock(const std::filesystem::path& path, const std::string& required, std::chrono::milliseconds patience = {});

 private:
  Descriptor file_;
};

}  // namespace halfstep
