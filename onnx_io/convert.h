// Graph ↔ ONNX protobuf messages. The one public header that shows the messages themselves.
#pragma once

#include <onnx/onnx_pb.h>

#include <halfstep/graph/graph.h>

namespace halfstep {

/// The model as a Graph, operator by operator as the file has it (nothing lifted, nothing inferred).
///
/// Names of values and nodes are kept. Initializers and `Constant` nodes become constants; an initializer that is also
/// a graph input is a constant too. Symbolic extents become `Shape::kUnknown`. What `to_proto` wrote of states is read
/// back. What a subgraph reads of the enclosing graph becomes a capture. All tensor data must be in the message (see
/// external_data.h). Throws Error(input) on what a Graph cannot hold: sparse tensors,
/// inputs that are not tensors, undefined or doubly defined names, attributes of types no supported operator has.
Graph from_proto(const onnx::ModelProto& model);
/// The same of a graph on its own, whose inputs may be without types: the body of a function.
Graph from_proto(const onnx::GraphProto& graph);

/// One attribute that is no subgraph. Throws Error(input) as above.
Attribute attribute_from_proto(const onnx::AttributeProto& proto);

/// A valid ONNX model with the types of all values: constants as initializers or Constant nodes, as
/// `Value::is_initializer` says. A state is an initializer that is also a graph input, its `next` and `gradient` are
/// graph outputs after the graph's own; metadata tells them from ordinary ones. In a subgraph a capture is written with
/// the name of what it captures, and what clashes with a name of an enclosing graph gets another.
onnx::ModelProto to_proto(const Graph& graph);

/// The name of ai.onnx may be written in two ways; a Graph has "".
std::string canonical_domain(const std::string& domain);

}  // namespace halfstep
