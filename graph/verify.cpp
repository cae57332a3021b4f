// Whether a graph is one.
#include <algorithm>

#include "graph/bodies.h"
#include "graph/state_fit.h"
#include "graph/value_text.h"
#include <halfstep/base/error.h>
#include <halfstep/graph/graph.h>

namespace halfstep {
namespace {

[[noreturn]] void fail(const Graph& graph, const std::string& required, const std::string& found) {
  throw_failure("a graph in which " + required, found + " in graph '" + graph.name + "'",
                "this is a defect of the pass that created the graph: write the stages with --dump-passes");
}

void verify_bodies(const Graph& graph, const Node& node) {
  const std::string label = node.op + " '" + node.name + "'";
  if (node.capture_count > node.inputs.size())
    fail(graph, "captures are inputs", std::to_string(node.capture_count) + " captures of " + label);
  const auto inner = bodies(node);
  if (inner.empty() && node.capture_count > 0) fail(graph, "only bodies capture", label);
  for (ValueId id : node.captures())
    if (id == kNoValue) fail(graph, "every capture is a value", "an absent one of " + label);
  for (const Graph* body : inner) {
    if (body->captures.size() != node.capture_count)
      fail(graph, "the captures of a node and of its bodies correspond",
           std::to_string(node.capture_count) + " of " + label + " and " + std::to_string(body->captures.size()) +
               " of its body '" + body->name + "'");
    for (std::size_t i = 0; i < node.capture_count; ++i) {
      const ValueId inside = body->captures[i];
      if (inside == kNoValue) continue;
      const Value &from = graph[node.captures()[i]], &to = (*body)[inside];
      if (from.dtype != DType::undefined && to.dtype != DType::undefined && from.dtype != to.dtype)
        fail(graph, "a captured value has one type",
             std::string(name_of(from.dtype)) + " '" + from.name + "' read as " + std::string(name_of(to.dtype)) +
                 " by a body of " + label);
    }
    verify(*body);
  }
}

// Compares the graph's producers and users with those of its nodes.
void verify_links(const Graph& graph) {
  ValueMap<std::ptrdiff_t> producers(graph.values.size(), -1);
  ValueMap<std::vector<Use>> users(graph.values.size());
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    for (const ValueId out : node.outputs)
      if (out != kNoValue) producers[out] = static_cast<std::ptrdiff_t>(n);
    for (std::size_t i = 0; i < node.inputs.size(); ++i)
      if (node.inputs[i] != kNoValue) users[node.inputs[i]].push_back({n, i});
  }
  for (const ValueId id : graph.values.ids()) {
    const std::span<const Use> known = graph.users(id);
    if (graph.producer_index(id) != producers[id] ||
        !std::equal(known.begin(), known.end(), users[id].begin(), users[id].end()))
      fail(graph, "producers and users of values are known", "others of '" + graph[id].name + "'");
  }
}

}  // namespace

void verify(const Graph& graph) {
  ValueMap<bool> defined(graph.values.size(), false);
  const auto check_id = [&](ValueId id, const std::string& where) {
    if (!graph.values.contains(id)) fail(graph, "every id names a value", text_of(id) + " as " + where);
  };
  const auto define = [&](ValueId id, const std::string& what) {
    check_id(id, what);
    if (defined[id]) fail(graph, "every value is defined once", what + " '" + graph[id].name + "' twice");
    defined[id] = true;
  };
  const auto is_defined = [&](ValueId id, const std::string& where) {
    check_id(id, where);
    return defined[id];
  };
  for (const ValueId id : graph.values.ids())
    if (graph[id].is_constant()) define(id, "constant");
  for (ValueId in : graph.inputs) define(in, "input");
  for (const State& state : graph.states) define(state.value, "state");
  for (ValueId capture : graph.captures)
    if (capture != kNoValue) define(capture, "capture");
  for (const Node& node : graph.nodes) {
    const std::string label = node.op + " '" + node.name + "'";
    for (ValueId in : node.inputs)
      if (in != kNoValue && !is_defined(in, "an input of " + label))
        fail(graph, "nodes come after what they read", "'" + graph[in].name + "' read by " + label);
    verify_bodies(graph, node);
    for (ValueId out : node.outputs)
      if (out != kNoValue) define(out, "output of " + label);
  }
  for (ValueId out : graph.outputs)
    if (!is_defined(out, "a graph output")) fail(graph, "every output is defined", "'" + graph[out].name + "'");
  for (const State& state : graph.states) {
    const std::string label = "state '" + graph[state.value].name + "'";
    if (state.next != kNoValue && !is_defined(state.next, "the next value of " + label))
      fail(graph, "every state's next value is defined", "'" + graph[state.next].name + "'");
    if (state.gradient != kNoValue && !is_defined(state.gradient, "the gradient of " + label))
      fail(graph, "every state's gradient is defined", "'" + graph[state.gradient].name + "'");
    if (const std::string misfit = state_misfit(graph, state); !misfit.empty())
      fail(graph, "states fit their next values and gradients", misfit);
  }
  verify_links(graph);
}

}  // namespace halfstep
