#include <algorithm>
#include <optional>

#include "passes/matcher.h"
#include <halfstep/ops/builder.h>
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

// One matrix on the right: the batch axes on the left are just more rows.
bool is_product_of_rows(const Graph& graph, const Node& product) {
  const Shape& result = graph[product.outputs[0]].shape;
  return result.is_static() && result.rank() > 2 && result.count() > 0 && graph[product.inputs[1]].shape.rank() == 2;
}

bool is_bias_for(const Value& bias, const Value& product) {
  if (!bias.shape.is_static() || bias.shape.rank() == 0 || bias.shape.rank() > 2) return false;
  const std::int64_t columns = product.shape.dim(-1);
  // Gemm of integers need not be the wrapping sum.
  return bias.shape.dim(-1) == columns && bias.shape.count() == columns && bias.dtype == product.dtype &&
         is_float(bias.dtype);
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

// The sum's node becomes the Reshape that gives it its axes back.
bool add_to_gemm_of_rows(Graph& graph, const Match& found) {
  const Value& product = graph[found["product"]];
  if (!is_bias_for(graph[found["bias"]], product)) return false;
  const std::size_t sum = found.root();
  const std::string name = graph.nodes[sum].name;
  const Shape result = product.shape;
  const std::int64_t columns = result.dim(-1), rows = result.count() / columns;
  Builder b(graph);
  const Expr flat = b.reshape(b.expr(found["a"]), {rows, graph[found["b"]].shape[0]});
  const Expr gemm = b.op("Gemm", {flat, b.expr(found["b"]), b.expr(found["bias"])});
  graph.edit(static_cast<std::size_t>(graph.producer_index(gemm.id())))->name = name;
  const Expr extents = b.ints(result.dims());
  const Graph::Edit reshape = graph.edit(sum);
  reshape->op = "Reshape";
  reshape->inputs = {gemm.id(), extents.id()};
  return true;
}

/// The index that a Gather takes, counted from the front, where it is one number known at compile, and the axis.
struct Taken {
  std::int64_t axis = 0, index = 0;
};
std::optional<Taken> taken_by(const Graph& graph, const Node& gather) {
  const Shape& shape = graph[gather.inputs[0]].shape;
  const Value& indices = graph[gather.inputs[1]];
  if (!shape.is_static() || shape.rank() == 0 || !indices.is_constant() || indices.shape.rank() != 0) return {};
  const auto rank = static_cast<std::int64_t>(shape.rank());
  std::int64_t axis = gather.attributes.get_int("axis", 0);
  if (axis < 0) axis += rank;
  const std::int64_t extent = shape[axis];
  std::int64_t index = to_int64s(indices.constant)[0];
  if (index < 0) index += extent;
  if (index < 0 || index >= extent) return {};
  return Taken{axis, index};
}

// Gathers that take every index of an axis once, as the three parts of an attention's product: the gradient of a Split
// is one Concat, and theirs a sum of tensors that are mostly zeros.
bool gathers_to_split(Graph& graph, const Match& found) {
  const ValueId whole = found["whole"];
  const auto first = taken_by(graph, graph.nodes[found.root()]);
  if (!first || graph.is_output(whole)) return false;
  const auto extent = static_cast<std::size_t>(graph[whole].shape[first->axis]);
  const std::span<const Use> users = graph.users(whole);
  if (extent < 2 || users.size() != extent) return false;
  std::vector<std::size_t> gather_of(extent, graph.nodes.size());
  for (const Use& use : users) {
    const Node& node = graph.nodes[use.node];
    const auto taken = node.is("Gather") && use.input == 0 ? taken_by(graph, node) : std::nullopt;
    if (!taken || taken->axis != first->axis || gather_of[taken->index] < graph.nodes.size()) return false;
    gather_of[taken->index] = use.node;
  }
  Builder b(graph);
  const std::vector<Expr> parts = b.multi("Split", kOnnxDomain, {b.expr(whole)}, extent,
                                          {{"axis", first->axis}, {"num_outputs", static_cast<std::int64_t>(extent)}});
  const Expr axis = b.ints({first->axis});
  for (std::size_t i = 0; i < extent; ++i) {
    const Graph::Edit squeeze = graph.edit(gather_of[i]);
    squeeze->op = "Squeeze";
    squeeze->attributes = {};
    squeeze->inputs = {parts[i].id(), axis.id()};
  }
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
  const Pattern rows{
      .name = "product", .ops = {"MatMul"}, .once = true, .operands = {any("a"), any("b")}, .node = is_product_of_rows};
  const std::vector<Rule> rules = {
      {{.ops = {"MaxPool"}, .operands = {relu}, .node = pools_elements}, pool_before_relu},
      {{.ops = {"Add"}, .commutes = true, .operands = {product, any("bias")}}, add_to_gemm},
      {{.ops = {"Add"}, .commutes = true, .operands = {rows, any("bias")}}, add_to_gemm_of_rows},
      {{.ops = {"Gather"}, .operands = {any("whole")}}, gathers_to_split},
  };
  return {"canonicalize", [rules](Graph& graph) {
            rewrite(graph, rules);
            graph.sort();
          }};
}

}  // namespace halfstep
