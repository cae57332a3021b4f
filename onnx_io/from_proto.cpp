#include <algorithm>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "base/parse_number.h"
#include "graph/bodies.h"
#include "graph/state_fit.h"
#include "onnx_io/convert.h"
#include "onnx_io/metadata.h"
#include "onnx_io/module_scope.h"
#include "onnx_io/source_model.h"
#include "ops/proto.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

constexpr const char* kExportAgain = "check the model with the ONNX checker, and export it again";

std::string label(const onnx::NodeProto& node) {
  if (!node.name().empty()) return node.op_type() + " '" + node.name() + "'";
  return node.op_type() + (node.output_size() > 0 ? " that gives '" + node.output(0) + "'" : "");
}

void set_type(Value& value, const onnx::TypeProto& type) {
  if (type.value_case() != onnx::TypeProto::kTensorType) return;
  const auto& tensor = type.tensor_type();
  if (tensor.elem_type() <= 0 || tensor.elem_type() > static_cast<int>(DType::i2))
    throw_input_error("an element type ONNX defines",
                      std::to_string(tensor.elem_type()) + " for value '" + value.name + "'", kExportAgain);
  value.dtype = static_cast<DType>(tensor.elem_type());
  value.shape = shape_from_proto(tensor);
}

// The tensor of a Constant node, in whichever attribute it is stored.
Tensor constant_of(const onnx::NodeProto& node) {
  if (node.attribute_size() != 1)
    throw_input_error("a Constant with exactly one value", std::to_string(node.attribute_size()) + " in " + label(node),
                      kExportAgain);
  const onnx::AttributeProto& a = node.attribute(0);
  if (a.name() == "value" && a.has_t()) return tensor_from_proto(a.t());
  if (a.name() == "value_float") return Tensor::scalar(a.f());
  if (a.name() == "value_int") return Tensor::scalar(std::int64_t{a.i()});
  if (a.name() == "value_floats") return Tensor::of(std::vector<float>(a.floats().begin(), a.floats().end()));
  if (a.name() == "value_ints") return Tensor::of(std::vector<std::int64_t>(a.ints().begin(), a.ints().end()));
  if (a.name() == "value_string" || a.name() == "value_strings") {
    const bool one = a.name() == "value_string";
    Tensor tensor(DType::string, one ? Shape{} : Shape{a.strings_size()});
    for (std::int64_t i = 0; i < tensor.count(); ++i)
      tensor.data<std::string>()[i] = one ? a.s() : a.strings(static_cast<int>(i));
    return tensor;
  }
  throw_input_error("a dense constant", "attribute '" + a.name() + "' of " + label(node),
                    "store the constant as a dense tensor");
}

class GraphReader {
 public:
  GraphReader(const onnx::GraphProto& proto, bool is_subgraph,
              std::function<Tensor(const onnx::TensorProto&)> read = tensor_from_proto)
      : proto_(proto), is_subgraph_(is_subgraph), read_(std::move(read)) {}

  /// In a subgraph the captures are those of this graph alone, not yet matched with those of the node.
  Graph read() {
    graph_.name = proto_.name();
    if (proto_.sparse_initializer_size() > 0)
      throw_input_error("dense initializers", std::to_string(proto_.sparse_initializer_size()) + " sparse ones",
                        "store them as dense tensors");
    std::unordered_set<std::string> initialized;
    for (const onnx::TensorProto& tensor : proto_.initializer()) initialized.insert(tensor.name());
    for (const onnx::ValueInfoProto& input : proto_.input())
      if (!initialized.contains(input.name())) read_input(input);
    for (const onnx::TensorProto& tensor : proto_.initializer()) set_constant(tensor.name(), read_(tensor), true);
    for (const onnx::NodeProto& node : proto_.node()) read_node(node);
    for (const onnx::ValueInfoProto& output : proto_.output()) {
      const ValueId id = reference(output.name(), "a graph output");
      graph_.outputs.push_back(id);
      if (graph_[id].dtype == DType::undefined) set_type(graph_[id], output.type());
    }
    for (const onnx::ValueInfoProto& info : proto_.value_info()) read_declaration(info);
    for (const ValueId id : graph_.values.ids())
      if (!defined_.contains(graph_[id].name)) graph_.captures.push_back(id);
    return std::move(graph_);
  }

