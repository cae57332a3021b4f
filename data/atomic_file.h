// Files that appear whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>

namespace halfstep {

/// Writes beside the destination and moves the result there: temporary file, fsync, rename, fsync of the folder.
/// Until `commit` returns, a file already at the destination is untouched; without `commit` nothing is left behind.
/// Throws Error (failure) when the folder is not writable or the disk is full.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path destination);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, std::size_t bytes);
  /// Bytes written so far.
  std::uint64_t size() const { return size_; }
  void commit();

 private:
  std::filesystem::path destination_;
  std::filesystem::path temporary_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

}  // namespace halfstep
