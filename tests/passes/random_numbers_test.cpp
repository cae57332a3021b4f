// Operators that draw at random: fresh numbers every step, the same for the same seed, gradients beside them.
#include "passes/load/random_numbers.h"

#include <cmath>

#include "tests/passes/pass_testing.h"
#include <halfstep/passes/pipelines.h>

namespace halfstep {
namespace {

using namespace halfstep::testing;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// What two runs of one program give.
std::vector<std::vector<double>> two_runs(const Graph& graph, const std::string& output = "y") {
  Compiled step(graph);
  std::vector<std::vector<double>> runs;
  for (int i = 0; i < 2; ++i) {
    step.program->run();
    runs.push_back(step.get(output));
  }
  return runs;
}

const char* const kDrawing[] = {
    "() => (float[64] y) { y = RandomNormal<shape = [64], mean = 1.0>() }",
    "() => (float[64] y) { y = RandomUniform<shape = [64], low = 2.0, high = 3.0>() }",
    "() => (float[64] y) <float[64] x = {1}> { y = RandomNormalLike(x) }",
    "() => (float[64] y) <float[64] x = {1}> { y = RandomUniformLike(x) }",
    "() => (float[4,16] y) { p = RandomUniform<shape = [4, 16]>() y = Bernoulli(p) }",
    "() => (int32[2,32] y) { p = RandomUniform<shape = [2, 9]>() y = Multinomial<sample_size = 32>(p) }"};

TEST(DrawByCounter, DrawsAnewEveryRunAndTheSameFromTheSameSeed) {
  for (std::string text : kDrawing) {
    if (const auto at = text.find("float[64] x = {1}"); at != std::string::npos)
      text.replace(at, 17, "int64[1] n = {64}"), text.replace(text.find("{ y"), 1, "{ x = ConstantOfShape(n)");
    const auto first = two_runs(run_passes(text, {draw_by_counter(7)}));
    EXPECT_NE(first[0], first[1]) << text;
    EXPECT_EQ(two_runs(run_passes(text, {draw_by_counter(7)})), first) << text;
    EXPECT_NE(two_runs(run_passes(text, {draw_by_counter(8)}))[0], first[0]) << text;
    // Beside training other numbers are drawn, and the counter stands still.
    const auto beside = two_runs(run_passes(text, {draw_by_counter(7, DrawingFor::evaluation)}));
    EXPECT_EQ(beside[0], beside[1]) << text;
    EXPECT_NE(beside[0], first[0]) << text;
  }
}

TEST(DrawByCounter, TellsNodesApartButForThoseOfOneSeed) {
  const std::string two =
      "() => (float[8] y, float[8] z) { y = RandomNormal<shape = [8]%>() z = RandomNormal<shape = [8]%>() }";
  auto drawn = [&](const std::string& seed, std::int64_t of_run) {
    std::string text = two;
    for (auto at = text.find('%'); at != std::string::npos; at = text.find('%')) text.replace(at, 1, seed);
    Compiled step(run_passes(text, {draw_by_counter(of_run)}));
    step.program->run();
    return std::pair(step.get("y"), step.get("z"));
  };
  const auto unseeded = drawn("", 0), seeded = drawn(", seed = 3.0", 0);
  EXPECT_NE(unseeded.first, unseeded.second);
  EXPECT_EQ(seeded.first, seeded.second);
  EXPECT_NE(unseeded.first, seeded.first);
  EXPECT_EQ(drawn(", seed = 3.0", 1), seeded) << "the model's seed overrules the run's";
  EXPECT_NE(drawn(", seed = 4.0", 0).first, seeded.first);
}

TEST(DrawByCounter, KeepsElementTypes) {
  const Graph graph = run_passes(
      "(float16[3] x) => (float16[3] a, double[3] b, bool[3] c, int64[1,2] d) { a = RandomNormalLike(x) "
      "b = RandomUniform<shape = [3], dtype = 11>() c = Bernoulli<dtype = 9>(a) q = RandomNormal<shape = [1, 3]>() "
      "d = Multinomial<dtype = 7, sample_size = 2>(q) }",
      {draw_by_counter(0)});
  for (const auto& [name, dtype] : {std::pair("a", DType::f16), std::pair("b", DType::f64),
                                    std::pair("c", DType::boolean), std::pair("d", DType::i64)})
    EXPECT_EQ(graph[graph.find(name)].dtype, dtype) << name;
  EXPECT_THAT(ops_of(graph), Not(Contains("Bernoulli")));
  verify(graph);
}

TEST(DrawByCounter, SharesTheCounterOfDropout) {
  const Graph graph =
      run_passes("(float[4] x) => (float[4] y) { d = Dropout(x) n = RandomNormalLike(x) y = Add(d, n) }",
                 {draw_by_counter(3), to_training_mode({.seed = 3})});
  ASSERT_EQ(state_names(graph, StateRole::random).size(), 1u);
  EXPECT_THAT(ops_of(graph), Contains("ai.halfstep.PhiloxDropout"));
  EXPECT_THAT(ops_of(graph), Contains("ai.halfstep.PhiloxRandom"));
}

TEST(DrawByCounter, RefusesLoopsThatDependOnData) {
  const char* const in_loop =
      "(float[2] x, int64 n) => (float[2] y) { y = Loop (n, , x) <body = b (int64 i, bool go, float[2] s) => "
      "(bool again, float[2] t) { again = Identity(go) [noise] r = RandomNormal<shape = [2]>() t = Add(s, r) }> }";
  EXPECT_THAT(error_of(in_loop, {draw_by_counter(0)}), HasSubstr("RandomNormal 'noise' in Loop"));
}

// y = m + exp(l / 2) * noise: the loss's gradient reaches m and l through the sum and the product, as in PyTorch.
TEST(DrawByCounter, LetsGradientsFlowAroundTheNoise) {
  const std::string text =
      "(float[N,3] x) => (float[N,3] y) <float[3] m = {1, -2, 0.5}, float[3] l = {0, 1, -1}, float[1] two = {2}> "
      "{ h = Div(l, two) s = Exp(h) noise = RandomNormalLike(x) scaled = Mul(s, noise) sum = Add(m, scaled) "
      "y = Add(sum, x) }";
  StepOptions options;
  options.shapes.by_name["x"] = {2, 3};
  options.loss.terms = {{.loss = "mean_squared_error", .output = {}, .label_dtype = DType::f32, .label_shape = {2, 3}}};
  options.optimizer = {.name = "sgd"};
  const auto executor = make_reference_executor();
  Compiled step(run_pipeline(parse(text), whole_pipeline(Purpose::training, options, executor->capabilities())));
  step.set("x", Tensor::of<float>({0, 0, 0, 0, 0, 0}, {2, 3}));
  step.set("labels", Tensor::of<float>({0, 0, 0, 0, 0, 0}, {2, 3}));
  step.set("learning_rate", Tensor::scalar(1.0f));
  step.program->run();
  const std::vector<double> y = step.get("y"), m = {1, -2, 0.5}, l = {0, 1, -1};
  EXPECT_NE(y[0], y[3]);
  for (std::size_t c = 0; c < 3; ++c) {
    double to_m = 0, to_l = 0;
    for (std::size_t row = 0; row < 2; ++row) {
      const double error = 2 * y[row * 3 + c] / 6;
      to_m += error;
      to_l += error * (y[row * 3 + c] - m[c]) / 2;  // scaled / 2
    }
    EXPECT_NEAR(step.state("m")[c], m[c] - to_m, 1e-5);
    EXPECT_NEAR(step.state("l")[c], l[c] - to_l, 1e-5);
  }
}

TEST(DrawByCounter, GivesNothingGradientsThatADrawDependsOn) {
  const std::string text =
      "(float[2,2] x) => (float[2,2] y) <float[2,2] w = {1, 2, 3, 4}, float[2,2] p = {0.5, 0.5, 0.5, 0.5}> "
      "{ b = Bernoulli(p) m = Mul(b, w) y = Add(m, x) }";
  const LossTerm loss{.loss = "mean_squared_error", .output = {}, .label_dtype = DType::f32, .label_shape = {2, 2}};
  const Graph graph = run_passes(text, {select_parameters(), draw_by_counter(0), attach_loss(loss), differentiate()});
  const auto gradient_of = [&](std::string_view name) {
    return graph.states[static_cast<std::size_t>(graph.state_of(graph.find(name)))].gradient;
  };
  EXPECT_EQ(gradient_of("p"), kNoValue);
  EXPECT_NE(gradient_of("w"), kNoValue);
  EXPECT_NE(node_of(graph, "PhiloxRandom"), nullptr);
}

TEST(BindShapes, GivesNoiseTheBatch) {
  const Graph graph =
      run_passes("(float[1,3] x) => (float[1,3] y) { n = RandomNormal<shape = [1, 3]>() y = Add(x, n) }",
                 {bind_shapes({.by_name = {{"x", Shape{5, 3}}}}), draw_by_counter(0)});
  EXPECT_EQ(graph[graph.outputs[0]].shape, (Shape{5, 3}));
  EXPECT_THAT(node_of(graph, "PhiloxRandom")->attributes.get_ints("shape"), ElementsAre(5, 3));
}

}  // namespace
}  // namespace halfstep
