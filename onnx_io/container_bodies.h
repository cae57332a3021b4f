// Sequences and optional values across the bodies of If, Loop and SequenceMap.
#pragma once

#include <optional>
#include <vector>

#include "onnx_io/containers.h"

namespace halfstep {

/// Whether the node has containers among its operands and captures, or its bodies contain operators for them.
bool deals_in_containers(const Node& node, const Containers& containers);

/// Whether such an If, Loop or Scan can be unrolled (see ops/control_flow/unroll.h). Throws Error(input) if it cannot,
/// and carries containers between iterations.
bool can_be_written_out(const Graph& graph, const Node& node, const Containers& containers);

/// Appends the body of a SequenceMap once per element; returns the contents of its outputs. Throws Error(input) if
/// sequences differ in length.
Containers append_map(Graph& graph, const Node& node, const Containers& containers);

/// If bodies of `node` capture a container, they capture its elements instead. Returns for each body the contents of
/// its captures afterwards.
std::vector<Containers> capture_elements(const Graph& graph, Node& node, const Containers& containers);

/// For each former output of a body: its contents if it was a container; its elements are outputs instead.
using SpreadOutputs = std::vector<std::optional<Container>>;

/// Gives the node the outputs of its bodies: both branches of an If may return sequences of the same length. Throws
/// Error(input) for other containers, and for those returned by a loop.
void spread_results(Graph& graph, Node& node, const std::vector<SpreadOutputs>& bodies, Containers& containers);

}  // namespace halfstep
