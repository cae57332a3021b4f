// Attention forward and backward, a head at a time.
#pragma once

#include "executors/onednn/kernel.h"

namespace halfstep::onednn {

Made make_fused_attention(KernelContext& context);
Made make_attention_grad(KernelContext& context);

}  // namespace halfstep::onednn
