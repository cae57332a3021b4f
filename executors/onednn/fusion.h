// Pairs of nodes that one primitive computes together.
#pragma once

#include <utility>
#include <vector>

#include <halfstep/graph/graph.h>

namespace halfstep::onednn {

/// (ConvGradWeight, ReduceSum) over the same output gradient, the sum over all axes but the channels': the gradients of
/// a convolution's weight and bias. Indices into Graph::nodes.
std::vector<std::pair<std::size_t, std::size_t>> bias_gradient_pairs(const Graph& graph);

}  // namespace halfstep::onednn
