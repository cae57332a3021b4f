#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "ops/collective/all_reduce.h"
#include "passes/step/timeline.h"
#include <halfstep/ops/cost.h>
#include <halfstep/ops/op_def.h>
#include <halfstep/ops/op_traits.h>
#include <halfstep/ops/optimizers/optimizer_def.h>

namespace halfstep {
namespace {

constexpr double kFlopsPerByte = 8;         // arithmetic that takes as long as a byte read or written
constexpr double kNodeBytes = 4096;         // as long as that takes a node even when it does nothing
constexpr std::size_t kMostCopies = 64;     // at one place
constexpr std::size_t kMuchSmaller = 16;    // an operand by this is kept rather than computed again
constexpr std::size_t kMostAttempts = 100;  // at one moment

/// Whether a normalization takes its statistics from the batch, and moves running ones that it does not look at.
bool moves_statistics(const Node& node) { return node.attributes.get_int("training_mode", 0) != 0; }
bool is_unused_statistic(const Node& node, std::size_t operand) {
  return moves_statistics(node) && is_statistic(traits_of(node).operands[operand]);
}

/// Whether a copy gives that output as the node does.
bool is_given_again(const Node& node, std::size_t output) { return output == 0 || !moves_statistics(node); }

bool may_be_repeated(const Graph& graph, const Node& node) {
  const OpTraits& traits = traits_of(node);
  // Those of ai.halfstep that draw numbers do so by a counter that they are given.
  const bool draws = traits.random && node.domain != kOwnDomain;
  if (!find_op(node.op, node.domain) || draws || traits.is_recurrent() || is_collective(node) ||
      traits.control_flow != ControlFlow::none || node.forward != kNoNode || optimizer_of(node) ||
      node.capture_count != 0)
    return false;
  for (const ValueId id : node.outputs)
    if (id != kNoValue && !graph[id].shape.is_static()) return false;
  // What a copy read of a state would have to be read before its node moves it.
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    if (node.inputs[i] == kNoValue || is_unused_statistic(node, i)) continue;
    const std::ptrdiff_t state = graph.state_of(node.inputs[i]);
    const ValueId next = state < 0 ? kNoValue : graph.states[state].next;
    if (next != kNoValue && std::ranges::find(node.outputs, next) != node.outputs.end()) return false;
  }
  return true;
}

/// Nodes to be copied, in their order, right before an item, so that a value need not be kept until then.
struct Choice {
  std::size_t at = 0;
  std::vector<std::size_t> nodes = {};
  double gain = 0;  ///< bytes, at the fullest moment
  double cost = 0;  ///< time, as bytes that are read or written in it

  double worth() const { return gain / std::max(cost, 1.0); }
};

class Recomputation {
 public:
  Recomputation(const Graph& graph, const KernelUses& kernels)
      : graph_(graph),
        kernels_(kernels),
        facts_(value_facts(graph)),
        order_(graph),
        timeline_(graph, facts_, kernels, order_) {
    for (const Node& node : graph.nodes) {
      const Cost cost = cost_of(graph, node);
      time_.push_back(is_view_of_operand(node) ? 0 : kNodeBytes + std::max(cost.flops / kFlopsPerByte, cost.bytes));
      may_be_repeated_.push_back(may_be_repeated(graph, node));
    }
    group();
  }

  std::size_t most() const { return timeline_.most(); }

  /// Whether less lives at the fullest moment than did.
  bool step() {
    std::vector<Choice> choices = this->choices();
    std::ranges::stable_sort(choices, std::greater<>(), &Choice::worth);
    if (choices.size() > kMostAttempts) choices.resize(kMostAttempts);
    for (const Choice& choice : choices)
      // Where what is given again stays until a copy that comes later, that one is spared.
      for (const bool spares_later : {true, false})
        if (try_out(choice, spares_later)) return true;
    return false;
  }

  const Order& order() const { return order_; }

 private:
  void group() {
    family_ = ValueMap<std::vector<Instance>>(graph_.values.size());
    for (Instance i = 0; i < order_.value_of.size(); ++i)
      if (timeline_.lives[i].is_made) family_[order_.value_of[i]].push_back(i);
    named_.assign(order_.value_of.size(), order_.items.size());
    for (std::size_t at = order_.items.size(); at-- > 0;) {
      const Item& item = order_.items[at];
      for (const std::size_t i : use_of(kernels_, graph_.nodes[item.node].name).unread)
        if (i < item.inputs.size() && item.inputs[i] != kNoInstance) named_[timeline_.lives[item.inputs[i]].root] = at;
    }
  }

