// What a model message may say in several ways, said in one.
#pragma once

#include <functional>

#include <onnx/onnx_pb.h>

#include <halfstep/graph/tensor.h>

namespace halfstep {

/// Spells the domain of ONNX's own operators "" in every node and operator set (the other spelling is "ai.onnx"), names
/// each operator set once, gives a graph without a name one, and brings nodes into topological order. Throws
/// Error(input) where one domain is given with two versions, and on a cycle.
void normalize_message(onnx::ModelProto& model);

/// Makes every sparse initializer, and the value of every sparse Constant, a dense one. `read` gives the elements of a
/// tensor of the message. Throws Error(input) where indices do not fit, and where all would take too much memory.
void densify(onnx::ModelProto& model, const std::function<Tensor(const onnx::TensorProto&)>& read);

}  // namespace halfstep
