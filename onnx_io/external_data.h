// Tensor data that lies in files next to the model ("external data" of the ONNX format).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace onnx {
class ModelProto;
}

namespace halfstep {

/// Moves all external tensor data of `model` into the message. `folder` is where the model file lies.
///
/// The location a model names is not trusted: it must be a relative path of plain names (no "..", no "."), and every
/// component is opened without following symbolic links; the file must be a regular one with a single hard link, and
/// the tensor's bytes lie wholly inside it. Nothing is allocated before that is known. (CVE-2022-25882, CVE-2024-27318,
/// CVE-2026-27489.)
/// Throws Error(input) on any breach, naming tensor and location.
void read_external_data(onnx::ModelProto& model, const std::filesystem::path& folder);

/// Writes the data of every initializer of at least `at_least` bytes to `file` (each at a multiple of 64 bytes, which
/// readers can map) and leaves references to it in `model`. The file is written atomically; a symbolic link in its
/// place is replaced, not followed. Throws Error(failure) when it cannot be written.
void write_external_data(onnx::ModelProto& model, const std::filesystem::path& file, std::uint64_t at_least = 1024);

/// Throws Error(input) unless `location` is a relative path of plain names, as every external location must be.
void check_external_location(const std::string& location, const std::string& tensor);

}  // namespace halfstep
