// Changes to a model message that leave the rest of it as it is. Internal to onnx_io.
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

/// The element types that the model has for these tensors, those of `missing_tensors` left out.
std::map<std::string, DType> stored_types(const onnx::ModelProto& model, const std::vector<TensorInfo>& tensors);

/// The initializers that such tensors replace as they are, by their places: of their shape, and no other tensor was
/// merged with them.
std::map<int, std::string> replaced_whole(const onnx::ModelProto& model, const std::vector<TensorInfo>& tensors);

/// `tensor` as a model stores it: what lies beyond a half type becomes its largest number.
Tensor as_stored(const Tensor& tensor, DType dtype);

/// Finite elements that become infinite in `half`.
std::int64_t count_beyond(const Tensor& tensor, DType half);

/// The initializers and Constant nodes that `replace_tensors` looks at for these: their own, or those that they are
/// merged with.
std::vector<std::string> sources_of(const onnx::ModelProto& model, const NamedTensors& tensors);

/// Gives initializers, Constant nodes, and Identity nodes over either (which become initializers) these values.
/// What lies beyond a half type becomes its largest number. Throws Error(failure) when a name is missing or a shape
/// differs.
void replace_tensors(onnx::ModelProto& model, const NamedTensors& tensors);

/// BatchNormalization and Dropout nodes, in subgraphs and functions too, to their inference form; nodes and
/// initializers of the main graph that only fed what was removed go with it.
void to_inference_form(onnx::ModelProto& model);

}  // namespace halfstep
