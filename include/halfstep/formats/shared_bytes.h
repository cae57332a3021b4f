// Read-only bytes that stay on disk until they are touched.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// Bytes mapped from a file (or held in memory); copies and parts share them, and the last one releases them.
/// Bytes that a file loses meanwhile read as zeros: `check_intact` after reading tells.
class SharedBytes {
 public:
  SharedBytes() = default;

  /// The whole of a regular file. Throws Error when it is missing, unreadable or not a regular file.
  static SharedBytes of_file(const std::filesystem::path& path);
  /// The first `size` bytes of an open file; the descriptor may be closed afterwards.
  static SharedBytes of_descriptor(int descriptor, std::size_t size);
  /// Memory owned elsewhere, kept alive by `owner`.
  static SharedBytes of_memory(std::span<const std::byte> bytes, std::shared_ptr<const void> owner);

  const std::byte* data() const { return bytes_.data(); }
  std::size_t size() const { return bytes_.size(); }
  std::span<const std::byte> span() const { return bytes_; }

  /// `size` bytes from `offset` on; both must lie inside.
  SharedBytes part(std::size_t offset, std::size_t size) const;

  /// How many of these bytes, from the first on, are what the file holds (see MappedFile::intact).
  std::size_t intact() const;
  /// Throws Error(failure) unless all are; `name` is the file's.
  void check_intact(const std::string& name) const;

  /// Tells that about `bytes` of the mapping were paged in. Once that adds up to `kResidentBudget`, the pages are given
  /// back to the system, so that resident memory stays bounded however large the file. Safe from any thread.
  void note_paged_in(std::size_t bytes) const;
  static constexpr std::size_t kResidentBudget = std::size_t{256} << 20;

 private:
  struct Mapping;
  std::shared_ptr<Mapping> mapping_;
  std::shared_ptr<const void> owner_;
  std::span<const std::byte> bytes_;
};

/// The file's bytes, inflated into a temporary file first when it is a gzip file.
SharedBytes open_maybe_gzip(const std::filesystem::path& path);

}  // namespace halfstep
