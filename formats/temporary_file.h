// Temporary disk space.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/descriptor.h"
#include <halfstep/formats/shared_bytes.h>

namespace halfstep {

/// An unnamed file in $TMPDIR (else /tmp): it is deleted with its last user, even after a crash. Throws Error(failure)
/// if the folder is not writable or the disk is full.
class TemporaryFile {
 public:
  TemporaryFile();

  /// Throws Error(failure) unless the disk has this number of free bytes.
  void check_room(std::uint64_t bytes) const;
  /// Checks the free space from time to time, so that the disk does not fill up before an error is reported.
  void append(const void* data, std::size_t bytes);
  /// Number of bytes appended so far.
  std::size_t size() const { return size_; }
  /// All appended bytes, mapped. Nothing may be appended afterwards.
  SharedBytes finish();

 private:
  void flush();

  Descriptor descriptor_;
  std::size_t size_ = 0;
  std::vector<std::byte> pending_;
};

}  // namespace halfstep
