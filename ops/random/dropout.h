// Rows of the operator table for Dropout and PhiloxDropout, part of normalization_ops().
#pragma once

#include <span>

#include <halfstep/ops/op_def.h>

namespace halfstep::ops {

std::span<const OpDef> dropout_ops();

}  // namespace halfstep::ops
