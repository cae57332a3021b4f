#include "onnx_io/lift.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include <onnx/defs/schema.h>

#include "graph/error.h"
#include "onnx_io/convert.h"
#include "onnx_io/unsupported.h"
#include "ops/infer.h"
#include "ops/op_def.h"
#include "ops/proto.h"

namespace halfstep {
namespace {

using Opsets = std::map<std::string, std::int64_t>;

// Functions call functions; deeper than any of ONNX's own go.
constexpr int kMaxFunctionDepth = 16;

std::int64_t newest_version(const std::string& domain) { return domain.empty() ? kOnnxOpset : kOwnOpset; }

void collect_reads(const Graph& graph, std::unordered_set<std::string>& names) {
  for (const Node& node : graph.nodes) {
    for (ValueId in : node.inputs)
      if (in != kNoValue) names.insert(graph[in].name);
    for (const auto& [_, value] : node.attributes)
      if (const auto* subgraph = std::get_if<std::shared_ptr<const Graph>>(&value)) collect_reads(**subgraph, names);
  }
  for (ValueId out : graph.outputs) names.insert(graph[out].name);
  for (const State& state : graph.states)
    if (state.next != kNoValue) names.insert(graph[state.next].name);
}

bool has_subgraph(const Node& node) {
  return std::any_of(node.attributes.begin(), node.attributes.end(), [](const Attributes::Entry& entry) {
    return std::holds_alternative<std::shared_ptr<const Graph>>(entry.second);
  });
}

// Goes through the nodes in order, appending to the graph what each becomes.
class Lifter final : public LiftContext {
 public:
  Lifter(Graph& graph, Opsets versions, UnsupportedOperators* unsupported)
      : graph_(graph), versions_(std::move(versions)), unsupported_(unsupported), known_values_(graph.values.size()) {
    collect_reads(graph, reads_);
  }

  void run() {
    std::vector<Node> nodes = std::move(graph_.nodes);
    graph_.nodes.clear();
    for (Node& node : nodes) process(std::move(node), versions_, 0);
  }

  Graph& graph() override { return graph_; }

  ValueId before(std::string_view op, std::vector<ValueId> inputs, Attributes attributes) override {
    const ValueId output = value(op);
    Node node = make_node(op, std::move(inputs), output, std::move(attributes));
    emit(std::move(node), depth_);
    return output;
  }

  void after(std::string_view op, std::vector<ValueId> inputs, ValueId output, Attributes attributes) override {
    after_.push_back(make_node(op, std::move(inputs), output, std::move(attributes)));
  }

  ValueId constant(std::string_view suffix, Tensor tensor) override {
    return graph_.add_constant(current_ + "." + std::string(suffix), std::move(tensor));
  }

  ValueId value(std::string_view suffix) override { return graph_.add_value(current_ + "." + std::string(suffix)); }

  bool is_read(ValueId id) const override {
    return static_cast<std::size_t>(id) >= known_values_ || reads_.contains(graph_[id].name);
  }

  [[noreturn]] void refuse(std::string required, std::string found) const override {
    throw_input_error(std::move(required), std::move(found) + " in node '" + current_ + "'",
                      "export the model again with a newer opset");
  }

 private:
  Node make_node(std::string_view op, std::vector<ValueId> inputs, ValueId output, Attributes attributes) {
    graph_.add_node(op, kOnnxDomain, std::move(inputs), 0, std::move(attributes), current_ + "." + std::string(op));
    Node node = std::move(graph_.nodes.back());
    graph_.nodes.pop_back();
    node.outputs = {output};
    return node;
  }

  void process(Node node, const Opsets& versions, int depth) {
    const auto version = versions.find(node.domain);
    current_ = node.name;
    depth_ = depth;
    if (node.domain.empty() && version != versions.end())
      for (const LiftRule& rule : lift_rules())
        if (node.op == rule.op && version->second < rule.below) rule.rewrite(*this, node);
    std::vector<Node> after = std::exchange(after_, {});
    lift_subgraphs(node, versions);
    emit(std::move(node), depth);
    for (Node& next : after) emit(std::move(next), depth);
  }

  void lift_subgraphs(Node& node, const Opsets& versions) {
    Attributes lifted = node.attributes;
    for (const auto& [name, value] : node.attributes) {
      const auto* subgraph = std::get_if<std::shared_ptr<const Graph>>(&value);
      if (!subgraph) continue;
      Graph copy = **subgraph;
      for (Value& inner : copy.values) {
        const ValueId outer = inner.dtype == DType::undefined ? graph_.find(inner.name) : kNoValue;
        if (outer == kNoValue) continue;
        inner.dtype = graph_[outer].dtype;
        inner.shape = graph_[outer].shape;
      }
      Lifter(copy, versions, unsupported_).run();
      lifted.set(name, std::make_shared<const Graph>(std::move(copy)));
    }
    node.attributes = std::move(lifted);
  }

  // Appends a node that is in the newest form, or what its function body says.
  void emit(Node node, int depth) {
    if (unsupported_ && !find_op(node.op, node.domain)) {
      if (depth < kMaxFunctionDepth && expand(node, depth)) return;
      unsupported_->add(node.domain, node.op, node.name);
    }
    graph_.nodes.push_back(std::move(node));
    // Inference does not enter subgraphs; the results of such a node keep what the file says of them.
    if (has_subgraph(graph_.nodes.back())) return;
    try {
      infer_node(graph_, graph_.nodes.back());
    } catch (const Error&) {
      // What follows an unsupported node may lack types; the report of the unsupported comes first.
      if (!unsupported_ || unsupported_->empty()) throw;
    }
  }

