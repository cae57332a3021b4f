// Which constants of a model are trained, and what is said of the others.
#include "passes/parameter_choice.h"

#include <gtest/gtest.h>

#include "tests/passes/pass_testing.h"

namespace halfstep::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const ParameterChoice* choice_of(const Graph& graph, const std::vector<ParameterChoice>& choices,
                                 const std::string& name) {
  for (const ParameterChoice& choice : choices)
    if (graph[choice.value].name == name) return &choice;
  return nullptr;
}

/// Why `name` is not trained; "" when it is.
std::string reason(const std::string& text, const std::string& name, const ParameterSelection& selection = {}) {
  const Graph graph = parse(text);
  const std::vector<ParameterChoice> choices = choose_parameters(graph, selection);
  const ParameterChoice* choice = choice_of(graph, choices, name);
  return choice ? choice->reason : "no float constant of that name is read";
}

struct Case {
  const char* what;
  const char* text;
  const char* name;
  const char* reason;  // part of it; "" when it is trained
};

class Selection : public ::testing::TestWithParam<Case> {};

TEST_P(Selection, TellsParametersFromOtherConstants) {
  const std::string found = reason(GetParam().text, GetParam().name);
  if (*GetParam().reason == '\0')
    EXPECT_EQ(found, "");
  else
    EXPECT_THAT(found, HasSubstr(GetParam().reason));
}

INSTANTIATE_TEST_SUITE_P(
    Rules, Selection,
    ::testing::Values(
        Case{"weight", "(float[N,2] x) => (float[N,2] y) <float[2,2] w = {1,2,3,4}> { y = MatMul(x, w) }", "w", ""},
        Case{"weight_of_zeros_and_ones",
             "(float[N,2] x) => (float[N,2] y) <float[2,2] w = {1,0,0,1}> { y = MatMul(x, w) }", "w", ""},
        Case{"transposed_weight",
             "(float[N,2] x) => (float[N,2] y) <float[2,2] w = {1,2,3,4}> { t = Transpose(w) y = MatMul(x, t) }", "w",
             ""},
        Case{"scalar", "(float[N,2] x) => (float[N,2] y) <float s = {0.5}> { y = Mul(x, s) }", "s", "scalar"},
        Case{"single_element_over_features", "(float[N,2] x) => (float[N,2] y) <float[1] s = {0.5}> { y = Mul(x, s) }",
             "s", "scalar"},
        Case{"bias_of_one_feature", "(float[N,1] x) => (float[N,1] y) <float[1] b = {0.5}> { y = Add(x, b) }", "b", ""},
        Case{"single_slope", "(float[N,2] x) => (float[N,2] y) <float[1] a = {0.25}> { y = PRelu(x, a) }", "a", ""},
        Case{"running_statistic",
             "(float[N,2] x) => (float[N,2] y) <float[2] s = {1,1}, float[2] b = {0,0}, float[2] m = {0,0}, float[2] v "
             "= {1,1}> { y = BatchNormalization(x, s, b, m, v) }",
             "v", "running statistic"},
        Case{"low_mask",
             "(float[2,2] x) => (float[2,2] y) <float[2,2] m = {0,-1e9,0,0}> { s = Add(x, m) y = Softmax(s) }", "m",
             "mask: only 0 and -1e+09"},
        Case{"zero_mask",
             "(float[2,2] x) => (float[2,2] y) <float[2,2] m = {0,0,0,0}> { s = Add(x, m) y = Softmax(s) }", "m",
             "added to the scores of a Softmax"},
        Case{"zero_bias", "(float[2,2] x) => (float[2,2] y) <float[2,2] b = {0,0,0,0}> { y = Add(x, b) }", "b", ""},
        Case{"causal_mask", "(float[2,2] x) => (float[2,2] y) <float[2,2] m = {1,0,1,1}> { y = Mul(x, m) }", "m",
             "mask: only 0 and 1"},
        Case{"compared", "(float[2] x) => (bool[2] y) <float[2] t = {1,2}> { y = Less(x, t) }", "t", "B of Less"},
        Case{"clip_bound", "(float[2] x) => (float[2] y) <float[1] t = {1}> { l = Squeeze(t) y = Clip(x, l) }", "t",
             "no gradient flows to it"},
        Case{"frequencies", "(float[2,1] x) => (float[2,2] y) <float[1,2] f = {1,0.1}> { a = MatMul(x, f) y = Cos(a) }",
             "f", "position encoding"}),
    [](const auto& test) { return std::string(test.param.what); });

