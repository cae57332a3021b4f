#include <algorithm>
#include <numeric>

#include "graph/bodies.h"
#include "ops/control_flow/control_flow.h"
#include "ops/fold.h"
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
    if (shape[static_cast<std::size_t>(axis)] == 1) continue;
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
    const bool mask_read =
        node.output(1) != kNoValue && graph.use_counts()[static_cast<std::size_t>(node.output(1))] > 0;
    if (mask_read) return kNoValue;
    if (training == kNoValue) return in;
    if (graph[training].is_constant() && to_int64s(graph[training].constant)[0] == 0) return in;
  }
  return kNoValue;
}

// Two transpositions in a row are one.
void merge_transposes(Graph& graph) {
  const std::vector<std::int32_t> producers = graph.producers();
  for (Node& node : graph.nodes) {
    if (!node.is("Transpose")) continue;
    const std::int32_t p = producers[static_cast<std::size_t>(node.inputs[0])];
    if (p < 0 || !graph.nodes[static_cast<std::size_t>(p)].is("Transpose")) continue;
    const Node& first = graph.nodes[static_cast<std::size_t>(p)];
    const std::vector<std::int64_t> a = first.attributes.get_ints("perm"), b = node.attributes.get_ints("perm");
    if (a.empty() || a.size() != b.size()) continue;
    std::vector<std::int64_t> merged;
    for (std::int64_t axis : b) merged.push_back(a[static_cast<std::size_t>(axis)]);
    node.inputs[0] = first.inputs[0];
    node.attributes.set("perm", merged);
  }
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

void fold_all(Graph& graph, const NodeHook& before, Within within) {
  std::vector<ValueId> now(graph.values.size());
  std::iota(now.begin(), now.end(), 0);
  std::vector<Node> kept;
  kept.reserve(graph.nodes.size());
  for (Node& node : graph.nodes) {
    for (ValueId& in : node.inputs)
      if (in != kNoValue) in = now[static_cast<std::size_t>(in)];
    if (before) {
      before(graph, node);
      while (now.size() < graph.values.size()) now.push_back(static_cast<ValueId>(now.size()));
    }
    if (is_control_flow(node)) {
      infer_control_flow(graph, node);
      fold_bodies(graph, node);
    } else {
      infer_node(graph, node);
    }
    if (node.is("Transpose") && graph[node.inputs[0]].shape.is_static()) {
      // Explicit and, where it moves nothing, a Reshape: executors alias those.
      const Shape& shape = graph[node.inputs[0]].shape;
      std::vector<std::int64_t> perm = node.attributes.get_ints("perm");
      if (perm.empty())
        for (std::size_t i = shape.rank(); i-- > 0;) perm.push_back(static_cast<std::int64_t>(i));
      node.attributes.set("perm", perm);
      if (moves_nothing(perm, shape) && !is_identity_permutation(perm)) {
        node.op = "Reshape";
        node.attributes = {{"allowzero", std::int64_t{1}}};
        node.inputs.push_back(
            graph.add_constant(node.name + ".shape", Tensor::of(graph[node.outputs[0]].shape.dims())));
        now.push_back(node.inputs.back());
      }
    }
    if (fold(graph, node, within)) continue;
    const ValueId same = passed_on(graph, node);
    if (same != kNoValue && !graph.is_output(node.outputs[0])) {
      now[static_cast<std::size_t>(node.outputs[0])] = same;
      continue;
    }
    kept.push_back(std::move(node));
  }
  graph.nodes = std::move(kept);
  for (std::size_t i = 0; i < now.size(); ++i)
    if (now[i] != static_cast<ValueId>(i)) graph.replace_references(static_cast<ValueId>(i), now[i]);
}

void fold_graph(Graph& graph, const NodeHook& before, Within within) {
  fold_all(graph, before, within);
  merge_transposes(graph);
  graph.remove_dead();
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
