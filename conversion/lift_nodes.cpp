#include "conversion/lift_nodes.h"

#include <algorithm>
#include <exception>
#include <utility>

#include <fmt/format.h>
#include <onnx/shape_inference/implementation.h>

#include "onnx_io/convert.h"
#include "onnx_io/guard_functions.h"
#include "onnx_io/lift.h"
#include "onnx_io/module_scope.h"
#include "onnx_io/proto_walk.h"
#include "ops/proto.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/op_def.h>

namespace halfstep::conversion {
namespace {

constexpr std::int64_t kMaxConstant = 1024;  // elements of an operand that a rule may inspect

bool has_rule(const onnx::NodeProto& node, std::int64_t from, std::int64_t target) {
  const auto rules = lift_rules();
  return std::any_of(rules.begin(), rules.end(), [&](const LiftRule& rule) {
    return rule.op == node.op_type() && from < rule.below && rule.below <= target;
  });
}

// The rules applied to a graph of one node.
class OneNode final : public LiftContext {
 public:
  OneNode(Graph& graph, std::string name, const std::unordered_set<std::string>& read)
      : graph_(graph), name_(std::move(name)), read_(read) {}

  Graph& graph() override { return graph_; }
  void give(std::string_view op, std::vector<ValueId> inputs, std::vector<ValueId> outputs,
            Attributes attributes) override {
    add(op, std::move(inputs), std::move(outputs), std::move(attributes), nodes);
  }
  void replace(ValueId value, ValueId by) override { give("Identity", {by}, {value}, {}); }
  Containers& containers() override { return containers_; }
  void after(std::string_view op, std::vector<ValueId> inputs, ValueId output, Attributes attributes) override {
    add(op, std::move(inputs), {output}, std::move(attributes), next);
  }
  ValueId constant(std::string_view suffix, Tensor tensor) override {
    return graph_.add_constant(name_ + "." + std::string(suffix), std::move(tensor));
  }
  ValueId value(std::string_view suffix) override { return graph_.add_value(name_ + "." + std::string(suffix)); }
  bool is_read(ValueId id) const override { return read_.contains(graph_[id].name); }
  [[noreturn]] void refuse(std::string required, std::string found) const override {
    throw_input_error(std::move(required), std::move(found), "export the model again with a newer opset");
  }

  std::vector<Node> nodes, next;

 private:
  void add(std::string_view op, std::vector<ValueId> inputs, std::vector<ValueId> outputs, Attributes attributes,
           std::vector<Node>& list) {
    const std::string name = fmt::format("{}.{}", name_, op);
    const int earlier = made_[name]++;  // some runtimes require unique node names
    graph_.add_node(op, kOnnxDomain, std::move(inputs), 0, std::move(attributes),
                    earlier == 0 ? name : fmt::format("{}_{}", name, earlier));
    list.push_back(std::move(graph_.take_nodes(graph_.nodes.size() - 1).front()));
    list.back().outputs = std::move(outputs);
  }

