// Gradient rules against finite differences.
#pragma once

#include "conformance/draw_case.h"
#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// Makes the inputs of a case's graph parameters that hold `inputs`, and a randomly weighted sum of its float outputs,
/// in `dtype`, the only output. It has a last parameter, an offset of 0, since a rule may know that no input matters (x
/// to the power of 0), and a loss without any parameter cannot be differentiated. False, and the graph is of no further
/// use, when there is nothing to sum.
bool make_weighted_loss(Graph& graph, const std::vector<Tensor>& inputs, DType dtype);

/// Runs case `index` of `op` in f64 on the reference executor: the gradient of a randomly weighted sum of all float
/// outputs, by the operator's gradient rule and by central differences. They must agree within 1e-5 of the largest
/// element of each input's gradient; an element whose differences cross a kink or a tie gets shorter ones. Does not
/// apply to cases that ask for no check, to operators without a rule, and to cases without a float input and a float
/// output. Never throws: an Error on the way is a failed check.
CheckReport check_gradient(const OpDef& op, std::size_t index);
/// The same for a random variation of the case; does not apply where that has an infinite result.
CheckReport check_gradient(const OpDef& op, std::size_t index, const Draw& draw);

}  // namespace halfstep
