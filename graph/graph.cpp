#include "graph/graph.h"

#include <algorithm>
#include <functional>
#include <queue>

#include "graph/error.h"

namespace halfstep {

std::string_view name_of(StateRole role) {
  switch (role) {
    case StateRole::parameter:
      return "parameter";
    case StateRole::statistic:
      return "statistic";
    case StateRole::optimizer:
      return "optimizer";
    case StateRole::loss_scale:
      return "loss_scale";
    case StateRole::accumulator:
      return "accumulator";
    case StateRole::random:
      return "random";
  }
  return "unknown";
}

std::string Graph::unique_name(std::string_view wanted) {
  std::string name(wanted.empty() ? "v" : wanted);
  if (!wanted.empty() && !by_name_.contains(name)) return name;
  std::int32_t& count = name_counts_[name];
  std::string candidate;
  do candidate = name + "_" + std::to_string(++count);
  while (by_name_.contains(candidate));
  return candidate;
}

ValueId Graph::add_value(std::string_view wanted, DType dtype, Shape shape) {
  const auto id = static_cast<ValueId>(values.size());
  std::string unique = unique_name(wanted);
  by_name_.emplace(unique, id);
  values.push_back({.name = std::move(unique), .dtype = dtype, .shape = std::move(shape), .constant = {}});
  return id;
}

ValueId Graph::add_constant(std::string_view wanted, Tensor tensor) {
  const ValueId id = add_value(wanted, tensor.dtype(), tensor.shape());
  (*this)[id].constant = std::move(tensor);
  return id;
}

ValueId Graph::add_input(std::string_view wanted, DType dtype, Shape shape) {
  const ValueId id = add_value(wanted, dtype, std::move(shape));
  inputs.push_back(id);
  return id;
}

ValueId Graph::add_state(std::string_view wanted, Tensor initial, StateRole role) {
  const ValueId id = add_value(wanted, initial.dtype(), initial.shape());
  states.push_back({.value = id, .next = kNoValue, .role = role, .initial = std::move(initial)});
  return id;
}

std::size_t Graph::add_node(std::string_view op, std::string_view domain, std::vector<ValueId> node_inputs,
                            std::size_t output_count, Attributes attributes, std::string_view node_name) {
  Node node;
  node.id = next_node_id_++;
  node.op = op;
  node.domain = domain;
  node.name = node_name.empty() ? node.op + "_" + std::to_string(node.id) : std::string(node_name);
  node.inputs = std::move(node_inputs);
  node.attributes = std::move(attributes);
  for (std::size_t i = 0; i < output_count; ++i)
    node.outputs.push_back(add_value(i == 0 ? node.name : node.name + "." + std::to_string(i)));
  nodes.push_back(std::move(node));
  return nodes.size() - 1;
}

ValueId Graph::find(std::string_view wanted) const {
  auto it = by_name_.find(std::string(wanted));
  return it == by_name_.end() ? kNoValue : it->second;
}

void Graph::rename(ValueId id, std::string_view wanted) {
  Value& value = (*this)[id];
  if (value.name == wanted) return;
  by_name_.erase(value.name);
  value.name = unique_name(wanted);
  by_name_.emplace(value.name, id);
}

std::ptrdiff_t Graph::state_of(ValueId id) const {
  auto it = std::find_if(states.begin(), states.end(), [&](const State& s) { return s.value == id; });
  return it == states.end() ? -1 : it - states.begin();
}

bool Graph::is_input(ValueId id) const { return std::find(inputs.begin(), inputs.end(), id) != inputs.end(); }
bool Graph::is_output(ValueId id) const { return std::find(outputs.begin(), outputs.end(), id) != outputs.end(); }

std::vector<std::int32_t> Graph::producers() const {
  std::vector<std::int32_t> result(values.size(), -1);
  for (std::size_t i = 0; i < nodes.size(); ++i)
    for (ValueId out : nodes[i].outputs)
      if (out != kNoValue) result[static_cast<std::size_t>(out)] = static_cast<std::int32_t>(i);
  return result;
}

std::vector<std::int32_t> Graph::use_counts() const {
  std::vector<std::int32_t> result(values.size(), 0);
  auto count = [&](ValueId id) {
    if (id != kNoValue) ++result[static_cast<std::size_t>(id)];
  };
  for (const Node& node : nodes)
    for (ValueId in : node.inputs) count(in);
  for (ValueId out : outputs) count(out);
  for (const State& state : states) {
    count(state.next);
    count(state.gradient);
  }
  return result;
}

void Graph::replace_uses(ValueId from, ValueId to) {
  for (Node& node : nodes) std::replace(node.inputs.begin(), node.inputs.end(), from, to);
  std::replace(outputs.begin(), outputs.end(), from, to);
  for (State& state : states) {
    if (state.next == from) state.next = to;
    if (state.gradient == from) state.gradient = to;
  }
}

void Graph::sort() {
  // Kahn's algorithm; among ready nodes the one that comes first now goes first, so a sorted graph stays as it is.
  const std::vector<std::int32_t> producer = producers();
  std::vector<std::vector<std::size_t>> users(nodes.size());
  std::vector<std::size_t> waiting(nodes.size(), 0);
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    for (ValueId in : nodes[i].inputs) {
      if (in == kNoValue) continue;
      const std::int32_t p = producer[static_cast<std::size_t>(in)];
      if (p < 0) continue;
      users[static_cast<std::size_t>(p)].push_back(i);
      ++waiting[i];
    }
  }
  std::priority_queue<std::size_t, std::vector<std::size_t>, std::greater<>> ready;
  for (std::size_t i = 0; i < nodes.size(); ++i)
    if (waiting[i] == 0) ready.push(i);
  std::vector<Node> sorted;
  sorted.reserve(nodes.size());
  while (!ready.empty()) {
    const std::size_t i = ready.top();
    ready.pop();
    for (std::size_t user : users[i])
      if (--waiting[user] == 0) ready.push(user);
    sorted.push_back(std::move(nodes[i]));
  }
  if (sorted.size() != nodes.size()) {
    throw_input_error("a graph without cycles", "a cycle in graph '" + name + "'",
                      "check the model with the ONNX checker");
  }
  nodes = std::move(sorted);
}

