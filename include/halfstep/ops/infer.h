// Type and shape inference, from the operators' ONNX schemas.
#pragma once

#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>

namespace HALFSTEP_API halfstep {

/// Sets dtype and shape of the node's outputs in `graph` from its inputs and attributes.
/// Unknown extents stay unknown. Throws Error when the schema refuses the operands, naming node, operator and shapes.
void infer_node(Graph& graph, const Node& node);

/// The same for every node, in order; what is inferred inside the bodies of If, Loop and Scan stays there.
void infer_graph(Graph& graph);

/// Throws Error when a kernel's result is not of the type and shape that were inferred.
void check_inferred(const Tensor& result, DType dtype, const Shape& shape);

}  // namespace halfstep
