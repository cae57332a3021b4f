// A memory-mapped file that may be truncated while it is mapped.
#pragma once

#include <cstddef>
#include <string>

#include "base/descriptor.h"

namespace halfstep {

/// The first bytes of an open file, mapped for reading.
///
/// Reading a mapping of a file that was truncated, or whose disk fails, raises SIGBUS, which ends the process. Here
/// such bytes read as zeros instead, and `intact` reports it: readers call it before they use the bytes. (Reading rows
/// by system calls would take longer than a small step.) The handler is installed with the first mapping, and passes on
/// signals for addresses outside of all mappings.
class MappedFile {
 public:
  /// `size` is above 0; the descriptor may be closed afterwards. Throws Error(failure) if the system refuses.
  MappedFile(int descriptor, std::size_t size);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }

  /// Number of leading bytes that the file still has and that could be read so far: `size()` unless it was truncated. A
  /// system call.
  std::size_t intact() const;

  /// Releases the pages; they are read again on the next access.
  void drop_pages() const;

 private:
  struct Range;
  static Range& claim_range();
  static void install_handler();
  static void on_bus_error(int signal, void* info, void* context);

  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  Descriptor descriptor_;
  Range* range_ = nullptr;
};

/// Throws Error(failure): of `size` bytes of the file `name`, only the first `intact` are left. `lost` describes the
/// contents after them.
[[noreturn]] void throw_truncated(const std::string& name, std::size_t size, std::size_t intact,
                                  const std::string& lost = {});

}  // namespace halfstep
