// Gradients that are kept until somebody asks for an update: one graph sums them, another one updates by the sums.
#include <fmt/format.h>

#include "graph/placeholder.h"
#include "passes/step/step_writing.h"
#include <halfstep/base/error.h>
#include <halfstep/passes/passes.h>

namespace halfstep {
namespace {

void accumulate(Graph& graph) {
  graph.opsets.try_emplace(std::string(kOwnDomain), 1);
  Builder b(graph);
  b.set_context("gradients");
  const TrainedParameters p = take_gradients(b);
  const Expr first = add_scalar_input(b, "first", DType::boolean, StepRole::first);
  std::vector<Expr> sums;
  for (std::size_t i = 0; i < p.values.size(); ++i) {
    const StateSlot sum = add_state(b, name_with(kAccumulatorPrefix, p.values[i]),
                                    zeros_of(p.values[i].dtype(), p.values[i].shape()), StateRole::accumulator);
    as(StepRole::accumulator, sum.now, p.values[i]);
    // Not a product: what is left of an infinite gradient would stay.
    sums.push_back(select(first, p.gradients[i], sum.now + p.gradients[i]));
    set_next(b, sum, sums.back());
  }
  const GradientCheck check = check_gradients(b, sums);
  hold_states_unless(b, check.finite);
  add_output(check.norm, "grad_norm", StepRole::gradient_norm);
  add_output(check.finite, "grads_finite", StepRole::gradients_finite);
}

}  // namespace

Pass accumulate_gradients() { return {"accumulate_gradients", accumulate}; }

Graph graph_of_sums(const Graph& trainable, const std::map<std::string, std::string>& sums,
                    const std::string& loss_scale, const std::map<std::string, DType>& copies) {
  Graph graph = trainable;
  graph.take_nodes();
  graph.inputs.clear();
  graph.outputs.clear();
  graph.step.clear();
  std::erase_if(graph.states, [&](const State& state) { return !sums.contains(graph[state.value].name); });
  const auto require_name = [&](ValueId id, const std::string& name) {
    if (graph[id].name != name)
      throw_failure(fmt::format("the name '{}' for a state", name), "a value of that name", "");
  };
  for (std::size_t i = 0, count = graph.states.size(); i < count; ++i) {
    const State parameter = graph.states[i];
    const std::string& name = sums.at(graph[parameter.value].name);
    const ValueId sum =
        graph.add_state(name, zeros_of(parameter.initial.dtype(), parameter.initial.shape()), StateRole::accumulator);
    require_name(sum, name);
    graph.states[i].role = StateRole::parameter;
    graph.states[i].next = kNoValue;
    graph.states[i].gradient = sum;
    graph.step.push_back({StepRole::accumulator, sum, parameter.value});
    if (const auto copy = copies.find(graph[parameter.value].name); copy != copies.end())
      add_half_copy(graph, parameter.value, copy->second);
  }
  if (!loss_scale.empty()) {
    const ValueId scale = graph.add_state(loss_scale, Tensor::scalar(1.0f), StateRole::loss_scale);
    require_name(scale, loss_scale);
    graph.step.push_back({StepRole::loss_scale, scale});
  }
  graph.remove_dead();
  return graph;
}

Pass hold_states() {
  return {"hold_states", [](Graph& graph) {
            for (State& state : graph.states) state.next = kNoValue;
            graph.remove_dead();
          }};
}

}  // namespace halfstep
