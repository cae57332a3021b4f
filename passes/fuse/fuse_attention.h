// Attention as one node.
#pragma once

#include <vector>

#include <halfstep/passes/passes.h>

namespace halfstep {

/// Where an executor fuses attention (Capabilities::fusions has FusedAttention): scaled products of queries and keys,
/// masks that are not trained, Softmax and the product with the values, as exporters write them or as the operator
/// Attention, become one node. It reads its operands where they lie before Split, Transpose and Reshape, and gives its
/// result as it is behind them. To run before differentiating.
Pass fuse_attention(const std::vector<Fusion>& fusions);

}  // namespace halfstep