 private:
  ValueId define(const std::string& name) {
    if (name.empty()) throw_input_error("a name for every value", "an empty one", kExportAgain);
    if (!defined_.insert(name).second)
      throw_input_error("every value to be defined once", "'" + name + "' twice", kExportAgain);
    const ValueId known = graph_.find(name);
    return known != kNoValue ? known : graph_.add_value(name);
  }

  ValueId reference(const std::string& name, const std::string& reader) {
    const ValueId known = graph_.find(name);
    if (known != kNoValue) return known;
    if (!is_subgraph_ || name.empty())
      throw_input_error("every value to be defined before it is read", "'" + name + "', read by " + reader,
                        kExportAgain);
    return graph_.add_value(name);
  }

  void read_input(const onnx::ValueInfoProto& input) {
    const ValueId id = define(input.name());
    set_type(graph_[id], input.type());
    if (!is_subgraph_ && graph_[id].dtype == DType::undefined)
      throw_input_error("a tensor for every input of the model", "input '" + input.name() + "', which is none",
                        "export the model with tensor inputs only");
    graph_.inputs.push_back(id);
  }

  // torch.onnx's newer exporter records the original name of each initializer from the module.
  void read_declaration(const onnx::ValueInfoProto& info) {
    const ValueId id = graph_.find(info.name());
    if (id == kNoValue) return;
    for (const onnx::StringStringEntryProto& entry : info.metadata_props()) {
      if (entry.key() != "pkg.torch.export.graph_signature.InputSpec.kind") continue;
      if (entry.value() == "PARAMETER") graph_[id].declared = Declared::parameter;
      if (entry.value() == "BUFFER" || entry.value() == "CONSTANT_TENSOR") graph_[id].declared = Declared::buffer;
    }
  }

  void set_constant(const std::string& name, Tensor tensor, bool is_initializer) {
    Value& value = graph_[define(name)];
    value.dtype = tensor.dtype();
    value.shape = tensor.shape();
    value.constant = std::move(tensor);
    value.is_initializer = is_initializer;
  }

  void read_node(const onnx::NodeProto& proto) {
    const std::string domain = canonical_domain(proto.domain());
    if (proto.op_type() == "Constant" && domain.empty() && proto.output_size() == 1) {
      set_constant(proto.output(0), constant_of(proto), false);
      return;
    }
    std::vector<ValueId> inputs, outputs;
    for (const std::string& name : proto.input())
      inputs.push_back(name.empty() ? kNoValue : reference(name, label(proto)));
    Attributes attributes;
    std::vector<std::vector<std::pair<ValueId, ValueId>>> captured;
    for (const onnx::AttributeProto& attribute : proto.attribute()) {
      if (attributes.has(attribute.name()))
        throw_input_error("every attribute once", "'" + attribute.name() + "' twice in " + label(proto), kExportAgain);
      if (attribute.type() == onnx::AttributeProto::GRAPH) {
        auto body = std::make_shared<Graph>(GraphReader(attribute.g(), true).read());
        captured.emplace_back();
        for (ValueId inside : body->captures)
          captured.back().emplace_back(reference((*body)[inside].name, label(proto)), inside);
        attributes.set(attribute.name(), std::shared_ptr<const Graph>(std::move(body)));
      } else if (attribute.type() != onnx::AttributeProto::TYPE_PROTO || proto.op_type() != "Optional") {
        // The type of an Optional is that of its possible element, which is not needed.
        attributes.set(attribute.name(), attribute_from_proto(attribute));
      }
    }
    for (const std::string& name : proto.output()) outputs.push_back(name.empty() ? kNoValue : define(name));
    const std::size_t n = graph_.define(std::move(outputs), proto.op_type(), domain, std::move(inputs),
                                        std::move(attributes), scoped_name(proto));
    const Graph::Edit node = graph_.edit(n);
    set_captures(*node, captured);
  }

