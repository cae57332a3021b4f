// An activation behind a oneDNN primitive.
#pragma once

#include "executors/onednn/kernel.h"
#include "ops/epilogue.h"

namespace halfstep::onednn {

/// `run`, then `last` of what it leaves in `result`, in place; `run` itself where there is nothing to do. oneDNN's own
/// Relu, and all that it could be put together from (clip, maximum), are one `max` instruction on x86, which gives 0
/// for NaN.
Bind then(Bind run, const ops::Epilogue& last, const Operand& result);

}  // namespace halfstep::onednn