void Graph::remove_dead() {
  const std::vector<std::int32_t> producer = producers();
  std::vector<bool> live_value(values.size(), false), live_node(nodes.size(), false);
  std::vector<ValueId> work;
  auto mark = [&](ValueId id) {
    if (id == kNoValue || live_value[static_cast<std::size_t>(id)]) return;
    live_value[static_cast<std::size_t>(id)] = true;
    work.push_back(id);
  };
  for (ValueId out : outputs) mark(out);
  for (const State& state : states) {
    mark(state.next);
    mark(state.gradient);
  }
  while (!work.empty()) {
    const ValueId id = work.back();
    work.pop_back();
    const std::int32_t p = producer[static_cast<std::size_t>(id)];
    if (p < 0 || live_node[static_cast<std::size_t>(p)]) continue;
    live_node[static_cast<std::size_t>(p)] = true;
    for (ValueId in : nodes[static_cast<std::size_t>(p)].inputs) mark(in);
  }
  std::vector<Node> kept;
  for (std::size_t i = 0; i < nodes.size(); ++i)
    if (live_node[i]) kept.push_back(std::move(nodes[i]));
  nodes = std::move(kept);
  for (std::size_t i = 0; i < values.size(); ++i)
    if (!live_value[i]) values[i].constant = Tensor();
}

void verify(const Graph& graph) {
  auto fail = [&](const std::string& required, const std::string& found) {
    throw_failure("a graph in which " + required, found + " in graph '" + graph.name + "'",
                  "this is a defect of the pass that made the graph: write the stages out with --dump-passes");
  };
  std::vector<bool> defined(graph.values.size(), false);
  auto define = [&](ValueId id, const char* what) {
    if (id < 0 || static_cast<std::size_t>(id) >= graph.values.size())
      fail("every id names a value", std::to_string(id));
    if (defined[static_cast<std::size_t>(id)])
      fail("every value is defined once", std::string(what) + " '" + graph[id].name + "' twice");
    defined[static_cast<std::size_t>(id)] = true;
  };
  for (std::size_t i = 0; i < graph.values.size(); ++i)
    if (graph.values[i].is_constant()) define(static_cast<ValueId>(i), "constant");
  for (ValueId in : graph.inputs) define(in, "input");
  for (const State& state : graph.states) define(state.value, "state");
  for (const Node& node : graph.nodes) {
    for (ValueId in : node.inputs)
      if (in != kNoValue && !defined[static_cast<std::size_t>(in)])
        fail("nodes come after what they read", "'" + graph[in].name + "' read by " + node.op + " '" + node.name + "'");
    for (ValueId out : node.outputs)
      if (out != kNoValue) define(out, "output");
  }
  for (ValueId out : graph.outputs)
    if (!defined[static_cast<std::size_t>(out)]) fail("every output is defined", "'" + graph[out].name + "'");
  for (const State& state : graph.states)
    if (state.next != kNoValue && !defined[static_cast<std::size_t>(state.next)])
      fail("every state's next value is defined", "'" + graph[state.next].name + "'");
}

}  // namespace halfstep
