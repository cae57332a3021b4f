// Which constants of a model are trained, and what is said of the others.
#include "passes/load/parameter_choice.h"

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
  Exporter exporter = Exporter::unknown;
};

class Selection : public ::testing::TestWithParam<Case> {};

TEST_P(Selection, TellsParametersFromOtherConstants) {
  const std::string found = reason(GetParam().text, GetParam().name, {.exporter = GetParam().exporter});
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

// Whether a scalar is a parameter is told by its name, which PyTorch takes from the module.
constexpr const char* kScalars =
    "(float[N,2] x) => (float[N,2] y) <float[2,2] w = {1,2,3,4}, float logit_scale = {2}, float[1] \"block.gamma\" = "
    "{1}, float eps = {1}, float val_57 = {0.5}, float \"onnx::Mul_12\" = {3}, float \"a/ReadVariableOp:0\" = {2}, "
    "float \"a/mul/y:0\" = {2}> { h = MatMul(x, w) e = Exp(logit_scale) a = Mul(h, e) b = Mul(a, \"block.gamma\") "
    "c = Add(b, eps) d = Mul(c, val_57) f = Mul(d, \"onnx::Mul_12\") i = Mul(f, \"a/ReadVariableOp:0\") "
    "y = Mul(i, \"a/mul/y:0\") }";
constexpr const char* kScalarsOfModules =
    "(float[N,2] x) => (float[N,2] y) <float[2,2] \"fc.weight\" = {1,2,3,4}, float alpha = {2}> "
    "{ two = Constant<value_float = 2.0>() h = MatMul(x, \"fc.weight\") a = Mul(h, two) y = Mul(a, alpha) }";
INSTANTIATE_TEST_SUITE_P(Scalars, Selection,
                         ::testing::Values(Case{"named", kScalars, "logit_scale", "", Exporter::pytorch},
                                           Case{"named_by_nobody_knows_whom", kScalars, "logit_scale", "scalar"},
                                           Case{"of_a_module", kScalars, "block.gamma", ""},
                                           Case{"epsilon", kScalars, "eps", "buffer by its name", Exporter::pytorch},
                                           Case{"made_up", kScalars, "val_57", "scalar", Exporter::pytorch},
                                           Case{"folded", kScalars, "onnx::Mul_12", "scalar", Exporter::pytorch},
                                           Case{"variable", kScalars, "a/ReadVariableOp:0", "", Exporter::keras},
                                           Case{"number_of_keras", kScalars, "a/mul/y:0", "scalar", Exporter::keras},
                                           Case{"beside_names_of_modules", kScalarsOfModules, "alpha", ""},
                                           Case{"constant_node", kScalarsOfModules, "two", "scalar"}),
                         [](const auto& test) { return std::string(test.param.what); });

// Weights in Constant nodes.
constexpr const char* kConstantWeights =
    "(float[N,2] x) => (float[N,2] y) { w = Constant<value = float[2,2] {1,2,3,4}>() b = Constant<value_floats = [1.0, "
    "2.0]>() half = Constant<value_float = 0.5>() h = MatMul(x, w) a = Add(h, b) y = Mul(a, half) }";
constexpr const char* kConstantNumbers =
    "(float[N,2] x) => (float[N,2] y) <float[2,2] w = {1,2,3,4}> "
    "{ c = Constant<value = float[2] {1,2}>() h = MatMul(x, w) y = Mul(h, c) }";
constexpr const char* kConstantSlope =
    "(float[N,2] x) => (float[N,2] y) { a = Constant<value_float = 0.25>() y = PRelu(x, a) }";
constexpr const char* kConstantNormalization =
    "(float[N,2] x) => (float[N,2] y) <float[2,2] w = {1,2,3,4}> { s = Constant<value = float[2] {1,1}>() "
    "b = Constant<value = float[2] {0,0.5}>() n = LayerNormalization(x, s, b) y = MatMul(n, w) }";
constexpr const char* kConstantState =
    "(float[N,2] x) => (float[2,2] y) <float[2,2] w = {1,2,3,4}> { zero = Constant<value_float = 0.0>() "
    "s = Constant<value_ints = [2, 2]>() h = Expand(zero, s) y = MatMul(h, w) }";
constexpr const char* kConstantTable =
    "(int64[N] x) => (float[N,2] y) { t = Constant<value = float[3,2] {1,2,3,4,5,7}>() y = Gather(t, x) }";
INSTANTIATE_TEST_SUITE_P(
    ConstantNodes, Selection,
    ::testing::Values(Case{"weight", kConstantWeights, "w", ""}, Case{"bias", kConstantWeights, "b", ""},
                      Case{"number", kConstantWeights, "half", "scalar"},
                      Case{"weight_of_paddle", kConstantWeights, "w", "", Exporter::paddle},
                      Case{"weight_of_pytorch", kConstantWeights, "w", "PyTorch writes", Exporter::pytorch},
                      Case{"in_arithmetic", kConstantNumbers, "c", "Constant node in arithmetic"},
                      Case{"slope", kConstantSlope, "a", ""}, Case{"filler", kConstantNormalization, "s", "the ones"},
                      Case{"scale", kConstantNormalization, "b", ""}, Case{"embeddings", kConstantTable, "t", ""},
                      Case{"initial_state", kConstantState, "zero", "scalar"}),
    [](const auto& test) { return std::string(test.param.what); });

// What PyTorch's modules keep in buffers.
constexpr const char* kNamedBuffers =
    "(float[N,2] x) => (float[N,2] y) <float[2] alpha = {3,4}, float[2] \"norm.mean\" = {1,2}, float[2] log_std = "
    "{1,2}, "
    "float[2] pe = {3,5}, float[2] temperature = {4,5}, float[2] \"norm.scale\" = {1,2}> "
    "{ t = Tanh(x) g = Mul(t, alpha) h = Sub(g, \"norm.mean\") a = Add(h, log_std) b = Add(a, pe) c = Mul(b, "
    "temperature) "
    "y = Mul(c, \"norm.scale\") }";
constexpr const char* kNormalizedInput =
    "(float[N,2] x) => (float[N,2] y) <float[2] a = {1,2}, float[2] b = {3,4}, float[2] c = {5,6}, float[2,2] w = "
    "{1,2,3,4}> { two = Constant<value_float = 2.0>() r = Div(x, two) s = Sub(r, a) d = Div(s, b) h = MatMul(d, w) "
    "y = Sub(h, c) }";
constexpr const char* kTwiceShiftedInput =
    "(float[N,3] x) => (float[N,3] y) <float[3] a = {1, 2, 3}, float[3] b = {4, 5, 7}, float[3] w = {1, 2, 4}> "
    "{ h = Add(x, a) i = Sub(h, b) y = Mul(i, w) }";
constexpr const char* kShiftedInput =
    "(float[N,2] x) => (float[N,2] y) <float[2] a = {1,2}, float[2,2] w = {1,2,3,4}> { s = Sub(x, a) y = MatMul(s, w) "
    "}";
constexpr const char* kMeanImage =
    "(float[N,2,1,2] x) => (float[N,2,1,2] y) <float[2,1,1] a = {1,2}, float[2,2] w = {1,2,3,4}> "
    "{ s = Sub(x, a) y = MatMul(s, w) }";
// Angles of 0.3 and 0.7 times the row.
constexpr const char* kSines =
    "(float[N,2,4] x) => (float[N,2,4] y) <float[1,2,4] t = {0,1,0,1, 0.29552,0.95534,0.64422,0.76484}> { y = Add(x, "
    "t) }";
constexpr const char* kRotary =
    "(float[N,4,4] x) => (float[N,4,4] y) <float[4,4] s = {0,0,0,0, 0.29552,0.29552,0.29552,0.29552, 0.56464,0.56464,"
    "0.56464,0.56464, 0.78333,0.78333,0.78333,0.78333}, float[4,4] c = {1,1,1,1, 0.95534,0.95534,0.95534,0.95534, "
    "0.82534,0.82534,0.82534,0.82534, 0.62161,0.62161,0.62161,0.62161}> { a = Mul(x, c) b = Mul(x, s) y = Add(a, b) }";
constexpr const char* kEnumeration =
    "(float[N,4,2,1] x) => (float[N,1,2,1] y) <float[1,4,1,1] w = {0,1,2,3}> { y = Conv(x, w) }";
constexpr const char* kInitialState =
    "(float[2,1,1] x) => (float[2,1,1,2] y) <float[1,2,1] w = {1,2}, float[1,2,2] r = {1,2,3,4}, float[1,1,2] h = "
    "{0,0}> "
    "{ y, last = RNN<hidden_size = 2>(x, w, r, , , h) }";
INSTANTIATE_TEST_SUITE_P(
    Buffers, Selection,
    ::testing::Values(Case{"mean", kNamedBuffers, "norm.mean", "by its name", Exporter::pytorch},
                      Case{"log_std", kNamedBuffers, "log_std", "", Exporter::pytorch},
                      Case{"position_table", kNamedBuffers, "pe", "by its name", Exporter::pytorch},
                      Case{"before_a_buffer", kNamedBuffers, "alpha", "", Exporter::pytorch},
                      Case{"after_a_buffer", kNamedBuffers, "temperature", "follows a buffer", Exporter::pytorch},
                      Case{"after_a_buffer_of_a_module", kNamedBuffers, "norm.scale", "follows", Exporter::pytorch},
                      Case{"in_an_order_that_tells_nothing", kNamedBuffers, "temperature", ""},
                      Case{"subtracted_from_the_input", kNormalizedInput, "a", "normalizes"},
                      Case{"divides_the_input", kNormalizedInput, "b", "normalizes"},
                      Case{"subtracted_from_features", kNormalizedInput, "c", ""},
                      Case{"two_shifts", kTwiceShiftedInput, "b", ""}, Case{"shift", kShiftedInput, "a", ""},
                      Case{"mean_of_an_image", kMeanImage, "a", "normalizes"},
                      Case{"sines_beside_cosines", kSines, "t", "sines and cosines"},
                      Case{"sines", kRotary, "s", "sines and cosines"},
                      Case{"cosines", kRotary, "c", "sines and cosines"},
                      Case{"enumeration", kEnumeration, "w", "bins of a distribution"},
                      Case{"zero_initial_state", kInitialState, "h", "initial state"}),
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

TEST(ParameterPatterns, MayFreezeWhatIsNotTrainedAnyway) {
  EXPECT_THAT(trained({.freeze = {"s", "b_*"}}), ElementsAre("a_weight"));
  EXPECT_THAT(trained({.freeze = {"s"}, .trainable = {"*", "s"}}), ElementsAre("a_weight", "b_weight"));
}

TEST(ParameterPatterns, AreRefusedWhenTheyMatchNothing) {
  EXPECT_THAT(error_of(kTwoLayers, {select_parameters({.freeze = {"c_*"}, .trainable = {}})}),
              HasSubstr("a_weight, b_weight"));
  EXPECT_THAT(error_of(kTwoLayers, {select_parameters({.freeze = {"*"}, .trainable = {}})}), HasSubstr("frozen"));
}

std::string guesses(const std::string& text, const ParameterSelection& selection) {
  const Graph graph = parse(text);
  return guesses_of(graph, choose_parameters(graph, selection));
}

TEST(Guesses, AreSaidWithTheFlagThatChangesThem) {
  const std::string said = guesses(kScalars, {.exporter = Exporter::pytorch});
  EXPECT_THAT(said, HasSubstr("'logit_scale', 'block.gamma' are trained, --freeze NAME"));
  EXPECT_THAT(said, HasSubstr("'eps' (a buffer by its name) is not trained, --trainable '*,NAME'"));
  EXPECT_EQ(guesses(kScalars, {.freeze = {"logit_scale", "block.gamma", "eps"}, .exporter = Exporter::pytorch}), "");
  EXPECT_THAT(guesses(kTwoLayers, {}), HasSubstr("'s' (scalar constant) is not trained"));
  EXPECT_EQ(guesses(kTwoLayers, {.trainable = {"*", "s"}}), "");
  EXPECT_EQ(guesses(kConstantWeights, {.exporter = Exporter::paddle}).find("'w'"), std::string::npos);
}

// The first half of B is the input's bias, the second the hidden state's.
std::string recurrent(const std::string& op, const std::string& bias, const std::string& attributes = "") {
  const std::size_t gates = op == "LSTM" ? 4 : op == "GRU" ? 3 : 1;
  const auto list = [](std::size_t count, const char* value) {
    std::string text = value;
    for (std::size_t i = 1; i < count; ++i) text += std::string(", ") + value;
    return text;
  };
  const std::string n = std::to_string(gates);
  return "(float[2,1,1] x) => (float[1,1,1] y) <float[1," + n + ",1] w = {" + list(gates, "0.5") + "}, float[1," + n +
         ",1] r = {" + list(gates, "0.25") + "}, float[1," + std::to_string(2 * gates) + "] b = {" +
         list(gates, bias == "none" ? "0" : "1") + ", " + list(gates, bias == "both" ? "2" : "0") +
         "}> { all, y = " + op + "<hidden_size = 1" + attributes + ">(x, w, r, b) }";
}

TEST(RecurrentBias, OnlyTheInputsIsTrainedWhereTheOtherIsZero) {
  struct Bias {
    std::string text;
    Exporter exporter;
    std::int64_t trained;  // of the elements on the last axis; 0: all
  };
  const Bias cases[] = {{recurrent("LSTM", "input"), Exporter::unknown, 4},
                        {recurrent("LSTM", "input"), Exporter::keras, 4},
                        {recurrent("LSTM", "input"), Exporter::pytorch, 0},
                        {recurrent("LSTM", "input"), Exporter::paddle, 0},
                        {recurrent("LSTM", "both"), Exporter::unknown, 0},
                        {recurrent("LSTM", "none"), Exporter::unknown, 0},
                        {recurrent("LSTM", "none"), Exporter::keras, 4},
                        {recurrent("RNN", "input"), Exporter::unknown, 1},
                        {recurrent("GRU", "input"), Exporter::unknown, 3},
                        {recurrent("GRU", "input", ", linear_before_reset = 1"), Exporter::unknown, 0}};
  for (const Bias& c : cases) {
    const Graph graph = parse(c.text);
    EXPECT_EQ(choice_of(graph, choose_parameters(graph, {.exporter = c.exporter}), "b")->leading, c.trained) << c.text;
    const Graph trained = run_passes(c.text, {select_parameters({.exporter = c.exporter})});
    for (const State& state : trained.states) {
      if (trained[state.value].name != "b") continue;
      EXPECT_EQ(state.initial.shape()[1], c.trained > 0 ? c.trained : graph[graph.find("b")].shape[1]) << c.text;
    }
    EXPECT_EQ(node_of(trained, "Concat") != nullptr, c.trained > 0) << c.text;
  }
}

TEST(RecurrentBias, NamedInFullItIsTrainedAsAWhole) {
  const Graph graph = run_passes(recurrent("LSTM", "input"), {select_parameters({.trainable = {"*", "b"}})});
  EXPECT_EQ(node_of(graph, "Concat"), nullptr);
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

}  // namespace
}  // namespace halfstep::testing
