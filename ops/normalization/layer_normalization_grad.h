// The gradient of LayerNormalization over the last axis as one operator, part of normalization_ops().
#pragma once

#include <span>

#include <halfstep/ops/op_def.h>

namespace halfstep::ops {

std::span<const OpDef> layer_normalization_grad_ops();

}  // namespace halfstep::ops
