// What makes a model the same model: its structure, not its weights.
#pragma once

#include <string>

#include <halfstep/graph/graph.h>

namespace halfstep {

/// Hash (FNV-1a, 64 bits, as hex) over operators, value names, and the types and shapes of inputs and initializers.
std::string fingerprint(const Graph& graph);

}  // namespace halfstep
