// Executors against the reference executor where operands hold the numbers whose arithmetic is peculiar.
#pragma once

#include "executors/conformance/cases.h"
#include "executors/executor.h"

namespace halfstep {

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

/// Runs case `index` of `op` in `dtype` with special_inputs. NaN must be NaN, infinities must have the reference's
/// sign, and finite numbers be as near as check_execution asks, or nearer than the least normal number; what one
/// executor refuses, the other must. OpDef::open_nan names what is left open. In f32 the same holds for the gradients
/// by the operator's rule, after the executor's fusions. Does not apply to cases without a float input, and where
/// check_execution does not. Never throws.
CheckReport check_special(const OpDef& op, std::size_t index, DType dtype, Executor& executor);

}  // namespace halfstep
