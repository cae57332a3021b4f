// Sequences and optional values across the bodies of If, Loop and SequenceMap.
#pragma once

#include <optional>
#include <vector>

#include "onnx_io/containers.h"

namespace halfstep {

/// Whether the node has containers among its operands and captures, or its bodies have operators for them.
bool deals_in_containers(const Node& node, const Containers& containers);

/// Whether such an If, Loop or Scan can be replaced by what it does (see ops/control_flow/unroll.h). Throws
/// Error(input) when it cannot, and carries containers from one iteration to the next.
bool can_be_written_out(const Graph& graph, const Node& node, const Containers& containers);

/// Appends the body of a SequenceMap once for each element; returns what its outputs consist of. Throws Error(input)
/// where sequences differ in length.
Containers append_map(Graph& graph, const Node& node, const Containers& containers);

/// Where bodies of `node` capture a container, they capture its elements instead. Returns for each body what it knows
/// of its captures then.
std::vector<Containers> capture_elements(const Graph& graph, Node& node, const Containers& containers);

/// Of each output that a body had, what it consisted of if it was a container; the elements are outputs in its place.
using SpreadOutputs = std::vector<std::optional<Container>>;

/// Gives the node outputs like those of its bodies: both branches of an If may give sequences of one length. Throws
/// Error(input) on others, and on containers that a loop gives.
void spread_results(Graph& graph, Node& node, const std::vector<SpreadOutputs>& bodies, Containers& containers);

}  // namespace halfstep
