// Rows of the operator table for products of training steps, part of matmul's.
#pragma once

#include <span>

#include <halfstep/ops/op_def.h>

namespace halfstep::ops {

std::span<const OpDef> gemm_training_ops();  // GemmActivation GemmActivationGrad GemmSums

}  // namespace halfstep::ops
