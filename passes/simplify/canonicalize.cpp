#include <algorithm>
#include <map>
#include <optional>
#include <utility>
#include <vector>

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

/// The right matrix of a product, or what it is the transposition of, as exporters write a layer's weights: Gemm
/// transposes by itself, and its gradient of the weights then lies as they do.
struct Factor {
  ValueId matrix;
  Attributes attributes = {};  ///< of the Gemm
};
Factor factor_of(const Graph& graph, ValueId id) {
  const Node* node = graph.producer(id);
  if (!node || !node->is("Transpose") || graph[id].shape.rank() != 2) return {id};
  const std::vector<std::int64_t> perm = node->attributes.get_ints("perm");
  if (perm == std::vector<std::int64_t>{0, 1}) return {id};
  return {node->inputs[0], {{"transB", std::int64_t{1}}}};
}

bool add_to_gemm(Graph& graph, const Match& found) {
  if (!is_bias_for(graph[found["bias"]], graph[found["product"]])) return false;
  const Factor b = factor_of(graph, found["b"]);
  const Graph::Edit gemm = graph.edit(found.root());
  gemm->op = "Gemm";
  gemm->attributes = b.attributes;
  gemm->inputs = {found["a"], b.matrix, found["bias"]};
  return true;
}

/// The node, which gives the result of a product of rows, becomes the Reshape of a Gemm of them.
void make_gemm_of_rows(Graph& graph, std::size_t node, ValueId a, ValueId right, ValueId bias) {
  const std::string name = graph.nodes[node].name;
  const Shape result = graph[graph.nodes[node].outputs[0]].shape;
  const std::int64_t columns = result.dim(-1), rows = result.count() / columns;
  const Factor factor = factor_of(graph, right);
  Builder b(graph);
  const Expr flat = b.reshape(b.expr(a), {rows, graph[right].shape[0]});
  std::vector<Expr> operands = {flat, b.expr(factor.matrix)};
  if (bias != kNoValue) operands.push_back(b.expr(bias));
  const Expr gemm = b.op("Gemm", operands, factor.attributes);
  graph.edit(static_cast<std::size_t>(graph.producer_index(gemm.id())))->name = name;
  const Expr extents = b.ints(result.dims());
  const Graph::Edit reshape = graph.edit(node);
  reshape->op = "Reshape";
  reshape->attributes = {};
  reshape->inputs = {gemm.id(), extents.id()};
}

bool add_to_gemm_of_rows(Graph& graph, const Match& found) {
  if (!is_bias_for(graph[found["bias"]], graph[found["product"]])) return false;
  make_gemm_of_rows(graph, found.root(), found["a"], found["b"], found["bias"]);
  return true;
}

