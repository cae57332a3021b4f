#include "conformance/gradient_check.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "conformance/attempt.h"
#include "conformance/run_graph.h"
#include <halfstep/base/error.h>
#include <halfstep/executors/executor.h>
#include <halfstep/ops/builder.h>
#include <halfstep/passes/passes.h>

namespace halfstep {
namespace {

constexpr double kStep = 1e-5;       // relative to the larger of 1 and the element
constexpr double kShortStep = 1e-7;  // the same where a kink or a tie lies within the long one
constexpr double kTolerance = 1e-5;  // relative to the largest element of the gradient
constexpr double kSmallest = 1e-3;   // a gradient below this is held against this: differences carry noise of 1e-10
// Two runs for each element.
constexpr std::int64_t kMostDrawnElements = 160;
constexpr std::uint64_t kWeightSeed = 1000;

// A graph compiled on the reference executor.
class Run {
 public:
  explicit Run(const Graph& graph)
      : executor_(make_reference_executor()),
        store_(executor_->make_store()),
        program_(executor_->compile(graph, *store_)) {
    program_->run();
  }
  Tensor output(std::size_t i) { return program_->output(i); }
  double loss_with(const std::string& state, const Tensor& value) {
    store_->write(state, value);
    program_->run();
    return to_doubles(program_->output(0))[0];
  }

