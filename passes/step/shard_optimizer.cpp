#include "passes/step/shard_optimizer.h"

#include <algorithm>
#include <cstddef>
#include <set>
#include <utility>
#include <vector>

#include "ops/collective/all_reduce.h"
#include <halfstep/graph/tensor_bytes.h>
#include <halfstep/ops/optimizers/optimizer_def.h>

namespace halfstep {
namespace {

std::size_t bytes_of(const TensorInfo& type) { return bytes_of(type.dtype, type.shape); }

/// A parameter, before and after the update.
struct Updated {
  std::string name;
  ValueId now = kNoValue, next = kNoValue;
  int owner = 0;
};

class Sharding {
 public:
  Sharding(Graph& graph, const RankOptions& options) : graph_(graph), options_(options) {}

  void write() {
    std::vector<Node> nodes = graph_.take_nodes();
    find_owners(nodes);
    for (Node& node : nodes) {
      if (starts_all_reduce(node)) last_started_ = node.outputs[0];
      if (const OptimizerDef* row = optimizer_of(node); row && !keep_own(node, *row)) continue;
      graph_.append(std::move(node));
    }
    remove_states();
    gather();
  }

 private:
  void find_owners(const std::vector<Node>& nodes) {
    if (!options_.owners.empty()) {
      owners_ = options_.owners;
      return;
    }
    std::vector<TensorInfo> parameters;
    for (const Node& node : nodes) {
      if (!optimizer_of(node)) continue;
      const StepOperands operands(node);
      for (std::size_t i = 0; i < operands.parameters; ++i) {
        const Value& value = graph_[node.inputs[operands.parameter(i)]];
        parameters.push_back({value.name, value.dtype, value.shape});
      }
    }
    owners_ = owners_of(parameters, options_.ranks);
  }

  /// False where none of the node's parameters is this rank's.
  bool keep_own(Node& node, const OptimizerDef& row) {
    const StepOperands operands(node);
    std::vector<Shape> shapes;
    for (std::size_t i = 0; i < operands.parameters; ++i)
      shapes.push_back(graph_[node.inputs[operands.parameter(i)]].shape);
    const SlotPlaces places = slot_places(row, Hyperparameters(row, node.attributes), shapes);
    std::vector<ValueId> parameters, gradients, next;
    std::vector<bool> keeps_slot(node.outputs.size() - operands.parameters, false);
    for (std::size_t i = 0; i < operands.parameters; ++i) {
      const ValueId now = node.inputs[operands.parameter(i)];
      const int owner = owners_.at(graph_[now].name);
      updated_.push_back({graph_[now].name, now, node.outputs[i], owner});
      if (owner != options_.rank) continue;
      parameters.push_back(now);
      gradients.push_back(node.inputs[operands.gradient(i)]);
      next.push_back(node.outputs[i]);
      for (const auto& place : places[i])
        if (place) keeps_slot[*place] = true;
    }
    std::vector<ValueId> inputs(node.inputs.begin(), node.inputs.begin() + StepOperands::kScalars);
    inputs.insert(inputs.end(), parameters.begin(), parameters.end());
    inputs.insert(inputs.end(), gradients.begin(), gradients.end());
    for (std::size_t i = 0; i < keeps_slot.size(); ++i) {
      const ValueId slot = node.inputs[operands.first_slot() + i];
      if (!keeps_slot[i]) {
        gone_.insert(slot);
        continue;
      }
      inputs.push_back(slot);
      next.push_back(node.outputs[operands.parameters + i]);
    }
    node.inputs = std::move(inputs);
    node.outputs = std::move(next);
    return !parameters.empty();
  }

  void remove_states() {
    std::erase_if(graph_.states, [&](const State& state) { return gone_.contains(state.value); });
    std::erase_if(graph_.step, [&](const StepValue& value) { return gone_.contains(value.value); });
  }

  void gather() {
    std::ranges::sort(updated_, {}, [](const Updated& one) { return std::pair(one.owner, one.name); });
    std::vector<ValueId> inputs{last_started_}, now, next;
    std::vector<std::int64_t> owners;
    for (const Updated& one : updated_) {
      if (one.owner == options_.rank) {
        inputs.push_back(one.next);
        continue;
      }
      now.push_back(one.now);
      next.push_back(one.next);
      owners.push_back(one.owner);
    }
    // Without a result that is read, the node would be removed.
    if (next.empty()) {
      const ValueId sent = inputs[1];
      now.push_back(sent);
      next.push_back(graph_.add_value(graph_[sent].name + ".gathered", graph_[sent].dtype, graph_[sent].shape));
      owners.push_back(options_.rank);
      for (State& state : graph_.states)
        if (state.next == sent) state.next = next[0];
    }
    inputs.insert(inputs.end(), now.begin(), now.end());
    Attributes attributes;
    attributes.set("owners", std::move(owners));
    graph_.define(std::move(next), "GatherFromRanks", kOwnDomain, std::move(inputs), std::move(attributes),
                  "gather_parameters");
  }

  Graph& graph_;
  const RankOptions& options_;
  std::map<std::string, int> owners_;
  std::vector<Updated> updated_;
  std::set<ValueId> gone_;  // slots of others
  ValueId last_started_ = kNoValue;
};

}  // namespace

std::map<std::string, int> owners_of(std::span<const TensorInfo> parameters, int ranks) {
  std::vector<const TensorInfo*> largest_first;
  for (const TensorInfo& parameter : parameters) largest_first.push_back(&parameter);
  std::ranges::sort(largest_first, [](const TensorInfo* a, const TensorInfo* b) {
    return std::pair(bytes_of(*b), a->name) < std::pair(bytes_of(*a), b->name);
  });
  std::vector<std::size_t> bytes(static_cast<std::size_t>(ranks), 0);
  std::map<std::string, int> owners;
  for (const TensorInfo* parameter : largest_first) {
    const auto least = std::ranges::min_element(bytes);
    *least += bytes_of(*parameter);
    owners[parameter->name] = static_cast<int>(least - bytes.begin());
  }
  return owners;
}

Pass shard_optimizer(RankOptions options) {
  return {"shard_optimizer", [options = std::move(options)](Graph& graph) { Sharding(graph, options).write(); }};
}

}  // namespace halfstep
