// The part of the ZIP format that NPZ files use: stored and deflated members, ZIP64 included (PKWARE APPNOTE 6.3).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/atomic_file.h"
#include <halfstep/formats/shared_bytes.h>

namespace halfstep {

struct ZipEntry {
  std::string name;
  std::uint16_t method = 0;  ///< 0 stored, 8 deflated
  std::uint16_t flags = 0;
  std::uint32_t crc = 0;
  std::uint64_t compressed_size = 0;
  std::uint64_t size = 0;
  std::uint64_t header_offset = 0;
};

/// The central directory; `name` is for errors. Throws Error if the archive is truncated or malformed.
std::vector<ZipEntry> read_zip_directory(const SharedBytes& archive, const std::string& name);

/// A member's content: mapped in place if stored, inflated into a temporary file if deflated. Throws Error if it is
/// encrypted, compressed by another method, corrupt (the CRC-32 check reads all of it), or exceeds the archive.
SharedBytes open_zip_member(const SharedBytes& archive, const ZipEntry& entry, const std::string& name);

/// The first bytes of that content, at most `most` of them. Its checksum is not verified.
std::string beginning_of_zip_member(const SharedBytes& archive, const ZipEntry& entry, std::size_t most,
                                    const std::string& name);

/// Writes an archive of stored members into `file`.
class ZipWriter {
 public:
  explicit ZipWriter(FileWriter& file) : file_(file) {}
  /// A member with the concatenation of the given pieces.
  void add(const std::string& name, const std::vector<std::pair<const void*, std::size_t>>& pieces);
  /// Writes the directory; nothing may be added afterwards.
  void finish();

 private:
  FileWriter& file_;
  std::vector<ZipEntry> entries_;
};

}  // namespace halfstep