 private:
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<StateStore> store_;
  std::unique_ptr<Program> program_;
};

// One tensor of gradients for each state; zeros where none flows.
std::vector<std::vector<double>> rule_gradients(const OpDef& op, Graph graph) {
  std::vector<std::vector<double>> gradients;
  for (const State& state : graph.states) gradients.emplace_back(static_cast<std::size_t>(state.initial.count()), 0.0);
  if (op.gradient == no_gradient) return gradients;
  graph = run_pipeline(std::move(graph), {differentiate()});
  std::vector<std::size_t> flowing;
  for (std::size_t i = 0; i < graph.states.size(); ++i) {
    if (graph.states[i].gradient == kNoValue) continue;
    flowing.push_back(i);
    graph.outputs.push_back(graph.states[i].gradient);
  }
  Run run(graph);
  for (std::size_t k = 0; k < flowing.size(); ++k) gradients[flowing[k]] = to_doubles(run.output(1 + k));
  return gradients;
}

double central_difference(Run& run, const std::string& name, const Tensor& at, std::size_t i, double relative_step) {
  Tensor moved = at.clone();
  double& x = moved.data<double>()[i];
  const double centre = x, step = relative_step * std::max(1.0, std::fabs(centre));
  x = centre + step;
  const double above = x, loss_above = run.loss_with(name, moved);
  x = centre - step;
  const double below = x, loss_below = run.loss_with(name, moved);
  return (loss_above - loss_below) / (above - below);
}

// What differs between the gradient of the state `name`, which holds `at`, and differences; empty when nothing does.
std::string compare(Run& run, const std::string& name, const Tensor& at, const std::vector<double>& rule) {
  std::vector<double> numeric(static_cast<std::size_t>(at.count()));
  if (rule.size() != numeric.size())
    return fmt::format("gradient of '{}' has {} elements, the input has {}", name, rule.size(), numeric.size());
  double largest = kSmallest;
  for (std::size_t i = 0; i < numeric.size(); ++i) {
    numeric[i] = central_difference(run, name, at, i, kStep);
    largest = std::max(largest, std::fabs(numeric[i]));
  }
  std::string differs;
  for (std::size_t i = 0; i < rule.size() && differs.empty(); ++i) {
    const auto agrees = [&](double d) { return std::fabs(rule[i] - d) <= kTolerance * largest; };  // false for NaN
    if (!agrees(numeric[i]) && !agrees(central_difference(run, name, at, i, kShortStep)))
      differs = fmt::format("gradient of '{}', element {}: {:.9g} by the rule, {:.9g} by finite differences", name, i,
                            rule[i], numeric[i]);
  }
  run.loss_with(name, at);
  return differs;
}

// Where an input may have a result of -infinity, as a score that Attention hides, the loss has no differences.
bool has_finite_outputs(const ConformanceCase& made) {
  const std::vector<Tensor> outputs = run_graph(*make_reference_executor(), made.graph, made.inputs);
  return std::none_of(outputs.begin(), outputs.end(), [](const Tensor& output) {
    if (!is_float(output.dtype())) return false;
    const std::vector<double> values = to_doubles(output);
    return std::any_of(values.begin(), values.end(), [](double x) { return std::isinf(x); });
  });
}

// Why there is nothing to check; empty when there is.
std::string why_not(const OpDef& op, std::size_t index) {
  if (!op.gradient) return "the operator has no gradient rule";
  if (!op.cases.at(index).check_gradient) return "the case asks for no gradient check";
  return {};
}

std::string check(const OpDef& op, std::optional<ConformanceCase> made, CheckReport& report) {
  if (!made) return leave_out(report, "the case does not exist in f64");
  if (made->inputs.empty()) return leave_out(report, "the case has no float input");
  if (!make_weighted_loss(made->graph, made->inputs, DType::f64))
    return leave_out(report, "the case has no float output of a known shape");

  const std::vector<std::vector<double>> by_rule = rule_gradients(op, made->graph);
  Run forward(made->graph);
  for (std::size_t i = 0; i < made->inputs.size(); ++i) {
    const State& state = made->graph.states[i];
    const std::string& name = made->graph[state.value].name;
    if (std::string fault = compare(forward, name, state.initial, by_rule[i]); !fault.empty()) return fault;
  }
  return {};
}

template <class MakeCase>
CheckReport check_made(const OpDef& op, std::size_t index, std::string name, const MakeCase& make) {
  const CheckReport empty{
      .op = qualified_name(op), .case_name = std::move(name), .kind = CheckKind::gradient, .dtype = DType::f64};
  return attempt(empty, [&](CheckReport& report) {
    std::string why = why_not(op, index);
    return why.empty() ? check(op, make(), report) : leave_out(report, std::move(why));
  });
}

}  // namespace

bool make_weighted_loss(Graph& graph, const std::vector<Tensor>& inputs, DType dtype) {
  for (std::size_t i = 0; i < inputs.size(); ++i)
    graph.states.push_back({.value = graph.inputs[i], .role = StateRole::parameter, .initial = inputs[i]});
  graph.inputs.clear();

  Builder b(graph);
  b.set_context("loss");
  Expr loss;
  for (std::size_t i = 0; i < graph.outputs.size(); ++i) {
    const Expr y = b.expr(graph.outputs[i]);
    if (!is_float(y.dtype()) || !y.shape().is_static() || graph[y.id()].is_constant()) continue;
    const Expr weights = b.constant(draw_uniform(dtype, y.shape(), -1, 1, kWeightSeed + i));
    const Expr sum = b.op("ReduceSum", {b.cast(y, dtype) * weights}, {{"keepdims", std::int64_t{0}}});
    loss = loss ? loss + sum : sum;
  }
  if (!loss) return false;
  const Tensor zero = convert(Tensor::scalar(0.0), dtype);
  loss = loss + b.expr(graph.add_state("offset", zero, StateRole::parameter));
  graph.outputs = {loss.id()};
  graph.step = {{StepRole::loss, loss.id()}};
  return true;
}

CheckReport check_gradient(const OpDef& op, std::size_t index) {
  return check_made(op, index, case_name(op, index), [&] { return make_case(op, index, DType::f64); });
}

CheckReport check_gradient(const OpDef& op, std::size_t index, const Draw& draw) {
  return check_made(op, index, case_name(op, index, draw), [&] {
    std::optional<ConformanceCase> made = draw_case(op, index, draw, DType::f64, kMostDrawnElements);
    if (made && !has_finite_outputs(*made)) made.reset();
    return made;
  });
}

}  // namespace halfstep
