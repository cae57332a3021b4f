// Every gradient rule as training uses it: in f32, on each executor, against the same rule in f64, which
// conformance_test.cpp holds against finite differences.
#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "conformance/gradient_check.h"
#include "conformance/run_graph.h"
#include <halfstep/executors/executor.h>
#include <halfstep/passes/passes.h>

namespace halfstep {
namespace {

constexpr double kTolerance = 1e-3;  // relative to the largest element of the gradient
constexpr double kSmallest = 1e-3;   // a gradient below this is held against this

/// The gradient of a weighted sum of the case's outputs with respect to each of `inputs` that one flows to.
struct InputGradients {
  std::vector<std::string> names;
  std::vector<std::vector<double>> values;
};

InputGradients input_gradients(Graph graph, const std::vector<Tensor>& inputs, Executor& executor) {
  InputGradients result;
  if (!make_weighted_loss(graph, inputs, inputs.at(0).dtype())) return result;
  graph = run_pipeline(std::move(graph), {differentiate()});
  for (const State& state : graph.states) {
    if (state.gradient == kNoValue) continue;
    result.names.push_back(graph[state.value].name);
    graph.outputs.push_back(state.gradient);
  }
  const std::vector<Tensor> outputs = run_graph(executor, graph, {});
  for (std::size_t i = 1; i < outputs.size(); ++i) result.values.push_back(to_doubles(outputs[i]));
  return result;
}

void expect_near(const InputGradients& found, const InputGradients& wanted) {
  ASSERT_EQ(found.names, wanted.names);
  for (std::size_t k = 0; k < found.names.size(); ++k) {
    ASSERT_EQ(found.values[k].size(), wanted.values[k].size());
    double largest = kSmallest;
    for (double d : wanted.values[k]) largest = std::max(largest, std::fabs(d));
    for (std::size_t i = 0; i < found.values[k].size(); ++i)
      ASSERT_NEAR(found.values[k][i], wanted.values[k][i], kTolerance * largest)
          << "gradient of '" << found.names[k] << "', element " << i;
  }
}

std::string test_name(const ::testing::TestParamInfo<const OpDef*>& info) {
  std::string name = qualified_name(*info.param);
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
}

std::vector<const OpDef*> differentiable_ops() {
  std::vector<const OpDef*> ops;
  for (const OpDef* op : op_table())
    if (op->gradient && op->gradient != no_gradient) ops.push_back(op);
  return ops;
}

class SinglePrecisionGradient : public ::testing::TestWithParam<const OpDef*> {};

TEST_P(SinglePrecisionGradient, IsThatOfDoublePrecision) {
  const OpDef& op = *GetParam();
  const std::unique_ptr<Executor> executors[] = {make_reference_executor(), make_onednn_executor()};
  for (std::size_t i = 0; i < op.cases.size(); ++i) {
    const auto single = make_case(op, i, DType::f32), wide = make_case(op, i, DType::f64);
    if (!op.cases[i].check_gradient || !wide || single->inputs.empty()) continue;
    std::vector<Tensor> same;
    for (std::size_t k = 0; k < single->inputs.size(); ++k)
      same.push_back(convert(single->inputs[k], wide->inputs[k].dtype()));
    const InputGradients wanted = input_gradients(wide->graph, same, *executors[0]);
    for (const auto& executor : executors) {
      SCOPED_TRACE(case_name(op, i) + " on " + std::string(executor->name()));
      expect_near(input_gradients(single->graph, single->inputs, *executor), wanted);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(OpTable, SinglePrecisionGradient, ::testing::ValuesIn(differentiable_ops()), test_name);

}  // namespace
}  // namespace halfstep
