#include "conversion/model_view.h"

#include <algorithm>

#include <onnx/defs/schema.h>

#include "conversion/infer_types.h"
#include "conversion/runtime_dialect.h"
#include "conversion/unify_types.h"
#include "onnx_io/convert.h"
#include <halfstep/base/error.h>

namespace halfstep::conversion {
namespace {

using onnx::TypeProto;

bool is_known(const TypeProto& type) { return type.value_case() != TypeProto::VALUE_NOT_SET; }

TypeProto tensor_type(int element) {
  TypeProto type;
  type.mutable_tensor_type()->set_elem_type(element);
  return type;
}

class Viewer {
 public:
  explicit Viewer(onnx::ModelProto& model) {
    for (const auto& import : model.opset_import()) view_.opsets[canonical_domain(import.domain())] = import.version();
    enter(*model.mutable_graph(), kNone, {});
  }

  ModelView take() { return std::move(view_); }

 private:
  ValueId define(int scope, const std::string& name) {
    const ValueId id = view_.values.add({.name = name, .scope = scope, .type = {}});
    auto [it, is_new] = view_.scopes[scope].values.emplace(name, id);
    if (!is_new) it->second = id;  // a Constant may be listed again; the checker refuses what matters
    return id;
  }

  ValueId find(int scope, const std::string& name) const {
    for (int s = scope; s != kNone; s = view_.scopes[s].parent) {
      const auto& values = view_.scopes[s].values;
      if (auto it = values.find(name); it != values.end()) return it->second;
    }
    throw_input_error("every value to be defined before it is read", "'" + name + "'",
                      "check the model with the ONNX checker, and export it again");
  }

  // `given`: types of a subgraph's inputs, as far as known from its owner's operands.
  int enter(onnx::GraphProto& graph, int parent, const std::vector<TypeProto>& given) {
    const int scope = static_cast<int>(view_.scopes.size());
    view_.scopes.emplace_back();
    view_.scopes.back().graph = &graph;
    view_.scopes.back().parent = parent;
    std::unordered_map<std::string, TypeProto> declared;
    for (const auto* list : {&graph.value_info(), &graph.output()})
      for (const auto& info : *list)
        if (is_known(info.type())) declared.emplace(info.name(), without_shapes(info.type()));

    std::vector<ValueId> inputs, outputs, initializers;
    for (int i = 0; i < graph.input_size(); ++i) {
      const ValueId id = define(scope, graph.input(i).name());
      ViewValue& value = view_.values[id];
      value.is_input = true;
      value.type = without_shapes(graph.input(i).type());
      if (!is_known(value.type) && static_cast<std::size_t>(i) < given.size()) value.type = given[i];
      inputs.push_back(id);
    }
    for (auto& tensor : *graph.mutable_initializer()) {
      const auto& known = view_.scopes[scope].values;
      if (auto it = known.find(tensor.name()); it != known.end()) {
        if (view_.values[it->second].is_input) view_.values[it->second].initializer = &tensor;
        continue;
      }
      const ValueId id = define(scope, tensor.name());
      view_.values[id].initializer = &tensor;
      view_.values[id].type = tensor_type(tensor.data_type());
      initializers.push_back(id);
    }
    for (auto& node : *graph.mutable_node()) add_node(node, scope, declared);
    for (const auto& output : graph.output()) outputs.push_back(find(scope, output.name()));
    ViewScope& done = view_.scopes[scope];
    done.inputs = std::move(inputs);
    done.outputs = std::move(outputs);
    done.initializers = std::move(initializers);
    return scope;
  }

  // Types of the inputs of a body: values passed by Loop and Scan have the types of their operands.
  std::vector<TypeProto> body_inputs(const ViewNode& node) const {
    std::vector<TypeProto> types;
    if (node.is("Loop")) types.push_back(tensor_type(onnx::TensorProto::INT64));
    const std::size_t skipped = node.is("Loop") ? 1 : 0;  // the trip count
    for (std::size_t k = skipped; k < node.inputs.size(); ++k)
      types.push_back(node.inputs[k] == kNoValue ? TypeProto{} : view_.values[node.inputs[k]].type);
    return types;
  }

