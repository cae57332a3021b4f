// Gradients of one value with respect to others, by the function and by the pass.
#include <string>
#include <vector>

#include "tests/passes/pass_testing.h"

namespace halfstep::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pointwise;

/// The gradients of `loss` with respect to `targets`, at x = (2, 1); empty where none flows.
std::vector<std::vector<double>> gradients_of(const std::string& text, const std::vector<std::string>& targets,
                                              const std::string& start = "") {
  Graph graph = parse(text);
  std::vector<ValueId> ids;
  for (const std::string& name : targets) ids.push_back(graph.find(name));
  const std::vector<ValueId> gradients =
      differentiate(graph, graph.find("loss"), ids, start.empty() ? kNoValue : graph.find(start));
  graph.sort();
  verify(graph);
  graph.outputs.clear();
  for (const ValueId gradient : gradients)
    if (gradient != kNoValue) graph.outputs.push_back(gradient);
  Compiled compiled(graph);
  compiled.set("x", Tensor::of<float>({2, 1}));
  compiled.program->run();
  std::vector<std::vector<double>> result;
  std::size_t output = 0;
  for (const ValueId gradient : gradients)
    result.push_back(gradient == kNoValue ? std::vector<double>() : to_doubles(compiled.program->output(output++)));
  return result;
}

TEST(Differentiate, GivesGradientsOfAnyTargets) {
  struct Case {
    const char* what;
    const char* body;  // of a graph with input x = (2, 1), initializer w = (1, -3)
    std::vector<std::string> targets;
    std::vector<std::vector<double>> gradients;
  };
  // loss = mean((w x)^2): dloss/da = a with a = w x = (2, -3)
  const char* square = "a = Mul(x, w) b = Mul(a, a) loss = ReduceMean<keepdims=0>(b)";
  const Case cases[] = {
      {"an initializer", square, {"w"}, {{4, -3}}},
      {"an input", square, {"x"}, {{2, 9}}},
      {"a value between, which is read twice", square, {"a"}, {{2, -3}}},
      {"several, in their order, one of them twice",
       square,
       {"x", "a", "w", "b", "x"},
       {{2, 9}, {2, -3}, {4, -3}, {0.5, 0.5}, {2, 9}}},
      {"the loss itself", square, {"loss"}, {{1}}},
      {"a value behind the loss", "loss = ReduceSum<keepdims=0>(x) b = Mul(loss, w)", {"b", "x"}, {{}, {1, 1}}},
      {"a target beside the loss", "loss = ReduceSum<keepdims=0>(x) b = Mul(x, w)", {"w", "b", "x"}, {{}, {}, {1, 1}}},
      {"no way that is smooth",
       "a = Round(w) b = Mul(a, x) loss = ReduceSum<keepdims=0>(b)",
       {"a", "x"},
       {{2, 1}, {1, -3}}},
      {"a target that is no float",
       "i = Cast<to = 7>(w) a = Cast<to = 1>(i) b = Mul(a, x) loss = ReduceSum<keepdims=0>(b)",
       {"i", "w", "a"},
       {{}, {}, {2, 1}}},
      {"a value read by three nodes",
       "a = Neg(x) b = Mul(a, a) c = Add(b, a) d = Mul(a, w) e = Add(c, d) loss = ReduceSum<keepdims=0>(e)",
       {"a"},
       {{-4 + 1 + 1, -2 + 1 - 3}}},
      {"a value read twice by one node, one of them broadcast",
       "a = ReduceSum<keepdims=0>(x) b = Mul(a, x) c = Add(b, a) loss = ReduceSum<keepdims=0>(c)",
       {"a", "x"},
       {{3 + 2}, {5 + 3, 5 + 3}}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.what);
    const std::string text = "(float[2] x) => (float loss) <float[2] w = {1, -3}> { " + std::string(c.body) + " }";
    const auto found = gradients_of(text, c.targets);
    ASSERT_EQ(found.size(), c.gradients.size());
    for (std::size_t i = 0; i < found.size(); ++i)
      EXPECT_THAT(found[i], Pointwise(::testing::DoubleNear(1e-6), c.gradients[i])) << c.targets[i];
  }
}

