#include <algorithm>
#include <functional>
#include <queue>

#include "graph/bodies.h"
#include <halfstep/base/error.h>
#include <halfstep/graph/graph.h>

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

namespace {

bool is_computed(StepRole role) { return role <= StepRole::gradients_finite; }

void require_elements(const Tensor& tensor, std::string_view name) {
  if (!tensor.is_defined()) throw_input_error("a tensor for '" + std::string(name) + "'", "one that holds nothing", "");
}

}  // namespace

void Graph::throw_no_value(ValueId id) const {
  throw_input_error("a value of graph '" + name + "', which has " + std::to_string(values.size()),
                    "the id " + std::to_string(id), "");
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
  require_elements(tensor, wanted);
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
  require_elements(initial, wanted);
  const ValueId id = add_value(wanted, initial.dtype(), initial.shape());
  states.push_back({.value = id, .next = kNoValue, .role = role, .initial = std::move(initial)});
  return id;
}

std::size_t Graph::add_node(std::string_view op, std::string_view domain, std::vector<ValueId> node_inputs,
                            std::size_t output_count, Attributes attributes, std::string_view node_name) {
  for (const ValueId in : node_inputs)
    if (in != kNoValue) checked(in);
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

ValueId Graph::find(StepRole role, ValueId parameter) const {
  for (const StepValue& v : step)
    if (v.role == role && v.parameter == parameter) return v.value;
  return kNoValue;
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
      if (out != kNoValue) result[checked(out)] = static_cast<std::int32_t>(i);
  return result;
}

std::vector<std::int32_t> Graph::use_counts() const {
  std::vector<std::int32_t> result(values.size(), 0);
  auto count = [&](ValueId id) {
    if (id != kNoValue) ++result[checked(id)];
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
  checked(from);
  if (to != kNoValue) checked(to);
  for (Node& node : nodes) std::replace(node.inputs.begin(), node.inputs.end(), from, to);
  replace_references(from, to);
}

void Graph::replace_references(ValueId from, ValueId to) {
  std::replace(outputs.begin(), outputs.end(), from, to);
  for (State& state : states) {
    if (state.next == from) state.next = to;
    if (state.gradient == from) state.gradient = to;
  }
  for (StepValue& v : step)
    if (v.value == from && is_computed(v.role)) v.value = to;
}

void Graph::sort() {
  // Kahn's algorithm; among ready nodes the one that comes first now goes first, so a sorted graph stays as it is.
  const std::vector<std::int32_t> producer = producers();
  std::vector<std::vector<std::size_t>> users(nodes.size());
  std::vector<std::size_t> waiting(nodes.size(), 0);
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    for (ValueId in : nodes[i].inputs) {
      if (in == kNoValue) continue;
      const std::int32_t p = producer[checked(in)];
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
    if (id == kNoValue || live_value[checked(id)]) return;
    live_value[checked(id)] = true;
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
  std::erase_if(step, [&](const StepValue& v) { return is_computed(v.role) && !live_value[checked(v.value)]; });
}

namespace {

[[noreturn]] void fail(const Graph& graph, const std::string& required, const std::string& found) {
  throw_failure("a graph in which " + required, found + " in graph '" + graph.name + "'",
                "this is a defect of the pass that made the graph: write the stages out with --dump-passes");
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

}  // namespace

void verify(const Graph& graph) {
  std::vector<bool> defined(graph.values.size(), false);
  const auto check_id = [&](ValueId id, const std::string& where) {
    if (id < 0 || static_cast<std::size_t>(id) >= graph.values.size())
      fail(graph, "every id names a value", std::to_string(id) + " as " + where);
  };
  const auto define = [&](ValueId id, const std::string& what) {
    check_id(id, what);
    if (defined[static_cast<std::size_t>(id)])
      fail(graph, "every value is defined once", what + " '" + graph[id].name + "' twice");
    defined[static_cast<std::size_t>(id)] = true;
  };
  const auto is_defined = [&](ValueId id, const std::string& where) {
    check_id(id, where);
    return defined[static_cast<std::size_t>(id)];
  };
  for (std::size_t i = 0; i < graph.values.size(); ++i)
    if (graph.values[i].is_constant()) define(static_cast<ValueId>(i), "constant");
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
  }
}

}  // namespace halfstep
