// Which tensors of a batch a step takes, in the types it takes them in.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include <halfstep/graph/graph.h>
#include <halfstep/graph/named_tensors.h>
#include <halfstep/passes/step/loss_options.h>

namespace halfstep {

/// Tensors in the order of StepValues.
struct FittedBatch {
  std::vector<Tensor> x, labels, sample_weights;
  std::vector<std::string> label_names;  ///< of a function, whose labels are what the batch has

  bool is_like(const FittedBatch& other) const;
};

/// The labels and sample weights that a loss's terms name, each once; a function takes whatever there is.
struct LossInputs {
  explicit LossInputs(const LossOptions& loss);
  bool any = false;
  std::vector<std::string> labels, sample_weights;
};

/// The part of a batch that is inputs of the model. Throws Error(input) for a missing one or one of another type.
std::vector<Tensor> fit_inputs(const NamedTensors& batch, const std::vector<TensorInfo>& inputs);

/// A whole batch: the model's inputs and what the loss takes, and nothing else. Integer labels become i64, floats f32.
/// Throws Error(input) for a missing or unknown name and for other types.
FittedBatch fit_batch(const NamedTensors& batch, const std::vector<TensorInfo>& inputs, const LossInputs& wanted);

/// Where a name stands; nothing where it does not.
std::optional<std::size_t> place_in(const std::vector<std::string>& names, const std::string& name);

/// Labels as a step takes them: integers as i64, floats as f32.
Tensor as_labels(const Tensor& tensor, const std::string& name);

/// The loss for batches like that one.
LossOptions with_types(LossOptions loss, const FittedBatch& batch);

}  // namespace halfstep
