// Visits every graph, node and tensor of a model message, including subgraphs and function bodies.
#pragma once

#include <onnx/onnx_pb.h>

namespace halfstep {

/// Calls `visit(NodeProto&)` for every node below `owner` (a GraphProto or FunctionProto), those of subgraphs after
/// their node.
template <class Owner, class Visit>
void for_each_node(Owner& owner, const Visit& visit) {
  for (auto& node : *owner.mutable_node()) {
    visit(node);
    for (auto& attribute : *node.mutable_attribute()) {
      if (attribute.has_g()) for_each_node(*attribute.mutable_g(), visit);
      for (auto& graph : *attribute.mutable_graphs()) for_each_node(graph, visit);
    }
  }
}

/// Calls `visit(GraphProto&)` for the graph and every subgraph below it.
template <class Visit>
void for_each_graph(onnx::GraphProto& graph, const Visit& visit) {
  visit(graph);
  for_each_node(graph, [&](onnx::NodeProto& node) {
    for (auto& attribute : *node.mutable_attribute()) {
      if (attribute.has_g()) visit(*attribute.mutable_g());
      for (auto& inner : *attribute.mutable_graphs()) visit(inner);
    }
  });
}

/// Calls `visit(TensorProto&)` for every tensor of the model: initializers, attributes and their
/// defaults in functions, dense and sparse.
template <class Visit>
void for_each_tensor(onnx::ModelProto& model, const Visit& visit) {
  auto visit_sparse = [&](onnx::SparseTensorProto& sparse) {
    if (sparse.has_values()) visit(*sparse.mutable_values());
    if (sparse.has_indices()) visit(*sparse.mutable_indices());
  };
  auto visit_initializers = [&](onnx::GraphProto& graph) {
    for (auto& tensor : *graph.mutable_initializer()) visit(tensor);
    for (auto& sparse : *graph.mutable_sparse_initializer()) visit_sparse(sparse);
  };
  auto visit_attribute = [&](onnx::AttributeProto& attribute) {
    if (attribute.has_t()) visit(*attribute.mutable_t());
    for (auto& tensor : *attribute.mutable_tensors()) visit(tensor);
    if (attribute.has_sparse_tensor()) visit_sparse(*attribute.mutable_sparse_tensor());
    for (auto& sparse : *attribute.mutable_sparse_tensors()) visit_sparse(sparse);
    if (attribute.has_g()) visit_initializers(*attribute.mutable_g());
    for (auto& graph : *attribute.mutable_graphs()) visit_initializers(graph);
  };
  auto visit_attributes = [&](onnx::NodeProto& node) {
    for (auto& attribute : *node.mutable_attribute()) visit_attribute(attribute);
  };
  visit_initializers(*model.mutable_graph());
  for_each_node(*model.mutable_graph(), visit_attributes);
  for (auto& function : *model.mutable_functions()) {
    for_each_node(function, visit_attributes);
    for (auto& by_default : *function.mutable_attribute_proto()) {
      visit_attribute(by_default);
      if (by_default.has_g()) for_each_node(*by_default.mutable_g(), visit_attributes);
      for (auto& graph : *by_default.mutable_graphs()) for_each_node(graph, visit_attributes);
    }
  }
  auto visit_training_graph = [&](onnx::GraphProto& graph) {
    visit_initializers(graph);
    for_each_node(graph, visit_attributes);
  };
  for (auto& training : *model.mutable_training_info()) {
    if (training.has_initialization()) visit_training_graph(*training.mutable_initialization());
    if (training.has_algorithm()) visit_training_graph(*training.mutable_algorithm());
  }
}

}  // namespace halfstep
