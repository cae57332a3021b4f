// The order of nodes in a model message.
#pragma once

#include <onnx/onnx_pb.h>

namespace halfstep {

/// Sorts the nodes of every graph and function of the model topologically, preserving the current order where possible.
/// Throws Error(input) on a cycle.
void sort_nodes(onnx::ModelProto& model);

}  // namespace halfstep
