// A node computed once, before anything runs.
#pragma once

#include <halfstep/graph/graph.h>

namespace halfstep {

/// Whether the node gives the same results each time it runs on the same operands: it draws no random numbers.
bool is_deterministic(const Node& node);

/// Makes the node's outputs constants, when its operands are (of Shape and Size: when their shapes are known). Returns
/// false, and changes nothing, where they are not, where the node has bodies or draws random numbers, and where its
/// results would be much larger than what they are made from. Throws Error as the operator's reference kernel does.
bool fold_node(Graph& graph, const Node& node);

}  // namespace halfstep
