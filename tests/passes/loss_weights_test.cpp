// Losses that weigh classes, samples and terms, and losses of one's own. The numbers expected are those of PyTorch 2.15
// in float64 on the same numbers.
#include <map>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "tests/passes/pass_testing.h"

namespace halfstep {
namespace {

using namespace halfstep::testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Measured {
  double loss = 0;
  std::vector<double> gradient, terms;
};

/// Of y = x + 0 for these six numbers, as [2, 3].
Measured measure(LossOptions options, const std::map<std::string, Tensor>& inputs) {
  Graph graph =
      run_passes("(float[2,3] x) => (float[2,3] y) <float[2,3] w = {0.5, -1.2, 2.0, 1.5, 0.3, -0.7}> { y = Add(x, w) }",
                 {select_parameters({.trainable = {"w"}}), attach_loss(std::move(options)), differentiate()});
  graph.outputs.push_back(graph.states.at(0).gradient);
  const std::string gradient = graph[graph.states[0].gradient].name;
  std::vector<std::string> terms;
  for (const StepValue& v : graph.step)
    if (v.role == StepRole::term) terms.push_back(graph[v.value].name);
  Compiled step(graph);
  step.set("x", Tensor(DType::f32, {2, 3}));
  for (const auto& [name, tensor] : inputs) step.set(name, tensor);
  step.program->run();
  Measured result{step.get("loss").at(0), step.get(gradient), {}};
  for (const std::string& term : terms) result.terms.push_back(step.get(term).at(0));
  return result;
}

LossTerm term_of(const std::string& loss, const Tensor& labels) {
  return {.loss = loss, .label_dtype = labels.dtype(), .label_shape = labels.shape()};
}

const Tensor kClasses = Tensor::of<std::int64_t>({2, 1}), kOneClass = Tensor::of<std::int64_t>({2, -100});
const Tensor kShares = Tensor::of<float>({0.2f, 0.0f, 0.8f, 0.5f, 0.25f, 0.25f}, {2, 3});
const Tensor kBits = Tensor::of<float>({1, 0, 1, 0, 0, 1}, {2, 3});
const Tensor kTargets = Tensor::of<float>({0.2f, 1.0f, 0.1f, 1.4f, -0.5f, 2.0f}, {2, 3});
const Tensor kSamples = Tensor::of<float>({3.0f, 0.5f});
const std::vector<double> kWeights = {0.5, 2, 3};

struct WeightCase {
  const char* what;
  const char* loss;
  const Tensor& labels;
  void (*change)(LossTerm&);
  double expected;
  std::vector<double> gradient;
};

void by_class(LossTerm& t) { t.class_weights = kWeights; }
void by_sample(LossTerm& t) {
  t.sample_weights = "weights";
  t.sample_weight_shape = {2};
}
void smoothed(LossTerm& t) { t.numbers["label-smoothing"] = 0.2; }

TEST(LossWeights, AreThoseOfPyTorch) {
  const WeightCase cases[] = {
      {"class weights",
       "softmax_cross_entropy",
       kClasses,
       by_class,
       0.75851979,
       {0.10592524, 0.019350795, -0.12527603, 0.28328665, -0.3146757, 0.031389055}},
      {"a sum",
       "softmax_cross_entropy",
       kClasses,
       [](LossTerm& t) {
         by_class(t);
         t.reduction = LossReduction::sum;
       },
       3.792599,
       {0.52962618, 0.096753976, -0.62638015, 1.4164332, -1.5733785, 0.15694528}},
      {"smoothing",
       "softmax_cross_entropy",
       kClasses,
       smoothed,
       1.0396007,
       {0.054937696, -0.017207671, -0.037730025, 0.32077497, -0.32667796, 0.0059029856}},
      {"smoothing and weights",
       "softmax_cross_entropy",
       kClasses,
       [](LossTerm& t) {
         by_class(t);
         smoothed(t);
       },
       0.86462394,
       {0.091019939, -0.0088209332, -0.082199006, 0.27189854, -0.26276444, -0.0091340958}},
      {"one ignored",
       "softmax_cross_entropy",
       kOneClass,
       [](LossTerm& t) {
         by_class(t);
         smoothed(t);
         t.ignore_label = -100;
       },
       0.37486977,
       {0.1516999, -0.014701555, -0.13699834, 0, 0, 0}},
      {"shares",
       "softmax_cross_entropy",
       kShares,
       [](LossTerm& t) {
         by_class(t);
         smoothed(t);
       },
       2.0457196,
       {0.15224144, -0.028502598, -0.12373884, 0.43810302, -0.099573249, -0.33852977}},
      {"likelihood", "negative_log_likelihood", kClasses, by_class, -1.32, {0, 0, -0.6, 0, -0.4, 0}},
      {"samples",
       "softmax_cross_entropy",
       kClasses,
       by_sample,
       0.42145459,
       {0.15132176, 0.027643993, -0.17896576, 0.1011738, -0.11238418, 0.011210377}},
      {"samples and classes",
       "softmax_cross_entropy",
       kClasses,
       [](LossTerm& t) {
         by_class(t);
         by_sample(t);
       },
       0.36527705,
       {0.15888785, 0.029026193, -0.18791405, 0.070821662, -0.078668925, 0.0078472638}},
      {"smoothed bits",
       "binary_cross_entropy_logits",
       kBits,
       smoothed,
       0.77387367,
       {-0.046256778, 0.021912536, -0.003200487, 0.11959575, 0.079073753, -0.094697962}},
      {"weighted bits",
       "binary_cross_entropy_logits",
       kBits,
       [](LossTerm& t) {
         t.class_weights = {0.5, 2};
       },
       0.8029846,
       {-0.12584689, 0.019289601, -0.039734307, 0.068131206, 0.04787021, -0.22272926}},
      {"samples of numbers",
       "mean_squared_error",
       kTargets,
       by_sample,
       2.8180952,
       {0.17142857, -1.2571429, 1.0857143, 0.0095238095, 0.076190476, -0.25714286}},
      {"a sum of numbers",
       "l1",
       kTargets,
       [](LossTerm& t) { t.reduction = LossReduction::sum; },
       8,
       {1, -1, 1, 1, 1, -1}},
  };
  for (const WeightCase& c : cases) {
    SCOPED_TRACE(c.what);
    LossTerm term = term_of(c.loss, c.labels);
    c.change(term);
    std::map<std::string, Tensor> inputs{{"labels", c.labels}};
    if (!term.sample_weights.empty()) inputs["weights"] = kSamples;
    const Measured got = measure({.terms = {term}}, inputs);
    EXPECT_NEAR(got.loss, c.expected, 2e-6);
    for (std::size_t i = 0; i < c.gradient.size(); ++i) EXPECT_NEAR(got.gradient[i], c.gradient[i], 2e-6) << i;
  }
}

TEST(LossTerms, AreSummedByTheirWeights) {
  const LossTerm classes = term_of("softmax_cross_entropy", kClasses);
  LossTerm numbers = term_of("mean_squared_error", kTargets);
  numbers.labels = "targets";
  numbers.weight = 0.25;
  const std::map<std::string, Tensor> inputs{{"labels", kClasses}, {"targets", kTargets}};
  const Measured both = measure({.terms = {classes, numbers}}, inputs);
  const Measured first = measure({.terms = {classes}}, {{"labels", kClasses}});
  numbers.weight = 1;
  const Measured second = measure({.terms = {numbers}}, {{"targets", kTargets}});
  EXPECT_NEAR(both.loss, first.loss + second.loss / 4, 1e-6);
  for (std::size_t i = 0; i < 6; ++i)
    EXPECT_NEAR(both.gradient[i], first.gradient[i] + second.gradient[i] / 4, 1e-6) << i;
  ASSERT_EQ(both.terms.size(), 2U);
  EXPECT_NEAR(both.terms[0], first.loss, 1e-6);
  EXPECT_NEAR(both.terms[1], second.loss, 1e-6);
  EXPECT_TRUE(first.terms.empty()) << "the loss itself is enough";
}

TEST(LossTerms, MayShareLabels) {
  LossTerm l1 = term_of("l1", kTargets), huber = term_of("huber", kTargets);
  const Measured both = measure({.terms = {l1, huber}}, {{"labels", kTargets}});
  EXPECT_NEAR(both.loss, 4.0 / 3 + both.terms[1], 1e-6);
  huber.label_dtype = DType::f64;
  EXPECT_THAT(
      error_of("(float[2,3] x) => (float[2,3] y) { y = Tanh(x) }", {attach_loss(LossOptions{.terms = {l1, huber}})}),
      HasSubstr("one type of 'labels'"));
}

TEST(LossTerms, OfOneOutputMayTakeItsScoresAndItself) {
  LossTerm entropy = term_of("softmax_cross_entropy", kClasses), distance = term_of("l1", kTargets);
  distance.labels = "targets";
  const Graph graph = run_passes("(float[2,3] x) => (float[2,3] y) { h = Tanh(x) y = Softmax(h) }",
                                 {attach_loss(LossOptions{.terms = {entropy, distance}})});
  const Node* softmax = node_of(graph, "Softmax");
  ASSERT_NE(softmax, nullptr) << "the distance is that of the probabilities";
  EXPECT_EQ(node_of(graph, "Sub")->inputs[0], softmax->outputs[0]);
  EXPECT_EQ(node_of(graph, "SoftmaxCrossEntropyLoss")->inputs[0], node_of(graph, "Tanh")->outputs[0]);
}

TEST(LossFunctions, AreDifferentiatedLikeTheModel) {
  const LossFunction squares{.write =
                                 [](Builder& b, const NamedExprs& outputs, const NamedExprs& labels) {
                                   const Expr d = outputs.at("y") - labels.at("t");
                                   return b.op("ReduceMean", {d * d}, {{"keepdims", std::int64_t{0}}});
                                 },
                             .labels = {{"t", DType::f32, {2, 3}}}};
  const Measured own = measure({.terms = {}, .function = squares}, {{"t", kTargets}});
  const Measured table = measure({.terms = {term_of("mean_squared_error", kTargets)}}, {{"labels", kTargets}});
  EXPECT_NEAR(own.loss, table.loss, 1e-6);
  for (std::size_t i = 0; i < 6; ++i) EXPECT_NEAR(own.gradient[i], table.gradient[i], 1e-6) << i;
}

TEST(LossFunctions, MayBeAModel) {
  const Graph model = parse(
      "(float[N,3] y, float[N,3] t) => (float loss) "
      "{ d = Sub(y, t) s = Mul(d, d) loss = ReduceMean<keepdims = 0>(s) }");
  LossFunction function = loss_of_model(model);
  function.labels = {{"t", DType::f32, {2, 3}}};
  const Measured own = measure({.terms = {}, .function = function}, {{"t", kTargets}});
  EXPECT_NEAR(own.loss, 2.7466667, 1e-6);
  EXPECT_NEAR(own.gradient[1], -0.73333335, 1e-6);
  const Graph other = parse("(float[N,3] z) => (float loss) { loss = ReduceMean<keepdims = 0>(z) }");
  EXPECT_THAT(error_of("(float[2,3] x) => (float[2,3] y) { y = Tanh(x) }",
                       {attach_loss(LossOptions{.terms = {}, .function = loss_of_model(other)})}),
              HasSubstr("'z'"));
}

TEST(LossTerms, SayWhatDoesNotFit) {
  const struct {
    const char* loss;
    void (*change)(LossTerm&);
    const char* says;
  } cases[] = {
      {"softmax_cross_entropy",
       [](LossTerm& t) {
         t.class_weights = {1, 2};
       },
       "3 class weights, got 2"},
      {"softmax_cross_entropy",
       [](LossTerm& t) {
         t.class_weights = {1, 2, -1};
       },
       "class weights of at least 0"},
      {"softmax_cross_entropy", [](LossTerm& t) { t.numbers["label-smoothing"] = 2; }, "--label-smoothing"},
      {"softmax_cross_entropy",
       [](LossTerm& t) {
         t.sample_weights = "weights";
         t.sample_weight_shape = {3};
       },
       "sample weights for the rows"},
      {"softmax_cross_entropy", [](LossTerm& t) { t.loss = "hinge"; }, "a loss: "},
      {"softmax_cross_entropy", [](LossTerm& t) { t.output = "z"; }, "the name of a model output (y)"},
      {"kl_divergence",
       [](LossTerm& t) {
         t.class_weights = kWeights;
         t.label_dtype = DType::f32;
         t.label_shape = {2, 3};
       },
       "a loss over classes, for class weights"},
  };
  for (const auto& c : cases) {
    LossTerm term = term_of(c.loss, kClasses);
    c.change(term);
    EXPECT_THAT(error_of("(float[2,3] x) => (float[2,3] y) { y = Tanh(x) }", {attach_loss(term)}), HasSubstr(c.says));
  }
}

}  // namespace
}  // namespace halfstep
