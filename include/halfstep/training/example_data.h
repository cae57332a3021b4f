// Synthetic data for a model, for purposes where only types and shapes matter, such as measuring the time of a step.
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

/// Gives the inputs of a model that was exported for one batch size the one of `shapes`, unless they are in it by name,
/// where the model supports others. Where it does not, `shapes.batch` becomes the model's, and the result says why.
std::string take_batch(const Graph& model, InputShapes& shapes);

/// Random inputs, the same in each call: floats from -1 to 1, and integers that are 0 or 1, or valid indices if they
/// select rows of a table. Throws Error(input) if an extent is unknown, and for inputs of strings.
NamedTensors example_inputs(const Graph& model, const InputShapes& shapes);

/// Labels for an output of the model (by default its first) and a loss. Without a loss they are those of the usual loss
/// for an output of its shape: class indices if it has several classes, else a number for each element. Nothing if the
/// loss takes no labels. Throws Error(input) for unknown names.
std::optional<Tensor> example_labels(const Graph& model, const InputShapes& shapes, const std::string& output = {},
                                     const std::optional<std::string>& loss = {});

/// One batch of inputs and labels, for a training run with these options; of a model that supports only the batch size
/// that it was exported for, one of that size for each rank.
Dataset example_dataset(const Graph& source, InputShapes shapes, const TrainerOptions& options);

}  // namespace halfstep
