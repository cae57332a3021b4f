// Chains of elementwise operators.
#pragma once

#include "executors/onednn/kernel.h"
#include <halfstep/graph/chains.h>

namespace halfstep::onednn {

/// Several elementwise operators in one pass over memory.
Made make_chain(KernelContext& context);

/// What make_chain takes.
Chains chains();

}  // namespace halfstep::onednn
