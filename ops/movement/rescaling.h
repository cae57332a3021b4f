// Rows of the operator table for normalizations without learned statistics, part of normalization_ops().
#pragma once

#include <span>

#include <halfstep/ops/op_def.h>

namespace halfstep::ops {

std::span<const OpDef> rescaling_ops();  // RMSNormalization LpNormalization MeanVarianceNormalization LRN

}  // namespace halfstep::ops
