#include "passes/fuse/fuse_attention.h"
#include "passes/load/free_batch.h"
#include "passes/load/random_numbers.h"
#include "passes/simplify/control_flow.h"
#include "passes/simplify/write_out_operators.h"
#include "passes/step/reduce_over_ranks.h"
#include "passes/step/shard_optimizer.h"
#include "passes/step/sync_batchnorm.h"
#include <halfstep/passes/pipelines.h>

namespace halfstep {
namespace {

void append(Pipeline& pipeline, const Pipeline& more) { pipeline.insert(pipeline.end(), more.begin(), more.end()); }

Pipeline finish(const Capabilities& capabilities) {
  return {fold_constants(), eliminate_common_subexpressions(), fuse(capabilities.fusions), remove_dead_nodes(),
          fuse_chains(capabilities.chains)};
}

void add_optimizer(Pipeline& pipeline, const OptimizerOptions& optimizer, const RankOptions& ranks,
                   const Capabilities& capabilities) {
  pipeline.push_back(attach_optimizer(optimizer));
  if (ranks.ranks > 1 && ranks.sharded_optimizer) pipeline.push_back(shard_optimizer(ranks));
  pipeline.push_back(write_out_update(capabilities.updates));
}

void add_half_copies(Pipeline& pipeline, const Capabilities& capabilities) {
  if (capabilities.half_copies) pipeline.push_back(keep_half_copies());
}

// What each purpose takes of a training step.
struct Parts {
  bool parameters = false;  // as states
  bool loss = false;
  bool moves = false;      // it is in training form: batch statistics, dropout, numbers of this step
  bool gradients = false;  // backpropagation
  bool optimizer = false;
};
constexpr Parts parts_of(Purpose purpose) {
  switch (purpose) {
    case Purpose::inference:
      return {};
    case Purpose::scoring:
      return {.loss = true};
    case Purpose::prediction:
      return {.parameters = true};
    case Purpose::validation:
      return {.parameters = true, .loss = true};
    case Purpose::forward:
      return {.parameters = true, .moves = true};
    case Purpose::gradients:
      return {.parameters = true, .loss = true, .moves = true, .gradients = true};
    case Purpose::training:
      return {.parameters = true, .loss = true, .moves = true, .gradients = true, .optimizer = true};
  }
  return {};
}

}  // namespace

bool has_parameters(Purpose purpose) { return parts_of(purpose).parameters; }
bool has_loss(Purpose purpose) { return parts_of(purpose).loss; }

Pipeline repair_pipeline(Purpose purpose) {
  Pipeline pipeline;
  if (has_parameters(purpose)) append(pipeline, {widen_half(), hoist_initializers()});
  append(pipeline, {separate_merged_parameters(),
                    has_parameters(purpose) ? undo_batch_expansion_for_training() : undo_batch_expansion()});
  return pipeline;
}

Pipeline lowering_pipeline(Purpose purpose, const StepOptions& options, const Capabilities& capabilities) {
  const Parts parts = parts_of(purpose);
  const bool evaluates = parts.parameters && !parts.moves;  // beside training
  const Pipeline simplify{fold_constants(), inline_control_flow(), write_out_operators(/*before_gradient=*/true),
                          canonicalize(),   compose_gelu(),        simplify_masks()};
  Pipeline pipeline{bind_shapes(options.shapes)};
  if (!parts.parameters) pipeline.push_back(to_inference_mode());
  append(pipeline, simplify);
  pipeline.push_back(draw_by_counter(options.mode.seed, evaluates ? DrawingFor::evaluation : DrawingFor::steps));
  if (parts.moves) pipeline.push_back(to_training_mode(options.mode));
  // Running statistics become states here too: they are what the training step has moved.
  if (evaluates) append(pipeline, {statistics_to_states(), to_inference_mode()});
  if (parts.moves && !parts.gradients) pipeline.push_back(hold_states());
  if (parts.loss) pipeline.push_back(attach_loss(options.loss));
  if (parts.loss && options.loss.function.write) append(pipeline, simplify);
  const bool on_ranks = parts.gradients && options.ranks.ranks > 1;
  if (on_ranks) pipeline.push_back(share_loss(options.loss));
  if (on_ranks && options.ranks.sync_batchnorm) pipeline.push_back(sync_batchnorm());
  pipeline.push_back(fuse_attention(capabilities.fusions));
  pipeline.push_back(mixed_precision({.half = options.precision, .keep_full_ops = {}}));
  if (parts.gradients)
    append(pipeline, {differentiate(), scale_loss(options.optimizer.loss_scale, /*by_weight=*/!parts.optimizer)});
  pipeline.push_back(write_out_operators(/*before_gradient=*/false));
  if (on_ranks) pipeline.push_back(reduce_over_ranks(options.ranks));
  if (parts.gradients && !parts.optimizer) pipeline.push_back(accumulate_gradients());
  if (parts.optimizer) add_optimizer(pipeline, options.optimizer, options.ranks, capabilities);
  if (parts.parameters) add_half_copies(pipeline, capabilities);
  append(pipeline, finish(capabilities));
  return pipeline;
}

Pipeline update_pipeline(const StepOptions& options, const Capabilities& capabilities) {
  OptimizerOptions optimizer = options.optimizer;
  optimizer.accumulate = 1;
  Pipeline pipeline;
  add_optimizer(pipeline, optimizer, options.ranks, capabilities);
  add_half_copies(pipeline, capabilities);
  append(pipeline, finish(capabilities));
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
