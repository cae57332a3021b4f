// Where gradients end, and which parameters get none.
#include "passes/autodiff/gradient_flow.h"

#include <utility>

#include <gtest/gtest.h>

#include "tests/passes/pass_testing.h"

namespace halfstep::testing {
namespace {

using ::testing::ElementsAre;

TEST(BlockingNodes, AreAllNamedAtOnce) {
  const Graph graph = run_passes(
      "(float[2,2] x) => (float[2,2] y) <float[2,2] w = {1,2,3,4}> "
      "{ before = ai.halfstep.ReluGrad(x, x) a = MatMul(before, w) b = ai.halfstep.ReluGrad(a, a) c = Relu(b) "
      "y = ai.halfstep.ReluGrad(c, c) }",
      {select_parameters()});
  std::vector<std::string> outputs;
  for (std::size_t i : blocking_nodes(graph)) outputs.push_back(graph[graph.nodes[i].outputs[0]].name);
  EXPECT_THAT(outputs, ElementsAre("b", "y"));
}

struct Cut {
  const char* body;  // from h, which depends on the parameter w, to y, with v the weight of a second layer
  const char* said;  // after the names; nullptr when w gets a gradient
};

class CutOffParameters : public ::testing::TestWithParam<Cut> {};

TEST_P(CutOffParameters, AreToldWithTheOperatorsThatCutThemOff) {
  const Graph graph =
      run_passes(std::string("(float[2,2] x) => (float[2,2] y) <float[2,2] w = {1,2,3,4}, float[2,2] v = "
                             "{1,2,3,4}, float[2,2] half = {0.5,0.5,0.5,0.5}> { [\"m\"] h = MatMul(x, w) ") +
                     GetParam().body + " }",
                 {select_parameters({.freeze = {"half"}})});
  const std::string said = describe_cut_off(graph, cut_off_parameters(graph, graph.outputs));
  EXPECT_EQ(said, GetParam().said ? std::string("'w' gets no gradient and stays as it is: ") + GetParam().said : "");
}

INSTANTIATE_TEST_SUITE_P(
    Operators, CutOffParameters,
    ::testing::Values(
        Cut{"[\"r\"] r = Round(h) y = MatMul(r, v)", "none passes through Round 'r'"},
        Cut{"[\"r\"] r = Floor(h) y = MatMul(r, v)", "none passes through Floor 'r'"},
        Cut{"[\"r\"] r = Ceil(h) y = MatMul(r, v)", "none passes through Ceil 'r'"},
        Cut{"[\"r\"] r = Sign(h) y = MatMul(r, v)", "none passes through Sign 'r'"},
        Cut{"[\"a\"] i = ArgMax<axis = 1>(h) c = Cast<to = 1>(i) y = Mul(c, v)", "none passes through ArgMax 'a'"},
        Cut{"[\"i\"] i = Cast<to = 7>(h) c = Cast<to = 1>(i) y = MatMul(c, v)", "none passes through Cast 'i'"},
        Cut{"[\"l\"] l = Less(h, half) c = Cast<to = 1>(l) y = MatMul(c, v)", "none passes through Less 'l'"},
        Cut{"[\"r\"] r = Round(h) t = Tanh(h) [\"s\"] s = Sign(t) a = Add(r, s) y = MatMul(a, v)",
            "none passes through Round 'r', Sign 's'"},
        Cut{"y = MatMul(x, v)", "the loss does not depend on it"},
        Cut{"r = Round(h) a = Add(r, h) y = MatMul(a, v)", nullptr}, Cut{"a = Abs(h) y = MatMul(a, v)", nullptr}));

TEST(CutOffParametersOfHalfCopies, AreThoseWithoutGradient) {
  const auto said = [](const std::string& body) {
    Graph graph =
        parse("(float16[2,2] x) => (float16[2,2] y) <float[2,2] w = {1,2,3,4}> { c = Cast<to = 10>(w) " + body + " }");
    const ValueId w = graph.find("w");
    graph.states.push_back({.value = w, .initial = std::exchange(graph[w].constant, Tensor())});
    graph = run_pipeline(std::move(graph), {keep_half_copies()});
    EXPECT_THAT(state_names(graph, StateRole::copy), ElementsAre("w.f16"));
    return describe_cut_off(graph, cut_off_parameters(graph, graph.outputs));
  };
  EXPECT_EQ(said("y = MatMul(x, c)"), "");
  EXPECT_EQ(said("h = MatMul(x, c) [\"r\"] y = Round(h)"),
            "'w' gets no gradient and stays as it is: none passes through Round 'r'");
}

}  // namespace
}  // namespace halfstep::testing
