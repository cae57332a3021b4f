// Type and shape inference, from the operators' ONNX schemas.
#pragma once

#include <halfstep/base/api.h>
#include <halfstep/graph/graph.h>

namespace HALFSTEP_API halfstep {

/// Sets dtype and shape of the node's outputs in `graph` from its inputs and attributes.
/// Unknown extents stay unknown. Throws Error if the schema rejects the operands, naming node, operator and shapes.
void infer_node(Graph& graph, const Node& node);

/// The same for every node, in order. Results of inference inside the bodies of If, Loop and Scan stay there.
void infer_graph(Graph& graph);

/// Throws Error if a kernel's result does not have the inferred type and shape.
void check_inferred(const Tensor& result, DType dtype, const Shape& shape);

}  // namespace halfstep
