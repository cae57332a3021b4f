// The values of a training step by what they are.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include <halfstep/graph/graph.h>

namespace halfstep {

/// What the passes that made a graph a step handed over; kNoValue where the step has no such value. Good until the
/// graph changes.
struct StepValues {
  explicit StepValues(const Graph& graph);

  // Inputs.
  std::vector<ValueId> data;            ///< all that take a batch, but for labels and weights
  std::vector<ValueId> labels;          ///< in the order of the loss's terms, each once
  std::vector<ValueId> sample_weights;  ///< the same
  ValueId learning_rate, update, loss_weight, first;
  ValueId loss_shares;  ///< of each term: see share_loss
  // Outputs.
  ValueId loss;
  std::vector<ValueId> terms;        ///< of a loss of several
  std::vector<ValueId> predictions;  ///< of each term: what metrics compare with its labels
  std::vector<ValueId> outputs;      ///< the model's, in its order, but for one that is the loss
  ValueId gradient_norm, gradients_finite;
  // States.
  ValueId loss_scale;  ///< an output as well: the one that the step used
  ValueId updates;

  struct Parameter {
    ValueId value = kNoValue;
    ValueId gradient = kNoValue;  ///< from `differentiate` until an optimizer has used it
    ValueId gradient_norm = kNoValue;
    ValueId accumulator = kNoValue;   ///< a state: see accumulate_gradients
    std::vector<ValueId> slots = {};  ///< states: moments, and the means of gradients so far
  };
  std::vector<Parameter> parameters;

  /// Of the first term.
  ValueId prediction() const { return predictions.empty() ? kNoValue : predictions.front(); }
};

/// The place of `id` in a list; unset where it is not there.
std::optional<std::size_t> place_of(ValueId id, const std::vector<ValueId>& list);

}  // namespace halfstep