  const onnx::GraphProto& proto_;
  const bool is_subgraph_;
  const std::function<Tensor(const onnx::TensorProto&)> read_;
  Graph graph_;
  std::unordered_set<std::string> defined_;
};

void read_states(const onnx::ModelProto& model, Graph& graph) {
  std::unordered_map<std::string, std::string> metadata;
  for (const auto& entry : model.metadata_props())
    if (entry.key().starts_with(kMetadataPrefix)) metadata[entry.key()] = entry.value();
  auto refuse = [](const std::string& key, const std::string& value) {
    throw_input_error("metadata of a state that fits the graph", key + " = " + value,
                      "write the model again, or remove this metadata");
  };
  for (const auto& entry : model.metadata_props()) {
    if (!entry.key().starts_with(kStateKey)) continue;
    const std::string name = entry.key().substr(kStateKey.size());
    const ValueId value = graph.find(name);
    const auto* role =
        std::find_if(kStateRoles.begin(), kStateRoles.end(), [&](auto r) { return name_of(r) == entry.value(); });
    if (value == kNoValue || !graph[value].is_constant() || role == kStateRoles.end())
      refuse(entry.key(), entry.value());
    State state{.value = value, .role = *role, .initial = std::move(graph[value].constant)};
    graph[value].constant = Tensor();
    auto find_other = [&](std::string_view prefix) {
      auto other = metadata.find(std::string(prefix) + name);
      if (other == metadata.end()) return kNoValue;
      const ValueId id = graph.find(other->second);
      if (id == kNoValue) refuse(other->first, other->second);
      return id;
    };
    state.next = find_other(kNextKey);
    state.gradient = find_other(kGradientKey);
    state.source = find_other(kSourceKey);
    graph.states.push_back(std::move(state));
  }
  for (const State& state : graph.states)
    if (const std::string misfit = state_misfit(graph, state); !misfit.empty())
      refuse(std::string(kStateKey) + graph[state.value].name, misfit);
  const auto outputs = parse_number<std::size_t>(metadata[std::string(kOutputCountKey)]);
  if (outputs && *outputs < graph.outputs.size()) graph.outputs.resize(*outputs);
}

}  // namespace

std::string canonical_domain(const std::string& domain) { return domain == "ai.onnx" ? "" : domain; }

bool is_op(const onnx::NodeProto& node, std::string_view op) {
  return node.op_type() == op && canonical_domain(node.domain()).empty();
}

Attribute attribute_from_proto(const onnx::AttributeProto& a) {
  switch (a.type()) {
    case onnx::AttributeProto::INT:
      return std::int64_t{a.i()};
    case onnx::AttributeProto::FLOAT:
      return a.f();
    case onnx::AttributeProto::STRING:
      return a.s();
    case onnx::AttributeProto::TENSOR:
      return tensor_from_proto(a.t());
    case onnx::AttributeProto::INTS:
      return std::vector<std::int64_t>(a.ints().begin(), a.ints().end());
    case onnx::AttributeProto::FLOATS:
      return std::vector<float>(a.floats().begin(), a.floats().end());
    case onnx::AttributeProto::STRINGS:
      return std::vector<std::string>(a.strings().begin(), a.strings().end());
    default:
      throw_input_error("an attribute that is a number, a string, a dense tensor, a graph or a list of the former",
                        "attribute '" + a.name() + "' of ONNX type " + std::to_string(a.type()), kExportAgain);
  }
}

Graph from_proto(const onnx::GraphProto& proto) {
  Graph graph = GraphReader(proto, true).read();
  if (!graph.captures.empty())
    throw_input_error("every value to be defined before it is read",
                      "'" + graph[graph.captures[0]].name + "' in '" + proto.name() + "'", kExportAgain);
  return graph;
}

Graph from_proto(const onnx::ModelProto& model) { return from_proto(model, tensor_from_proto); }

Graph from_proto(const onnx::ModelProto& model, const std::function<Tensor(const onnx::TensorProto&)>& read) {
  Graph graph = GraphReader(model.graph(), false, read).read();
  for (const auto& import : model.opset_import()) graph.opsets[canonical_domain(import.domain())] = import.version();
  read_states(model, graph);
  return graph;
}

}  // namespace halfstep
