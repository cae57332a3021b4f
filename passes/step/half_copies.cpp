// Parameters that are read in a half type are kept in it, too: an optimizer writes both at once.
#include <map>
#include <utility>
#include <vector>

#include "graph/placeholder.h"
#include "passes/step/step_writing.h"
#include <halfstep/ops/builder.h>
#include <halfstep/passes/passes.h>

namespace halfstep {
namespace {

/// Whether a node casts a parameter to a half type.
bool narrows_parameter(const Graph& graph, const Node& node) {
  if (!node.is("Cast") || !is_half(graph[node.outputs[0]].dtype)) return false;
  const std::ptrdiff_t state = graph.state_of(node.inputs[0]);
  return state >= 0 && graph.states[state].role == StateRole::parameter;
}

void keep(Graph& graph) {
  std::map<std::pair<ValueId, DType>, ValueId> copies;
  for (const State& state : graph.states)
    if (state.role == StateRole::copy) copies[{state.source, graph[state.value].dtype}] = state.value;
  std::vector<bool> gone(graph.nodes.size(), false);
  for (std::size_t n = 0; n < gone.size(); ++n) {
    const Node& node = graph.nodes[n];
    if (!narrows_parameter(graph, node)) continue;
    const ValueId parameter = node.inputs[0], half = node.outputs[0];
    const DType dtype = graph[half].dtype;
    const auto [copy, is_new] = copies.try_emplace({parameter, dtype}, kNoValue);
    if (is_new) copy->second = add_half_copy(graph, parameter, dtype);
    graph.replace_uses(half, copy->second);
    gone[n] = true;
  }
  graph.remove_nodes(gone);
  Builder b(graph);
  b.set_context("half_copies");
  for (std::size_t s = 0; s < graph.states.size(); ++s) {
    const State copy = graph.states[s];
    if (copy.role != StateRole::copy || copy.next != kNoValue) continue;
    const State& source = graph.states[graph.state_of(copy.source)];
    if (source.next == kNoValue || source.next == source.value) continue;
    graph.states[s].next = b.cast(b.expr(source.next), graph[copy.value].dtype).id();
  }
}

}  // namespace

ValueId add_half_copy(Graph& graph, ValueId parameter, DType dtype) {
  const Value& value = graph[parameter];
  const std::string name = value.name + "." + std::string(name_of(dtype));
  const ValueId copy = graph.add_state(name, zeros_of(dtype, value.shape), StateRole::copy);
  graph.states.back().source = parameter;
  return copy;
}

Pass keep_half_copies() { return {"keep_half_copies", keep}; }

}  // namespace halfstep
