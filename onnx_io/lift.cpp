#include "onnx_io/lift.h"

#include <algorithm>
#include <tuple>
#include <unordered_map>

#include <fmt/format.h>
#include <onnx/defs/schema.h>

#include "graph/bodies.h"
#include "graph/state_fit.h"
#include "onnx_io/container_bodies.h"
#include "onnx_io/convert.h"
#include "onnx_io/proto_walk.h"
#include "onnx_io/unsupported.h"
#include "ops/control_flow/control_flow.h"
#include "ops/control_flow/unroll.h"
#include "ops/fold.h"
#include "ops/proto.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/infer.h>

namespace halfstep {
namespace {

using Opsets = std::map<std::string, std::int64_t>;

// Nesting limit of function calls; deeper than any of ONNX's own.
constexpr int kMaxFunctionDepth = 16;

std::int64_t newest_version(const std::string& domain) { return domain.empty() ? kOnnxOpset : kOwnOpset; }

// Processes the nodes in order, and appends their replacements to the graph.
class Lifter final : public LiftContext {
 public:
  /// `containers`: known contents of the values that the graph, a body, captures.
  Lifter(Graph& graph, Opsets versions, UnsupportedOperators* unsupported, Containers containers = {})
      : graph_(graph),
        versions_(std::move(versions)),
        unsupported_(unsupported),
        is_read_(graph.values.size()),
        containers_(std::move(containers)),
        has_containers_(!containers_.empty() || has_container_operators(graph)) {}

  void run() {
    for (const ValueId id : graph_.values.ids()) is_read_[id] = graph_.is_read(id);
    process_from(0, versions_, 0);
    spread_outputs();
  }

  /// For each former output of the graph: its contents if it was not a tensor. Its elements are now outputs.
  const SpreadOutputs& spread() const { return spread_; }

  Graph& graph() override { return graph_; }

  void give(std::string_view op, std::vector<ValueId> inputs, std::vector<ValueId> outputs,
            Attributes attributes) override {
    emit(make_node(op, std::move(inputs), std::move(outputs), std::move(attributes)), depth_);
  }

  void replace(ValueId value, ValueId by) override {
    if (graph_.is_output(value))
      give("Identity", {by}, {value}, {});
    else
      replaced_[value] = by;
  }

  Containers& containers() override { return containers_; }

  void after(std::string_view op, std::vector<ValueId> inputs, ValueId output, Attributes attributes) override {
    after_.push_back(make_node(op, std::move(inputs), {output}, std::move(attributes)));
  }

  ValueId constant(std::string_view suffix, Tensor tensor) override {
    return graph_.add_constant(current_ + "." + std::string(suffix), std::move(tensor));
  }

  ValueId value(std::string_view suffix) override { return graph_.add_value(current_ + "." + std::string(suffix)); }

  bool is_read(ValueId id) const override { return !is_read_.contains(id) || is_read_[id]; }

  [[noreturn]] void refuse(std::string required, std::string found) const override {
    throw_input_error(std::move(required), std::move(found) + " in node '" + current_ + "'",
                      "export the model again with a newer opset");
  }

 private:
  Node make_node(std::string_view op, std::vector<ValueId> inputs, std::vector<ValueId> outputs,
                 Attributes attributes) {
    graph_.add_node(op, kOnnxDomain, std::move(inputs), 0, std::move(attributes), current_ + "." + std::string(op));
    Node node = take_last();
    node.outputs = std::move(outputs);
    return node;
  }

  Node take_last() { return std::move(graph_.take_nodes(graph_.nodes.size() - 1).front()); }

  ValueId current(ValueId id) const {
    for (auto by = replaced_.find(id); by != replaced_.end(); by = replaced_.find(id)) id = by->second;
    return id;
  }

  // Removes the nodes from `first` on from the graph, and appends their replacements.
  void process_from(std::size_t first, const Opsets& versions, int depth) {
    for (Node& node : graph_.take_nodes(first)) process(std::move(node), versions, depth);
  }

  void process(Node node, const Opsets& versions, int depth) {
    const auto version = versions.find(node.domain);
    current_ = node.name;
    depth_ = depth;
    for (ValueId& in : node.inputs) in = current(in);
    if (has_containers_ && node.domain.empty() && take_apart(node, versions, depth)) return;
    if (node.domain.empty() && version != versions.end())
      for (const LiftRule& rule : lift_rules())
        if (node.op == rule.op && version->second < rule.below) rule.rewrite(*this, node);
    std::vector<Node> after = std::exchange(after_, {});
    lift_bodies(node, versions);
    emit(std::move(node), depth);
    for (Node& next : after) emit(std::move(next), depth);
  }

  void lift_bodies(Node& node, const Opsets& versions) {
    std::vector<Containers> captured =
        has_containers_ ? capture_elements(graph_, node, containers_) : std::vector<Containers>();
    for (const Containers& body : captured)
      for (const auto& [value, container] : body) count_elements(*this, node, container.elements.size());
    std::vector<SpreadOutputs> results;
    change_bodies(node, [&](Graph& body) {
      if (has_containers_) copy_small_constants(graph_, node, body, /*only_integers=*/true);
      if (is_control_flow(node)) type_body_inputs(graph_, node, body);
      Lifter lifter(body, versions, unsupported_,
                    captured.empty() ? Containers() : std::move(captured[results.size()]));
      try {
        lifter.run();
      } catch (const Error& error) {
        // One branch of an If may not fit: infer_control_flow decides.
        if (!node.is("If") || has_containers_ || error.kind() != Error::Kind::input) throw;
        make_failing(body, error);
      }
      results.push_back(lifter.spread());
    });
    if (!has_containers_) return;
    drop_unread_captures(node);
    spread_results(graph_, node, results, containers_);
  }

