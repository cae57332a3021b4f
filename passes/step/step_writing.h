// What the passes write a training step with.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <halfstep/graph/graph.h>
#include <halfstep/ops/builder.h>

namespace halfstep {

/// A state, and the place where its next value goes.
struct StateSlot {
  Expr now;
  std::size_t index;
};
StateSlot add_state(Builder& b, std::string_view name, Tensor initial, StateRole role);
void set_next(Builder& b, const StateSlot& slot, Expr next);

/// `value`, known by its role from here on.
Expr as(StepRole role, Expr value, Expr parameter = {});
/// One more output of the step.
void add_output(Expr value, std::string_view name, StepRole role, Expr parameter = {});
/// A scalar input.
Expr add_scalar_input(Builder& b, std::string_view name, DType dtype, StepRole role);

Expr select(Expr condition, Expr yes, Expr no);

/// The parameters that have a gradient.
struct TrainedParameters {
  std::vector<std::size_t> states;  ///< indices in graph.states
  std::vector<Expr> values, gradients;
};
/// Takes the gradients from their states. Throws Error(failure) when there are none.
TrainedParameters take_gradients(Builder& b);

/// A slot's prefix, then the parameter's name.
std::string name_with(std::string_view prefix, Expr parameter);

/// Whether all gradients are finite and their norm, without the loss scale; `unscale` is 1 over that, empty without
/// one.
struct GradientCheck {
  Expr norm, finite, unscale;
};
GradientCheck check_gradients(Builder& b, const std::vector<Expr>& gradients);
/// States that are moved before the optimizer (running statistics, residuals of gradients) stay as they are where
/// gradients are not finite.
void hold_states_unless(Builder& b, Expr finite);

/// A copy of a parameter (StateRole::copy), without a next value.
ValueId add_half_copy(Graph& graph, ValueId parameter, DType dtype);

}  // namespace halfstep
