// What makes a model the same model: its structure, not its weights.
#pragma once

#include <functional>
#include <set>
#include <string>

#include <halfstep/graph/graph.h>

namespace halfstep {

/// Hash (FNV-1a, 64 bits, as hex) over operators, value names, and the types and shapes of inputs and initializers.
std::string fingerprint(const Graph& graph);

using NameSet = std::set<std::string, std::less<>>;

/// The same hash of what the fingerprint leaves out: attributes, subgraphs, and the elements of constants other than
/// `parameters`.
std::string fingerprint_of_contents(const Graph& graph, const NameSet& parameters);

/// The same hash of what the time of a graph depends on: operators, attributes, and the types and shapes of values;
/// neither names nor elements.
std::string fingerprint_of_work(const Graph& graph);

}  // namespace halfstep
