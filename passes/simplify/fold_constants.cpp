#include <algorithm>

#include "graph/bodies.h"
#include "ops/control_flow/control_flow.h"
#include "ops/fold.h"
#include "passes/matcher.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/infer.h>
#include <halfstep/ops/op_traits.h>
#include <halfstep/passes/passes.h>

namespace halfstep {
namespace {

bool is_identity_permutation(const std::vector<std::int64_t>& perm) {
  for (std::size_t i = 0; i < perm.size(); ++i)
    if (perm[i] != static_cast<std::int64_t>(i)) return false;
  return !perm.empty();
}

// A transposition that moves no element: axes of extent 1 may wander.
bool moves_nothing(const std::vector<std::int64_t>& perm, const Shape& shape) {
  std::int64_t last = -1;
  for (std::int64_t axis : perm) {
    if (shape[axis] == 1) continue;
    if (axis < last) return false;
    last = axis;
  }
  return true;
}

/// The input that `node` merely passes on, or kNoValue.
ValueId passed_on(const Graph& graph, const Node& node) {
  if (!node.domain.empty() || node.outputs.empty() || node.outputs[0] == kNoValue || node.inputs.empty())
    return kNoValue;
  const ValueId in = node.inputs[0];
  if (in == kNoValue) return kNoValue;
  const Value& from = graph[in];
  const Value& to = graph[node.outputs[0]];
  const Movement movement = traits_of(node).movement;
  if (movement == Movement::identity) return in;
  if (from.dtype != to.dtype || !from.shape.is_static() || from.shape != to.shape) return kNoValue;
  if (movement == Movement::convert || movement == Movement::reshape || movement == Movement::repeat) return in;
  if (movement == Movement::permute && is_identity_permutation(node.attributes.get_ints("perm"))) return in;
  if (movement == Movement::join && node.inputs.size() == 1) return in;
  if (node.op == "Pad") {
    const ValueId pads = node.input(1);
    if (pads != kNoValue && graph[pads].is_constant()) {
      const std::vector<std::int64_t> values = to_int64s(graph[pads].constant);
      if (std::all_of(values.begin(), values.end(), [](std::int64_t p) { return p == 0; })) return in;
    }
  }
  if (node.op == "Slice") {  // the same extents, so only a reversing step could change anything
    const ValueId steps = node.input(4);
    if (steps == kNoValue) return in;
    if (graph[steps].is_constant()) {
      const std::vector<std::int64_t> values = to_int64s(graph[steps].constant);
      if (std::all_of(values.begin(), values.end(), [](std::int64_t s) { return s > 0; })) return in;
    }
  }
  if (node.op == "Dropout") {
    const ValueId training = node.input(2);
    if (graph.is_read(node.output(1))) return kNoValue;
    if (training == kNoValue) return in;
    if (graph[training].is_constant() && to_int64s(graph[training].constant)[0] == 0) return in;
  }
  return kNoValue;
}

// Two transpositions in a row are one.
bool merge_transposes(Graph& graph, const Match& found) {
  const Graph::Edit node = graph.edit(found.root());
  const std::vector<std::int64_t> a = graph.producer(found["first"])->attributes.get_ints("perm"),
                                  b = node->attributes.get_ints("perm");
  if (a.empty() || a.size() != b.size()) return false;
  std::vector<std::int64_t> merged;
  for (std::int64_t axis : b) merged.push_back(a[axis]);
  node->inputs[0] = found["x"];
  node->attributes.set("perm", merged);
  return true;
}

void fold_bodies(const Graph& graph, Node& node);

// A body need not run: what fails in it when folded fails if and when it runs.
enum class Within { graph, body };

bool fold(Graph& graph, const Node& node, Within within) {
  if (within == Within::graph) return fold_node(graph, node);
  try {
    return fold_node(graph, node);
  } catch (const Error&) {
    return false;
  }
}

// Infers the node, and gives it the form that executors expect.
void prepare(Graph& graph, Node& node, const NodeHook& before) {
  if (before) before(graph, node);
  if (is_control_flow(node)) {
    infer_control_flow(graph, node);
    fold_bodies(graph, node);
  } else {
    infer_node(graph, node);
  }
  if (!node.is("Transpose") || !graph[node.inputs[0]].shape.is_static()) return;
  // Explicit and, where it moves nothing, a Reshape: executors alias those.
  const Shape& shape = graph[node.inputs[0]].shape;
  std::vector<std::int64_t> perm = node.attributes.get_ints("perm");
  if (perm.empty())
    for (std::size_t i = shape.rank(); i-- > 0;) perm.push_back(static_cast<std::int64_t>(i));
  node.attributes.set("perm", perm);
  if (!moves_nothing(perm, shape) || is_identity_permutation(perm)) return;
  node.op = "Reshape";
  node.attributes = {{"allowzero", std::int64_t{1}}};
  node.inputs.push_back(graph.add_constant(node.name + ".shape", Tensor::of(graph[node.outputs[0]].shape.dims())));
}

void fold_all(Graph& graph, const NodeHook& before, Within within) {
  std::vector<bool> gone(graph.nodes.size(), false);
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    {
      const Graph::Edit node = graph.edit(n);
      prepare(graph, *node, before);
    }
    const Node& node = graph.nodes[n];
    gone[n] = fold(graph, node, within);
    if (gone[n]) continue;
    const ValueId same = passed_on(graph, node);
    gone[n] = same != kNoValue && !graph.is_output(node.outputs[0]);
    if (gone[n]) graph.replace_uses(node.outputs[0], same);
  }
  graph.remove_nodes(gone);
}

void fold_graph(Graph& graph, const NodeHook& before, Within within) {
  fold_all(graph, before, within);
  const Pattern first{.name = "first", .ops = {"Transpose"}, .operands = {any("x")}};
  rewrite(graph, {{{.ops = {"Transpose"}, .operands = {first}}, merge_transposes}});
}

void fold_bodies(const Graph& graph, Node& node) {
  change_bodies(node, [&](Graph& body) {
    copy_small_constants(graph, node, body, /*only_integers=*/false);
    try {
      fold_graph(body, {}, Within::body);
    } catch (const Error& error) {
      // What does not fit in a branch matters if it is taken.
      if (!node.is("If") || error.kind() != Error::Kind::input) throw;
      make_failing(body, error);
    }
  });
  drop_unread_captures(node);
}

}  // namespace

Pass fold_constants(NodeHook before) {
  return {"fold_constants", [before = std::move(before)](Graph& graph) { fold_graph(graph, before, Within::graph); }};
}

}  // namespace halfstep
