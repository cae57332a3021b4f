#include "executors/core/met_states.h"

#include <utility>

#include <halfstep/ops/op_traits.h>
#include <halfstep/ops/optimizers/optimizer_def.h>

namespace halfstep::core {
namespace {

class Walk {
 public:
  explicit Walk(const Graph& graph) : graph_(graph), met_(graph.values.size(), kNoValue) {}

  void from(const State& state) {
    std::vector<ValueId> open{state.next};
    while (!open.empty()) {
      const ValueId id = open.back();
      open.pop_back();
      const Node* producer = graph_.producer(id);
      if (!producer) continue;
      for (const ValueId input : met_inputs(*producer, id, state.value)) {
        ValueId& met = met_[input];
        if (met != kNoValue || !graph_.producer(input)) continue;
        met = state.value;
        open.push_back(input);
      }
    }
  }

  ValueMap<ValueId> result() { return std::move(met_); }

 private:
  /// The inputs of a node that `output` is computed from element by element.
  std::vector<ValueId> met_inputs(const Node& node, ValueId output, ValueId state) const {
    if (optimizer_of(node)) {
      const StepOperands operands(node);
      for (std::size_t i = 0; i < operands.parameters; ++i)
        if (node.inputs[operands.parameter(i)] == state) return {node.inputs[operands.gradient(i)]};
      return {};
    }
    if (traits_of(node).elementwise == Elementwise::none) return {};
    const Shape& shape = graph_[output].shape;
    std::vector<ValueId> inputs;
    for (const ValueId input : node.inputs) {
      if (input == kNoValue || graph_[input].shape == Shape()) continue;
      if (graph_[input].shape != shape) return {};
      inputs.push_back(input);
    }
    return inputs;
  }

  const Graph& graph_;
  ValueMap<ValueId> met_;
};

}  // namespace

ValueMap<ValueId> find_met_states(const Graph& graph) {
  Walk walk(graph);
  for (const State& state : graph.states)
    if (state.role == StateRole::parameter && state.next != kNoValue) walk.from(state);
  return walk.result();
}

}  // namespace halfstep::core
