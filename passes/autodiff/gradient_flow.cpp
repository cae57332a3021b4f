#include "passes/autodiff/gradient_flow.h"

#include <algorithm>
#include <optional>
#include <set>

#include <fmt/format.h>

#include "graph/abridged.h"
#include "passes/load/model_facts.h"
#include <halfstep/ops/op_def.h>

namespace halfstep {
namespace {

using Flags = ValueMap<bool>;
bool get(const Flags& flags, ValueId id) { return id != kNoValue && flags[id]; }
void set(Flags& flags, ValueId id) {
  if (id != kNoValue) flags[id] = true;
}
bool any(const Flags& flags, const std::vector<ValueId>& ids) {
  return std::any_of(ids.begin(), ids.end(), [&](ValueId id) { return get(flags, id); });
}

bool gives_floats(const Graph& graph, ValueId id) { return id != kNoValue && is_float(graph[id].dtype); }

// Whether a change of the operand changes the result smoothly.
bool passes_gradient(const Graph& graph, const Node& node, std::size_t input) {
  const OpDef* row = find_op(node.op, node.domain);
  return gives_floats(graph, node.inputs[input]) && !is_setting(node, input) && !(row && row->has_zero_gradient()) &&
         std::any_of(node.outputs.begin(), node.outputs.end(), [&](ValueId out) { return gives_floats(graph, out); });
}

// What the targets depend on: all of it, or only what a gradient reaches.
Flags needed_for(const Graph& graph, const std::vector<ValueId>& targets, bool by_gradient) {
  Flags needed(graph.values.size(), false);
  for (ValueId id : targets)
    if (!by_gradient || gives_floats(graph, id)) set(needed, id);
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
    if (!any(needed, node->outputs)) continue;
    for (std::size_t i = 0; i < node->inputs.size(); ++i)
      if (!by_gradient || passes_gradient(graph, *node, i)) set(needed, node->inputs[i]);
  }
  for (const State& state : graph.states)  // a copy is the Cast of its parameter
    if (state.role == StateRole::copy && get(needed, state.value)) set(needed, state.source);
  return needed;
}

// The first operators that no gradient passes, on the ways from a parameter to what is needed.
std::vector<std::size_t> ends_of(const Graph& graph, ValueId parameter, const Flags& needed) {
  Flags reached(graph.values.size(), false);
  set(reached, parameter);
  for (const State& state : graph.states)
    if (state.role == StateRole::copy && state.source == parameter) set(reached, state.value);
  std::vector<std::size_t> ends;
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    if (!any(needed, node.outputs)) continue;
    bool passes = false, ends_here = false;
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      if (!get(reached, node.inputs[i])) continue;
      (passes_gradient(graph, node, i) ? passes : ends_here) = true;
    }
    if (ends_here) ends.push_back(n);
    if (passes)
      for (ValueId out : node.outputs) set(reached, out);
  }
  return ends;
}

}  // namespace

std::vector<std::size_t> blocking_nodes(const Graph& graph) {
  Flags reached(graph.values.size(), false), wanted(graph.values.size(), false);
  for (const State& state : graph.states)
    if (state.role == StateRole::parameter) set(reached, state.value);
  for (const Node& node : graph.nodes) {
    if (!any(reached, node.inputs)) continue;
    for (ValueId out : node.outputs)
      if (gives_floats(graph, out)) set(reached, out);
  }
  for (ValueId id : graph.outputs) set(wanted, id);
  std::vector<std::size_t> blocking;
  for (std::size_t i = graph.nodes.size(); i-- > 0;) {
    const Node& node = graph.nodes[i];
    const auto is_live = [&](ValueId id) { return get(reached, id) && get(wanted, id); };
    if (std::none_of(node.outputs.begin(), node.outputs.end(), is_live)) continue;
    const OpDef* row = find_op(node.op, node.domain);
    if (row && row->has_zero_gradient()) continue;
    if (!row || !row->gradient) blocking.push_back(i);
    for (ValueId in : node.inputs) set(wanted, in);
  }
  std::reverse(blocking.begin(), blocking.end());
  return blocking;
}

std::vector<CutOff> cut_off_parameters(const Graph& graph, const std::vector<ValueId>& targets) {
  const Flags with_gradient = needed_for(graph, targets, true);
  std::vector<CutOff> cut_off;
  std::optional<Flags> needed;
  for (const State& state : graph.states) {
    if (state.role != StateRole::parameter || get(with_gradient, state.value)) continue;
    if (!needed) needed = needed_for(graph, targets, false);
    cut_off.push_back({state.value, ends_of(graph, state.value, *needed)});
  }
  return cut_off;
}

std::string describe_cut_off(const Graph& graph, const std::vector<CutOff>& parameters) {
  if (parameters.empty()) return {};
  std::vector<std::string> names, nodes;
  std::set<std::size_t> ends;
  for (const CutOff& cut_off : parameters) {
    names.push_back(fmt::format("'{}'", graph[cut_off.parameter].name));
    ends.insert(cut_off.nodes.begin(), cut_off.nodes.end());
  }
  for (std::size_t n : ends) nodes.push_back(fmt::format("{} '{}'", graph.nodes[n].op, graph.nodes[n].name));
  const bool one = names.size() == 1;
  const std::string why = nodes.empty() ? fmt::format("the loss does not depend on {}", one ? "it" : "them")
                                        : fmt::format("none passes through {}", abridged(nodes));
  return fmt::format("{} {} no gradient and {} as {}: {}", abridged(names), one ? "gets" : "get",
                     one ? "stays" : "stay", one ? "it is" : "they are", why);
}

}  // namespace halfstep
