#include "passes/fuse/fuse_gemm_training.h"

#include <algorithm>
#include <optional>

#include "ops/epilogue.h"

namespace halfstep {
namespace {

/// The operator with its variant, as an executor lists it.
std::string variant_of(const Node& node) {
  const std::string approximate = node.attributes.get_string("approximate", "none");
  return approximate == "none" ? node.op : node.op + "(" + approximate + ")";
}

/// Makes a product, whose addend has no factor, the operator `op`, with an epilogue.
void set_epilogue(Node& node, const std::string& op, const Attributes& epilogue) {
  node.domain = kOwnDomain;
  node.op = op;
  node.attributes.remove("beta");
  for (const auto& [name, value] : epilogue) node.attributes.set(name, value);
}

bool is_matrix(const Graph& graph, ValueId id) { return graph[id].shape.is_static() && graph[id].shape.rank() == 2; }

/// What `id` is the Reshape of, where it is one; else `id`.
ValueId before_reshape(const Graph& graph, ValueId id) {
  const Node* node = graph.producer(id);
  return node && node->is("Reshape") ? node->inputs[0] : id;
}

/// The product of two matrices and nothing more that gives `id`, as an index.
std::optional<std::size_t> plain_product(const Graph& graph, ValueId id) {
  const Node* node = graph.producer(id);
  if (!node || !is_matrix(graph, id) || !(node->is("Gemm") || node->is_own("FusedGemm"))) return std::nullopt;
  if (!node->attributes.get_string("activation", "").empty() || node->attributes.get_int("to", 0) != 0)
    return std::nullopt;
  return static_cast<std::size_t>(graph.producer_index(id));
}

/// The first result of node `into` takes the place of the activation's, behind a Reshape like the one that gave
/// `operand` of `product`, if there was one.
void take_result(Graph& graph, std::size_t activation, ValueId operand, ValueId product, std::size_t into) {
  const ValueId result = graph.nodes[activation].outputs[0];
  if (operand == product) {
    graph.edit(activation)->outputs.clear();
    graph.edit(into)->outputs[0] = result;
    return;
  }
  ValueId made = graph.nodes[into].outputs[0];
  if (made == kNoValue) {
    made = graph.add_value(graph.nodes[into].name, graph[product].dtype, graph[product].shape);
    graph.edit(into)->outputs[0] = made;
  }
  const ValueId extents = graph.producer(operand)->inputs[1];
  const Attributes attributes = graph.producer(operand)->attributes;
  const Graph::Edit reshape = graph.edit(activation);
  reshape->op = "Reshape";
  reshape->domain = kOnnxDomain;
  reshape->inputs = {made, extents};
  reshape->attributes = attributes;
  reshape->forward = kNoNode;
}

/// An activation whose operand its gradient reads, too, or that comes behind a Reshape of the product.
Rule activation_rule(const Fusion& fusion) {
  Rule rule;
  rule.before.ops.push_back("Gelu");
  rule.before.operands.push_back(any("operand"));
  rule.apply = [fusion](Graph& graph, const Match& found) {
    const std::size_t activation = found.root();
    const ValueId operand = found["operand"], product = before_reshape(graph, operand);
    const std::optional<std::size_t> gemm = plain_product(graph, product);
    if (!gemm || std::ranges::count(fusion.activations, variant_of(graph.nodes[activation])) == 0) return false;
    const Node& node = graph.nodes[*gemm];
    const ValueId bias = node.input(2);
    if (node.attributes.get_float("beta", 1) != 1) return false;
    if (bias != kNoValue &&
        (graph[bias].shape != Shape{graph[product].shape[1]} || graph[bias].dtype != graph[product].dtype))
      return false;
    const Attributes epilogue = ops::epilogue_attributes(graph, graph.nodes[activation]);
    const bool is_read = !graph.sole_user(operand) || (operand != product && !graph.sole_user(product));
    {
      const Graph::Edit edit = graph.edit(*gemm);
      set_epilogue(*edit, fusion.fused, epilogue);
      edit->outputs = {kNoValue};
      if (is_read) edit->outputs.push_back(product);
    }
    take_result(graph, activation, operand, product, *gemm);
    if (!is_read && operand != product)
      graph.edit(static_cast<std::size_t>(graph.producer_index(operand)))->outputs.clear();
    return true;
  };
  return rule;
}

/// The gradient of an activation behind the product that gives the gradient of its result.
Rule activation_grad_rule(const Fusion& fusion) {
  Rule rule;
  rule.before.ops.push_back(std::string(kOwnDomain) + ".GeluGrad");
  rule.before.operands.push_back(any("gradient"));
  rule.before.operands.push_back(any("operand"));
  rule.apply = [fusion](Graph& graph, const Match& found) {
    const std::size_t slope = found.root();
    const ValueId gradient = found["gradient"], product = before_reshape(graph, gradient);
    const std::optional<std::size_t> gemm = plain_product(graph, product);
    std::string variant = variant_of(graph.nodes[slope]);
    variant.erase(variant.find("Grad"), 4);
    if (!gemm || graph.nodes[*gemm].input(2) != kNoValue || std::ranges::count(fusion.activations, variant) == 0)
      return false;
    if (!graph.sole_user(gradient) || (gradient != product && !graph.sole_user(product))) return false;
    ValueId operand = found["operand"];
    if (graph[operand].shape != graph[product].shape) operand = before_reshape(graph, operand);
    if (graph[operand].shape != graph[product].shape || graph[operand].dtype != graph[product].dtype ||
        graph.producer_index(operand) >= static_cast<std::ptrdiff_t>(*gemm))
      return false;
    const Attributes epilogue = ops::epilogue_attributes(graph, graph.nodes[slope]);
    {
      const Graph::Edit edit = graph.edit(*gemm);
      set_epilogue(*edit, fusion.fused, epilogue);
      edit->inputs = {edit->inputs[0], edit->inputs[1], operand};
    }
    take_result(graph, slope, gradient, product, *gemm);
    return true;
  };
  return rule;
}

bool reads_after(const Graph& graph, ValueId id, std::size_t node) {
  return std::ranges::all_of(graph.users(id), [&](const Use& use) { return use.node > node; });
}

/// The sums of a matrix' columns, which are a bias' gradient, beside the product that gives the weights' gradient.
Rule sums_rule(const Fusion& fusion) {
  Rule rule;
  rule.before.ops.push_back("ReduceSum");
  rule.before.operands.push_back(any("rows"));
  rule.apply = [fused = fusion.fused](Graph& graph, const Match& found) {
    const std::size_t sum = found.root();
    const Node& node = graph.nodes[sum];
    const ValueId rows = found["rows"], axes = node.input(1);
    if (!is_matrix(graph, rows) || node.attributes.get_int("keepdims", 1) != 0 || axes == kNoValue ||
        !graph[axes].is_constant() || to_int64s(graph[axes].constant) != std::vector<std::int64_t>{0})
      return false;
    for (const Use& use : graph.users(rows)) {
      const Node& gemm = graph.nodes[use.node];
      if (!gemm.is_own("FusedGemm") || gemm.input(2) != kNoValue || use.input > 1 ||
          !gemm.attributes.get_string("activation", "").empty() || gemm.inputs[0] == gemm.inputs[1])
        continue;
      const std::int64_t transposed_a = gemm.attributes.get_int("transA", 0),
                         transposed_b = gemm.attributes.get_int("transB", 0);
      if (use.input == 0 ? transposed_a == 0 : transposed_b != 0) continue;  // rows are what is summed over
      // The result's type: that of the sum, or of the Cast that alone reads it.
      ValueId result = node.outputs[0];
      const DType to = graph[gemm.outputs[0]].dtype;
      std::size_t cast = sum;
      if (graph[result].dtype != to) {
        const Use* user = graph.sole_user(result);
        if (!user || !graph.nodes[user->node].is("Cast")) continue;
        cast = user->node;
        result = graph.nodes[cast].outputs[0];
      }
      if (graph[result].dtype != to || !reads_after(graph, result, use.node)) continue;
      const std::size_t product = use.node;
      const bool is_a = use.input == 0;
      graph.edit(sum)->outputs.clear();
      graph.edit(cast)->outputs.clear();
      const Graph::Edit edit = graph.edit(product);
      edit->op = fused;
      edit->attributes.remove("beta");
      edit->attributes.set("operand", std::string(is_a ? "A" : "B"));
      edit->outputs.push_back(result);
      return true;
    }
    return false;
  };
  return rule;
}

}  // namespace

std::vector<Rule> gemm_training_rules(const Fusion& fusion) {
  if (fusion.fused == "GemmActivation") return {activation_rule(fusion)};
  if (fusion.fused == "GemmActivationGrad") return {activation_grad_rule(fusion)};
  if (fusion.fused == "GemmSums") return {sums_rule(fusion)};
  return {};
}

}  // namespace halfstep
