// Chains of elementwise operators, where the executor has them.
#include <algorithm>
#include <memory>
#include <string>

#include "ops/elementwise/chain.h"
#include "passes/fuse/group_nodes.h"
#include <halfstep/passes/passes.h>

namespace halfstep {
namespace {

using Members = std::vector<std::size_t>;  // indices of nodes, ascending

/// What stands in a body as a constant of its own.
bool is_scalar_constant(const Value& value) { return value.is_constant() && value.constant.count() == 1; }

/// The values that something else than a node reads.
ValueMap<bool> leaving(const Graph& graph) {
  ValueMap<bool> leaves(graph.values.size(), false);
  const auto mark = [&](ValueId id) {
    if (id != kNoValue) leaves[id] = true;
  };
  for (const ValueId id : graph.outputs) mark(id);
  for (const State& state : graph.states) {
    mark(state.next);
    mark(state.gradient);
  }
  return leaves;
}

/// The group in pieces that keep the limits.
class Cutter {
 public:
  Cutter(const Graph& graph, const Chains& limits) : graph_(graph), limits_(limits) {}

  std::vector<Members> cut(const Members& group) {
    for (const std::size_t n : group) {
      const Node& node = graph_.nodes[n];
      if (pieces_.empty() || !takes(node)) start();
      for (const ValueId in : node.inputs) {
        if (!is_new(in)) continue;
        seen_.push_back(in);
        ++inputs_;
        spread_ += is_spread(in, node) ? 1 : 0;
      }
      seen_.insert(seen_.end(), node.outputs.begin(), node.outputs.end());
      pieces_.back().push_back(n);
    }
    return std::move(pieces_);
  }

 private:
  void start() {
    pieces_.emplace_back();
    seen_.clear();
    inputs_ = spread_ = 0;
  }
  bool takes(const Node& node) const {
    std::size_t inputs = inputs_, spread = spread_;
    for (const ValueId in : node.inputs) {
      inputs += is_new(in) ? 1 : 0;
      spread += is_new(in) && is_spread(in, node) ? 1 : 0;
    }
    return pieces_.back().size() < limits_.max_nodes && inputs <= limits_.max_inputs && spread <= limits_.max_spread;
  }
  bool is_new(ValueId id) const {
    return id != kNoValue && !is_scalar_constant(graph_[id]) &&
           std::find(seen_.begin(), seen_.end(), id) == seen_.end();
  }
  bool is_spread(ValueId id, const Node& node) const {
    return graph_[id].shape.count() != 1 && graph_[id].shape != graph_[node.outputs[0]].shape;
  }

  const Graph& graph_;
  const Chains& limits_;
  std::vector<Members> pieces_;
  std::vector<ValueId> seen_;  // what the last piece reads and gives
  std::size_t inputs_ = 0, spread_ = 0;
};

/// The node that takes the place of others.
struct Chain {
  std::string name;
  std::vector<ValueId> inputs, outputs;
  std::shared_ptr<Graph> body = std::make_shared<Graph>();
};

/// Copies nodes into the body of a chain. `inside` has no value of the body for any value of the graph, and is left so.
class ChainBuilder {
 public:
  ChainBuilder(const Graph& graph, const ValueMap<bool>& leaves, ValueMap<ValueId>& inside)
      : graph_(graph), leaves_(leaves), inside_(inside) {}

  Chain build(const Members& members) {
    chain_.body->name = "chain";
    chain_.name = graph_.nodes[members.back()].name;
    for (const std::size_t n : members) add(graph_.nodes[n]);
    for (const std::size_t n : members)
      for (const ValueId out : graph_.nodes[n].outputs)
        if (is_read_outside(out, members)) {
          chain_.outputs.push_back(out);
          chain_.body->outputs.push_back(inside_[out]);
        }
    for (const ValueId id : met_) inside_[id] = kNoValue;
    return std::move(chain_);
  }

 private:
  void add(const Node& node) {
    std::vector<ValueId> inputs, outputs;
    for (const ValueId in : node.inputs) inputs.push_back(in == kNoValue ? kNoValue : operand(in));
    for (const ValueId out : node.outputs) outputs.push_back(meet(out, add_value(graph_[out])));
    chain_.body->define(std::move(outputs), node.op, node.domain, std::move(inputs), node.attributes, node.name);
  }

  ValueId operand(ValueId id) {
    if (inside_[id] != kNoValue) return inside_[id];
    const Value& value = graph_[id];
    if (is_scalar_constant(value)) return meet(id, chain_.body->add_constant(value.name, value.constant));
    chain_.inputs.push_back(id);
    return meet(id, chain_.body->add_input(value.name, value.dtype, value.shape));
  }

  ValueId add_value(const Value& value) { return chain_.body->add_value(value.name, value.dtype, value.shape); }
  ValueId meet(ValueId outside, ValueId inside) {
    met_.push_back(outside);
    return inside_[outside] = inside;
  }

  bool is_read_outside(ValueId id, const Members& members) const {
    const auto users = graph_.users(id);
    return leaves_[id] || std::any_of(users.begin(), users.end(), [&](const Use& use) {
             return !std::binary_search(members.begin(), members.end(), use.node);
           });
  }

  const Graph& graph_;
  const ValueMap<bool>& leaves_;
  ValueMap<ValueId>& inside_;
  std::vector<ValueId> met_;
  Chain chain_;
};

void apply(Graph& graph, const Chains& chains) {
  std::vector<bool> holds;
  for (const Node& node : graph.nodes) holds.push_back(node.outputs.size() == 1 && chains.holds(graph, node));
  const auto together = [&](std::size_t a, std::size_t b) {
    return holds[a] && holds[b] && graph[graph.nodes[a].outputs[0]].shape == graph[graph.nodes[b].outputs[0]].shape;
  };
  const ValueMap<bool> leaves = leaving(graph);
  ValueMap<ValueId> inside(graph.values.size(), kNoValue);
  std::vector<Chain> made;
  constexpr std::size_t kNone = static_cast<std::size_t>(-1);
  std::vector<std::size_t> chain_of(graph.nodes.size(), kNone);
  std::vector<bool> is_last(graph.nodes.size(), false);
  for (const Members& group : group_nodes(graph, together)) {
    if (group.size() < 2) continue;
    for (const Members& members : Cutter(graph, chains).cut(group)) {
      if (members.size() < 2) continue;
      for (const std::size_t n : members) chain_of[n] = made.size();
      is_last[members.back()] = true;
      made.push_back(ChainBuilder(graph, leaves, inside).build(members));
    }
  }
  if (made.empty()) return;
  // A chain stands where the last of its nodes stood: behind all it reads.
  std::vector<Node> nodes = graph.take_nodes();
  for (std::size_t n = 0; n < nodes.size(); ++n) {
    if (chain_of[n] == kNone) {
      graph.append(std::move(nodes[n]));
    } else if (is_last[n]) {
      Chain& chain = made[chain_of[n]];
      graph.define(std::move(chain.outputs), ops::kChain, kOwnDomain, std::move(chain.inputs),
                   {{std::string(ops::kChainBody), std::shared_ptr<const Graph>(std::move(chain.body))}}, chain.name);
    }
  }
  graph.sort();
  graph.remove_dead();
}

}  // namespace

Pass fuse_chains(Chains chains) {
  return {"fuse_chains", [chains = std::move(chains)](Graph& graph) {
            if (chains.holds) apply(graph, chains);
          }};
}

}  // namespace halfstep
