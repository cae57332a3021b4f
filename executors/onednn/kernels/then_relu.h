// Relu behind a oneDNN primitive.
#pragma once

#include "executors/onednn/kernel.h"

namespace halfstep::onednn {

/// `run`, then Relu of what it leaves in `result`. oneDNN's own, and all that it could be put together from (clip,
/// maximum), are one `max` instruction on x86, which gives 0 for NaN.
Bind then_relu(Bind run, const Operand& result);

}  // namespace halfstep::onednn
