#include "passes/load/random_numbers.h"
#include "passes/simplify/control_flow.h"
#include <halfstep/passes/pipelines.h>

namespace halfstep {
namespace {

void append(Pipeline& pipeline, const Pipeline& more) { pipeline.insert(pipeline.end(), more.begin(), more.end()); }

}  // namespace

bool has_parameters(Purpose purpose) { return purpose == Purpose::validation || purpose == Purpose::training; }

Pipeline repair_pipeline(Purpose purpose) {
  Pipeline pipeline;
  if (has_parameters(purpose)) append(pipeline, {widen_half(), hoist_initializers()});
  append(pipeline, {separate_merged_parameters(), undo_batch_expansion()});
  return pipeline;
}

Pipeline lowering_pipeline(Purpose purpose, const StepOptions& options, const Capabilities& capabilities) {
  const bool trains = purpose == Purpose::training, validates = purpose == Purpose::validation;
  Pipeline pipeline{bind_shapes(options.shapes)};
  if (!has_parameters(purpose)) pipeline.push_back(to_inference_mode());
  append(pipeline, {fold_constants(), inline_control_flow(), canonicalize(), compose_gelu(),
                    draw_by_counter(options.mode.seed, validates ? DrawingFor::evaluation : DrawingFor::steps)});
  if (trains) pipeline.push_back(to_training_mode(options.mode));
  // Running statistics become states here too: they are what the training step has moved.
  if (validates) append(pipeline, {statistics_to_states(), to_inference_mode()});
  if (purpose != Purpose::inference) pipeline.push_back(attach_loss(options.loss));
  pipeline.push_back(mixed_precision({.half = options.precision, .keep_full_ops = {}}));
  if (trains)
    append(pipeline, {differentiate(), scale_loss(options.optimizer.loss_scale), attach_optimizer(options.optimizer),
                      write_out_update(capabilities.fused)});
  append(pipeline,
         {fold_constants(), eliminate_common_subexpressions(), fuse(capabilities.fused), remove_dead_nodes()});
  return pipeline;
}

Pipeline whole_pipeline(Purpose purpose, const StepOptions& options, const Capabilities& capabilities,
                        const ParameterSelection& parameters) {
  Pipeline pipeline = repair_pipeline(purpose);
  if (has_parameters(purpose)) pipeline.push_back(select_parameters(parameters));
  append(pipeline, lowering_pipeline(purpose, options, capabilities));
  return pipeline;
}

}  // namespace halfstep
