// Constant folding of nodes.
#pragma once

#include <halfstep/graph/graph.h>

namespace halfstep {

/// Whether the node always gives the same results for the same operands: it draws no random numbers.
bool is_deterministic(const Node& node);

/// Replaces the node's outputs by constants if its operands are constants (for Shape and Size: if their shapes are
/// known). Returns false, without changes, if they are not, if the node has bodies or draws random numbers, or if its
/// results would be much larger than its operands. Throws Error as the operator's reference kernel does.
bool fold_node(Graph& graph, const Node& node);

}  // namespace halfstep
