#include "passes/pipelines.h"

#include "passes/control_flow.h"
#include "passes/random_numbers.h"

namespace halfstep {
namespace {

void append(Pipeline& pipeline, const Pipeline& more) { pipeline.insert(pipeline.end(), more.begin(), more.end()); }

// What the training step and its evaluation share: parameters are states, shapes known, nothing superfluous left.
Pipeline trainable_model(const TrainingOptions& options) {
  Pipeline pipeline = choosing_pipeline();
  append(pipeline, {select_parameters(options.parameters), bind_shapes(options.shapes), fold_constants(),
                    inline_control_flow(), canonicalize(), compose_gelu()});
  return pipeline;
}

Pipeline finish(const Capabilities& capabilities) {
  return {fold_constants(), eliminate_common_subexpressions(), fuse(capabilities.fused), remove_dead_nodes()};
}

}  // namespace

Pipeline choosing_pipeline() {
  return {widen_half(), hoist_initializers(), separate_merged_parameters(), undo_batch_expansion()};
}

Pipeline training_pipeline(const TrainingOptions& options, const Capabilities& capabilities) {
  Pipeline pipeline = trainable_model(options);
  append(pipeline, {draw_by_counter(options.mode.seed), to_training_mode(options.mode), attach_loss(options.loss),
                    mixed_precision({.half = options.precision, .keep_full_ops = {}}), differentiate(),
                    scale_loss(options.optimizer.loss_scale), attach_optimizer(options.optimizer)});
  append(pipeline, finish(capabilities));
  return pipeline;
}

Pipeline evaluation_pipeline(const TrainingOptions& options, const Capabilities& capabilities) {
  Pipeline pipeline = trainable_model(options);
  // Running statistics become states here too: they are what the training step has moved.
  append(pipeline,
         {draw_by_counter(options.mode.seed, DrawingFor::evaluation), statistics_to_states(), to_inference_mode(),
          attach_loss(options.loss), mixed_precision({.half = options.precision, .keep_full_ops = {}})});
  append(pipeline, finish(capabilities));
  return pipeline;
}

Pipeline scoring_pipeline(const TrainingOptions& options, const Capabilities& capabilities) {
  Pipeline pipeline{separate_merged_parameters(),
                    undo_batch_expansion(),
                    bind_shapes(options.shapes),
                    to_inference_mode(),
                    fold_constants(),
                    inline_control_flow(),
                    canonicalize(),
                    compose_gelu(),
                    draw_by_counter(options.mode.seed),
                    attach_loss(options.loss),
                    mixed_precision({.half = options.precision, .keep_full_ops = {}})};
  append(pipeline, finish(capabilities));
  return pipeline;
}

Pipeline inference_pipeline(const InputShapes& shapes, DType precision, const Capabilities& capabilities) {
  Pipeline pipeline{separate_merged_parameters(),
                    undo_batch_expansion(),
                    bind_shapes(shapes),
                    to_inference_mode(),
                    fold_constants(),
                    inline_control_flow(),
                    canonicalize(),
                    compose_gelu(),
                    draw_by_counter(/*seed=*/0),
                    mixed_precision({.half = precision, .keep_full_ops = {}})};
  append(pipeline, finish(capabilities));
  return pipeline;
}

}  // namespace halfstep
