// Graph ↔ ONNX protobuf messages. The only header with the messages themselves in its interface.
#pragma once

#include <onnx/onnx_pb.h>

#include <halfstep/graph/graph.h>

namespace halfstep {

/// The model as a Graph, with the operators of the file (no opset conversion, no inference).
///
/// Keeps names of values and nodes. Initializers and `Constant` nodes become constants, even an initializer that is
/// also a graph input. Symbolic extents become `Shape::kUnknown`. States written by `to_proto` are restored. Values of
/// the enclosing graph that a subgraph reads become captures. All tensor data must be in the message (see
/// external_data.h). Throws Error(input) for models that a Graph cannot represent: sparse tensors, inputs that are not
/// tensors, undefined or doubly defined names, attributes of types that no supported operator has.
Graph from_proto(const onnx::ModelProto& model);
/// The same for a separate graph, whose inputs may be without types: the body of a function.
Graph from_proto(const onnx::GraphProto& graph);

/// An attribute that is not a subgraph. Throws Error(input) as above.
Attribute attribute_from_proto(const onnx::AttributeProto& proto);

/// A valid ONNX model with the types of all values: constants as initializers or Constant nodes, according to
/// `Value::is_initializer`. A state is an initializer that is also a graph input; its `next` and `gradient` are graph
/// outputs after the graph's own; metadata distinguishes them from ordinary ones. In a subgraph a capture has the name
/// of the captured value, and values whose names clash with those of an enclosing graph are renamed.
onnx::ModelProto to_proto(const Graph& graph);

/// Since this IR version an initializer need not be a graph input.
inline constexpr std::int64_t kInitializersStandAlone = 4;
/// Adds it to the main graph; to the graph's inputs as well in a model of an older IR version.
void add_initializer(onnx::ModelProto& model, onnx::TensorProto tensor);

/// Domain ai.onnx has two spellings; a Graph uses "".
std::string canonical_domain(const std::string& domain);

/// Whether the node is this operator of ai.onnx.
bool is_op(const onnx::NodeProto& node, std::string_view op);

}  // namespace halfstep
