// An activation behind a oneDNN primitive.
#pragma once

#include "executors/onednn/kernel.h"
#include "executors/onednn/simd/elementwise.h"
#include "ops/epilogue.h"

namespace halfstep::onednn {

/// `last` of an array of this type, which must be a float type.
simd::UnaryKernel epilogue_kernel(const ops::Epilogue& last, DType dtype);

/// `run`, then `last` of what it leaves in `result`, in place; `run` itself where there is nothing to do. oneDNN's own
/// Relu, and all that it could be put together from (clip, maximum), are one `max` instruction on x86, which gives 0
/// for NaN.
Bind then(Bind run, const ops::Epilogue& last, const Operand& result);

}  // namespace halfstep::onednn