  Graph& graph_;
  const std::string name_;
  const std::unordered_set<std::string>& read_;
  Containers containers_;
  std::unordered_map<std::string, int> made_;  ///< node names with their counts
};

}  // namespace

NodeLifter::NodeLifter(const onnx::ModelProto& model, const DetachedModel& source, std::int64_t version)
    : source_(source), version_(version) {
  know(model.graph());
  onnx::ModelProto inferred = model;
  // Detached tensors would be searched for in files.
  for (auto& tensor : *inferred.mutable_graph()->mutable_initializer())
    if (DetachedModel::index_of(tensor) >= 0) {
      tensor.clear_external_data();
      tensor.clear_data_location();
    }
  try {
    check_all_before_inference(inferred);
    onnx::shape_inference::InferShapes(inferred);
  } catch (const std::exception&) {  // keep the known part
  }
  for_each_graph(*inferred.mutable_graph(), [&](const onnx::GraphProto& graph) {
    for (const auto* list : {&graph.input(), &graph.value_info(), &graph.output()})
      for (const auto& info : *list)
        if (auto it = known_.find(info.name()); it != known_.end() && info.type().has_tensor_type())
          it->second.type = info.type();
  });
}

void NodeLifter::know(const onnx::GraphProto& graph) {
  const auto define = [&](const std::string& name) -> Known& {
    Known& known = known_[name];
    known.is_ambiguous = !taken_.insert(name).second;
    return known;
  };
  for (const auto& input : graph.input()) define(input.name());
  for (const auto& tensor : graph.initializer()) {
    const bool is_default = std::any_of(graph.input().begin(), graph.input().end(),
                                        [&](const auto& input) { return input.name() == tensor.name(); });
    Known& known = is_default ? known_[tensor.name()] : define(tensor.name());
    auto* type = known.type.mutable_tensor_type();
    type->set_elem_type(tensor.data_type());
    for (const std::int64_t dim : tensor.dims()) type->mutable_shape()->add_dim()->set_dim_value(dim);
    std::int64_t count = 1;
    for (const std::int64_t dim : tensor.dims()) count = dim < kMaxConstant ? count * dim : kMaxConstant + 1;
    type->mutable_shape();
    if (count <= kMaxConstant && !is_default) known.constant = &tensor;
  }
  for (const auto& node : graph.node()) {
    for (const std::string& name : node.input()) read_.insert(name);
    for (const std::string& name : node.output())
      if (!name.empty()) define(name);
    for (const auto& attribute : node.attribute()) {
      if (attribute.has_g()) know(attribute.g());
      for (const auto& inner : attribute.graphs()) know(inner);
      const bool is_constant = node.op_type() == "Constant" && node.output_size() == 1 && attribute.has_t();
      if (is_constant && attribute.t().dims_size() <= 1) known_[node.output(0)].constant = &attribute.t();
    }
  }
  for (const auto& output : graph.output()) read_.insert(output.name());
}

LiftedNode NodeLifter::apply(const onnx::NodeProto& proto, std::int64_t target) const {
  Graph graph;
  const auto value = [&](const std::string& name) {
    if (name.empty()) return kNoValue;
    if (const ValueId known = graph.find(name); known != kNoValue) return known;
    const auto it = known_.find(name);
    if (it == known_.end() || it->second.is_ambiguous) return graph.add_value(name);
    const Known& known = it->second;
    if (known.constant) return graph.add_constant(name, source_.read(*known.constant));
    if (!known.type.has_tensor_type()) return graph.add_value(name);
    const auto& type = known.type.tensor_type();
    return graph.add_value(name, static_cast<DType>(type.elem_type()), shape_from_proto(type));
  };
  Attributes attributes;
  for (const auto& attribute : proto.attribute()) {
    if (attribute.has_g() || attribute.graphs_size() > 0)
      throw_input_error("a node without subgraphs", "'" + attribute.name() + "'", "export the model again");
    attributes.set(attribute.name(), attribute_from_proto(attribute));
  }
  std::vector<ValueId> inputs, outputs;
  for (const std::string& name : proto.input()) inputs.push_back(value(name));
  for (const std::string& name : proto.output()) outputs.push_back(value(name));
  const ValueId given(graph.values.size());
  graph.add_node(proto.op_type(), kOnnxDomain, std::move(inputs), 0, std::move(attributes), proto.name());
  Node node = std::move(graph.take_nodes().front());
  node.outputs = std::move(outputs);

  OneNode context(graph, proto.output_size() > 0 ? proto.output(0) : proto.op_type(), read_);
  context.opset = target;
  for (const LiftRule& rule : lift_rules())
    if (rule.op == node.op && version_ < rule.below && rule.below <= target) rule.rewrite(context, node);
  node.name = proto.name();
  context.nodes.push_back(std::move(node));
  for (Node& next : context.next) context.nodes.push_back(std::move(next));

  LiftedNode lifted;
  std::unordered_set<std::string> taken;
  const auto name_of_value = [&](ValueId id) -> std::string {
    if (id == kNoValue) return {};
    if (id < given) return graph[id].name;
    std::string name = graph[id].name;
    for (int n = 1; taken_.contains(name); ++n) name = graph[id].name + "_" + std::to_string(n);
    return name;
  };
  for (const Node& next : context.nodes) {
    onnx::NodeProto& written = lifted.nodes.emplace_back();
    if (next.name == proto.name()) {
      written.set_doc_string(proto.doc_string());
      if (proto.doc_string().empty()) written.clear_doc_string();
      *written.mutable_metadata_props() = proto.metadata_props();
    } else {
      copy_module_scope(proto, written);
    }
    if (!next.name.empty()) written.set_name(next.name);
    written.set_op_type(next.op);
    for (ValueId in : next.inputs) {
      written.add_input(name_of_value(in));
      if (in < given || !graph[in].is_constant() || !taken.insert(written.input(written.input_size() - 1)).second)
        continue;
      lifted.initializers.push_back(tensor_to_proto(graph[in].constant, written.input(written.input_size() - 1)));
    }
    for (ValueId out : next.outputs) written.add_output(name_of_value(out));
    for (const auto& [name, attribute] : next.attributes)
      *written.add_attribute() = attribute_to_proto(name, attribute);
  }
  return lifted;
}

std::int64_t NodeLifter::reach(const onnx::NodeProto& node, std::int64_t wanted) const {
  for (const LiftRule& rule : lift_rules()) {
    if (rule.op != node.op_type() || version_ >= rule.below || rule.below > wanted) continue;
    try {
      apply(node, rule.below);
    } catch (const Error&) {
      return rule.below - 1;
    }
  }
  try {  // if a rule changes the operator, the rules of the new one apply
    if (has_rule(node, version_, wanted)) apply(node, wanted);
  } catch (const Error&) {
    return version_;
  }
  return wanted;
}

std::optional<LiftedNode> NodeLifter::lift(const onnx::NodeProto& node, std::int64_t target) {
  if (!has_rule(node, version_, target)) return std::nullopt;
  LiftedNode lifted = apply(node, target);
  for (const auto& next : lifted.nodes)
    for (const std::string& name : next.output()) taken_.insert(name);
  for (const auto& tensor : lifted.initializers) taken_.insert(tensor.name());
  return lifted;
}

}  // namespace halfstep::conversion