  bool expand(const Node& node, int depth) {
    const auto* schema =
        onnx::OpSchemaRegistry::Schema(node.op, static_cast<int>(newest_version(node.domain)), node.domain);
    if (!schema || schema->deprecated()) return false;
    onnx::FunctionProto built;
    const onnx::FunctionProto* body = schema->GetFunction();
    if (!body) {
      onnx::NodeProto proto;
      std::vector<onnx::TypeProto> types;
      proto.set_op_type(node.op);
      for (ValueId in : node.inputs) {
        proto.add_input(in == kNoValue ? "" : graph_[in].name);
        types.push_back(in == kNoValue || graph_[in].dtype == DType::undefined
                            ? onnx::TypeProto()
                            : type_to_proto(graph_[in].dtype, graph_[in].shape));
      }
      for (ValueId out : node.outputs) proto.add_output(out == kNoValue ? "" : graph_[out].name);
      for (const auto& [name, attribute] : node.attributes) {
        if (std::holds_alternative<std::shared_ptr<const Graph>>(attribute)) return false;
        *proto.add_attribute() = attribute_to_proto(name, attribute);
      }
      if (!schema->HasContextDependentFunction() ||
          !schema->BuildContextDependentFunction(onnx::FunctionBodyBuildContextImpl(proto, types), built))
        return false;
      body = &built;
    }
    splice(node, *body, *schema, depth);
    return true;
  }

  void splice(const Node& call, const onnx::FunctionProto& body, const onnx::OpSchema& schema, int depth) {
    Opsets versions;
    for (const auto& import : body.opset_import()) versions[canonical_domain(import.domain())] = import.version();
    versions.try_emplace("", schema.since_version());
    std::unordered_map<std::string, ValueId> values{{"", kNoValue}};
    for (int i = 0; i < body.input_size(); ++i) values[body.input(i)] = call.input(static_cast<std::size_t>(i));
    std::unordered_map<std::string, ValueId> results;
    for (int i = 0; i < body.output_size(); ++i) results[body.output(i)] = call.output(static_cast<std::size_t>(i));
    auto define = [&](const std::string& name) {
      if (name.empty()) return kNoValue;
      auto it = results.find(name);
      const bool is_result = it != results.end() && it->second != kNoValue;
      return values[name] = is_result ? it->second : graph_.add_value(call.name + "." + name);
    };
    for (const onnx::NodeProto& proto : body.node()) {
      Attributes attributes;
      for (const onnx::AttributeProto& a : proto.attribute()) {
        if (a.ref_attr_name().empty()) {
          attributes.set(a.name(), attribute_from_proto(a));
        } else if (const Attribute* given = call.attributes.find(a.ref_attr_name())) {
          attributes.set(a.name(), *given);
        } else if (auto known = schema.attributes().find(a.ref_attr_name());
                   known != schema.attributes().end() && known->second.default_value.has_name()) {
          attributes.set(a.name(), attribute_from_proto(known->second.default_value));
        }
      }
      std::vector<ValueId> inputs;
      for (const std::string& name : proto.input()) inputs.push_back(values.at(name));
      graph_.add_node(proto.op_type(), canonical_domain(proto.domain()), std::move(inputs), 0, std::move(attributes),
                      call.name + "." + proto.op_type());
      Node node = std::move(graph_.nodes.back());
      graph_.nodes.pop_back();
      for (const std::string& name : proto.output()) node.outputs.push_back(define(name));
      if (node.is("Constant"))
        emit_constant(node);
      else
        process(std::move(node), versions, depth + 1);
    }
  }

  // A Constant of a function body, whose value may have come from the caller's attribute.
  void emit_constant(const Node& node) {
    onnx::GraphProto proto;
    onnx::NodeProto& constant = *proto.add_node();
    constant.set_op_type("Constant");
    constant.add_output("constant");
    for (const auto& [name, value] : node.attributes) *constant.add_attribute() = attribute_to_proto(name, value);
    onnx::ModelProto model;
    *model.mutable_graph() = std::move(proto);
    const Graph read = from_proto(model);
    Value& value = graph_[node.outputs.at(0)];
    value.constant = read[read.find("constant")].constant;
    value.dtype = value.constant.dtype();
    value.shape = value.constant.shape();
  }

  Graph& graph_;
  Opsets versions_;
  UnsupportedOperators* unsupported_;  ///< null: operators without a row stay as they are
  std::size_t known_values_;
  std::unordered_set<std::string> reads_;
  std::vector<Node> after_;
  std::string current_;
  int depth_ = 0;
};

void lift(Graph& graph, UnsupportedOperators* unsupported) {
  register_schemas();
  Opsets versions = std::exchange(graph.opsets, {{std::string(kOnnxDomain), kOnnxOpset}});
  if (versions.contains(std::string(kOwnDomain))) graph.opsets[std::string(kOwnDomain)] = kOwnOpset;
  std::vector<std::pair<DType, Shape>> declared;
  for (ValueId out : graph.outputs) declared.emplace_back(graph[out].dtype, graph[out].shape);
  Lifter(graph, std::move(versions), unsupported).run();
  if (unsupported) unsupported->report();
  // Where inference cannot tell, the file's word on its outputs is taken.
  for (std::size_t i = 0; i < declared.size(); ++i) {
    Value& output = graph[graph.outputs[i]];
    if (output.dtype == DType::undefined) output.dtype = declared[i].first;
    if (!output.shape.is_ranked()) output.shape = declared[i].second;
  }
}

}  // namespace

void lift_operators(Graph& graph) { lift(graph, nullptr); }

void lift_to_supported(Graph& graph) {
  UnsupportedOperators unsupported;
  lift(graph, &unsupported);
}

}  // namespace halfstep
