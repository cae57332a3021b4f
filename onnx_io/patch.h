// Changes to a model message that preserve the rest of it. Internal to onnx_io.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <onnx/onnx_pb.h>

#include <halfstep/onnx_io/save.h>

namespace halfstep {

/// The names that `replace_tensors` would not find.
std::vector<std::string> missing_tensors(const onnx::ModelProto& model, const std::vector<std::string>& names);

/// The element types of these tensors in the model, without those of `missing_tensors`.
std::map<std::string, DType> stored_types(const onnx::ModelProto& model, const std::vector<TensorInfo>& tensors);

/// The initializers that such tensors replace directly, by their positions: those with the same shape that no other
/// tensor was merged with.
std::map<int, std::string> replaced_whole(const onnx::ModelProto& model, const std::vector<TensorInfo>& tensors);

/// `tensor` in the type that a model stores: values out of the range of a half type become its largest number.
Tensor as_stored(const Tensor& tensor, DType dtype);

/// Finite elements that become infinite in `half`.
std::int64_t count_beyond(const Tensor& tensor, DType half);

/// The initializers and Constant nodes that `replace_tensors` reads for these: their own, or those that they are merged
/// with.
std::vector<std::string> sources_of(const onnx::ModelProto& model, const NamedTensors& tensors);

/// Sets the values of initializers, Constant nodes, and Identity nodes of either (which become initializers). Values
/// out of the range of a half type become its largest number. Throws Error(failure) if a name is missing or a shape
/// differs.
void replace_tensors(onnx::ModelProto& model, const NamedTensors& tensors);

/// Converts BatchNormalization and Dropout nodes, also in subgraphs and functions, to their inference form; removes
/// nodes and initializers of the main graph that are no longer used as a result.
void to_inference_form(onnx::ModelProto& model);

}  // namespace halfstep
