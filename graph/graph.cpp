#include <algorithm>
#include <functional>
#include <queue>

#include "base/enum_names.h"
#include "graph/value_text.h"
#include <halfstep/base/error.h>
#include <halfstep/graph/graph.h>

namespace halfstep {

std::string_view name_of(StateRole role) {
  constexpr std::string_view kNames[] = {"parameter",   "statistic", "optimizer", "loss_scale",
                                         "accumulator", "random",    "residual",  "copy"};
  return name_in(kNames, role);
}

namespace {

bool is_computed(StepRole role) { return role <= StepRole::gradients_finite; }

void require_elements(const Tensor& tensor, std::string_view name) {
  if (!tensor.is_defined()) throw_input_error("a tensor for '" + std::string(name) + "'", "an undefined tensor", "");
}

}  // namespace

void Graph::throw_no_value(ValueId id) const {
  throw_input_error("a value of graph '" + name + "', which has " + std::to_string(values.size()), text_of(id), "");
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
  std::string unique = unique_name(wanted);
  const ValueId id = values.add({.name = unique, .dtype = dtype, .shape = std::move(shape), .constant = {}});
  by_name_.emplace(std::move(unique), id);
  links_.add({});
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

Node Graph::make_node(std::string_view op, std::string_view domain, std::vector<ValueId> node_inputs,
                      Attributes attributes, std::string_view node_name) {
  for (const ValueId in : node_inputs)
    if (in != kNoValue) checked(in);
  Node node;
  node.id = NodeId(node_ids_++);
  node.op = op;
  node.domain = domain;
  node.name = node_name.empty() ? node.op + "_" + std::to_string(node.id.index()) : std::string(node_name);
  node.inputs = std::move(node_inputs);
  node.attributes = std::move(attributes);
  return node;
}

std::size_t Graph::add_node(std::string_view op, std::string_view domain, std::vector<ValueId> node_inputs,
                            std::size_t output_count, Attributes attributes, std::string_view node_name) {
  Node node = make_node(op, domain, std::move(node_inputs), std::move(attributes), node_name);
  for (std::size_t i = 0; i < output_count; ++i)
    node.outputs.push_back(add_value(i == 0 ? node.name : node.name + "." + std::to_string(i)));
  append(std::move(node));
  return nodes.size() - 1;
}

std::size_t Graph::define(std::vector<ValueId> node_outputs, std::string_view op, std::string_view domain,
                          std::vector<ValueId> node_inputs, Attributes attributes, std::string_view node_name) {
  for (const ValueId out : node_outputs)
    if (out != kNoValue) checked(out);
  Node node = make_node(op, domain, std::move(node_inputs), std::move(attributes), node_name);
  node.outputs = std::move(node_outputs);
  append(std::move(node));
  return nodes.size() - 1;
}

void Graph::append(Node node) {
  nodes.list_.push_back(std::move(node));
  link(nodes.size() - 1);
}

std::vector<Node> Graph::take_nodes(std::size_t first) {
  for (std::size_t i = nodes.size(); i-- > first;) unlink(i);
  const auto begin = nodes.list_.begin() + static_cast<std::ptrdiff_t>(first);
  std::vector<Node> taken(std::make_move_iterator(begin), std::make_move_iterator(nodes.list_.end()));
  nodes.list_.resize(first);
  return taken;
}

void Graph::remove_nodes(const std::vector<bool>& gone) {
  std::vector<Node> kept;
  kept.reserve(nodes.size());
  for (std::size_t i = 0; i < nodes.size(); ++i)
    if (i >= gone.size() || !gone[i]) kept.push_back(std::move(nodes.list_[i]));
  nodes.list_ = std::move(kept);
  link_all();
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

bool Graph::leaves_graph(ValueId id) const {
  return is_output(id) || std::any_of(states.begin(), states.end(),
                                      [id](const State& state) { return state.next == id || state.gradient == id; });
}

const Node* Graph::producer(ValueId id) const {
  const std::ptrdiff_t index = producer_index(id);
  return index < 0 ? nullptr : &nodes[index];
}
std::ptrdiff_t Graph::producer_index(ValueId id) const { return id == kNoValue ? -1 : links_[checked(id)].producer; }

std::span<const Use> Graph::users(ValueId id) const {
  return id == kNoValue ? std::span<const Use>() : links_[checked(id)].users;
}
bool Graph::is_read(ValueId id) const { return !users(id).empty() || (id != kNoValue && leaves_graph(id)); }
const Use* Graph::sole_user(ValueId id) const {
  const std::span<const Use> all = users(id);
  return all.size() == 1 && !leaves_graph(id) ? all.data() : nullptr;
}

namespace {

// The value, or nullptr for an invalid id: those are reported by `verify`.
template <class T>
T* item_of(ValueMap<T>& items, ValueId id) {
  return items.contains(id) ? &items[id] : nullptr;
}

}  // namespace

void Graph::link(std::size_t n) {
  const Node& node = nodes[n];
  for (const ValueId out : node.outputs)
    if (Links* links = item_of(links_, out)) links->producer = static_cast<std::ptrdiff_t>(n);
  for (std::size_t i = 0; i < node.inputs.size(); ++i)
    if (Links* links = item_of(links_, node.inputs[i])) {
      const Use use{n, i};
      links->users.insert(std::upper_bound(links->users.begin(), links->users.end(), use), use);
    }
}

void Graph::unlink(std::size_t n) {
  const Node& node = nodes[n];
  for (const ValueId out : node.outputs)
    if (Links* links = item_of(links_, out); links && links->producer == static_cast<std::ptrdiff_t>(n))
      links->producer = -1;
  for (const ValueId in : node.inputs)
    if (Links* links = item_of(links_, in)) {
      const auto first = std::lower_bound(links->users.begin(), links->users.end(), Use{n, 0});
      links->users.erase(first, std::lower_bound(first, links->users.end(), Use{n + 1, 0}));
    }
}

Graph::Edit::Edit(Graph& graph, std::size_t node)
    : graph_(graph), node_(node), inputs_(graph.nodes[node].inputs), outputs_(graph.nodes[node].outputs) {}

Graph::Edit::~Edit() {
  Node& node = graph_.nodes.list_[node_];
  if (node.inputs == inputs_ && node.outputs == outputs_) return;
  node.inputs.swap(inputs_);
  node.outputs.swap(outputs_);
  graph_.unlink(node_);
  node.inputs.swap(inputs_);
  node.outputs.swap(outputs_);
  graph_.link(node_);
}

void Graph::link_all() {
  for (Links& links : links_) {
    links.producer = -1;
    links.users.clear();
  }
  for (std::size_t i = 0; i < nodes.size(); ++i) link(i);
}

void Graph::replace_uses(ValueId from, ValueId to) {
  checked(from);
  if (to != kNoValue) checked(to);
  if (from == to) return;
  const std::vector<Use> moved = std::move(links_[checked(from)].users);
  links_[checked(from)].users.clear();
  for (const Use& use : moved) nodes.list_[use.node].inputs[use.input] = to;
  if (to != kNoValue) {
    std::vector<Use>& users = links_[checked(to)].users;
    const auto middle = users.insert(users.end(), moved.begin(), moved.end());
    std::inplace_merge(users.begin(), middle, users.end());
  }
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
  // Kahn's algorithm; of the ready nodes, the first in the current order is taken, so a sorted graph is unchanged.
  const auto for_each_reader = [&](std::size_t i, const auto& visit) {
    for (const ValueId out : nodes[i].outputs)
      for (const Use& use : users(out)) visit(use.node);
  };
  std::vector<std::size_t> waiting(nodes.size(), 0);
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    for (const ValueId in : nodes[i].inputs)
      if (in != kNoValue) checked(in);
    for_each_reader(i, [&](std::size_t reader) { ++waiting[reader]; });
  }
  std::priority_queue<std::size_t, std::vector<std::size_t>, std::greater<>> ready;
  for (std::size_t i = 0; i < nodes.size(); ++i)
    if (waiting[i] == 0) ready.push(i);
  std::vector<std::size_t> order;
  while (!ready.empty()) {
    const std::size_t i = ready.top();
    ready.pop();
    for_each_reader(i, [&](std::size_t reader) {
      if (--waiting[reader] == 0) ready.push(reader);
    });
    order.push_back(i);
  }
  if (order.size() != nodes.size()) {
    throw_input_error("a graph without cycles", "a cycle in graph '" + name + "'",
                      "check the model with the ONNX checker");
  }
  if (std::is_sorted(order.begin(), order.end())) return;
  std::vector<Node> sorted;
  sorted.reserve(nodes.size());
  for (const std::size_t i : order) sorted.push_back(std::move(nodes.list_[i]));
  nodes.list_ = std::move(sorted);
  link_all();
}

void Graph::remove_dead() {
  ValueMap<bool> live(values.size(), false);
  std::vector<bool> dead(nodes.size(), true);
  std::vector<ValueId> work;
  auto mark = [&](ValueId id) {
    if (id == kNoValue) return;
    checked(id);
    if (live[id]) return;
    live[id] = true;
    work.push_back(id);
  };
  for (ValueId out : outputs) mark(out);
  for (const State& state : states) {
    mark(state.next);
    mark(state.gradient);
  }
  while (!work.empty()) {
    const std::ptrdiff_t p = producer_index(work.back());
    work.pop_back();
    if (p < 0 || !dead[p]) continue;
    dead[p] = false;
    for (ValueId in : nodes[p].inputs) mark(in);
  }
  remove_nodes(dead);
  for (const ValueId id : values.ids())
    if (!live[id]) values[id].constant = Tensor();
  std::erase_if(step, [&](const StepValue& v) { return is_computed(v.role) && !live[v.value]; });
}

}  // namespace halfstep
