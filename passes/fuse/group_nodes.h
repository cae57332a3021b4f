// Groups of nodes that can run as one.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include <halfstep/graph/graph.h>

namespace halfstep {

/// The nodes of a sorted graph in groups of one or more, each as ascending indices: connected nodes for which
/// `together(a, b)` holds, where node b reads a result of node a. No path leaves a group and comes back to it, whatever
/// groups it passes through, and whichever groups are cut in two between any two of their nodes: each can be one node.
/// Takes time linear in the size of the graph.
std::vector<std::vector<std::size_t>> group_nodes(const Graph& graph,
                                                  const std::function<bool(std::size_t a, std::size_t b)>& together);

}  // namespace halfstep
