#include "onnx_io/outline.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <set>

#include "onnx_io/convert.h"
#include "onnx_io/message.h"
#include "onnx_io/proto_walk.h"
#include "ops/proto.h"
#include <halfstep/ops/op_def.h>

namespace halfstep {
namespace {

std::string type_of(const onnx::TypeProto& type) {
  switch (type.value_case()) {
    case onnx::TypeProto::kTensorType: {
      const std::int32_t element = type.tensor_type().elem_type();
      return element > 0 && element <= static_cast<int>(DType::i2) ? std::string(name_of(static_cast<DType>(element)))
                                                                   : "type " + std::to_string(element);
    }
    case onnx::TypeProto::kSequenceType:
      return "sequence";
    case onnx::TypeProto::kOptionalType:
      return "optional";
    case onnx::TypeProto::kMapType:
      return "map";
    case onnx::TypeProto::kSparseTensorType:
      return "sparse tensor";
    default:
      return "unknown";
  }
}

std::int64_t elements_of(const onnx::TensorProto& tensor) {
  const Shape shape = shape_from_proto(tensor);
  return shape.is_static() ? shape.count() : 0;
}

// Nothing is checked: a file may contain any number.
std::int64_t sum(std::int64_t a, std::int64_t b) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  return a > kMost - b ? kMost : a + b;
}

ModelOutline::Value outlined(const onnx::ValueInfoProto& info) {
  const bool is_tensor = info.type().has_tensor_type();
  return {info.name(), type_of(info.type()),
          is_tensor ? shape_from_proto(info.type().tensor_type()) : Shape::unranked()};
}

}  // namespace

ModelOutline outline_of(const std::filesystem::path& path) {
  return naming_file(path, [&] {
    register_schemas();
    onnx::ModelProto model = read_message(path);
    onnx::GraphProto& graph = *model.mutable_graph();
    ModelOutline outline;
    std::set<std::string> initialized;
    for (const onnx::TensorProto& tensor : graph.initializer()) {
      initialized.insert(tensor.name());
      ++outline.tensors;
      outline.elements = sum(outline.elements, elements_of(tensor));
    }
    for (const onnx::ValueInfoProto& input : graph.input())
      if (!initialized.contains(input.name())) outline.inputs.push_back(outlined(input));
    for (const onnx::ValueInfoProto& output : graph.output()) outline.outputs.push_back(outlined(output));
    for_each_node(graph, [&](const onnx::NodeProto& node) {
      const std::string domain = canonical_domain(node.domain());
      if (domain.empty() && node.op_type() == "Constant") return;
      ++outline.operators[domain.empty() ? node.op_type() : domain + "." + node.op_type()];
    });
    outline.unsupported = unsupported_operators(model);
    return outline;
  });
}

ModelOutline outline_of(const Graph& model) {
  ModelOutline outline;
  const auto outlined = [&](ValueId id) {
    return ModelOutline::Value{model[id].name, std::string(name_of(model[id].dtype)), model[id].shape};
  };
  std::ranges::transform(model.inputs, std::back_inserter(outline.inputs), outlined);
  std::ranges::transform(model.outputs, std::back_inserter(outline.outputs), outlined);
  for (const Node& node : model.nodes) ++outline.operators[node.domain.empty() ? node.op : node.domain + "." + node.op];
  for (const Value& value : model.values) {
    if (!value.is_constant() || !value.is_initializer) continue;
    ++outline.tensors;
    outline.elements += value.constant.count();
  }
  return outline;
}

}  // namespace halfstep
