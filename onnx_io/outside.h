// Reading and writing messages whose large tensors are stored outside of them. Internal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "onnx_io/external_data.h"

namespace halfstep {

/// Marks a tensor of a message as having its elements outside, with this index: see DetachedModel::index_of.
void mark_detached(onnx::TensorProto& tensor, std::size_t index);

/// Reads the elements of an external tensor into existing memory.
using ReadElements = std::function<void(void* to)>;
/// Called with each external tensor and its size; if it returns true, it has read the elements and marked the tensor.
using TakeExternal = std::function<bool(onnx::TensorProto&, std::uint64_t bytes, const ReadElements& read)>;

/// Like the function in external_data.h; tensors handled by `take` are not added to the message.
std::vector<std::filesystem::path> read_external_data(onnx::ModelProto& model, const std::filesystem::path& folder,
                                                      const TakeExternal& take);

/// Like the function in external_data.h, but writes the message in pieces.
void write_model_in_one(const FileContent& content, const std::filesystem::path& path,
                        Durability durability = Durability::on_return,
                        const std::vector<std::filesystem::path>& in_use = {});

/// Number of bytes that `write_streamed` writes.
std::uint64_t streamed_bytes(onnx::ModelProto& model, const OutsideTensors& outside);

/// Writes the message with the outside elements of main-graph initializers as their raw data. The result is identical,
/// field by field, to the message with all elements inside; the message is restored afterwards.
void write_streamed(onnx::ModelProto& model, const OutsideTensors& outside, FileWriter& writer);

}  // namespace halfstep
