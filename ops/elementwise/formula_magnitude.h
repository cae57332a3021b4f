// How large the results of an operator with a formula are likely to be.
#pragma once

#include "ops/elementwise/formula.h"
#include "ops/magnitude.h"

namespace halfstep::ops {

/// A formula of one operand, whose first parameter, where it has any, is the attribute alpha.
template <Formula F>
constexpr MagnitudeRule magnitude_of = [](const MagnitudeCall& in) {
  constexpr auto f = [](double x, double alpha) -> double {
    return evaluate(F, {x, alpha, row_of(F).parameters[1].fallback});
  };
  return magnitude::of_function(in.square(0), f, in.real("alpha", row_of(F).parameters[0].fallback));
};
/// The traits of such an operator: its results are as large as the formula says.
template <Formula F>
constexpr OpTraits kSized{.elementwise = Elementwise::unary, .magnitude = magnitude_of<F>};

}  // namespace halfstep::ops
