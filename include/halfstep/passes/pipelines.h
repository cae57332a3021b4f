// Pipelines of passes for training, inference and other purposes.
#pragma once

#include <cstdint>

#include <halfstep/base/api.h>
#include <halfstep/graph/capabilities.h>
#include <halfstep/passes/passes.h>
#include <halfstep/passes/step/rank_options.h>

namespace HALFSTEP_API halfstep {

/// The purpose of a program.
enum class Purpose : std::uint8_t {
  inference,   ///< its outputs
  scoring,     ///< loss and outputs of a model as it is, without states: it need not be trainable
  prediction,  ///< its outputs with the states of its training step
  validation,  ///< loss and outputs with those states
  forward,     ///< the outputs of a training step, with batch statistics and dropout; updates no state
  gradients,   ///< a training step up to its gradients, which are summed: see accumulate_gradients
  training,    ///< one training step
};
/// Whether parameters are states: all such programs of a model share one StateStore.
bool has_parameters(Purpose purpose);
/// Whether there is a loss.
bool has_loss(Purpose purpose);

/// Options of a graph, in addition to the model and its purpose: the batch, and the computation on it.
struct StepOptions {
  InputShapes shapes = {};
  DType precision = DType::f32;     ///< f32, f16 or bf16
  LossOptions loss = {};            ///< label shapes include the batch; if the purpose has a loss
  TrainingModeOptions mode = {};    ///< used by training and its parts; other purposes use only the seed
  OptimizerOptions optimizer = {};  ///< including loss_scale; for training (for gradients only the loss_scale)
  RankOptions ranks = {};           ///< for the purposes that have gradients
};

/// The part that does not depend on the batch: separates merged parameters and, for training, widens them to f32 master
/// weights. It is followed by `select_parameters`, if `has_parameters(purpose)`, and `lowering_pipeline`.
Pipeline repair_pipeline(Purpose purpose);

/// From there to the graph that an executor compiles. A training step has the inputs of the model, labels, learning
/// rate and, when accumulating, whether to update; the outputs are the loss, those of the model, the gradient norm,
/// whether gradients are finite and, if requested, the loss scale and norms by parameter: see StepValues. No input or
/// state has a half type.
Pipeline lowering_pipeline(Purpose purpose, const StepOptions& options, const Capabilities& capabilities);

/// From graph_of_sums to the rest of the training step: an update with the sums of gradients.
Pipeline update_pipeline(const StepOptions& options, const Capabilities& capabilities);

/// All of these.
Pipeline whole_pipeline(Purpose purpose, const StepOptions& options, const Capabilities& capabilities,
                        const ParameterSelection& parameters = {});

}  // namespace halfstep
