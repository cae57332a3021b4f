// Read-only bytes that stay on disk until they are accessed.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// Bytes mapped from a file (or in memory). Copies and parts share them; the last one releases them.
/// Bytes lost by truncation of the file read as zeros; `check_intact` detects this after reading.
class SharedBytes {
 public:
  SharedBytes() = default;

  /// The whole contents of a regular file. Throws Error if it is missing, unreadable or not a regular file.
  static SharedBytes of_file(const std::filesystem::path& path);
  /// The first `size` bytes of an open file; the descriptor may be closed afterwards.
  static SharedBytes of_descriptor(int descriptor, std::size_t size);
  /// External memory, kept alive by `owner`.
  static SharedBytes of_memory(std::span<const std::byte> bytes, std::shared_ptr<const void> owner);

  const std::byte* data() const { return bytes_.data(); }
  std::size_t size() const { return bytes_.size(); }
  std::span<const std::byte> span() const { return bytes_; }

  /// `size` bytes from `offset` on; the range must be inside.
  SharedBytes part(std::size_t offset, std::size_t size) const;

  /// Number of leading bytes that are still in the file (see MappedFile::intact).
  std::size_t intact() const;
  /// Throws Error(failure) unless all bytes are intact; `name` is the file's.
  void check_intact(const std::string& name) const;

  /// Records that about `bytes` of the mapping were paged in. When the sum reaches `kResidentBudget`, the pages are
  /// released to the system, so that resident memory is bounded for files of any size. Thread-safe.
  void note_paged_in(std::size_t bytes) const;
  static constexpr std::size_t kResidentBudget = std::size_t{256} << 20;

 private:
  struct Mapping;
  std::shared_ptr<Mapping> mapping_;
  std::shared_ptr<const void> owner_;
  std::span<const std::byte> bytes_;
};

/// The file's bytes; a gzip file is first decompressed into a temporary file.
SharedBytes open_maybe_gzip(const std::filesystem::path& path);

}  // namespace halfstep
