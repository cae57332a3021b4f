// A file mapped into memory that may lose its bytes meanwhile.
#pragma once

#include <cstddef>
#include <string>

namespace halfstep {

/// The first bytes of an open file, mapped for reading.
///
/// Reading a mapping whose file was truncated, or whose disk fails, raises SIGBUS, which ends a program. Here such
/// bytes read as zeros instead, and `intact` tells: whoever has read asks it before the bytes are used. (Reading rows
/// by system calls would cost more than a small step computes.) The handler that does so is installed with the first
/// mapping and passes on what lies in none.
class MappedFile {
 public:
  /// `size` is above 0; the descriptor may be closed afterwards. Throws Error(failure) when the system refuses.
  MappedFile(int descriptor, std::size_t size);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }

  /// How many of the bytes, from the first on, the file still has and could be read so far: `size()` unless it was
  /// truncated. A system call.
  std::size_t intact() const;

  /// Lets the pages leave memory; they are read again when they are touched.
  void drop_pages() const;

 private:
  struct Range;
  static Range& claim_range();
  static void install_handler();
  static void on_bus_error(int signal, void* info, void* context);

  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  int descriptor_ = -1;
  Range* range_ = nullptr;
};

/// Throws Error(failure): of the file `name`, of `size` bytes, only the first `intact` are left. `lost` says what lay
/// behind them.
[[noreturn]] void throw_truncated(const std::string& name, std::size_t size, std::size_t intact,
                                  const std::string& lost = {});

}  // namespace halfstep
