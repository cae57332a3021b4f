// Rows of the operator table for BatchNormalization and its gradient, part of normalization_ops().
#pragma once

#include <span>

#include <halfstep/ops/op_def.h>

namespace halfstep::ops {

std::span<const OpDef> batch_normalization_ops();

}  // namespace halfstep::ops
