// The passes strung together for what users do with a model.
#pragma once

#include <cstdint>

#include "executors/executor.h"
#include "passes/passes.h"

namespace halfstep {

/// Everything that decides what a training step is.
struct TrainingOptions {
  ParameterSelection parameters;
  TrainingModeOptions mode;
  LossOptions loss;              ///< label_shape includes the batch
  DType precision = DType::f32;  ///< f32, f16 or bf16
  OptimizerOptions optimizer;    ///< with its loss_scale
  InputShapes shapes;
};

/// The model in the form in which its parameters are chosen: as f32 masters, each under its own name.
Pipeline choosing_pipeline();

/// From a loaded model to one training step: inputs (the model's, "labels", "learning_rate"[, "update"]), outputs
/// ("loss", the model's, "grad_norm", "grads_finite"[, "loss_scale"][, "grad_norm.NAME"…]), states. No input or state
/// is of a half type.
Pipeline training_pipeline(const TrainingOptions& options, const Capabilities& capabilities);

/// The same states with loss and outputs only, in inference form: for evaluating while training. The state names are
/// those of the training step, so that both run on one StateStore.
Pipeline evaluation_pipeline(const TrainingOptions& options, const Capabilities& capabilities);

/// A model as it is with loss and outputs, without states: for evaluating one that is not being trained. Needs neither
/// gradients nor anything to train; of the options it looks at loss, precision and shapes.
Pipeline scoring_pipeline(const TrainingOptions& options, const Capabilities& capabilities);

/// A model as it is, for running: shapes bound, constants folded, precision chosen, fused.
Pipeline inference_pipeline(const InputShapes& shapes, DType precision, const Capabilities& capabilities);

}  // namespace halfstep
