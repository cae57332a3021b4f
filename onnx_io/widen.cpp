#include "onnx_io/widen.h"

#include <algorithm>

#include "onnx_io/proto_walk.h"
#include "ops/proto.h"
#include "ops/type_attributes.h"

namespace halfstep {
namespace {

constexpr auto kWide = onnx::TensorProto::FLOAT;

void widen_type(onnx::TypeProto& type, int half) {
  if (type.has_tensor_type() && type.tensor_type().elem_type() == half)
    type.mutable_tensor_type()->set_elem_type(kWide);
  if (type.has_sequence_type()) widen_type(*type.mutable_sequence_type()->mutable_elem_type(), half);
  if (type.has_optional_type()) widen_type(*type.mutable_optional_type()->mutable_elem_type(), half);
  if (type.has_map_type()) widen_type(*type.mutable_map_type()->mutable_value_type(), half);
}

void widen_node(onnx::NodeProto& node, int half) {
  for (auto& attribute : *node.mutable_attribute()) {
    const bool names_type = std::find(ops::kTypeAttributes.begin(), ops::kTypeAttributes.end(), attribute.name()) !=
                            ops::kTypeAttributes.end();
    if (names_type && attribute.i() == half) attribute.set_i(kWide);
    if (attribute.has_tp()) widen_type(*attribute.mutable_tp(), half);
  }
}

void widen_tensor(onnx::TensorProto& tensor, int half) {
  if (tensor.data_type() != half) return;
  onnx::TensorProto wide = tensor_to_proto(convert(tensor_from_proto(tensor), DType::f32), tensor.name());
  wide.set_doc_string(tensor.doc_string());
  *wide.mutable_metadata_props() = tensor.metadata_props();
  tensor = std::move(wide);
}

}  // namespace

void widen(onnx::ModelProto& model, DType half) {
  const int type = static_cast<int>(half);
  for_each_tensor(model, [&](onnx::TensorProto& tensor) { widen_tensor(tensor, type); });
  for_each_node(*model.mutable_graph(), [&](onnx::NodeProto& node) { widen_node(node, type); });
  for_each_graph(*model.mutable_graph(), [&](onnx::GraphProto& graph) {
    for (auto* values : {graph.mutable_input(), graph.mutable_output(), graph.mutable_value_info()})
      for (auto& value : *values)
        if (value.has_type()) widen_type(*value.mutable_type(), type);
  });
  for (auto& function : *model.mutable_functions()) {
    for_each_node(function, [&](onnx::NodeProto& node) { widen_node(node, type); });
    for (auto& value : *function.mutable_value_info())
      if (value.has_type()) widen_type(*value.mutable_type(), type);
  }
}

}  // namespace halfstep
