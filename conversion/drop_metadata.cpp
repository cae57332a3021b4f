#include "conversion/drop_metadata.h"

#include "onnx_io/proto_walk.h"

namespace halfstep::conversion {
namespace {

template <class Message>
void drop(Message& message) {
  message.clear_metadata_props();
  message.clear_doc_string();
}

void drop_of_graph(onnx::GraphProto& graph) {
  drop(graph);
  for (auto* values : {graph.mutable_input(), graph.mutable_output(), graph.mutable_value_info()})
    for (auto& value : *values) drop(value);
}

void drop_of_node(onnx::NodeProto& node) {
  drop(node);
  for (auto& attribute : *node.mutable_attribute()) {
    attribute.clear_doc_string();
    if (attribute.has_g()) drop_of_graph(*attribute.mutable_g());
    for (auto& graph : *attribute.mutable_graphs()) drop_of_graph(graph);
  }
}

}  // namespace

void drop_metadata(onnx::ModelProto& model) {
  drop_of_graph(*model.mutable_graph());
  for_each_node(*model.mutable_graph(), drop_of_node);
  for (auto& function : *model.mutable_functions()) {
    drop(function);
    for (auto& value : *function.mutable_value_info()) drop(value);
    for_each_node(function, drop_of_node);
  }
  for_each_tensor(model, [](onnx::TensorProto& tensor) { drop(tensor); });
}

}  // namespace halfstep::conversion
