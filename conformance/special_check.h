// Executors against the reference executor where operands hold the numbers whose arithmetic is peculiar.
#pragma once

#include "conformance/cases.h"
#include <halfstep/base/api.h>
#include <halfstep/executors/executor.h>

namespace HALFSTEP_API halfstep {

/// Inputs of a case with special numbers among their elements.
struct SpecialInputs {
  std::string what;  ///< "NaN in one element of 'x'"
  std::vector<Tensor> inputs;
  bool has_nan = false, has_infinity = false;
};

/// `inputs`, called `names`, whose floats hold NaN, infinity, -infinity, -0 and a subnormal number: each in one element
/// of each input, in about half of the elements of all inputs and in all of them; and a mixture of all five. A pure
/// function of the arguments.
std::vector<SpecialInputs> special_inputs(const std::vector<Tensor>& inputs, const std::vector<std::string>& names);

/// What differs first between `on_executor` on `executor` and `graph` on the reference executor, with special_inputs;
/// empty when nothing does. NaN must be NaN, infinities must have the reference's sign, and finite numbers be as near
/// as check_execution asks, `slack` times, or nearer than the least normal number; what one executor refuses, the other
/// must. `open_nan`: the results that are left open. Throws Error as Executor::compile does.
std::string special_difference(const Graph& graph, const Graph& on_executor, const std::vector<Tensor>& inputs,
                               Executor& executor, const OpenNaN& open_nan = {}, double slack = 1);

/// Runs case `index` of `op` in `dtype`: special_difference must find nothing. In f32 the same holds for the gradients
/// by the operator's rule, after the executor's fusions. Does not apply to cases without a float input, and where
/// check_execution does not. Never throws.
CheckReport check_special(const OpDef& op, std::size_t index, DType dtype, Executor& executor);

}  // namespace halfstep
