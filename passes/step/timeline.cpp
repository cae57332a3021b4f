#include "passes/step/timeline.h"

#include <algorithm>
#include <string>

#include <halfstep/graph/tensor_bytes.h>
#include <halfstep/ops/op_traits.h>

namespace halfstep {
namespace {

std::size_t bytes_of_value(const Value& value) {
  if (!value.shape.is_static() || value.dtype == DType::undefined || value.dtype == DType::string) return 0;
  return bytes_of(value.dtype, value.shape);
}

}  // namespace

const KernelUse& use_of(const KernelUses& kernels, std::string_view name) {
  static const KernelUse kNone;
  for (;; name.remove_suffix(kAgain.size())) {
    if (const auto found = kernels.find(std::string(name)); found != kernels.end()) return found->second;
    if (!name.ends_with(kAgain)) return kNone;
  }
}

Order::Order(const Graph& graph) {
  for (const ValueId id : graph.values.ids()) value_of.push_back(id);
  const auto instances = [](const std::vector<ValueId>& ids) {
    std::vector<Instance> result;
    for (const ValueId id : ids) result.push_back(id == kNoValue ? kNoInstance : id.index());
    return result;
  };
  for (std::size_t n = 0; n < graph.nodes.size(); ++n)
    items.push_back({n, false, instances(graph.nodes[n].inputs), instances(graph.nodes[n].outputs)});
}

bool is_view_of_operand(const Node& node) {
  const Movement movement = traits_of(node).movement;
  return (is_view(movement) || movement == Movement::permute) && node.input(0) != kNoValue &&
         node.output(0) != kNoValue;
}

bool reads(const KernelUse& use, std::size_t input) { return std::ranges::find(use.unread, input) == use.unread.end(); }

ValueMap<ValueFacts> value_facts(const Graph& graph) {
  ValueMap<ValueFacts> facts(graph.values.size());
  const auto keep = [&](ValueId id) {
    if (id != kNoValue) facts[id].is_kept = true;
  };
  for (const Node& node : graph.nodes)
    for (const ValueId id : node.outputs)
      if (id != kNoValue && !is_view_of_operand(node)) facts[id].bytes = bytes_of_value(graph[id]);
  for (const ValueId id : facts.ids())
    if (graph[id].is_constant()) keep(id);
  for (const std::vector<ValueId>& list : {graph.inputs, graph.outputs})
    for (const ValueId id : list) keep(id);
  for (const State& state : graph.states)
    for (const ValueId id : {state.value, state.next, state.gradient}) keep(id);
  for (const ValueId id : facts.ids())
    if (facts[id].is_kept) facts[id].bytes = 0;  // outputs and states have memory of their own
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node)
    if (is_view_of_operand(*node) && facts[node->outputs[0]].is_kept) keep(node->inputs[0]);
  return facts;
}

Timeline::Timeline(const Graph& graph, const ValueMap<ValueFacts>& facts, const KernelUses& kernels, const Order& order)
    : lives(order.value_of.size()), live(order.items.size(), 0) {
  for (Instance i = 0; i < lives.size(); ++i) lives[i].root = i;
  for (std::size_t at = 0; at < order.items.size(); ++at) {
    const Item& item = order.items[at];
    const Node& node = graph.nodes[item.node];
    const bool is_view = is_view_of_operand(node);
    const KernelUse& use = use_of(kernels, node.name);
    for (std::size_t i = 0; i < item.inputs.size(); ++i) {
      const Instance in = item.inputs[i];
      if (in == kNoInstance || is_view || !reads(use, i)) continue;
      std::vector<std::size_t>& places = lives[lives[in].root].reads;
      if (places.empty() || places.back() != at) places.push_back(at);
    }
    for (const Instance out : item.outputs) {
      if (out == kNoInstance) continue;
      lives[out].is_made = true;
      lives[out].first = at;
      if (is_view) lives[out].root = lives[item.inputs[0]].root;
    }
    live[at] += use.scratch;
  }
  std::vector<std::size_t> begins(live.size() + 1, 0), ends(live.size() + 1, 0);
  for (Instance i = 0; i < lives.size(); ++i) {
    const ValueFacts& fact = facts[order.value_of[i]];
    if (fact.bytes == 0 || !lives[i].is_made || lives[i].root != i) continue;
    begins[lives[i].first] += fact.bytes;
    ends[fact.is_kept ? live.size() : lives[i].last() + 1] += fact.bytes;
  }
  std::size_t now = 0;
  for (std::size_t at = 0; at < live.size(); ++at) {
    now = now + begins[at] - ends[at];
    live[at] += now;
    if (live[at] > live[fullest]) fullest = at;
  }
}

}  // namespace halfstep
