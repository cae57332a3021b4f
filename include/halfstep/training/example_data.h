// Made-up data that a model takes: where only types and shapes matter, as for the time of a step.
#pragma once

#include <optional>
#include <string>

#include <halfstep/base/api.h>
#include <halfstep/data/dataset.h>
#include <halfstep/graph/graph.h>
#include <halfstep/graph/named_tensors.h>
#include <halfstep/passes/passes.h>
#include <halfstep/training/options.h>

namespace HALFSTEP_API halfstep {

/// Random inputs, the same in each call: floats from -1 to 1, and integers that are 0 or 1, or indices of the table
/// that they choose rows of. Throws Error(input) where the shapes leave an extent open, and for inputs of strings.
NamedTensors example_inputs(const Graph& model, const InputShapes& shapes);

/// Labels for an output of the model (its first, where none is named) under a loss, or without one under that which an
/// output of its shape mostly has: class indices where it has several classes, else a number for each element. Nothing
/// where the loss takes none. Throws Error(input) for names that there are not.
std::optional<Tensor> example_labels(const Graph& model, const InputShapes& shapes, const std::string& output = {},
                                     const std::optional<std::string>& loss = {});

/// One batch of both, for a training run with these options.
Dataset example_dataset(const Graph& model, const InputShapes& shapes, const TrainerOptions& options);

}  // namespace halfstep
