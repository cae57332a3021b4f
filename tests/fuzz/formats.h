// The file formats that halfstep reads, as a fuzzer sees them: bytes in, nothing out, and no exception but an Error.
#pragma once

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

// Each is a target of libFuzzer of its own, which needs no more of the library than that format (CMakeLists.txt).
extern const Format onnx_format, safetensors_format, npy_format, npz_format, csv_format, idx_format, image_format;

}  // namespace halfstep::fuzz
