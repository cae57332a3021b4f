#include "passes/step/step_values.h"

#include <algorithm>

namespace halfstep {
namespace {

std::vector<ValueId> all_of(const Graph& graph, StepRole role) {
  std::vector<ValueId> ids;
  for (const StepValue& v : graph.step)
    if (v.role == role) ids.push_back(v.value);
  return ids;
}

}  // namespace

StepValues::StepValues(const Graph& graph)
    : labels(all_of(graph, StepRole::labels)),
      sample_weights(all_of(graph, StepRole::sample_weights)),
      learning_rate(graph.find(StepRole::learning_rate)),
      update(graph.find(StepRole::update)),
      loss_weight(graph.find(StepRole::loss_weight)),
      first(graph.find(StepRole::first)),
      loss_shares(graph.find(StepRole::loss_shares)),
      loss(graph.find(StepRole::loss)),
      terms(all_of(graph, StepRole::term)),
      predictions(all_of(graph, StepRole::prediction)),
      outputs(all_of(graph, StepRole::output)),
      gradient_norm(graph.find(StepRole::gradient_norm)),
      gradients_finite(graph.find(StepRole::gradients_finite)),
      loss_scale(graph.find(StepRole::loss_scale)),
      updates(graph.find(StepRole::updates)) {
  if (loss == kNoValue && gradients_finite == kNoValue) outputs = graph.outputs;  // nothing but the model's
  const auto is_data = [&](ValueId in) {
    for (const auto* given : {&labels, &sample_weights})
      if (place_of(in, *given)) return false;
    return in != learning_rate && in != update && in != loss_weight && in != first && in != loss_shares;
  };
  std::ranges::copy_if(graph.inputs, std::back_inserter(data), is_data);
  for (const State& state : graph.states)
    if (state.role == StateRole::parameter)
      parameters.push_back({.value = state.value,
                            .gradient = state.gradient,
                            .gradient_norm = graph.find(StepRole::gradient_norm, state.value),
                            .accumulator = graph.find(StepRole::accumulator, state.value)});
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