  std::vector<Choice> choices() const {
    std::vector<Choice> result;
    const std::size_t full = timeline_.fullest;
    for (Instance i = 0; i < timeline_.lives.size(); ++i) {
      const Life& life = timeline_.lives[i];
      const ValueFacts& fact = facts_[order_.value_of[i]];
      if (!life.is_made || life.root != i || fact.bytes == 0 || fact.is_kept || life.first >= full) continue;
      const auto next = std::ranges::upper_bound(life.reads, full);
      if (next == life.reads.end() || (next != life.reads.begin() && *(next - 1) == full)) continue;
      Choice choice{.at = *next};
      if (!give(order_.value_of[i], fact.bytes, choice)) continue;
      weigh(choice);
      if (choice.gain > 0) result.push_back(std::move(choice));
    }
    return result;
  }

  /// Adds what gives a value, which is no view, at the place of the choice; false where that cannot be.
  bool give(ValueId id, std::size_t wanted, Choice& choice) const {
    const std::ptrdiff_t producer = graph_.producer_index(id);
    if (producer < 0 || !may_be_repeated_[producer]) return false;
    const auto n = static_cast<std::size_t>(producer);
    const std::vector<ValueId>& outputs = graph_.nodes[n].outputs;
    if (!is_given_again(graph_.nodes[n], static_cast<std::size_t>(std::ranges::find(outputs, id) - outputs.begin())))
      return false;
    if (std::ranges::find(choice.nodes, n) != choice.nodes.end()) return true;
    if (choice.nodes.size() >= kMostCopies) return false;
    const std::vector<ValueId>& inputs = graph_.nodes[n].inputs;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (inputs[i] == kNoValue ||
          (!reads(use_of(kernels_, graph_.nodes[n].name), i) && can_be_named(inputs[i], choice.at)))
        continue;
      if (!have(inputs[i], wanted, choice)) return false;
    }
    choice.nodes.push_back(n);
    return true;
  }

  /// Whether some instance can be an operand that is not read.
  bool can_be_named(ValueId id, std::size_t at) const {
    const Node* producer = graph_.producer(id);
    return facts_[id].is_kept || (producer && !is_view_of_operand(*producer) && latest(id, at) != kNoInstance);
  }

  bool have(ValueId id, std::size_t wanted, Choice& choice) const {
    for (const Node* view = graph_.producer(id); view && !facts_[id].is_kept && is_view_of_operand(*view);
         view = graph_.producer(id)) {
      for (std::size_t i = 1; i < view->inputs.size(); ++i)
        if (view->inputs[i] != kNoValue && !facts_[view->inputs[i]].is_kept) return false;
      id = view->inputs[0];
    }
    if (facts_[id].is_kept || lives_at(id, choice.at)) return true;
    if (facts_[id].bytes * kMuchSmaller > wanted) return give(id, wanted, choice);
    const Instance kept = latest(id, choice.at);
    if (kept == kNoInstance) return false;
    if (timeline_.lives[kept].last() < timeline_.fullest) choice.gain -= static_cast<double>(facts_[id].bytes);
    return true;
  }

  bool lives_at(ValueId id, std::size_t at) const {
    return std::ranges::any_of(
        family_[id], [&](Instance i) { return timeline_.lives[i].first < at && timeline_.lives[i].last() >= at; });
  }
  /// The instance before an item that lives longest.
  Instance latest(ValueId id, std::size_t at) const {
    Instance best = kNoInstance;
    for (const Instance i : family_[id])
      if (timeline_.lives[i].first < at &&
          (best == kNoInstance || timeline_.lives[i].last() > timeline_.lives[best].last()))
        best = i;
    return best;
  }

