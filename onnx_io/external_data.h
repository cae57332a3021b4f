// Tensor data in files next to the model ("external data" of the ONNX format).
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

/// Reads the elements of an external tensor into existing memory.
using ReadElements = std::function<void(void* to)>;
/// Called with each external tensor and its size; if it returns true, it has read the elements and marked the tensor.
using TakeExternal = std::function<bool(onnx::TensorProto&, std::uint64_t bytes, const ReadElements& read)>;

/// Moves all external tensor data of `model` that `take` leaves into the message, and returns the files that it was in.
/// `folder` is the folder of the model file.
///
/// Locations in a model are not trusted: a location must be a relative path of plain names (no "..", no "."), and every
/// component is opened without following symbolic links; the file must be a regular one with a single hard link, and
/// contain all bytes of the tensor. Nothing is allocated before these checks. (CVE-2022-25882, CVE-2024-27318,
/// CVE-2026-27489.)
/// Throws Error(input) for any violation, naming tensor and location.
std::vector<std::filesystem::path> read_external_data(onnx::ModelProto& model, const std::filesystem::path& folder,
                                                      const TakeExternal& take = {});

/// The folder in which the data files of the model in the file `path` are: the file's own, or, where the first of them
/// is not there and the path is a symbolic link, that of the file it leads to, which a model with data is written to.
std::filesystem::path data_folder(const onnx::ModelProto& model, const std::filesystem::path& path);

/// A mapped file with tensors of a model.
struct MappedData {
  std::filesystem::path path;
  std::shared_ptr<const MappedFile> mapping;  ///< null if none of it had to be mapped
};

/// The same without reading: calls `take` with each external tensor and a view of its elements in the mapped file,
/// which stays mapped while a view exists. `take` determines the tensor's contents in the message from then on. Returns
/// the files.
std::vector<MappedData> map_external_data(onnx::ModelProto& model, const std::filesystem::path& folder,
                                          const std::function<void(onnx::TensorProto&, Tensor, bool mapped)>& take);

/// Elements of tensors that are not in the message when it is written.
struct OutsideTensors {
  /// Size of the tensor in bytes; 0: its elements are in the message.
  std::function<std::uint64_t(const onnx::TensorProto&)> bytes;
  std::function<void(const onnx::TensorProto&, FileWriter&)> write;
};

/// Writes the data of every initializer of at least `at_least` bytes to `file` (each at a multiple of 64 bytes, which
/// readers can map), a mark that halfstep wrote it, and leaves references to it in `model`. The file is written
/// atomically; a symbolic link in its place is replaced, not followed. Throws Error(failure) when it cannot be written.
void write_external_data(onnx::ModelProto& model, const std::filesystem::path& file, std::uint64_t at_least = 1024,
                         const OutsideTensors& outside = {});

/// Writes a model whose tensors are all in its message. Files `NAME.data`, `NAME.data2`, … that a model replaced at
/// `path` kept tensors in are removed at last where halfstep wrote them, but for those `in_use`, and those that another
/// model beside it refers to (see remove_replaced).
void write_model_in_one(std::string_view bytes, const std::filesystem::path& path,
                        Durability durability = Durability::on_return,
                        const std::vector<std::filesystem::path>& in_use = {});

/// Writes the model as a message at `path`, with its tensor data in `NAME.data` in the same folder, or the first of
/// `NAME.data2`, `NAME.data3`, … that does not exist: an existing file may hold the tensors of any model. Both are on
/// disk before the first is placed, so that an existing model at `path` stays complete until the new one replaces it;
/// on failure, nothing is left. Both have the permissions of the replaced model, whose files are removed as above.
/// Returns the total size of both in bytes.
std::uint64_t write_model_with_data(onnx::ModelProto model, const std::filesystem::path& path,
                                    const OutsideTensors& outside = {},
                                    const std::vector<std::filesystem::path>& in_use = {});

/// The message's bytes. Throws Error(failure) above the limit of 2 GB for a message.
std::string serialize_message(const onnx::ModelProto& model);

/// Throws Error(input) unless `location` is a relative path of plain names, as required for every external location.
void check_external_location(const std::string& location, const std::string& tensor);

}  // namespace halfstep
