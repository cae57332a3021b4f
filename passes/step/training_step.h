// The values of a training step by what they are.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include <halfstep/graph/graph.h>

namespace halfstep {

/// What the passes that made a graph a step handed over; kNoValue where the step has no such value. Good until the
/// graph changes.
struct TrainingStep {
  explicit TrainingStep(const Graph& graph);

  // Inputs.
  std::vector<ValueId> data;  ///< all that take a batch, but for the labels
  ValueId labels, learning_rate, update;
  // Outputs.
  ValueId loss, prediction, gradient_norm, gradients_finite;
  // States.
  ValueId loss_scale;  ///< an output as well: the one that the step used
  ValueId updates;

  struct Parameter {
    ValueId value = kNoValue;
    ValueId gradient = kNoValue;  ///< from `differentiate` until an optimizer has used it
    ValueId gradient_norm = kNoValue;
    std::vector<ValueId> slots = {};  ///< states: moments, accumulators
  };
  std::vector<Parameter> parameters;
};

/// The place of `id` in a list; unset where it is not there.
std::optional<std::size_t> place_of(ValueId id, const std::vector<ValueId>& list);

}  // namespace halfstep