  // Replaces a node for containers by its equivalent for tensors; returns false if there is none.
  bool take_apart(Node& node, const Opsets& versions, int depth) {
    if (has_body(node)) return write_out(node, versions, depth);
    for (const ContainerRule& rule : container_rules()) {
      if (rule.op != node.op || (!is_container_operator(node.op) && !is_container(node.input(0)))) continue;
      rule.resolve(*this, node);
      return true;
    }
    for (ValueId in : node.inputs)
      if (is_container(in)) refuse_container(node, "tensors", "'" + graph_[in].name + "', which is none,");
    return false;
  }

  bool is_container(ValueId id) const { return containers_.contains(id); }

  // SequenceMap, and control flow with containers, if its course is known.
  bool write_out(const Node& node, const Opsets& versions, int depth) {
    const std::size_t first = graph_.nodes.size();
    Containers results;
    if (node.is("SequenceMap"))
      results = append_map(graph_, node, containers_);
    else if (!deals_in_containers(node, containers_) || !can_be_written_out(graph_, node, containers_))
      return false;
    else
      append_inlined(graph_, node);
    process_from(first, versions, depth);
    for (auto& [value, container] : results)
      for (ValueId& element : container.elements) element = current(element);
    containers_.merge(results);
    return true;
  }

  // The elements of an output that is a container become outputs.
  void spread_outputs() {
    std::vector<ValueId> outputs;
    for (const ValueId out : graph_.outputs) {
      const auto container = containers_.find(out);
      if (container == containers_.end()) {
        spread_.emplace_back();
        outputs.push_back(out);
        continue;
      }
      const Container& made = spread_.emplace_back(container->second).value();
      for (std::size_t i = 0; i < made.elements.size(); ++i) {
        outputs.push_back(graph_.add_value(fmt::format("{}.{}", graph_[out].name, i)));
        give("Identity", {made.elements[i]}, {outputs.back()}, {});
      }
    }
    graph_.outputs = std::move(outputs);
  }

  // Appends a node in its newest form, or its function body.
  void emit(Node node, int depth) {
    if (unsupported_ && !find_op(node.op, node.domain)) {
      if (depth < kMaxFunctionDepth && expand(node, depth)) return;
      unsupported_->add(node.domain, node.op, node.name);
    }
    graph_.append(std::move(node));
    try {
      const Graph::Edit last = graph_.edit(graph_.nodes.size() - 1);
      is_control_flow(*last) ? infer_control_flow(graph_, *last) : infer_node(graph_, *last);
    } catch (const Error&) {
      // Nodes after an unsupported one may lack types; the error about the unsupported operators comes first.
      if (!unsupported_ || unsupported_->empty()) throw;
    }
    if (has_containers_ && gives_indices(graph_.nodes.back())) {
      Node last = take_last();
      if (!fold_node(graph_, last)) graph_.append(std::move(last));
    }
  }

  // Lengths, positions and conditions of containers must be known at this point.
  bool gives_indices(const Node& node) const {
    return std::all_of(node.outputs.begin(), node.outputs.end(), [&](ValueId out) {
      return out == kNoValue || graph_[out].dtype == DType::boolean || is_integer(graph_[out].dtype);
    });
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
    const std::size_t first = graph_.nodes.size();
    append_copy(graph_, from_proto(proto), arguments, call.name + ".");
    process_from(first, versions, depth + 1);
  }

  // References to attributes of the function are replaced by the values of the call, or the default.
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
  UnsupportedOperators* unsupported_;  ///< null: operators without a row are kept
  ValueMap<bool> is_read_;             ///< of the values that existed before lifting
  std::vector<Node> after_;
  Containers containers_;
  std::unordered_map<ValueId, ValueId> replaced_;
  SpreadOutputs spread_;
  bool has_containers_;
  std::string current_;
  int depth_ = 0;
};

void lift(Graph& graph, UnsupportedOperators* unsupported) {
  register_schemas();
  Opsets versions = std::exchange(graph.opsets, {{std::string(kOnnxDomain), kOnnxOpset}});
  if (versions.contains(std::string(kOwnDomain))) graph.opsets[std::string(kOwnDomain)] = kOwnOpset;
  std::vector<std::tuple<ValueId, DType, Shape>> declared;
  for (ValueId out : graph.outputs) declared.emplace_back(out, graph[out].dtype, graph[out].shape);
  Lifter(graph, std::move(versions), unsupported).run();
  if (unsupported) unsupported->report();
  // If inference fails, the types of outputs in the file are used.
  for (auto& [id, dtype, shape] : declared) {
    Value& output = graph[id];
    if (output.dtype == DType::undefined) output.dtype = dtype;
    if (!output.shape.is_ranked()) output.shape = std::move(shape);
  }
  for (const State& state : graph.states)
    if (const std::string misfit = state_misfit(graph, state); !misfit.empty())
      throw_input_error("metadata of states that fit the graph", misfit,
                        "write the model again, or remove this metadata");
}

}  // namespace

void lift_operators(Graph& graph) { lift(graph, nullptr); }

void lift_to_supported(Graph& graph) {
  UnsupportedOperators unsupported;
  lift(graph, &unsupported);
}

}  // namespace halfstep
