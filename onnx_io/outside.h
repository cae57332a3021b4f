// Messages whose large tensors are outside of them, on their way from and to files. Internal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "onnx_io/external_data.h"

namespace halfstep {

/// Makes a tensor of a message one whose elements have this index elsewhere: see DetachedModel::index_of.
void mark_detached(onnx::TensorProto& tensor, std::size_t index);

/// Reads the elements of an external tensor to memory that is there.
using ReadElements = std::function<void(void* to)>;
/// Is shown each external tensor and its size; where it returns true it has read the elements, and marked the tensor.
using TakeExternal = std::function<bool(onnx::TensorProto&, std::uint64_t bytes, const ReadElements& read)>;

/// As the function of external_data.h; what `take` has taken does not go into the message.
std::vector<std::filesystem::path> read_external_data(onnx::ModelProto& model, const std::filesystem::path& folder,
                                                      const TakeExternal& take);

/// As the function of external_data.h, with the message's bytes written piece by piece.
void write_model_in_one(const FileContent& content, const std::filesystem::path& path,
                        Durability durability = Durability::on_return,
                        const std::vector<std::filesystem::path>& in_use = {});

/// The bytes that `write_streamed` writes.
std::uint64_t streamed_bytes(onnx::ModelProto& model, const OutsideTensors& outside);

/// Writes the message with the elements of initializers of the main graph that are outside as their raw data. What is
/// written is the message as it would be had it all in it, field by field; the message is as it was afterwards.
void write_streamed(onnx::ModelProto& model, const OutsideTensors& outside, FileWriter& writer);

}  // namespace halfstep