  void weigh(Choice& choice) const {
    const std::size_t full = timeline_.fullest;
    for (const std::size_t n : choice.nodes) {
      choice.cost += time_[n];
      bool spares_later = false, moves = true;
      const std::vector<ValueId>& outputs = graph_.nodes[n].outputs;
      for (std::size_t k = 0; k < outputs.size(); ++k) {
        const ValueId id = outputs[k];
        if (id == kNoValue) continue;
        if (facts_[id].is_kept || !is_given_again(graph_.nodes[n], k)) moves = false;
        if (!is_given_again(graph_.nodes[n], k)) continue;
        for (const Instance i : family_[id]) {
          const Life& life = timeline_.lives[i];
          if (life.first >= choice.at) {
            spares_later = true;
            continue;
          }
          const auto next = std::ranges::lower_bound(life.reads, choice.at);
          if (next != life.reads.begin() || named_[i] < choice.at) moves = false;
          const std::size_t last = next == life.reads.begin() ? life.first : *(next - 1);
          if (!facts_[id].is_kept && life.first <= full && life.last() >= full && last < full)
            choice.gain += static_cast<double>(facts_[id].bytes);
        }
      }
      if (spares_later) choice.cost -= time_[n];
      if (moves) choice.cost -= time_[n];
    }
  }

  bool try_out(const Choice& choice, bool spares_later) {
    Order order = with(choice, spares_later);
    Timeline timeline(graph_, facts_, kernels_, order);
    const auto fullest = [](const Timeline& t) { return std::ranges::count(t.live, t.most()); };
    if (timeline.most() > timeline_.most() ||
        (timeline.most() == timeline_.most() && fullest(timeline) >= fullest(timeline_)))
      return false;
    order_ = std::move(order);
    timeline_ = std::move(timeline);
    group();
    return true;
  }

  Order with(const Choice& choice, bool spares_later) const;

  const Graph& graph_;
  const KernelUses& kernels_;
  ValueMap<ValueFacts> facts_;
  std::vector<double> time_;           // by node
  std::vector<bool> may_be_repeated_;  // by node
  Order order_;
  Timeline timeline_;
  ValueMap<std::vector<Instance>> family_;  // what gives a value
  std::vector<std::size_t> named_;          // by instance: the first item that it is an operand of without being read
};

/// Removes items of which nobody reads a result.
void remove_unread(Order& order, const ValueMap<ValueFacts>& facts) {
  std::vector<std::size_t> reads(order.value_of.size(), 0);
  for (const Item& item : order.items)
    for (const Instance in : item.inputs)
      if (in != kNoInstance) ++reads[in];
  const auto is_read = [&](Instance i) {
    const ValueId id = order.value_of[i];
    return reads[i] > 0 || (facts[id].is_kept && i == id.index());
  };
  std::vector<Item> kept;
  for (auto item = order.items.rbegin(); item != order.items.rend(); ++item) {
    const bool gives = std::ranges::any_of(item->outputs, [&](Instance i) { return i != kNoInstance && is_read(i); });
    if (gives) {
      kept.push_back(std::move(*item));
      continue;
    }
    for (const Instance in : item->inputs)
      if (in != kNoInstance) --reads[in];
  }
  std::ranges::reverse(kept);
  order.items = std::move(kept);
}

Order Recomputation::with(const Choice& choice, bool spares_later) const {
  Order order = order_;
  std::vector<Item> added;
  std::map<ValueId, Instance> given;  // by the items that are added
  const auto add = [&](std::size_t n, std::vector<Instance> inputs) {
    Item item{n, true, std::move(inputs), {}};
    const std::vector<ValueId>& outputs = graph_.nodes[n].outputs;
    for (std::size_t k = 0; k < outputs.size(); ++k) {
      item.outputs.push_back(outputs[k] == kNoValue ? kNoInstance : order.add_instance(outputs[k]));
      if (outputs[k] != kNoValue && is_given_again(graph_.nodes[n], k)) given[outputs[k]] = item.outputs.back();
    }
    added.push_back(std::move(item));
  };
  const auto there = [&](const auto& self, ValueId id) -> Instance {
    if (id == kNoValue) return kNoInstance;
    if (const auto known = given.find(id); known != given.end() && !facts_[id].is_kept) return known->second;
    const Node* view = graph_.producer(id);
    if (facts_[id].is_kept || !view) return id.index();
    if (!is_view_of_operand(*view)) return latest(id, choice.at);
    std::vector<Instance> inputs{self(self, view->inputs[0])};
    const Life& first = timeline_.lives[id.index()];
    if (inputs[0] == view->inputs[0].index() && first.is_made && first.first < choice.at) return id.index();
    for (std::size_t i = 1; i < view->inputs.size(); ++i) inputs.push_back(self(self, view->inputs[i]));
    add(static_cast<std::size_t>(graph_.producer_index(id)), std::move(inputs));
    return given.at(id);
  };
  for (const std::size_t n : choice.nodes) {
    std::vector<Instance> inputs;
    for (const ValueId id : graph_.nodes[n].inputs) inputs.push_back(there(there, id));
    add(n, std::move(inputs));
  }
  // From here on what read another instance reads these.
  for (std::size_t j = choice.at; j < order.items.size(); ++j)
    for (Instance& in : order.items[j].inputs) {
      if (in == kNoInstance) continue;
      const Instance root = timeline_.lives[in].root;
      const ValueId id = order_.value_of[root];
      if (facts_[id].is_kept || !given.contains(id)) continue;
      if (timeline_.lives[root].first >= choice.at && !spares_later) continue;
      in = there(there, order_.value_of[in]);
    }
  order.items.insert(order.items.begin() + static_cast<std::ptrdiff_t>(choice.at),
                     std::make_move_iterator(added.begin()), std::make_move_iterator(added.end()));
  remove_unread(order, facts_);
  return order;
}

