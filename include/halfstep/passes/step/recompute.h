// Less memory for a training step: activations are computed again where the backward pass reads them.
#pragma once

#include <cstddef>
#include <map>
#include <string>

#include <halfstep/base/api.h>
#include <halfstep/passes/pass.h>

namespace HALFSTEP_API halfstep {

/// Bytes that the kernel of a node takes while it runs, by the node's name. They are not in the graph.
using NodeScratch = std::map<std::string, std::size_t>;

/// At the moment at which the most lives between the nodes there are values that nothing reads for long. Such a value
/// is given again by copies of the nodes that lead to it from what is there anyway, right before it is read next. So
/// on, always what wins the most bytes for the time it takes (cost_of), until at most `live_bytes` live at once or no
/// more can be won.
///
/// No bit of a result changes. Recurrent layers, control flow, optimizers, gradients, and random operators that do not
/// draw by a counter are never copied; the copy of a normalization moves no running statistics. To be the last pass: a
/// later one might merge the copies.
Pass recompute(std::size_t live_bytes, NodeScratch scratch = {});

/// The most bytes that live at once when the nodes run in their order: of what lies between them, and of `scratch`.
std::size_t most_live_bytes(const Graph& graph, const NodeScratch& scratch = {});

}  // namespace halfstep
