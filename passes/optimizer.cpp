// From gradients to updated states: clipping, accumulation, the optimizer, the next loss scale.
#include <algorithm>

#include "graph/error.h"
#include "ops/builder.h"
#include "passes/passes.h"

namespace halfstep {
namespace {

// A state, and the place where its next value goes.
struct Slot {
  Expr now;
  std::size_t index;
};
Slot add_state(Builder& b, std::string_view name, Tensor initial, StateRole role) {
  Graph& graph = b.graph();
  const ValueId id = graph.add_state(name, std::move(initial), role);
  return {b.expr(id), graph.states.size() - 1};
}
void set_next(Builder& b, const Slot& slot, Expr next) { b.graph().states[slot.index].next = next.id(); }

Expr select(Expr condition, Expr yes, Expr no) { return condition.builder().op("Where", {condition, yes, no}); }
Expr both(Expr a, Expr b) { return !a ? b : !b ? a : a.builder().op("And", {a, b}); }

struct Parameters {
  std::vector<std::size_t> states;  // indices in graph.states
  std::vector<Expr> values, gradients;
};

Parameters trained_parameters(Builder& b) {
  Parameters p;
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

// One zero-filled state for each parameter, named `prefix` + its name.
std::vector<Slot> moments(Builder& b, const Parameters& p, std::string_view prefix, StateRole role) {
  std::vector<Slot> slots;
  for (const Expr& value : p.values) {
    const std::string name = std::string(prefix) + b.graph()[value.id()].name;
    const Shape shape = value.shape();
    slots.push_back(add_state(b, name, Tensor(value.dtype(), shape), role));
  }
  return slots;
}

void append(std::vector<Expr>& list, const std::vector<Expr>& more) {
  list.insert(list.end(), more.begin(), more.end());
}
void append(std::vector<Expr>& list, const std::vector<Slot>& more) {
  for (const Slot& slot : more) list.push_back(slot.now);
}

void output(Builder& b, Expr value, std::string_view name) {
  b.graph().rename(value.id(), name);
  b.graph().outputs.push_back(value.id());
}

// Adds the gradients of `accumulate` batches before they are used; returns the means so far.
std::vector<Expr> accumulate(Builder& b, const Parameters& p, std::int64_t batches, Expr update,
                             std::vector<Slot>& slots) {
  slots = moments(b, p, kAccumulatorPrefix, StateRole::accumulator);
  std::vector<Expr> sums;
  for (std::size_t i = 0; i < slots.size(); ++i) {
    Expr sum = slots[i].now + p.gradients[i] / static_cast<double>(batches);
    sums.push_back(sum);
    set_next(b, slots[i], select(update, b.scalar(0, sum.dtype()), sum));
  }
  return sums;
}

ValueId loss_scale_of(const Graph& graph) {
  const auto state = std::find_if(graph.states.begin(), graph.states.end(),
                                  [](const State& s) { return s.role == StateRole::loss_scale; });
  return state == graph.states.end() ? kNoValue : state->value;
}

void attach(Graph& graph, const OptimizerOptions& o) {
  Builder b(graph);
  b.set_context("optimizer");
  Parameters p = trained_parameters(b);
  const Expr learning_rate = b.expr(graph.add_input("learning_rate", DType::f32, Shape{}));

  Expr update;
  std::vector<Slot> accumulators;
  if (o.accumulate > 1) {
    update = b.expr(graph.add_input("update", DType::boolean, Shape{}));
    p.gradients = accumulate(b, p, o.accumulate, update, accumulators);
  }

  // Norm and finiteness of all gradients, and what every gradient is multiplied by.
  const std::vector<Expr> check = b.multi("GlobalNorm", kOwnDomain, p.gradients, 2);
  Expr norm = check[0], finite = check[1], factor;
  const ValueId scale_id = loss_scale_of(graph);
  if (scale_id != kNoValue) {
    factor = 1.0 / b.expr(scale_id);
    norm = norm * factor;
  }
  if (o.clip_norm > 0) {
    // PyTorch's clip_grad_norm_: max / (norm + 1e-6), never above 1.
    Expr clip = b.op("Min", {b.scalar(o.clip_norm, DType::f32) / (norm + 1e-6), b.scalar(1, DType::f32)});
    factor = factor ? factor * clip : clip;
  }
  if (!factor) factor = b.scalar(1, DType::f32);
  const Expr apply = both(finite, update);

  // States that the forward pass moves (running statistics) stay as they are when the step is skipped.
  for (std::size_t i = 0; i < graph.states.size(); ++i) {
    const State state = graph.states[i];
    if (state.role != StateRole::statistic || state.next == kNoValue) continue;
    const Expr next = select(finite, b.expr(state.next), b.expr(state.value));
    graph.states[i].next = next.id();
  }

  const Slot step = add_state(b, kUpdatesState, Tensor::scalar(std::int64_t{0}), StateRole::optimizer);
  const Expr this_step = step.now + b.op("Cast", {apply}, {{"to", static_cast<std::int64_t>(DType::i64)}});
  set_next(b, step, this_step);

  std::vector<Expr> in{learning_rate, b.op("Max", {this_step, b.scalar(1, DType::i64)}), apply, factor};
  append(in, p.values);
  append(in, p.gradients);
  std::vector<std::vector<Slot>> state_lists;
  std::vector<Expr> next;
  if (o.kind == OptimizerKind::sgd) {
    if (o.momentum != 0) state_lists.push_back(moments(b, p, "momentum.", StateRole::optimizer));
    for (const auto& list : state_lists) append(in, list);
    next = b.multi("SgdStep", kOwnDomain, in, p.values.size() * (1 + state_lists.size()),
                   {{"momentum", static_cast<float>(o.momentum)},
                    {"dampening", static_cast<float>(o.dampening)},
                    {"nesterov", std::int64_t{o.nesterov}},
                    {"weight_decay", static_cast<float>(weight_decay_of(o))}});
  } else {
    state_lists.push_back(moments(b, p, "adam.m.", StateRole::optimizer));
    state_lists.push_back(moments(b, p, "adam.v.", StateRole::optimizer));
    for (const auto& list : state_lists) append(in, list);
    next = b.multi("AdamStep", kOwnDomain, in, p.values.size() * 3,
                   {{"beta1", static_cast<float>(o.beta1)},
                    {"beta2", static_cast<float>(o.beta2)},
                    {"epsilon", static_cast<float>(o.epsilon)},
                    {"weight_decay", static_cast<float>(weight_decay_of(o))},
                    {"decoupled", std::int64_t{o.kind == OptimizerKind::adamw}}});
  }
  const std::size_t n = p.values.size();
  for (std::size_t i = 0; i < n; ++i) graph.states[p.states[i]].next = next[i].id();
  for (std::size_t k = 0; k < state_lists.size(); ++k)
    for (std::size_t i = 0; i < n; ++i) set_next(b, state_lists[k][i], next[(k + 1) * n + i]);

  output(b, norm, "grad_norm");
  output(b, finite, "grads_finite");

  if (scale_id != kNoValue) {
    graph.outputs.push_back(scale_id);
    const Slot scale{b.expr(scale_id), static_cast<std::size_t>(graph.state_of(scale_id))};
    const Slot good = add_state(b, kGoodStepsState, Tensor::scalar(std::int64_t{0}), StateRole::loss_scale);
    std::vector<Expr> moved = b.multi("LossScaleUpdate", kOwnDomain, {scale.now, good.now, finite}, 2,
                                      {{"growth_factor", static_cast<float>(o.loss_scale.growth_factor)},
                                       {"backoff_factor", static_cast<float>(o.loss_scale.backoff_factor)},
                                       {"growth_interval", o.loss_scale.growth_interval},
                                       {"min", static_cast<float>(o.loss_scale.lowest())},
                                       {"max", static_cast<float>(o.loss_scale.highest())}});
    if (update) {  // the scale moves only with the update it belongs to
      moved[0] = select(update, moved[0], scale.now);
      moved[1] = select(update, moved[1], good.now);
    }
    set_next(b, scale, moved[0]);
    set_next(b, good, moved[1]);
  }
  if (o.output_gradient_norms) {
    for (std::size_t i = 0; i < n; ++i) {
      Expr one = b.multi("GlobalNorm", kOwnDomain, {p.gradients[i]}, 2)[0];
      if (scale_id != kNoValue) one = one / b.expr(scale_id);
      output(b, one, "grad_norm." + graph[p.values[i].id()].name);
    }
  }
}

}  // namespace

Pass attach_optimizer(OptimizerOptions options) {
  check(options);
  return {"attach_optimizer", [options](Graph& graph) {
            graph.opsets.try_emplace(std::string(kOwnDomain), 1);
            attach(graph, options);
          }};
}

}  // namespace halfstep
