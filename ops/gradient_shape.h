// Gradient operators of ai.halfstep take gradients of the shapes that the forward operator's results have.
#pragma once

#include <halfstep/graph/graph.h>

namespace halfstep::ops {

/// Throws Error if a gradient that `node` takes does not have the shape of the forward operator's result. Other nodes
/// pass, and those whose inference or `result_shape` checks it: convolutions, attention, elementwise gradients.
void check_gradient_shapes(const Graph& graph, const Node& node);

}  // namespace halfstep::ops
