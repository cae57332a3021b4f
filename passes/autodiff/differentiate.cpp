// Reverse-mode differentiation.
#include <fmt/format.h>

#include "ops/control_flow/control_flow.h"
#include "ops/control_flow/unroll.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/builder.h>
#include <halfstep/ops/op_def.h>
#include <halfstep/passes/passes.h>

namespace halfstep {
namespace {

using Flags = ValueMap<bool>;
bool get(const Flags& flags, ValueId id) { return flags.contains(id) && flags[id]; }

// Values that depend on a target through float edges.
Flags reached_by(const Graph& graph, std::span<const ValueId> targets) {
  Flags reached(graph.values.size(), false);
  for (ValueId id : targets)
    if (is_float(graph[id].dtype)) reached[id] = true;
  for (const Node& node : graph.nodes) {
    bool any = false;
    for (ValueId in : node.inputs) any = any || get(reached, in);
    if (!any) continue;
    for (ValueId out : node.outputs)
      if (out != kNoValue && is_float(graph[out].dtype)) reached[out] = true;
  }
  return reached;
}

// Sums what the several readers of a value send back.
class Accumulator {
 public:
  explicit Accumulator(const Graph& graph) : parts_(graph.values.size()) {}
  void add(ValueId id, Expr gradient) { parts_[id].push_back(gradient); }
  /// The sum, made once; empty when nothing flowed.
  Expr total(ValueId id) {
    if (!parts_.contains(id)) return {};
    std::vector<Expr>& parts = parts_[id];
    if (parts.empty()) return {};
    Expr sum = parts[0];
    for (std::size_t i = 1; i < parts.size(); ++i) sum = sum + parts[i];
    parts = {sum};
    return sum;
  }

 private:
  ValueMap<std::vector<Expr>> parts_;
};

ValueId add_loss_gradient(Graph& graph, ValueId loss) {
  const Shape& shape = graph[loss].shape;
  if (!shape.is_static() || shape.count() != 1)
    throw_failure("a loss of one number", shape.to_string(), "attach a loss before differentiating");
  return graph.add_constant("loss.gradient", convert(Tensor::scalar(1.0f), graph[loss].dtype).reshaped(shape));
}

void attach_gradients(Graph& graph) {
  const ValueId loss = graph.find(StepRole::loss);
  if (loss == kNoValue) throw_failure("a graph with a loss", "none", "attach a loss before differentiating");
  const ValueId start = add_loss_gradient(graph, loss);
  graph.step.push_back({StepRole::loss_gradient, start});
  std::vector<ValueId> parameters;
  for (const State& state : graph.states)
    if (state.role == StateRole::parameter) parameters.push_back(state.value);
  const std::vector<ValueId> gradients = differentiate(graph, loss, parameters, start);
  std::size_t next = 0;
  bool any = false;
  for (State& state : graph.states) {
    if (state.role != StateRole::parameter) continue;
    state.gradient = gradients[next++];
    any = any || state.gradient != kNoValue;
  }
  if (!any)
    throw_input_error("a loss that depends on a parameter", "none does",
                      "check which output the loss is computed from");
}

}  // namespace

std::vector<ValueId> differentiate(Graph& graph, ValueId loss, std::span<const ValueId> targets,
                                   ValueId loss_gradient) {
  const Flags reached = reached_by(graph, targets);
  const NodeList forward = graph.nodes;  // rules append to graph.nodes
  if (loss_gradient == kNoValue) loss_gradient = add_loss_gradient(graph, loss);
  Builder b(graph);
  Accumulator gradients(graph);
  gradients.add(loss, b.expr(loss_gradient));

  std::string blocked;
  for (auto node = forward.rbegin(); node != forward.rend(); ++node) {
    std::vector<Expr> dy;
    bool any_dy = false;
    std::vector<bool> wants;
    bool any_wanted = false;
    for (ValueId in : node->inputs) {
      wants.push_back(get(reached, in));
      any_wanted = any_wanted || wants.back();
    }
    if (!any_wanted) continue;
    b.set_context(node->name + ".grad", node->id);
    for (ValueId out : node->outputs) {
      dy.push_back(gradients.total(out));
      any_dy = any_dy || dy.back();
    }
    if (!any_dy) continue;
    const OpDef* row = find_op(node->op, node->domain);
    if (!row || !row->gradient) {
      blocked += fmt::format("{}{} '{}'", blocked.empty() ? "" : ", ", node->op, node->name);
      if (is_control_flow(*node))
        blocked += fmt::format(" (which stays a node of its own: {})", reason_not_inlined(graph, *node));
      if (node->domain == kOwnDomain)
        blocked += fmt::format(" (of {}: what halfstep writes when it differentiates or fuses a model; train that one)",
                               kOwnDomain);
      continue;
    }
    GradientContext context(b, *node, dy, wants);
    const std::vector<Expr> dx = row->gradient(context);
    for (std::size_t i = 0; i < dx.size() && i < node->inputs.size(); ++i) {
      if (!dx[i] || !wants[i]) continue;
      const Value& input = graph[node->inputs[i]];
      const Shape shape = input.shape;
      gradients.add(node->inputs[i], b.cast(b.sum_to(dx[i], shape), input.dtype));
    }
  }
  if (!blocked.empty())
    throw_input_error("operators whose gradient is known between the parameters and the loss", blocked,
                      "freeze the parameters behind them (--freeze), or see the table of operators");

  std::vector<ValueId> result;
  for (ValueId target : targets) {
    const std::span<const Use> users = graph.users(target);
    b.set_context((users.empty() ? graph[target].name : graph.nodes[users.front().node].name) + ".grad");
    result.push_back(get(reached, target) ? gradients.total(target).id() : kNoValue);
  }
  return result;
}

Pass differentiate() { return {"differentiate", attach_gradients}; }

}  // namespace halfstep
