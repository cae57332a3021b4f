// The file formats that halfstep reads, as a fuzzer sees them: bytes in, nothing out, and no exception but an Error.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace halfstep::fuzz {

struct Format {
  std::string_view name;
  /// Reads all that a file of these bytes holds. An Error is an answer; anything else thrown is a finding.
  void (*read)(std::string_view bytes);
  /// Small valid files to begin with.
  std::vector<std::string> (*seeds)();
};
/// onnx, safetensors, npy, npz, csv, idx.
std::span<const Format> formats();
/// Throws Error listing the formats there are.
const Format& find_format(std::string_view name);

}  // namespace halfstep::fuzz