constexpr const char* kTwoLayers =
    "(float[N,2] x) => (float[N,2] y) <float[2,2] a_weight = {1,2,3,4}, float[2,2] b_weight = {1,2,3,5}, float s = "
    "{2}> "
    "{ h = MatMul(x, a_weight) i = Mul(h, s) y = MatMul(i, b_weight) }";

std::vector<std::string> trained(const ParameterSelection& selection) {
  return state_names(run_passes(kTwoLayers, {select_parameters(selection)}), StateRole::parameter);
}

TEST(ParameterPatterns, Overrule) {
  EXPECT_THAT(trained({}), ElementsAre("a_weight", "b_weight"));
  EXPECT_THAT(trained({.freeze = {"a_*"}, .trainable = {}}), ElementsAre("b_weight"));
  EXPECT_THAT(trained({.freeze = {}, .trainable = {"a_*"}}), ElementsAre("a_weight"));
  EXPECT_THAT(trained({.freeze = {}, .trainable = {"*"}}), ElementsAre("a_weight", "b_weight"));
  EXPECT_THAT(trained({.freeze = {}, .trainable = {"*", "s"}}), ElementsAre("a_weight", "b_weight", "s"));
}

TEST(ParameterPatterns, AreRefusedWhenTheyMatchNothing) {
  EXPECT_THAT(error_of(kTwoLayers, {select_parameters({.freeze = {"c_*"}, .trainable = {}})}),
              HasSubstr("a_weight, b_weight"));
  EXPECT_THAT(error_of(kTwoLayers, {select_parameters({.freeze = {"*"}, .trainable = {}})}), HasSubstr("frozen"));
}

constexpr const char* kMerged =
    "(float[N,2] x) => (float[N,2] y) <float[2] zeros = {0,0}, float[2] tied = {1,2}> "
    "{ a = Add(x, zeros) b = Add(a, zeros) c = Mul(b, tied) y = Mul(c, tied) }";

TEST(MergedParameters, AreThoseOfEqualElementsWithSeveralReaders) {
  const Graph graph = parse(kMerged);
  const std::vector<ParameterChoice> choices = choose_parameters(graph, {});
  EXPECT_TRUE(choice_of(graph, choices, "zeros")->maybe_merged);
  EXPECT_FALSE(choice_of(graph, choices, "tied")->maybe_merged);
  EXPECT_THAT(choose_untied(graph, {}), ElementsAre());
  EXPECT_THAT(choose_untied(graph, {"all"}), ElementsAre("zeros"));
  EXPECT_THAT(choose_untied(graph, {"*"}), ElementsAre("zeros"));
  EXPECT_THAT(choose_untied(graph, {"tied"}), ElementsAre("tied"));
  EXPECT_THROW(choose_untied(graph, {"none*"}), Error);
}

TEST(MergedParameters, RunningStatisticsNeverBelongTogether) {
  const Graph graph = parse(
      "(float[N,2] x) => (float[N,2] y) <float[2] ones = {1,1}, float[2] zeros = {0,0}> "
      "{ a = BatchNormalization(x, ones, zeros, zeros, ones) y = BatchNormalization(a, ones, zeros, zeros, ones) }");
  EXPECT_THAT(choose_untied(graph, {}), ElementsAre("ones", "zeros"));
}

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

}  // namespace
}  // namespace halfstep::testing
