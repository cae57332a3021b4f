// What training starts with, by the model and what is asked for: the same in a run and step by step.
#pragma once

#include <optional>

#include <halfstep/base/dtype.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/passes/passes.h>

namespace halfstep {

/// The selection with what the model's file says of its exporter.
ParameterSelection knowing_exporter(ParameterSelection selection, const LoadedModel& model);

/// Throws Error(input) for a first loss scale that is out of its range; 0 is none.
void check_loss_scale(const std::optional<double>& asked);

/// The first loss scale and whether there is one: as asked for, else for f16 alone the usual one, within the bounds.
LossScaleOptions starting(LossScaleOptions scale, const std::optional<double>& asked, DType precision);

}  // namespace halfstep
