#include "onnx_io/model_editor.h"

#include <algorithm>
#include <type_traits>

#include <onnx/onnx_pb.h>

#include "onnx_io/message.h"
#include "onnx_io/proto_walk.h"
#include "ops/proto.h"

namespace halfstep {
namespace {

using AttributeProto = onnx::AttributeProto;
using ValueInfos = google::protobuf::RepeatedPtrField<onnx::ValueInfoProto>;

template <class Attributes>
auto find(Attributes& attributes, std::string_view name) {
  return std::find_if(attributes.begin(), attributes.end(), [&](const AttributeProto& a) { return a.name() == name; });
}

std::vector<std::string> names_of(const ValueInfos& values) {
  std::vector<std::string> names;
  for (const onnx::ValueInfoProto& value : values) names.push_back(value.name());
  return names;
}

void keep(ValueInfos& values, const std::vector<std::string>& names) {
  values.erase(std::remove_if(values.begin(), values.end(),
                              [&](const auto& value) { return std::ranges::find(names, value.name()) == names.end(); }),
               values.end());
}

}  // namespace

ModelEditor::ModelEditor(std::string_view bytes) : model_(std::make_unique<onnx::ModelProto>(parse_message(bytes))) {
  for_each_node(*model_->mutable_graph(), [&](onnx::NodeProto& node) { nodes_.push_back(&node); });
}

ModelEditor::~ModelEditor() = default;

std::string ModelEditor::bytes() const { return model_->SerializeAsString(); }

std::vector<std::string> ModelEditor::operands(std::size_t node) const {
  const auto& operands = nodes_.at(node)->input();
  return {operands.begin(), operands.end()};
}

void ModelEditor::set_operands(std::size_t node, const std::vector<std::string>& operands) {
  nodes_.at(node)->mutable_input()->Assign(operands.begin(), operands.end());
}

std::vector<std::string> ModelEditor::attribute_names(std::size_t node) const {
  std::vector<std::string> names;
  for (const AttributeProto& attribute : nodes_.at(node)->attribute()) names.push_back(attribute.name());
  return names;
}

ModelEditor::Value ModelEditor::attribute(std::size_t node, std::string_view name) const {
  const auto& attributes = nodes_.at(node)->attribute();
  const auto found = find(attributes, name);
  if (found == attributes.end()) return {};
  switch (found->type()) {
    case AttributeProto::INT:
      return found->i();
    case AttributeProto::FLOAT:
      return found->f();
    case AttributeProto::STRING:
      return found->s();
    case AttributeProto::INTS:
      return std::vector<std::int64_t>(found->ints().begin(), found->ints().end());
    case AttributeProto::FLOATS:
      return std::vector<float>(found->floats().begin(), found->floats().end());
    case AttributeProto::GRAPH:
      return BodyNames{names_of(found->g().input()), names_of(found->g().output())};
    default:
      return {};
  }
}

void ModelEditor::set_attribute(std::size_t node, const std::string& name, const Value& value) {
  auto& attributes = *nodes_.at(node)->mutable_attribute();
  const auto found = find(attributes, name);
  AttributeProto& a = found == attributes.end() ? *attributes.Add() : *found;
  a.set_name(name);
  if (const auto* body = std::get_if<BodyNames>(&value)) {
    keep(*a.mutable_g()->mutable_input(), body->inputs);
    keep(*a.mutable_g()->mutable_output(), body->outputs);
    return;
  }
  const auto set = [&]<class T>(const T& content) {
    if constexpr (std::is_constructible_v<Attribute, T>) a = attribute_to_proto(name, content);
  };
  std::visit(set, value);
}

void ModelEditor::remove_attribute(std::size_t node, std::string_view name) {
  auto& attributes = *nodes_.at(node)->mutable_attribute();
  const auto found = find(attributes, name);
  if (found == attributes.end()) return;
  // The nodes of a body are removed with it.
  if (found->has_g())
    for_each_node(*found->mutable_g(), [&](const onnx::NodeProto& gone) { std::erase(nodes_, &gone); });
  attributes.erase(found);
}

std::optional<std::int64_t> ModelEditor::opset() const {
  if (model_->opset_import().empty()) return {};
  return model_->opset_import(0).version();
}

void ModelEditor::set_opset(std::int64_t version) {
  auto& imports = *model_->mutable_opset_import();
  (imports.empty() ? imports.Add() : imports.Mutable(0))->set_version(version);
}

std::vector<std::string> ModelEditor::inputs() const { return names_of(model_->graph().input()); }

void ModelEditor::declare_input(std::size_t input, DType dtype, const Shape& shape) {
  *model_->mutable_graph()->mutable_input()->at(static_cast<int>(input)).mutable_type() = type_to_proto(dtype, shape);
}

std::size_t ModelEditor::output_count() const { return static_cast<std::size_t>(model_->graph().output_size()); }

void ModelEditor::declare_output(std::size_t output, DType dtype) {
  auto& value = model_->mutable_graph()->mutable_output()->at(static_cast<int>(output));
  value.mutable_type()->mutable_tensor_type()->set_elem_type(static_cast<int>(dtype));
}

void ModelEditor::make_initializer(std::size_t input, const Tensor& value) {
  onnx::GraphProto& graph = *model_->mutable_graph();
  const int i = static_cast<int>(input);
  *graph.add_initializer() = tensor_to_proto(value, graph.input().at(i).name());
  graph.mutable_input()->DeleteSubrange(i, 1);
}

}  // namespace halfstep
