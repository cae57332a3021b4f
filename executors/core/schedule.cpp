#include <algorithm>
#include <queue>

#include <halfstep/executors/core/schedule.h>
#include <halfstep/ops/op_traits.h>

namespace halfstep::core {
namespace {

bool is_convertible(DType dtype) { return dtype == DType::f32 || is_half(dtype); }

struct Edges {
  std::vector<std::vector<std::size_t>> after;  // after[a]: nodes that must follow a
  std::vector<std::int32_t> before_count;

  explicit Edges(std::size_t nodes) : after(nodes), before_count(nodes, 0) {}
  void add(std::size_t a, std::size_t b) {
    after[a].push_back(b);
    ++before_count[b];
  }
  bool reaches(std::size_t from, std::size_t to) const {
    std::vector<bool> seen(after.size(), false);
    std::vector<std::size_t> stack{from};
    while (!stack.empty()) {
      const std::size_t n = stack.back();
      stack.pop_back();
      if (n == to) return true;
      if (seen[n]) continue;
      seen[n] = true;
      stack.insert(stack.end(), after[n].begin(), after[n].end());
    }
    return false;
  }
  std::vector<std::size_t> sorted() const {
    std::vector<std::int32_t> open = before_count;
    std::priority_queue<std::size_t, std::vector<std::size_t>, std::greater<>> ready;
    for (std::size_t i = 0; i < open.size(); ++i)
      if (open[i] == 0) ready.push(i);
    std::vector<std::size_t> order;
    while (!ready.empty()) {
      const std::size_t n = ready.top();
      ready.pop();
      order.push_back(n);
      for (std::size_t next : after[n])
        if (--open[next] == 0) ready.push(next);
    }
    return order;
  }
};

}  // namespace

bool is_view(const Node& node) {
  const Movement movement = traits_of(node).movement;
  return is_view(movement) || movement == Movement::permute;
}

bool keeps_order(const Node& node) { return is_view(traits_of(node).movement); }

ValueMap<ValueId> view_roots(const Graph& graph) {
  ValueMap<ValueId> root(graph.values.size());
  for (const ValueId id : root.ids()) root[id] = id;
  ValueMap<bool> is_state_view(root.size(), false);
  for (const State& state : graph.states) is_state_view[state.value] = true;
  for (const Node& node : graph.nodes) {
    if (node.output(0) == kNoValue || node.input(0) == kNoValue) continue;
    const bool state_view = is_state_view[node.inputs[0]];
    const bool lazy = node.is("Cast") && state_view && is_convertible(graph[node.inputs[0]].dtype) &&
                      is_convertible(graph[node.outputs[0]].dtype);
    if (!is_view(node) && !lazy) continue;
    root[node.outputs[0]] = root[node.inputs[0]];
    is_state_view[node.outputs[0]] = state_view;
  }
  return root;
}

namespace {

/// The node that makes a state's next value: of a copy that which makes its source's, whose kernel may make both.
std::size_t updating_node(const Graph& graph, const State& state) {
  const Node* cast = graph.producer(state.next);
  const ValueId source =
      state.source == kNoValue ? kNoValue : graph.states[static_cast<std::size_t>(graph.state_of(state.source))].next;
  const bool is_cast_of_source = source != kNoValue && cast->is("Cast") && cast->inputs[0] == source;
  return static_cast<std::size_t>(
      graph.producer_index(is_cast_of_source && graph.producer(source) ? source : state.next));
}

}  // namespace

Schedule make_schedule(const Graph& graph, const std::vector<std::pair<std::size_t, std::size_t>>& precedences) {
  const ValueMap<ValueId> root = view_roots(graph);
  ValueMap<std::vector<std::size_t>> readers(graph.values.size());  // of a root, through its views
  Edges edges(graph.nodes.size());
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    for (ValueId in : graph.nodes[n].inputs) {
      if (in == kNoValue) continue;
      readers[root[in]].push_back(n);
      if (graph.producer(in)) edges.add(static_cast<std::size_t>(graph.producer_index(in)), n);
    }
  }

  Schedule schedule;
  schedule.in_place.assign(graph.states.size(), false);
  for (std::size_t s = 0; s < graph.states.size(); ++s) {
    const State& state = graph.states[s];
    if (!graph.producer(state.next)) continue;
    const std::size_t update = updating_node(graph, state);
    // A view has no memory of its own to be updated; an old value that leaves as an output or as another state's next
    // is still needed at the end.
    bool safe = root[state.next] == state.next;
    for (const ValueId out : graph.outputs)
      if (root[out] == state.value) safe = false;
    for (std::size_t other = 0; other < graph.states.size() && safe; ++other) {
      const ValueId next = graph.states[other].next;
      if (other != s && next != kNoValue && (next == state.next || root[next] == state.value)) safe = false;
    }
    for (std::size_t reader : readers[state.value])
      if (safe && reader != update && edges.reaches(update, reader)) safe = false;
    schedule.in_place[s] = safe;
    if (!safe) continue;
    for (std::size_t reader : readers[state.value])
      if (reader != update) edges.add(reader, update);
  }
  for (const auto& [first, second] : precedences)
    if (!edges.reaches(second, first)) edges.add(first, second);

  schedule.is_lazy.resize(graph.values.size(), false);
  for (const Node& node : graph.nodes)
    if (node.is("Cast")) schedule.is_lazy[node.outputs[0]] = root[node.outputs[0]] != node.outputs[0];

  schedule.order = edges.sorted();
  std::vector<std::int32_t> position(graph.nodes.size(), 0);
  for (std::size_t i = 0; i < schedule.order.size(); ++i) position[schedule.order[i]] = static_cast<std::int32_t>(i);

  // Last uses, each node's own first, then those of views added to what they look at.
  schedule.last_use.resize(graph.values.size(), -1);
  for (std::size_t n = 0; n < graph.nodes.size(); ++n)
    for (ValueId in : graph.nodes[n].inputs)
      if (in != kNoValue) schedule.last_use[in] = std::max(schedule.last_use[in], position[n]);
  for (ValueId out : graph.outputs) schedule.last_use[out] = kAtEnd;
  for (const State& state : graph.states)
    if (state.next != kNoValue) schedule.last_use[state.next] = kAtEnd;
  for (std::size_t n = graph.nodes.size(); n-- > 0;) {
    const Node& node = graph.nodes[n];
    const ValueId in = node.input(0), out = node.output(0);
    if (in == kNoValue || out == kNoValue || root[out] == out) continue;
    schedule.last_use[in] = std::max(schedule.last_use[in], schedule.last_use[out]);
  }
  return schedule;
}

}  // namespace halfstep::core
