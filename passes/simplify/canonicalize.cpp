#include <algorithm>

#include "passes/matcher.h"
#include <halfstep/passes/passes.h>

namespace halfstep {
namespace {

// Whether every window looks at an element: of padding alone the maximum is -infinity, and Relu of that is not.
bool pools_elements(const Graph&, const Node& pool) {
  const std::vector<std::int64_t> pads = pool.attributes.get_ints("pads");
  const std::string auto_pad = pool.attributes.get_string("auto_pad", "NOTSET");
  return pool.output(1) == kNoValue && (auto_pad == "NOTSET" || auto_pad == "VALID") &&
         std::all_of(pads.begin(), pads.end(), [](std::int64_t pad) { return pad == 0; });
}

bool follows_normalization(const Graph& graph, ValueId id) {
  const Node* node = graph.producer(id);
  return node && node->is("BatchNormalization");
}

bool is_product_of_matrices(const Graph& graph, const Node& product) {
  const Shape& result = graph[product.outputs[0]].shape;
  return result.is_static() && result.rank() == 2 && graph[product.inputs[0]].shape.rank() == 2 &&
         graph[product.inputs[1]].shape.rank() == 2;
}

bool is_bias_for(const Value& bias, const Value& product) {
  if (!bias.shape.is_static() || bias.shape.rank() == 0 || bias.shape.rank() > 2) return false;
  const std::int64_t columns = product.shape[1];
  return bias.shape.dim(-1) == columns && bias.shape.count() == columns && bias.dtype == product.dtype;
}

// MaxPool of Relu is Relu of MaxPool: the places of what is above 0 stay, and the rest has no gradient. Relu then has
// fewer elements, and so has its gradient. A normalization's Relu stays, since the two are one kernel.
bool pool_before_relu(Graph& graph, const Match& found) {
  const ValueId between = found["positive"];
  const Graph::Edit relu = graph.edit(static_cast<std::size_t>(graph.producer_index(between))),
                    pool = graph.edit(found.root());
  std::swap(relu->op, pool->op);
  std::swap(relu->attributes, pool->attributes);
  std::swap(relu->name, pool->name);
  graph[between].shape = graph[pool->outputs[0]].shape;
  return true;
}

bool add_to_gemm(Graph& graph, const Match& found) {
  if (!is_bias_for(graph[found["bias"]], graph[found["product"]])) return false;
  const Graph::Edit gemm = graph.edit(found.root());
  gemm->op = "Gemm";
  gemm->inputs = {found["a"], found["b"], found["bias"]};
  return true;
}

}  // namespace

Pass canonicalize() {
  const Pattern before_relu{.value = [](const Graph& graph, ValueId id) { return !follows_normalization(graph, id); }};
  const Pattern relu{.name = "positive", .ops = {"Relu"}, .once = true, .operands = {before_relu}};
  const Pattern product{.name = "product",
                        .ops = {"MatMul"},
                        .once = true,
                        .operands = {any("a"), any("b")},
                        .node = is_product_of_matrices};
  const std::vector<Rule> rules = {
      {{.ops = {"MaxPool"}, .operands = {relu}, .node = pools_elements}, pool_before_relu},
      {{.ops = {"Add"}, .commutes = true, .operands = {product, any("bias")}}, add_to_gemm},
  };
  return {"canonicalize", [rules](Graph& graph) { rewrite(graph, rules); }};
}

}  // namespace halfstep
