// What training starts with, by the model and what is asked for: the same in a run and step by step.
#pragma once

#include <optional>

#include <halfstep/base/dtype.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/passes/passes.h>
#include <halfstep/passes/step/rank_options.h>

namespace halfstep {

/// The selection with what the model's file says of its exporter.
ParameterSelection knowing_exporter(ParameterSelection selection, const LoadedModel& model);

/// Throws Error(input) for a first loss scale that is out of its range; 0 is none.
void check_loss_scale(const std::optional<double>& asked);

/// Throws Error(input) for a type in which ranks cannot add up gradients.
void check_gradient_dtype(DType dtype, bool has_loss_scale);

/// What the programs of ranks are made with, of TrainerOptions and TrainingStepOptions.
template <class Options>
RankOptions rank_options(const Options& options) {
  return {.ranks = options.ranks ? options.ranks->size() : 1,
          .rank = options.ranks ? options.ranks->rank() : 0,
          .bucket_bytes = options.bucket_bytes,
          .sync_batchnorm = options.sync_batchnorm,
          .sharded_optimizer = options.sharded_optimizer,
          .gradient_dtype = options.gradient_dtype};
}

/// The first loss scale and whether there is one: as asked for, else for f16 alone the usual one, within the bounds.
LossScaleOptions starting(LossScaleOptions scale, const std::optional<double>& asked, DType precision);

}  // namespace halfstep
