// Fused operators, where the executor has them.
#include <iterator>

#include "ops/epilogue.h"
#include "passes/fuse/fuse_gemm_training.h"
#include "passes/matcher.h"
#include <halfstep/ops/infer.h>
#include <halfstep/passes/passes.h>

namespace halfstep {
namespace {

std::string own(const std::string& op) { return std::string(kOwnDomain) + "." + op; }

bool has_activation(const Node& node) { return !node.attributes.get_string("activation", "").empty(); }
bool has_type(const Node& node) { return node.attributes.get_int("to", 0) != 0; }

// Rules are filled in by statements: what GCC 12 makes of nested braces crashes when an allocation within them fails.

// What `fusion` computes first, read by nothing but what follows in the pattern.
Pattern first_of(const Fusion& fusion, std::function<bool(const Graph&, const Node&)> holds) {
  Pattern first;
  first.name = "first";
  first.ops.push_back(own(fusion.fused));
  first.once = true;
  first.node = std::move(holds);
  if (!fusion.op.empty()) first.ops.push_back(fusion.op);
  return first;
}

// The node `first` takes what the matched one does upon itself, which `attributes` say.
bool absorb(Graph& graph, const Match& found, const std::string& fused, const Attributes& attributes) {
  if (attributes.empty()) return false;
  const auto first = static_cast<std::size_t>(graph.producer_index(found["first"]));
  const ValueId result = graph.nodes[found.root()].outputs[0];
  graph.edit(found.root())->outputs.clear();
  const Graph::Edit node = graph.edit(first);
  node->op = fused;
  node->domain = kOwnDomain;
  for (const auto& [name, value] : attributes) node->attributes.set(name, value);
  node->outputs[0] = result;
  infer_node(graph, *node);
  return true;
}

// A result's activation; an activation behind the Cast to another type is none.
Rule activation_rule(const Fusion& fusion) {
  const auto is_plain = [](const Graph& graph, const Node& node) {
    return !has_activation(node) && !has_type(node) && is_float(graph[node.outputs[0]].dtype);
  };
  Rule rule;
  rule.before.ops = fusion.activations;
  rule.before.operands.push_back(first_of(fusion, is_plain));
  rule.apply = [fused = fusion.fused](Graph& graph, const Match& found) {
    return absorb(graph, found, fused, ops::epilogue_attributes(graph, graph.nodes[found.root()]));
  };
  return rule;
}

bool widens(const Graph& graph, const Node& cast) {
  return graph[cast.outputs[0]].dtype == DType::f32 && is_half(graph[cast.inputs[0]].dtype);
}
bool is_untyped(const Graph&, const Node& node) { return !has_type(node); }

// Cast(product in half) to f32: the product is accumulated in f32 anyway.
Rule cast_rule(const Fusion& fusion) {
  Rule rule;
  rule.before.ops.push_back("Cast");
  rule.before.operands.push_back(first_of(fusion, is_untyped));
  rule.before.node = widens;
  rule.apply = [fused = fusion.fused](Graph& graph, const Match& found) {
    return absorb(graph, found, fused, {{"to", static_cast<std::int64_t>(DType::f32)}});
  };
  return rule;
}

// The same behind a Reshape, which the Cast becomes.
Rule cast_behind_reshape_rule(const Fusion& fusion) {
  Pattern between;
  between.name = "reshaped";
  between.ops.push_back("Reshape");
  between.once = true;
  between.operands.push_back(first_of(fusion, is_untyped));
  Rule rule;
  rule.before.ops.push_back("Cast");
  rule.before.operands.push_back(std::move(between));
  rule.before.node = widens;
  rule.apply = [fused = fusion.fused](Graph& graph, const Match& found) {
    const auto first = static_cast<std::size_t>(graph.producer_index(found["first"]));
    const Node& reshape = *graph.producer(found["reshaped"]);
    const Attributes attributes = reshape.attributes;
    const ValueId extents = reshape.inputs[1];
    const ValueId wide = graph.add_value(graph.nodes[first].name, DType::f32, graph[found["first"]].shape);
    const Graph::Edit product = graph.edit(first);
    product->op = fused;
    product->domain = kOwnDomain;
    product->attributes.set("to", static_cast<std::int64_t>(DType::f32));
    product->outputs[0] = wide;
    infer_node(graph, *product);
    const Graph::Edit cast = graph.edit(found.root());
    cast->op = "Reshape";
    cast->attributes = attributes;
    cast->inputs = {wide, extents};
    cast->forward = kNoNode;
    return true;
  };
  return rule;
}

// What is added to a normalization or a convolution, as in a residual network. It may be computed behind that node, so
// that the nodes are to be sorted afterwards.
Rule addition_rule(const Fusion& fusion, std::size_t place) {
  const auto is_plain = [place](const Graph&, const Node& node) {
    return !has_activation(node) && node.input(place) == kNoValue;
  };
  Rule rule;
  rule.before.ops.push_back("Add");
  rule.before.commutes = true;
  rule.before.operands.push_back(first_of(fusion, is_plain));
  rule.before.operands.push_back(any("residual"));
  rule.apply = [fused = fusion.fused, place](Graph& graph, const Match& found) {
    const ValueId result = graph.nodes[found.root()].outputs[0], residual = found["residual"];
    for (const ValueId operand : {residual, found["first"]})  // neither is broadcast
      if (graph[operand].shape != graph[result].shape || graph[operand].dtype != graph[result].dtype) return false;
    const auto first = static_cast<std::size_t>(graph.producer_index(found["first"]));
    // What is computed of its other results comes behind, and so is no part of the residual.
    const std::vector<ValueId>& outputs = graph.nodes[first].outputs;
    for (std::size_t i = 1; i < outputs.size(); ++i)
      for (const Use& use : graph.users(outputs[i]))
        if (use.node < found.root()) return false;
    graph.edit(found.root())->outputs.clear();
    const Graph::Edit node = graph.edit(first);
    node->op = fused;
    node->domain = kOwnDomain;
    node->inputs.resize(place + 1, kNoValue);
    node->inputs[place] = residual;
    node->outputs[0] = result;
    return true;
  };
  return rule;
}

// BatchNormalizationGrad of the gradient of the activation that follows the normalization. It computes what the
// activation saw from X again, so that nobody reads what lies between normalization and activation.
Rule normalization_grad_rule(const Fusion& fusion) {
  std::vector<std::string> gradients;
  for (const std::string& activation : fusion.activations) gradients.push_back(own(activation + "Grad"));
  Rule rule;
  rule.before.ops.push_back(own("BatchNormalizationGrad"));
  Pattern& activation_grad = rule.before.operands.emplace_back();
  activation_grad.name = "before";
  activation_grad.ops = gradients;
  activation_grad.once = true;
  activation_grad.operands.push_back(any("gradient"));
  activation_grad.operands.push_back(any("seen"));
  rule.apply = [](Graph& graph, const Match& found) {
    // ClipGrad reads Clip's operand, ReluGrad reads Relu's result.
    const Node* normalization = graph.producer(found["seen"]);
    if (normalization && graph.producer(found["before"])->is_own("ReluGrad"))
      normalization = normalization->is("Relu") ? graph.producer(normalization->inputs[0]) : nullptr;
    const NodeId forward = graph.nodes[found.root()].forward;
    if (forward == kNoNode || !normalization || normalization->id != forward) return false;
    const Attributes attributes = ops::epilogue_attributes(graph, *graph.producer(found["before"]));
    if (attributes.empty()) return false;
    const Graph::Edit grad = graph.edit(found.root());
    grad->inputs.resize(6, kNoValue);
    grad->inputs[0] = found["gradient"];
    grad->inputs[5] = normalization->inputs[2];
    for (const auto& [name, value] : attributes) grad->attributes.set(name, value);
    return true;
  };
  return rule;
}

}  // namespace

Pass fuse(std::vector<Fusion> fusions) {
  std::vector<Rule> backward, additions, forward, training;
  for (const Fusion& fusion : fusions) {
    if (fusion.op == "BatchNormalization") backward.push_back(normalization_grad_rule(fusion));
    std::vector<Rule> rules = gemm_training_rules(fusion);
    if (rules.empty() && !fusion.activations.empty()) forward.push_back(activation_rule(fusion));
    if (fusion.adds) additions.push_back(addition_rule(fusion, ops::addition_operand(fusion.fused)));
    training.insert(training.end(), std::make_move_iterator(rules.begin()), std::make_move_iterator(rules.end()));
    if (fusion.widens) {
      forward.push_back(cast_rule(fusion));
      forward.push_back(cast_behind_reshape_rule(fusion));
    }
  }
  return {"fuse", [=](Graph& graph) {
            rewrite(graph, backward);  // first: what it leaves unread the forward rules may take
            if (!additions.empty()) {
              rewrite(graph, additions);
              graph.sort();
            }
            rewrite(graph, forward);
            rewrite(graph, training);
          }};
}

}  // namespace halfstep