  void add_node(onnx::NodeProto& proto, int scope, const std::unordered_map<std::string, TypeProto>& declared) {
    ViewNode node;
    node.proto = &proto;
    node.scope = scope;
    node.name = proto.name();
    node.op = proto.op_type();
    node.domain = canonical_domain(proto.domain());
    for (const std::string& name : proto.input()) node.inputs.push_back(name.empty() ? kNoValue : find(scope, name));
    std::vector<std::vector<TypeProto>> body_types;
    const auto enter_body = [&](onnx::GraphProto& graph) {
      const int body = enter(graph, scope, body_inputs(node));
      node.bodies.push_back(body);
      auto& types = body_types.emplace_back();
      for (const ValueId out : view_.scopes[body].outputs) types.push_back(view_.values[out].type);
    };
    for (auto& attribute : *proto.mutable_attribute()) {
      if (attribute.has_g()) enter_body(*attribute.mutable_g());
      for (auto& graph : *attribute.mutable_graphs()) enter_body(graph);
    }
    const onnx::OpSchema* schema = view_.schema_of(node);
    std::vector<TypeProto> types(static_cast<std::size_t>(proto.output_size()));
    if (schema) {
      fill_inputs(*schema, node);
      std::vector<const TypeProto*> inputs;
      for (const ValueId v : node.inputs) inputs.push_back(v == kNoValue ? nullptr : &view_.values[v].type);
      types = infer_output_types(*schema, proto, inputs, body_types);
    }
    const int index = static_cast<int>(view_.nodes.size());
    for (int k = 0; k < proto.output_size(); ++k) {
      const std::string& name = proto.output(k);
      if (name.empty()) {
        node.outputs.push_back(kNoValue);
        continue;
      }
      node.outputs.push_back(define(scope, name));
      ViewValue& value = view_.values[node.outputs.back()];
      value.producer = index;
      value.type = std::move(types[k]);
      if (auto it = declared.find(name); it != declared.end() && !is_known(value.type)) value.type = it->second;
    }
    view_.scopes[scope].nodes.push_back(index);
    view_.nodes.push_back(std::move(node));
  }

  // An operand of unknown type has the type of others with the same type variable.
  void fill_inputs(const onnx::OpSchema& schema, const ViewNode& node) {
    const auto formal = [&](std::size_t k) -> const onnx::OpSchema::FormalParameter* {
      return schema.inputs().empty() ? nullptr : &schema.inputs()[std::min(k, schema.inputs().size() - 1)];
    };
    for (std::size_t k = 0; k < node.inputs.size(); ++k) {
      const ValueId v = node.inputs[k];
      if (v == kNoValue || !formal(k) || is_known(view_.values[v].type) || !formal(k)->GetIsHomogeneous()) continue;
      for (std::size_t other = 0; other < node.inputs.size(); ++other) {
        const ValueId o = node.inputs[other];
        if (o == kNoValue || formal(other)->GetTypeStr() != formal(k)->GetTypeStr()) continue;
        if (!is_known(view_.values[o].type)) continue;
        view_.values[v].type = view_.values[o].type;
        break;
      }
    }
  }

  ModelView view_;
};

}  // namespace

const onnx::OpSchema* ModelView::schema_of(const ViewNode& node) const {
  auto it = opsets.find(node.domain);
  if (it == opsets.end()) return nullptr;
  const std::int64_t version = std::max(it->second, first_version_of_extension(node.domain, node.op));
  return onnx::OpSchemaRegistry::Schema(node.op, static_cast<int>(version), node.domain);
}

bool ModelView::is_output(ValueId value) const {
  const auto& outputs = scopes[0].outputs;
  return std::find(outputs.begin(), outputs.end(), value) != outputs.end();
}

ModelView view_model(onnx::ModelProto& model) {
  ModelView view = Viewer(model).take();
  unify_types(view);
  return view;
}

}  // namespace halfstep::conversion
