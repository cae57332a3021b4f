// From gradients to updated states: clipping, accumulation, the optimizer, the next loss scale.
#include <algorithm>
#include <span>
#include <utility>

#include "graph/placeholder.h"
#include "passes/step/parameter_groups.h"
#include "passes/step/step_writing.h"
#include <halfstep/passes/passes.h>

namespace halfstep {
namespace {

Expr both(Expr a, Expr b) { return !a ? b : !b ? a : a.builder().op("And", {a, b}); }

Tensor filled(DType dtype, const Shape& shape, double value) {
  if (value == 0) return zeros_of(dtype, shape);
  Tensor wide(DType::f64, shape);
  std::ranges::fill(wide.span<double>(), value);
  return convert(wide, dtype);
}

void append(std::vector<Expr>& list, const std::vector<Expr>& more) {
  list.insert(list.end(), more.begin(), more.end());
}

// The states that the optimizer keeps, slot by slot.
std::vector<StateSlot> add_slots(Builder& b, const TrainedParameters& p, const OptimizerDef& row,
                                 const Hyperparameters& h) {
  std::vector<StateSlot> slots;
  for (const OptimizerSlot& slot : row.slots)
    for (const Expr& value : p.values) {
      const std::optional<Shape> shape = slot.shape(h, value.shape());
      if (!shape) continue;
      const double initial = slot.initial.empty() ? 0 : h[slot.initial];
      slots.push_back(
          add_state(b, name_with(slot.prefix, value), filled(value.dtype(), *shape, initial), StateRole::optimizer));
      as(StepRole::slot, slots.back().now, value);
    }
  return slots;
}

// Adds the gradients of `accumulate` batches before they are used; returns the means so far.
std::vector<Expr> accumulate(Builder& b, const TrainedParameters& p, std::int64_t batches, Expr update,
                             std::vector<StateSlot>& slots) {
  std::vector<Expr> sums;
  for (std::size_t i = 0; i < p.values.size(); ++i) {
    slots.push_back(add_state(b, name_with(kAccumulatorPrefix, p.values[i]),
                              zeros_of(p.values[i].dtype(), p.values[i].shape()), StateRole::accumulator));
    as(StepRole::slot, slots[i].now, p.values[i]);
    Expr sum = slots[i].now + p.gradients[i] / static_cast<double>(batches);
    sums.push_back(sum);
    set_next(b, slots[i], select(update, b.scalar(0, sum.dtype()), sum));
  }
  return sums;
}

// What the updates of all parameters have in common.
struct StepScalars {
  Expr learning_rate;
  Expr updates;    // applied before this step
  Expr this_step;  // with this one
  Expr apply, factor;
};

// One node for the parameters of a group.
void update_group(Builder& b, const TrainedParameters& p, const OptimizerOptions& o, const ParameterGroup& group,
                  const StepScalars& s) {
  Graph& graph = b.graph();
  Expr learning_rate = s.learning_rate, step = s.this_step, apply = s.apply;
  if (group.lr_factor != 1) learning_rate = learning_rate * group.lr_factor;
  if (group.frozen_updates > 0) {
    const Expr frozen = b.scalar(static_cast<double>(group.frozen_updates), DType::i64);
    apply = both(apply, b.op("GreaterOrEqual", {s.updates, frozen}));
    step = step - frozen;
  }
  std::vector<Expr> in{learning_rate, b.op("Max", {step, b.scalar(1, DType::i64)}), apply, s.factor};
  append(in, p.values);
  append(in, p.gradients);
  const OptimizerDef& row = optimizer_named(o.name);
  const Hyperparameters h = hyperparameters_of(o, group);
  const std::vector<StateSlot> slots = add_slots(b, p, row, h);
  for (const StateSlot& slot : slots) in.push_back(slot.now);
  const std::size_t n = p.values.size();
  const std::vector<Expr> next = b.multi(row.op, kOwnDomain, in, n + slots.size(), h.attributes());
  for (std::size_t i = 0; i < n; ++i) graph.states[p.states[i]].next = next[i].id();
  for (std::size_t i = 0; i < slots.size(); ++i) set_next(b, slots[i], next[n + i]);
}

// The parameters by the first group whose pattern fits; those of none last.
std::vector<std::pair<ParameterGroup, TrainedParameters>> in_groups(const Graph& graph, const TrainedParameters& p,
                                                                    std::span<const ParameterGroup> groups) {
  std::vector<std::pair<ParameterGroup, TrainedParameters>> result;
  for (const ParameterGroup& group : groups) result.emplace_back(group, TrainedParameters{});
  result.emplace_back();
  std::vector<std::string> names;
  for (std::size_t i = 0; i < p.values.size(); ++i) {
    names.push_back(graph[p.values[i].id()].name);
    TrainedParameters& members = result[group_of(groups, names.back())].second;
    members.states.push_back(p.states[i]);
    members.values.push_back(p.values[i]);
    members.gradients.push_back(p.gradients[i]);
  }
  check_groups_have_members(groups, names);
  std::erase_if(result, [](const auto& group) { return group.second.values.empty(); });
  return result;
}

void attach(Graph& graph, const OptimizerOptions& o) {
  Builder b(graph);
  b.set_context("optimizer");
  TrainedParameters p = take_gradients(b);
  const Expr learning_rate = add_scalar_input(b, "learning_rate", DType::f32, StepRole::learning_rate);

  Expr update;
  std::vector<StateSlot> accumulators;
  if (o.accumulate > 1) {
    update = add_scalar_input(b, "update", DType::boolean, StepRole::update);
    p.gradients = accumulate(b, p, o.accumulate, update, accumulators);
  }

  // Norm and finiteness of all gradients, and what every gradient is multiplied by.
  const GradientCheck check = check_gradients(b, p.gradients);
  const Expr norm = check.norm, finite = check.finite;
  Expr factor = check.unscale;
  if (o.clip_norm > 0) {
    // PyTorch's clip_grad_norm_: max / (norm + 1e-6), never above 1.
    Expr clip = b.op("Min", {b.scalar(o.clip_norm, DType::f32) / (norm + 1e-6), b.scalar(1, DType::f32)});
    factor = factor ? factor * clip : clip;
  }
  if (!factor) factor = b.scalar(1, DType::f32);
  const Expr apply = both(finite, update);

  hold_states_unless(b, finite);

  const StateSlot step = add_state(b, kUpdatesState, Tensor::scalar(std::int64_t{0}), StateRole::optimizer);
  as(StepRole::updates, step.now);
  const Expr this_step = step.now + b.op("Cast", {apply}, {{"to", static_cast<std::int64_t>(DType::i64)}});
  set_next(b, step, this_step);

  const StepScalars scalars{learning_rate, step.now, this_step, apply, factor};
  for (const auto& [group, members] : in_groups(graph, p, o.groups)) update_group(b, members, o, group, scalars);

  add_output(norm, "grad_norm", StepRole::gradient_norm);
  add_output(finite, "grads_finite", StepRole::gradients_finite);

  const ValueId scale_id = graph.find(StepRole::loss_scale);
  if (scale_id != kNoValue) {
    graph.outputs.push_back(scale_id);
    const StateSlot scale{b.expr(scale_id), static_cast<std::size_t>(graph.state_of(scale_id))};
    const StateSlot good = add_state(b, kGoodStepsState, Tensor::scalar(std::int64_t{0}), StateRole::loss_scale);
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
    for (std::size_t i = 0; i < p.values.size(); ++i) {
      Expr one = b.multi("GlobalNorm", kOwnDomain, {p.gradients[i]}, 2)[0];
      if (scale_id != kNoValue) one = one / b.expr(scale_id);
      add_output(one, "grad_norm." + graph[p.values[i].id()].name, StepRole::gradient_norm, p.values[i]);
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
