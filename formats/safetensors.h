// The safetensors file format: an 8-byte little-endian header length, a JSON header, the tensors' bytes.
// https://github.com/huggingface/safetensors#format
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/atomic_file.h"
#include <halfstep/formats/data_array.h>
#include <halfstep/graph/lazy_tensors.h>
#include <halfstep/graph/tensor.h>

namespace halfstep {

/// Contents of a file. Element types: F64 F32 F16 BF16 I64 I32 I16 I8 U64 U32 U16 U8 BOOL.
struct Safetensors {
  std::map<std::string, Tensor> tensors;
  std::map<std::string, std::string> metadata;  ///< the header's `__metadata__`
};

/// Reads a file. Throws Error(input) unless it is a regular file whose header is valid JSON without repeated keys,
/// whose tensors fill the data exactly (inside of the file, no overlap, no gap), and whose extents match those sizes;
/// nothing is allocated based on unchecked sizes. Throws Error(failure) if the system cannot read it.
Safetensors read_safetensors(const std::filesystem::path& path);

/// Its metadata alone. Throws as `read_safetensors` does, for what the header shows.
std::map<std::string, std::string> read_safetensors_metadata(const std::filesystem::path& path);

/// An open file whose tensors stay on disk.
class SafetensorsFile {
 public:
  /// Throws as `read_safetensors` does.
  explicit SafetensorsFile(const std::filesystem::path& path);

  /// Names of the tensors, in the file's order.
  std::vector<std::string> names() const;
  /// Throws Error(input), listing the names there are, when there is no such tensor.
  DataArray open(std::string_view name) const;

 private:
  struct Place {
    std::string name;
    DType dtype;
    Shape shape;
    std::size_t begin, end;
  };
  std::string path_;
  SharedBytes bytes_;
  std::vector<Place> places_;
};

/// Writes a file's bytes: header padded to a multiple of 8, tensors ordered by element size and then name, so that each
/// lies aligned. Throws Error(input) for an element type that the format lacks, a tensor named `__metadata__`, and a
/// name or metadata text that is not UTF-8.
void write_safetensors(FileWriter& file, const Safetensors& content);

/// The same for tensors that are read when they are written, each once. Returns the header's text, which begins at
/// `kSafetensorsPrefix`.
std::string write_safetensors(FileWriter& file, const LazyTensors& tensors,
                              const std::map<std::string, std::string>& metadata);
inline constexpr std::size_t kSafetensorsPrefix = 8;

/// The same, atomically to a path.
void write_safetensors(const std::filesystem::path& path, const Safetensors& content);

}  // namespace halfstep
