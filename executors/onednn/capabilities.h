// What this machine's CPU runs natively with the oneDNN at hand.
#pragma once

#include <halfstep/executors/executor.h>

namespace halfstep::onednn {

/// Asks the CPU, and oneDNN by making descriptors of typical primitives in each type. `threads` is what the executor
/// uses.
Capabilities probe_capabilities(int threads);

}  // namespace halfstep::onednn
