// From gradients to updated states: clipping, accumulation, the optimizer, the next loss scale.
#include <algorithm>

#include <halfstep/base/error.h>
#include <halfstep/ops/builder.h>
#include <halfstep/passes/passes.h>

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

Expr as(StepRole role, Expr value, Expr parameter = {}) {
  value.builder().graph().step.push_back({role, value.id(), parameter.id()});
  return value;
}

Expr select(Expr condition, Expr yes, Expr no) { return condition.builder().op("Where", {condition, yes, no}); }
Expr both(Expr a, Expr b) { return !a ? b : !b ? a : a.builder().op("And", {a, b}); }

Tensor filled(DType dtype, const Shape& shape, double value) {
  if (value == 0) return Tensor(dtype, shape);
  Tensor wide(DType::f64, shape);
  std::ranges::fill(wide.span<double>(), value);
  return convert(wide, dtype);
}

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

std::string name_with(std::string_view prefix, Expr parameter) {
  return std::string(prefix) + parameter.builder().graph()[parameter.id()].name;
}

void append(std::vector<Expr>& list, const std::vector<Expr>& more) {
  list.insert(list.end(), more.begin(), more.end());
}

// The states that the optimizer keeps, slot by slot.
std::vector<Slot> add_slots(Builder& b, const Parameters& p, const OptimizerDef& row, const Hyperparameters& h) {
  std::vector<Slot> slots;
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

void output(Builder& b, Expr value, std::string_view name, StepRole role, Expr parameter = {}) {
  as(role, value, parameter);
  b.graph().rename(value.id(), name);
  b.graph().outputs.push_back(value.id());
}

// Adds the gradients of `accumulate` batches before they are used; returns the means so far.
std::vector<Expr> accumulate(Builder& b, const Parameters& p, std::int64_t batches, Expr update,
                             std::vector<Slot>& slots) {
  std::vector<Expr> sums;
  for (std::size_t i = 0; i < p.values.size(); ++i) {
    slots.push_back(add_state(b, name_with(kAccumulatorPrefix, p.values[i]),
                              Tensor(p.values[i].dtype(), p.values[i].shape()), StateRole::accumulator));
    as(StepRole::slot, slots[i].now, p.values[i]);
    Expr sum = slots[i].now + p.gradients[i] / static_cast<double>(batches);
    sums.push_back(sum);
    set_next(b, slots[i], select(update, b.scalar(0, sum.dtype()), sum));
  }
  return sums;
}

void attach(Graph& graph, const OptimizerOptions& o) {
  Builder b(graph);
  b.set_context("optimizer");
  Parameters p = trained_parameters(b);
  const Expr learning_rate = as(StepRole::learning_rate, b.expr(graph.add_input("learning_rate", DType::f32, Shape{})));

  Expr update;
  std::vector<Slot> accumulators;
  if (o.accumulate > 1) {
    update = as(StepRole::update, b.expr(graph.add_input("update", DType::boolean, Shape{})));
    p.gradients = accumulate(b, p, o.accumulate, update, accumulators);
  }

  // Norm and finiteness of all gradients, and what every gradient is multiplied by.
  const std::vector<Expr> check = b.multi("GlobalNorm", kOwnDomain, p.gradients, 2);
  Expr norm = check[0], finite = check[1], factor;
  const ValueId scale_id = graph.find(StepRole::loss_scale);
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
  as(StepRole::updates, step.now);
  const Expr this_step = step.now + b.op("Cast", {apply}, {{"to", static_cast<std::int64_t>(DType::i64)}});
  set_next(b, step, this_step);

  std::vector<Expr> in{learning_rate, b.op("Max", {this_step, b.scalar(1, DType::i64)}), apply, factor};
  append(in, p.values);
  append(in, p.gradients);
  const OptimizerDef& row = optimizer_named(o.name);
  const Hyperparameters h = hyperparameters_of(o);
  const std::vector<Slot> slots = add_slots(b, p, row, h);
  for (const Slot& slot : slots) in.push_back(slot.now);
  const std::size_t n = p.values.size();
  const std::vector<Expr> next = b.multi(row.op, kOwnDomain, in, n + slots.size(), h.attributes());
  for (std::size_t i = 0; i < n; ++i) graph.states[p.states[i]].next = next[i].id();
  for (std::size_t i = 0; i < slots.size(); ++i) set_next(b, slots[i], next[n + i]);

  output(b, norm, "grad_norm", StepRole::gradient_norm);
  output(b, finite, "grads_finite", StepRole::gradients_finite);

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
      output(b, one, "grad_norm." + graph[p.values[i].id()].name, StepRole::gradient_norm, p.values[i]);
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
