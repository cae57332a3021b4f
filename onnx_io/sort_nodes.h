// The order of nodes in a model message.
#pragma once

#include <onnx/onnx_pb.h>

namespace halfstep {

/// Brings the nodes of every graph and function of the model into topological order, keeping the present order where it
/// can. Throws Error(input) on a cycle.
void sort_nodes(onnx::ModelProto& model);

}  // namespace halfstep
