// Unrolling of control flow whose course is known.
#pragma once

#include <cstdint>
#include <string>

#include <halfstep/graph/graph.h>

namespace halfstep {

/// Maximum number of copies of a body that may be appended to a graph: compiling more takes longer than running the
/// loop.
std::int64_t most_copies(const Graph& graph, const Graph& body);

/// Why an If, Loop or Scan cannot be unrolled: a clause such as "its condition depends on data". Empty if it can: its
/// condition is a constant, the number of its iterations follows from constants and shapes, and the number of copies of
/// its body is within the limit.
std::string reason_not_inlined(const Graph& graph, const Node& node);

/// Appends the equivalent of such a node to `graph`: the nodes of the branch taken, or of the body once per iteration.
/// The node itself must already be removed from the graph; the appended nodes produce its outputs.
void append_inlined(Graph& graph, const Node& node);

}  // namespace halfstep
