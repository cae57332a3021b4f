// Scratch space on disk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <halfstep/formats/shared_bytes.h>

namespace halfstep {

/// A file in $TMPDIR (else /tmp) that has no name: it is gone when its last user is, even after a crash.
/// Throws Error (failure) when the folder is not writable or the disk is full.
class TemporaryFile {
 public:
  TemporaryFile();
  ~TemporaryFile();
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  /// Throws Error(failure) unless the disk has room for so many bytes.
  void check_room(std::uint64_t bytes) const;
  /// Looks for room from time to time, so that a disk does not run full before it is told.
  void append(const void* data, std::size_t bytes);
  /// Bytes appended so far.
  std::size_t size() const { return size_; }
  /// All that was appended, mapped. Nothing may be appended afterwards.
  SharedBytes finish();

 private:
  void flush();

  int descriptor_ = -1;
  std::size_t size_ = 0;
  std::vector<std::byte> pending_;
};

}  // namespace halfstep