// Each update's gradient is the product of the others, as scatter_reduce's in PyTorch.
TEST(Differentiate, UpdatesOf0ThatAreMultipliedHaveGradients) {
  struct Case {
    const char* updates;
    std::vector<double> gradient;
  };
  const Case cases[] = {{"2, 3, 4", {5 * 2 * 3, 5 * 2 * 2, 7}}, {"0, 3, 0", {5 * 2 * 3, 0, 7}}, {"0, 0, 4", {0, 0, 7}}};
  for (const Case& c : cases)
    for (const auto& [op, indices] :
         {std::pair{"ScatterElements", "int64[3] i"}, std::pair{"ScatterND", "int64[3,1] i"}}) {
      const std::string text = "(float[2] x) => (float loss) <" + std::string(indices) +
                               " = {0, 0, 1}, float[3] u = {" + c.updates + "}, float[2] c = {5, 7}> { y = " + op +
                               "<reduction = \"mul\">(x, i, u) a = Mul(y, c) loss = ReduceSum<keepdims=0>(a) }";
      EXPECT_THAT(gradients_of(text, {"u"})[0], Pointwise(::testing::DoubleNear(1e-6), c.gradient)) << text;
    }
}

TEST(Differentiate, StartsFromAGivenGradient) {
  const std::string text =
      "(float[2] x) => (float[2] loss, float[2] start) <float[2] w = {1, -3}> { a = Mul(x, w) loss = Mul(a, a) "
      "start = Neg(x) }";
  EXPECT_THAT(gradients_of(text, {"w"}, "start"), ElementsAre(ElementsAre(-16, 6)));  // -x 2 a x
  EXPECT_THROW(gradients_of(text, {"w"}), Error) << "a loss is one number";
}

TEST(Differentiate, ChangesNothingThatIsThere) {
  const char* text = "(float[2] x) => (float l) { a = Exp(x) b = Mul(a, a) l = ReduceSum<keepdims=0>(b) }";
  const Graph before = parse(text);
  Graph graph = before;
  differentiate(graph, graph.outputs[0], graph.inputs);
  ASSERT_GT(graph.nodes.size(), before.nodes.size());
  graph.remove_dead();
  EXPECT_EQ(to_text(graph), to_text(before));
}

// loss = mean((w * x)^2): dloss/dw = 2 w x^2 / n
constexpr const char* kSquare =
    "(float[2] x) => (float l) <float[2] w = {1, -3}> { a = Mul(x, w) b = Mul(a, a) l = ReduceMean<keepdims=0>(b) }";
const Pipeline kGradient = {select_parameters(), attach_loss({.loss = "output", .output = {}}), differentiate()};

TEST(DifferentiatePass, GivesEveryParameterItsGradient) {
  Graph graph = run_passes(kSquare, kGradient);
  ASSERT_NE(graph.states[0].gradient, kNoValue);
  graph.outputs.push_back(graph.states[0].gradient);
  const std::string name = graph[graph.states[0].gradient].name;
  Compiled step(graph);
  step.set("x", Tensor::of<float>({2, 1}));
  step.program->run();
  EXPECT_THAT(step.get(name), ElementsAre(4, -3));
}

TEST(DifferentiatePass, NamesEveryOperatorThatBlocks) {
  // Gradient operators have no gradients of their own.
  const std::string error = error_of(
      "(float[2] x) => (float l) <float[2] w = {1, 2}> { a = Mul(x, w) b = ai.halfstep.ReluGrad(x, a)"
      " c = ai.halfstep.SoftmaxGrad(x, a) d = Add(b, c) l = ReduceMean<keepdims=0>(d) }",
      kGradient);
  EXPECT_THAT(error, AllOf(HasSubstr("ReluGrad"), HasSubstr("SoftmaxGrad"), HasSubstr("train that one")));
}

TEST(DifferentiatePass, RefusesALossWithoutParameters) {
  EXPECT_THAT(error_of("(float[2] x, float[2] z) => (float l, float[2] y) <float[2] w = {1, 2}> {"
                       " l = ReduceMean<keepdims=0>(x) y = Mul(z, w) }",
                       kGradient),
              HasSubstr("a loss that depends on a parameter"));
  EXPECT_THAT(error_of(kSquare, {select_parameters(), differentiate()}), HasSubstr("a graph with a loss"));
}

}  // namespace
}  // namespace halfstep::testing
