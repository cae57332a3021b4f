// Gradients through operators that become others, against finite differences: of each alone, and of a chain.
#include <algorithm>
#include <cmath>

#include "conformance/cases.h"
#include "conformance/gradient_check.h"
#include "conformance/run_graph.h"
#include "ops/written_out.h"
#include "passes/simplify/write_out_operators.h"
#include "tests/passes/pass_testing.h"
#include <halfstep/ops/op_def.h>

namespace halfstep::testing {
namespace {

constexpr const char* kChain =
    "(float[2,3,4,4] x, float[4,3,3,3] w, float[3,4,3,3] v, float[3,3,5] u) => (float[2,5] y) "
    "<int64[3] s = {2, 3, 16}> "
    "{ a = Conv<pads = [1, 1, 1, 1]>(x, w) l = LRN<size = 4, alpha = 0.5>(a) c = Conv<pads = [1, 1, 1, 1]>(l, v) "
    "m = MeanVarianceNormalization(c) r = Reshape(m, s) n = LpNormalization(r) "
    "e = Einsum<equation = \"bcp,bdp->cbd\">(n, n) y = Einsum<equation = \"cbd,cdk->bk\">(e, u) }";

/// Those of every parameter; zeros where none flows.
std::vector<std::vector<double>> gradients_by(Executor& executor, const Graph& weighted_loss) {
  const Graph graph = [&] {
    Graph g = run_pipeline(weighted_loss, {write_out_operators(true), differentiate(), write_out_operators(false),
                                           fold_constants(), remove_dead_nodes()});
    for (const State& state : g.states)
      if (state.gradient != kNoValue) g.outputs.push_back(state.gradient);
    return g;
  }();
  const std::vector<Tensor> outputs = run_graph(executor, graph, {});
  std::vector<std::vector<double>> gradients;
  std::size_t next = 1;
  for (const State& state : graph.states)
    gradients.push_back(state.gradient == kNoValue
                            ? std::vector<double>(static_cast<std::size_t>(state.initial.count()))
                            : to_doubles(outputs[next++]));
  return gradients;
}

std::vector<double> differences(const Graph& weighted_loss, const State& state) {
  const auto executor = make_reference_executor();
  CompiledGraph compiled(*executor, weighted_loss);
  std::vector<double> result(static_cast<std::size_t>(state.initial.count()));
  for (std::size_t i = 0; i < result.size(); ++i)
    for (const double step : {1e-5, -1e-5}) {
      Tensor moved = state.initial.clone();
      moved.data<double>()[i] += step;
      compiled.store().write(weighted_loss[state.value].name, moved);
      result[i] += to_doubles(compiled.run({})[0])[0] / (2 * step);
    }
  return result;
}

void expect_near(const std::vector<double>& found, const std::vector<double>& wanted, double tolerance) {
  ASSERT_EQ(found.size(), wanted.size());
  double largest = 1e-3;
  for (const double each : wanted) largest = std::max(largest, std::abs(each));
  for (std::size_t i = 0; i < wanted.size(); ++i)
    ASSERT_NEAR(found[i], wanted[i], tolerance * largest) << "element " << i;
}

/// Of the case in f64 by the reference executor and in f32 by oneDNN.
void expect_gradients(const OpDef& op, std::size_t index) {
  SCOPED_TRACE(op.cases[index].text);
  const auto loss_in = [&](DType dtype, Graph& graph) {
    auto made = make_case(op, index, dtype);
    if (!made || made->inputs.empty() || !make_weighted_loss(made->graph, made->inputs, dtype)) return false;
    graph = std::move(made->graph);
    return true;
  };
  Graph exact, single;
  if (!loss_in(DType::f64, exact) || !loss_in(DType::f32, single)) return;
  const auto reference = make_reference_executor(), onednn = make_onednn_executor();
  const auto by_reference = gradients_by(*reference, exact), by_onednn = gradients_by(*onednn, single);
  ASSERT_EQ(by_reference.size(), exact.states.size());
  ASSERT_EQ(by_onednn.size(), exact.states.size());
  for (std::size_t i = 0; i < exact.states.size(); ++i) {
    SCOPED_TRACE(exact[exact.states[i].value].name);
    const std::vector<double> wanted = differences(exact, exact.states[i]);
    expect_near(by_reference[i], wanted, 1e-5);
    expect_near(by_onednn[i], wanted, 1e-4);
  }
}

TEST(WrittenOutGradient, IsThatOfFiniteDifferences) {
  for (const OpDef* op : op_table()) {
    Node node;
    node.op = op->name;
    node.domain = op->domain;
    if (!ops::written_out(node)) continue;
    for (std::size_t i = 0; i < op->cases.size(); ++i)
      if (op->cases[i].check_gradient) expect_gradients(*op, i);
  }
}

// No value in the chain has a shape but the inferred one.
TEST(WrittenOutGradient, GoesThroughAChainOfThem) {
  OpDef op = *find_op("Einsum");
  op.cases = {{kChain}};
  EXPECT_EQ(check_gradient(op, 0).message, "") << "by their own rules";
  expect_gradients(op, 0);
}

}  // namespace
}  // namespace halfstep::testing
