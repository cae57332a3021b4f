// The passes strung together for what users do with a model.
#pragma once

#include <cstdint>

#include <halfstep/base/api.h>
#include <halfstep/graph/capabilities.h>
#include <halfstep/passes/passes.h>

namespace HALFSTEP_API halfstep {

/// What a model is made into.
enum class Purpose : std::uint8_t {
  inference,   ///< its outputs
  scoring,     ///< loss and outputs of a model as it is, without states: nothing of it need be trainable
  prediction,  ///< its outputs with the states of its training step
  validation,  ///< loss and outputs with those states
  forward,     ///< the outputs that a training step computes, by batch statistics and with dropout; moves no state
  gradients,   ///< a training step up to its gradients, which are summed: see accumulate_gradients
  training,    ///< one training step
};
/// Whether parameters are states: all such programs of a model run on one StateStore.
bool has_parameters(Purpose purpose);
/// Whether there is a loss.
bool has_loss(Purpose purpose);

/// What decides about a graph beside the model and its purpose: what a batch is, and what is done with it.
struct StepOptions {
  InputShapes shapes = {};
  DType precision = DType::f32;     ///< f32, f16 or bf16
  LossOptions loss = {};            ///< label shapes include the batch; where the purpose has a loss
  TrainingModeOptions mode = {};    ///< but for training and what is a part of it only its seed counts
  OptimizerOptions optimizer = {};  ///< with its loss_scale; for training, and for gradients the loss_scale
};

/// The part that does not depend on a batch: each parameter under its own name, and where it is going to be trained as
/// an f32 master. What follows is `select_parameters`, where `has_parameters(purpose)`, and `lowering_pipeline`.
Pipeline repair_pipeline(Purpose purpose);

/// From there to what an executor compiles. A training step has the inputs of the model, labels, learning rate and,
/// when accumulating, whether to update; the outputs loss, those of the model, gradient norm, whether gradients are
/// finite and, where they are asked for, loss scale and norms by parameter: see StepValues. No input or state is of a
/// half type.
Pipeline lowering_pipeline(Purpose purpose, const StepOptions& options, const Capabilities& capabilities);

/// From graph_of_sums to the rest of the training step: an update by the sums of gradients.
Pipeline update_pipeline(const StepOptions& options, const Capabilities& capabilities);

/// All of it.
Pipeline whole_pipeline(Purpose purpose, const StepOptions& options, const Capabilities& capabilities,
                        const ParameterSelection& parameters = {});

}  // namespace halfstep
