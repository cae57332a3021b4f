// Activation recomputation: reduces the memory of a training step by recomputing activations for the backward pass.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/passes/pass.h>

namespace HALFSTEP_API halfstep {

/// What a node's kernel needs that is not visible in the graph.
struct KernelUse {
  std::size_t scratch = 0;               ///< bytes of its own memory
  std::vector<std::size_t> unread = {};  ///< inputs, by position, that it does not read
};
/// By node name. A copy named after its node, as those of `recompute` are, has the same.
using KernelUses = std::map<std::string, KernelUse>;

/// At the point of peak memory, some live values are not read for a long time. Such a value is released and recomputed
/// immediately before its next use, by copies of the nodes that compute it from available values. This is repeated,
/// always with the value that saves the most bytes for its computation time (cost_of), until at most `live_bytes` are
/// live at once or no more can be saved.
///
/// Results do not change by a single bit. Recurrent layers, control flow, optimizers, gradients, and random operators
/// without a counter are never copied; the copy of a normalization does not update running statistics. It must be the
/// last pass: a later pass might merge the copies.
Pass recompute(std::size_t live_bytes, KernelUses kernels = {});

/// Peak memory in bytes when the nodes run in order: intermediate values and the kernels' own memory.
std::size_t most_live_bytes(const Graph& graph, const KernelUses& kernels = {});

}  // namespace halfstep
