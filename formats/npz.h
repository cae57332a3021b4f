// NPZ, NumPy's archive of named arrays: a ZIP file of NPY members.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/zip.h"
#include <halfstep/base/api.h>
#include <halfstep/formats/data_array.h>

namespace HALFSTEP_API halfstep {

/// An open archive; its arrays are read on demand.
class NpzFile {
 public:
  /// Throws Error if the file is missing or not a ZIP archive.
  explicit NpzFile(const std::filesystem::path& path);

  /// Names of the arrays, in the file's order.
  std::vector<std::string> names() const;
  bool contains(std::string_view name) const;
  /// Throws Error, with the available names, if there is no such array; else as `parse_npy`.
  DataArray open(std::string_view name) const;
  /// The same of an array that may not be needed: reads its header, and the rest when its elements are first read,
  /// which throws then for what is damaged.
  DataArray open_later(std::string_view name) const;

 private:
  const ZipEntry& entry_of(std::string_view name) const;
  std::string full_name(std::string_view name) const;

  std::string path_;
  SharedBytes bytes_;
  std::vector<ZipEntry> entries_;
};

/// Writes the arrays uncompressed, atomically. Throws Error if two have the same name or NPY does not support a dtype.
void write_npz(const std::filesystem::path& path, const std::vector<std::pair<std::string, Tensor>>& arrays);

}  // namespace halfstep
