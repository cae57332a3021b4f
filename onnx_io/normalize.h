// Normalizes model messages where the format allows alternatives.
#pragma once

#include <functional>

#include <onnx/onnx_pb.h>

#include <halfstep/graph/tensor.h>

namespace halfstep {

/// Changes the domain of ONNX's own operators to "" in every node and opset (the other spelling is "ai.onnx"), removes
/// duplicate opsets, names an unnamed graph, and sorts nodes topologically. Throws Error(input) if a domain is given
/// with two versions, and on a cycle.
void normalize_message(onnx::ModelProto& model);

/// Converts every sparse initializer, and the value of every sparse Constant, to a dense one. `read` returns the
/// elements of a tensor of the message. Throws Error(input) if indices do not fit, or if all together would need too
/// much memory.
void densify(onnx::ModelProto& model, const std::function<Tensor(const onnx::TensorProto&)>& read);

}  // namespace halfstep
