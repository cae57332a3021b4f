// Control flow whose course is known, written out.
#pragma once

#include <cstdint>
#include <string>

#include <halfstep/graph/graph.h>

namespace halfstep {

/// How many copies of a body may be appended to a graph: more would take longer to compile than a loop takes to run.
std::int64_t most_copies(const Graph& graph, const Graph& body);

/// Why an If, Loop or Scan cannot be written out: a clause such as "its condition depends on data". Empty when it can:
/// its condition is a constant, the number of its iterations follows from constants and shapes, and the copies of its
/// body are not too many.
std::string reason_not_inlined(const Graph& graph, const Node& node);

/// Appends to `graph` what such a node does: the nodes of the branch taken, or of the body once an iteration. The node
/// itself is no longer in the graph, and its outputs are given by what is appended.
void append_inlined(Graph& graph, const Node& node);

}  // namespace halfstep
