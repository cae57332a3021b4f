// Running a model that was exported for one batch size with another. Internal to passes.
#pragma once

#include <cstdint>

#include <halfstep/passes/passes.h>

namespace halfstep {

/// For `fold_constants`: where a shape written down in the model has the batch `from` that its inputs no longer have,
/// it gets `to`. Throws Error naming a node whose shape then still does not fit.
NodeHook rewrite_batch(std::int64_t from, std::int64_t to);

}  // namespace halfstep
