// Which elementwise operators a device computes together.
#pragma once

#include <cstddef>
#include <functional>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

class Graph;
struct Node;

/// Nodes of elementwise operators that one kernel computes in one pass over memory: ai.halfstep.ElementwiseChain.
struct Chains {
  /// Whether a chain can hold the node. Empty: there are no chains.
  std::function<bool(const Graph&, const Node&)> holds = {};
  // Limits of one chain.
  std::size_t max_nodes = 0;
  std::size_t max_inputs = 0;
  std::size_t max_spread = 0;  ///< inputs of more than one element that are broadcast
};

}  // namespace halfstep
