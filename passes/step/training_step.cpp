#include "passes/step/training_step.h"

#include <algorithm>

namespace halfstep {

TrainingStep::TrainingStep(const Graph& graph)
    : labels(graph.find(StepRole::labels)),
      learning_rate(graph.find(StepRole::learning_rate)),
      update(graph.find(StepRole::update)),
      loss(graph.find(StepRole::loss)),
      prediction(graph.find(StepRole::prediction)),
      gradient_norm(graph.find(StepRole::gradient_norm)),
      gradients_finite(graph.find(StepRole::gradients_finite)),
      loss_scale(graph.find(StepRole::loss_scale)),
      updates(graph.find(StepRole::updates)) {
  for (const ValueId in : graph.inputs)
    if (in != labels && in != learning_rate && in != update) data.push_back(in);
  for (const State& state : graph.states)
    if (state.role == StateRole::parameter)
      parameters.push_back({state.value, state.gradient, graph.find(StepRole::gradient_norm, state.value)});
  for (const StepValue& v : graph.step) {
    if (v.role != StepRole::slot) continue;
    const auto owner = std::ranges::find(parameters, v.parameter, &Parameter::value);
    if (owner != parameters.end()) owner->slots.push_back(v.value);
  }
}

std::optional<std::size_t> place_of(ValueId id, const std::vector<ValueId>& list) {
  const auto it = std::find(list.begin(), list.end(), id);
  if (id == kNoValue || it == list.end()) return {};
  return static_cast<std::size_t>(it - list.begin());
}

}  // namespace halfstep
