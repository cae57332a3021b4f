#include "passes/step/step_writing.h"

#include <halfstep/base/error.h>

namespace halfstep {

StateSlot add_state(Builder& b, std::string_view name, Tensor initial, StateRole role) {
  Graph& graph = b.graph();
  const ValueId id = graph.add_state(name, std::move(initial), role);
  return {b.expr(id), graph.states.size() - 1};
}
void set_next(Builder& b, const StateSlot& slot, Expr next) { b.graph().states[slot.index].next = next.id(); }

Expr as(StepRole role, Expr value, Expr parameter) {
  value.builder().graph().step.push_back({role, value.id(), parameter.id()});
  return value;
}

void add_output(Expr value, std::string_view name, StepRole role, Expr parameter) {
  as(role, value, parameter);
  Graph& graph = value.builder().graph();
  graph.rename(value.id(), name);
  graph.outputs.push_back(value.id());
}

Expr add_scalar_input(Builder& b, std::string_view name, DType dtype, StepRole role) {
  return as(role, b.expr(b.graph().add_input(name, dtype, Shape{})));
}

Expr select(Expr condition, Expr yes, Expr no) { return condition.builder().op("Where", {condition, yes, no}); }

TrainedParameters take_gradients(Builder& b) {
  TrainedParameters p;
  Graph& graph = b.graph();
  for (std::size_t i = 0; i < graph.states.size(); ++i) {
    if (graph.states[i].gradient == kNoValue) continue;
    p.states.push_back(i);
    p.values.push_back(b.expr(graph.states[i].value));
    p.gradients.push_back(b.expr(graph.states[i].gradient));
    graph.states[i].gradient = kNoValue;
  }
  if (p.states.empty()) throw_failure("gradients to optimize with", "none", "differentiate first");
  return p;
}

std::string name_with(std::string_view prefix, Expr parameter) {
  return std::string(prefix) + parameter.builder().graph()[parameter.id()].name;
}

GradientCheck check_gradients(Builder& b, const std::vector<Expr>& gradients) {
  const std::vector<Expr> check = b.multi("GlobalNorm", kOwnDomain, gradients, 2);
  GradientCheck result{.norm = check[0], .finite = check[1], .unscale = {}};
  const ValueId scale = b.graph().find(StepRole::loss_scale);
  if (scale != kNoValue) {
    result.unscale = 1.0 / b.expr(scale);
    result.norm = result.norm * result.unscale;
  }
  return result;
}

void hold_states_unless(Builder& b, Expr finite) {
  Graph& graph = b.graph();
  for (std::size_t i = 0; i < graph.states.size(); ++i) {
    const State state = graph.states[i];
    if ((state.role != StateRole::statistic && state.role != StateRole::residual) || state.next == kNoValue) continue;
    const Expr next = select(finite, b.expr(state.next), b.expr(state.value));
    graph.states[i].next = next.id();
  }
}

}  // namespace halfstep
