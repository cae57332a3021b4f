// Tensor data that lies in files next to the model ("external data" of the ONNX format).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/atomic_file.h"
#include "base/mapped_file.h"
#include <halfstep/graph/tensor.h>

namespace onnx {
class ModelProto;
class TensorProto;
}  // namespace onnx

namespace halfstep {

/// Moves all external tensor data of `model` into the message and returns the files it was in. `folder` is where the
/// model file lies.
///
/// The location a model names is not trusted: it must be a relative path of plain names (no "..", no "."), and every
/// component is opened without following symbolic links; the file must be a regular one with a single hard link, and
/// the tensor's bytes lie wholly inside it. Nothing is allocated before that is known. (CVE-2022-25882, CVE-2024-27318,
/// CVE-2026-27489.)
/// Throws Error(input) on any breach, naming tensor and location.
std::vector<std::filesystem::path> read_external_data(onnx::ModelProto& model, const std::filesystem::path& folder);

/// A file that a model keeps tensors in, mapped.
struct MappedData {
  std::filesystem::path path;
  std::shared_ptr<const MappedFile> mapping;  ///< null where nothing of it had to be mapped
};

/// The same without reading: calls `take` with each external tensor and a view of its elements in the mapped file,
/// which stays mapped as long as a view lives. `take` decides what the message says of the tensor from then on.
/// Returns the files.
std::vector<MappedData> map_external_data(onnx::ModelProto& model, const std::filesystem::path& folder,
                                          const std::function<void(onnx::TensorProto&, Tensor, bool mapped)>& take);

/// Elements of tensors that are not in the message when it is written.
struct OutsideTensors {
  /// How many bytes the tensor will have; 0: its elements are in the message.
  std::function<std::uint64_t(const onnx::TensorProto&)> bytes;
  std::function<void(const onnx::TensorProto&, FileWriter&)> write;
};

/// Writes the data of every initializer of at least `at_least` bytes to `file` (each at a multiple of 64 bytes, which
/// readers can map) and leaves references to it in `model`. The file is written atomically; a symbolic link in its
/// place is replaced, not followed. Throws Error(failure) when it cannot be written.
void write_external_data(onnx::ModelProto& model, const std::filesystem::path& file, std::uint64_t at_least = 1024,
                         const OutsideTensors& outside = {});

/// Writes a model whose tensors are all in its message. Files `NAME.data`, `NAME.data2`, … that a model replaced at
/// `path` kept tensors in are removed at last, but for those `in_use`, and those that another .onnx file beside it
/// refers to.
void write_model_in_one(std::string_view bytes, const std::filesystem::path& path,
                        Durability durability = Durability::on_return,
                        const std::vector<std::filesystem::path>& in_use = {});

/// The model as a message at `path`, its tensor data beside it in `NAME.data`, or the first of `NAME.data2`,
/// `NAME.data3`, … that is not there: any model may keep its tensors in a file that is. Both are on disk before the
/// first takes its name, so that a model that stands at `path` stays whole until the new one takes its place, and where
/// that fails, nothing is left. Both have the permissions of the model that is replaced, whose files go as above.
/// Returns the bytes of both.
std::uint64_t write_model_with_data(onnx::ModelProto model, const std::filesystem::path& path,
                                    const OutsideTensors& outside = {},
                                    const std::vector<std::filesystem::path>& in_use = {});

/// The message's bytes. Throws Error(failure) above the 2 GB that a message may have.
std::string serialize_message(const onnx::ModelProto& model);

/// Throws Error(input) unless `location` is a relative path of plain names, as every external location must be.
void check_external_location(const std::string& location, const std::string& tensor);

}  // namespace halfstep
