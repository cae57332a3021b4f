#include "conversion/drop_metadata.h"

#include "onnx_io/proto_walk.h"

namespace halfstep::conversion {
namespace {

template <class Message>
void drop(Message& message) {
  message.clear_metadata_props();
  message.clear_doc_string();
}

}  // namespace

void drop_metadata(onnx::ModelProto& model) {
  for_each_graph(*model.mutable_graph(), [](onnx::GraphProto& graph) {
    drop(graph);
    for (auto* values : {graph.mutable_input(), graph.mutable_output(), graph.mutable_value_info()})
      for (auto& value : *values) drop(value);
  });
  const auto drop_node = [](onnx::NodeProto& node) {
    drop(node);
    for (auto& attribute : *node.mutable_attribute()) attribute.clear_doc_string();
  };
  for_each_node(*model.mutable_graph(), drop_node);
  for (auto& function : *model.mutable_functions()) {
    drop(function);
    for (auto& value : *function.mutable_value_info()) drop(value);
    for_each_node(function, drop_node);
  }
  for_each_tensor(model, [](onnx::TensorProto& tensor) { drop(tensor); });
}

}  // namespace halfstep::conversion