// A product with transposed weights to which no bias is added; one with a bias becomes a Gemm with it.
bool transposed_to_gemm(Graph& graph, const Match& found) {
  const std::size_t product = found.root();
  const Value& result = graph[graph.nodes[product].outputs[0]];
  const Factor b = factor_of(graph, found["b"]);
  if (b.matrix == found["b"] || !is_float(result.dtype)) return false;
  // Of other matrices it may be a product of queries with keys.
  if (graph.state_of(b.matrix) < 0 && !graph[b.matrix].is_constant()) return false;
  if (const Use* use = graph.sole_user(graph.nodes[product].outputs[0]); use && graph.nodes[use->node].is("Add"))
    for (const ValueId addend : graph.nodes[use->node].inputs)
      if (is_bias_for(graph[addend], result)) return false;
  if (result.shape.rank() > 2) {
    make_gemm_of_rows(graph, product, found["a"], found["b"], kNoValue);
    return true;
  }
  const Graph::Edit gemm = graph.edit(product);
  gemm->op = "Gemm";
  gemm->attributes = b.attributes;
  gemm->inputs = {found["a"], b.matrix};
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

/// What a Slice takes, where that is known at compile: the elements [begin, end) along one axis, all along the others.
struct Piece {
  std::size_t axis = 0;
  std::int64_t begin = 0, end = 0;
};
std::optional<Piece> piece_of(const Graph& graph, const Node& slice) {
  const Shape &whole = graph[slice.inputs[0]].shape, &part = graph[slice.outputs[0]].shape;
  if (!whole.is_static() || !part.is_static() || part.count() == 0) return {};
  const auto ints = [&](std::size_t input) -> std::optional<std::vector<std::int64_t>> {
    const ValueId id = slice.input(input);
    if (id == kNoValue) return std::vector<std::int64_t>();
    if (!graph[id].is_constant()) return std::nullopt;
    return to_int64s(graph[id].constant);
  };
  const auto starts = ints(1), axes = ints(3), steps = ints(4);
  if (!starts || !axes || !steps || std::any_of(steps->begin(), steps->end(), [](auto step) { return step != 1; }))
    return {};
  std::optional<Piece> piece;
  for (std::size_t i = 0; i < starts->size(); ++i) {
    const std::size_t axis = normalize_axis(axes->empty() ? static_cast<std::int64_t>(i) : (*axes)[i], whole.rank());
    if (part[axis] == whole[axis]) continue;
    if (piece) return {};
    const std::int64_t start = (*starts)[i] < 0 ? (*starts)[i] + whole[axis] : (*starts)[i];
    const std::int64_t begin = std::clamp<std::int64_t>(start, 0, whole[axis]);
    piece = {axis, begin, begin + part[axis]};
  }
  return piece;
}

// Slices that cut a value into pieces, as the gates of a cell's weights: the gradient of a Split is one Concat, and
// theirs a sum of tensors that are mostly zeros.
bool slices_to_split(Graph& graph, const Match& found) {
  const ValueId whole = found["whole"];
  const auto first = piece_of(graph, graph.nodes[found.root()]);
  if (!first) return false;
  std::map<std::int64_t, std::pair<Piece, std::size_t>> pieces;  // by their begin, with the nodes
  for (const Use& use : graph.users(whole)) {
    const Node& node = graph.nodes[use.node];
    // One without an output was a piece of a Split along another axis.
    if (!node.is("Slice") || use.input != 0 || node.output(0) == kNoValue) continue;
    const auto piece = piece_of(graph, node);
    if (!piece || piece->axis != first->axis) continue;
    if (!pieces.try_emplace(piece->begin, *piece, use.node).second) return false;
  }
  std::int64_t end = 0;
  std::vector<std::int64_t> sizes;
  std::vector<ValueId> parts;
  for (const auto& [begin, entry] : pieces) {
    if (begin != end) return false;
    end = entry.first.end;
    sizes.push_back(end - begin);
    parts.push_back(graph.nodes[entry.second].outputs[0]);
  }
  if (end != graph[whole].shape[first->axis]) return false;
  for (const auto& [begin, entry] : pieces) graph.edit(entry.second)->outputs[0] = kNoValue;
  const Expr extents = Builder(graph).ints(sizes);
  const Graph::Edit split = graph.edit(found.root());
  split->op = "Split";
  split->attributes = {{"axis", static_cast<std::int64_t>(first->axis)}};
  split->inputs = {whole, extents.id()};
  split->outputs = std::move(parts);
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
      {{.ops = {"MatMul"}, .operands = {any("a"), any("b")}, .node = is_product_of_matrices}, transposed_to_gemm},
      {{.ops = {"MatMul"}, .operands = {any("a"), any("b")}, .node = is_product_of_rows}, transposed_to_gemm},
      {{.ops = {"Gather"}, .operands = {any("whole")}}, gathers_to_split},
      {{.ops = {"Slice"}, .operands = {any("whole")}}, slices_to_split},
  };
  return {"canonicalize", [rules](Graph& graph) {
            rewrite(graph, rules);
            graph.sort();
          }};
}

}  // namespace halfstep
