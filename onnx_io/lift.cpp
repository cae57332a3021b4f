#include "onnx_io/lift.h"

#include <iterator>
#include <utility>

#include <onnx/defs/schema.h>

#include "graph/bodies.h"
#include "graph/error.h"
#include "onnx_io/convert.h"
#include "onnx_io/proto_walk.h"
#include "onnx_io/unsupported.h"
#include "ops/control_flow.h"
#include "ops/infer.h"
#include "ops/op_def.h"
#include "ops/proto.h"

namespace halfstep {
namespace {

using Opsets = std::map<std::string, std::int64_t>;

// Functions call functions; deeper than any of ONNX's own go.
constexpr int kMaxFunctionDepth = 16;

std::int64_t newest_version(const std::string& domain) { return domain.empty() ? kOnnxOpset : kOwnOpset; }

// Goes through the nodes in order, appending to the graph what each becomes.
class Lifter final : public LiftContext {
 public:
  Lifter(Graph& graph, Opsets versions, UnsupportedOperators* unsupported)
      : graph_(graph), versions_(std::move(versions)), unsupported_(unsupported), uses_(graph.use_counts()) {}

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
    return static_cast<std::size_t>(id) >= uses_.size() || uses_[static_cast<std::size_t>(id)] > 0;
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
    lift_bodies(node, versions);
    emit(std::move(node), depth);
    for (Node& next : after) emit(std::move(next), depth);
  }

  void lift_bodies(Node& node, const Opsets& versions) {
    change_bodies(node, [&](Graph& body) {
      if (is_control_flow(node)) type_body_inputs(graph_, node, body);
      Lifter(body, versions, unsupported_).run();
    });
  }

  // Appends a node that is in the newest form, or what its function body says.
  void emit(Node node, int depth) {
    if (unsupported_ && !find_op(node.op, node.domain)) {
      if (depth < kMaxFunctionDepth && expand(node, depth)) return;
      unsupported_->add(node.domain, node.op, node.name);
    }
    graph_.nodes.push_back(std::move(node));
    try {
      if (is_control_flow(graph_.nodes.back()))
        infer_control_flow(graph_, graph_.nodes.back());
      else
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

  void splice(const Node& call, const onnx::FunctionProto& function, const onnx::OpSchema& schema, int depth) {
    Opsets versions;
    for (const auto& import : function.opset_import()) versions[canonical_domain(import.domain())] = import.version();
    versions.try_emplace("", schema.since_version());
    onnx::GraphProto proto;
    proto.set_name(function.name());
    for (const std::string& name : function.input()) proto.add_input()->set_name(name);
    for (const std::string& name : function.output()) proto.add_output()->set_name(name);
    *proto.mutable_node() = function.node();
    for_each_node(proto, [&](onnx::NodeProto& node) { give_attributes(node, call, schema); });

    BodyArguments arguments{.outputs = call.outputs};
    for (int i = 0; i < function.input_size(); ++i) arguments.inputs.push_back(call.input(static_cast<std::size_t>(i)));
    const auto first = static_cast<std::ptrdiff_t>(graph_.nodes.size());
    append_copy(graph_, from_proto(proto), arguments, call.name + ".");
    std::vector<Node> nodes(std::make_move_iterator(graph_.nodes.begin() + first),
                            std::make_move_iterator(graph_.nodes.end()));
    graph_.nodes.resize(static_cast<std::size_t>(first));
    for (Node& node : nodes) process(std::move(node), versions, depth + 1);
  }

  // References to attributes of the function become what the caller gives, or the default.
  static void give_attributes(onnx::NodeProto& node, const Node& call, const onnx::OpSchema& schema) {
    google::protobuf::RepeatedPtrField<onnx::AttributeProto> given;
    for (const onnx::AttributeProto& a : node.attribute()) {
      const Attribute* value = call.attributes.find(a.ref_attr_name());
      const auto known = schema.attributes().find(a.ref_attr_name());
      if (a.ref_attr_name().empty()) {
        *given.Add() = a;
      } else if (value) {
        *given.Add() = attribute_to_proto(a.name(), *value);
      } else if (known != schema.attributes().end() && known->second.default_value.has_name()) {
        *given.Add() = known->second.default_value;
        given.rbegin()->set_name(a.name());
      }
    }
    *node.mutable_attribute() = std::move(given);
  }

  Graph& graph_;
  Opsets versions_;
  UnsupportedOperators* unsupported_;  ///< null: operators without a row stay as they are
  std::vector<std::int32_t> uses_;     ///< of the values there were before lifting
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
