// Chains of elementwise operators that a device computes in one kernel.
#pragma once

#include <cstddef>
#include <functional>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

class Graph;
struct Node;

/// Elementwise nodes that one kernel computes in one pass over memory: ai.halfstep.ElementwiseChain.
struct Chains {
  /// Whether a chain can contain the node. Empty: chains are not supported.
  std::function<bool(const Graph&, const Node&)> holds = {};
  // Limits of one chain.
  std::size_t max_nodes = 0;
  std::size_t max_inputs = 0;
  std::size_t max_spread = 0;  ///< broadcast inputs with more than one element
};

}  // namespace halfstep
