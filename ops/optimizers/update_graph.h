// The update of one parameter as a graph of its own.
#pragma once

#include <halfstep/graph/graph.h>
#include <halfstep/ops/optimizers/optimizer_def.h>

namespace HALFSTEP_API halfstep {

/// The update of a parameter of this shape, in one type. Inputs: lr, step and grad_factor, the parameter, its gradient
/// and its slots; outputs: the next parameter and slots. Slots that the row does not have for the shape are left out.
Graph update_graph(const OptimizerDef& row, const Hyperparameters& h, const Shape& shape, DType dtype = DType::f32);

}  // namespace halfstep
