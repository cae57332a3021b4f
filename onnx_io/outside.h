// Reading and writing messages whose large tensors are stored outside of them. Internal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "onnx_io/external_data.h"

namespace halfstep {

/// Marks a tensor of a message as having its elements outside, with this index: see DetachedModel::index_of.
void mark_detached(onnx::TensorProto& tensor, std::size_t index);

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