/// Makes the graph's nodes those of the order.
class Rewriter {
 public:
  Rewriter(Graph& graph, const Order& order) : graph_(graph), order_(order), ids_(order.value_of) {}

  void rewrite() {
    const std::size_t values = graph_.values.size();
    for (Instance i = values; i < ids_.size(); ++i) {
      const Value& value = graph_[ids_[i]];
      const std::string name = value.name + std::string(kAgain);
      const DType dtype = value.dtype;
      const Shape shape = value.shape;
      ids_[i] = graph_.add_value(name, dtype, shape);
    }
    const std::vector<Node> nodes = graph_.take_nodes();
    std::vector<bool> is_there(nodes.size(), false);
    for (const Item& item : order_.items)
      if (!item.again) is_there[item.node] = true;
    for (const Item& item : order_.items) {
      Node node = nodes[item.node];
      node.inputs = ids(item.inputs);
      node.outputs = ids(item.outputs);
      if (item.again && is_there[item.node]) {
        leave_statistics(node);
        graph_.define(std::move(node.outputs), node.op, node.domain, std::move(node.inputs), node.attributes,
                      node.name + std::string(kAgain));
      } else {  // the node itself, where it was or moved to its first copy
        is_there[item.node] = true;
        graph_.append(std::move(node));
      }
    }
    graph_.remove_dead();
  }

 private:
  std::vector<ValueId> ids(const std::vector<Instance>& instances) const {
    std::vector<ValueId> result;
    for (const Instance i : instances) result.push_back(i == kNoInstance ? kNoValue : ids_[i]);
    return result;
  }

  /// A copy reads zeros instead of running statistics, which are moved by then.
  void leave_statistics(Node& node) {
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      if (node.inputs[i] == kNoValue || !is_unused_statistic(node, i)) continue;
      const Value& value = graph_[node.inputs[i]];
      const DType dtype = value.dtype;
      const Shape shape = value.shape;
      ValueId& zeros = zeros_[{dtype, shape.to_string()}];
      if (zeros == kNoValue) zeros = graph_.add_constant("no_statistics", Tensor(dtype, shape));
      node.inputs[i] = zeros;
    }
  }

  Graph& graph_;
  const Order& order_;
  std::vector<ValueId> ids_;  // by instance
  std::map<std::pair<DType, std::string>, ValueId> zeros_;
};

}  // namespace

Pass recompute(std::size_t live_bytes, KernelUses kernels) {
  return {"recompute", [live_bytes, kernels = std::move(kernels)](Graph& graph) {
            Recomputation recomputation(graph, kernels);
            bool changed = false;
            while (recomputation.most() > live_bytes && recomputation.step()) changed = true;
            if (!changed) return;
            const Order order = recomputation.order();
            Rewriter(graph, order).rewrite();
          }};
}

std::size_t most_live_bytes(const Graph& graph, const KernelUses& kernels) {
  return Timeline(graph, value_facts(graph), kernels, Order(graph)).most();
}

}  // namespace halfstep
