// Losses and their gradients. The numbers expected are those of PyTorch 2.15 in float64 on the same numbers, by the
// functions that the rows name; of binary_focal those of torchvision's sigmoid_focal_loss, of log_cosh
// those of Keras' formula, both written out.
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tests/passes/pass_testing.h"

namespace halfstep {
namespace {

using namespace halfstep::testing;
using ::testing::HasSubstr;
using Values = std::vector<float>;

struct Measured {
  double loss = 0;
  std::vector<double> gradient;
};

/// The loss of an output of these numbers, and its gradient with respect to them. `added` is added to the numbers.
Measured measure(const Values& y, const char* shape, const Tensor& labels, const LossTerm& given,
                 const char* last = "Identity", const Tensor& added = {}) {
  LossTerm options = given;
  options.label_dtype = labels.dtype();
  options.label_shape = labels.shape();
  Graph graph = run_passes(fmt::format("(float[{0}] x) => (float[{0}] y) <float[{0}] w = {{{1}}}> "
                                       "{{ s = Add(x, w) y = {2}(s) }}",
                                       shape, fmt::join(y, ", "), last),
                           {select_parameters({.trainable = {"w"}}), attach_loss(options), differentiate()});
  graph.outputs.push_back(graph.states.at(0).gradient);
  const std::string gradient = graph[graph.states[0].gradient].name;
  Compiled step(graph);
  step.set("x", added.is_defined() ? added : Tensor(DType::f32, graph[graph.inputs[0]].shape));
  step.set("labels", labels);
  step.program->run();
  return {step.get("loss").at(0), step.get(gradient)};
}

const Values kY = {0.5f, -1.2f, 2.0f, 1.5f, 0.3f, -0.7f}, kProbabilities = {0.5f, 0.2f, 0.9f, 0.3f, 0.6f, 0.1f};
const Tensor kTargets = Tensor::of<float>({0.2f, 1.0f, 0.1f, 1.4f, -0.5f, 2.0f}, {2, 3});
const Tensor kShares = Tensor::of<float>({0.2f, 0.0f, 0.8f, 0.5f, 0.25f, 0.25f}, {2, 3});
const Tensor kBits = Tensor::of<float>({1, 0, 1, 0, 0, 1}, {2, 3});
const Tensor kSomeBits = Tensor::of<float>({1, 0, -100, -100, 0, 1}, {2, 3});  // of the same, with two left out
const Tensor kClasses = Tensor::of<std::int64_t>({2, 1});

struct LossCase {
  std::string kind;
  LossNumbers numbers;
  const Values& y;
  const Tensor& labels;
  std::optional<std::int64_t> ignored;
  double loss;
  std::vector<double> gradient;
};

const std::vector<LossCase>& loss_cases() {
  static const Tensor first_class = Tensor::of<std::int64_t>({2, -100});
  static const std::vector<LossCase> cases = {
      {"mean_squared_error",
       {},
       kY,
       kTargets,
       {},
       2.7466667,
       {0.1, -0.73333335, 0.63333333, 0.033333341, 0.26666667, -0.9}},
      {"l1",
       {},
       kY,
       kTargets,
       {},
       1.3333333,
       {0.16666667, -0.16666667, 0.16666667, 0.16666667, 0.16666667, -0.16666667}},
      {"huber",
       {},
       kY,
       kTargets,
       {},
       0.94500001,
       {0.05, -0.16666667, 0.16666667, 0.016666671, 0.13333334, -0.16666667}},
      {"huber",
       {{"huber-delta", 0.5}},
       kY,
       kTargets,
       {},
       0.55833334,
       {0.05, -0.083333333, 0.083333333, 0.016666671, 0.083333333, -0.083333333}},
      {"log_cosh",
       {},
       kY,
       kTargets,
       {},
       0.84991296,
       {0.048552102, -0.16262386, 0.15937291, 0.016611336, 0.1106728, -0.16516791}},
      {"poisson_nll",
       {},
       kY,
       kTargets,
       {},
       2.6695175,
       {0.24145354, -0.11646763, 1.2148427, 0.51361485, 0.3083098, -0.25056912}},
      {"cosine_similarity",
       {},
       kY,
       kTargets,
       {},
       1.1185049,
       {-0.05708966, -0.16573257, -0.085167132, -0.13220841, 0.066588869, -0.25476564}},
      {"kl_divergence",
       {},
       kY,
       kShares,
       {},
       0.094539115,
       {-0.011728971, 0.016125662, -0.0043966916, 0.10410831, -0.018344626, -0.085763681}},
      {"softmax_cross_entropy",
       {},
       kY,
       kClasses,
       {},
       0.8896007,
       {0.08827103, 0.016125662, -0.10439669, 0.35410831, -0.39334463, 0.039236319}},
      {"softmax_cross_entropy",
       {},
       kY,
       kShares,
       {},
       0.86460071,
       {-0.011728971, 0.016125662, -0.0043966916, 0.10410831, -0.018344626, -0.085763681}},
      {"negative_log_likelihood", {}, kY, kClasses, {}, -1.15, {0, 0, -0.5, 0, -0.5, 0}},
      {"focal",
       {},
       kY,
       kClasses,
       {},
       0.12079782,
       {0.0026695912, 0.00048769031, -0.0031572815, 0.10069179, -0.11184876, 0.011156969}},
      {"focal",
       {{"focal-gamma", 0.5}, {"focal-alpha", 1}},
       kY,
       kClasses,
       {},
       0.7386818,
       {0.058232281, 0.010638078, -0.068870359, 0.37986623, -0.42195661, 0.042090379}},
      {"focal",
       {{"focal-gamma", 0}, {"focal-alpha", 1}},
       kY,
       kClasses,
       {},
       0.8896007,
       {0.08827103, 0.016125662, -0.10439669, 0.35410831, -0.39334463, 0.039236319}},
      {"focal", {}, kY, first_class, -100, 0.0025524262, {0.0053391824, 0.00097538061, -0.006314563, 0, 0, 0}},
      {"focal",
       {},
       kY,
       kShares,
       {},
       0.12967449,
       {-0.022203693, 0.0013434211, 0.020860272, 0.04796094, -0.016811732, -0.031149208}},
      {"binary_cross_entropy",
       {},
       kProbabilities,
       kBits,
       {},
       0.76620035,
       {-0.33333333, 0.20833333, -0.18518519, 0.23809524, 0.41666669, -1.6666666}},
      {"binary_cross_entropy", {}, kProbabilities, kSomeBits, -100, 1.0337917, {-0.5, 0.3125, 0, 0, 0.62500004, -2.5}},
      {"binary_cross_entropy_logits",
       {},
       kY,
       kBits,
       {},
       0.75387367,
       {-0.062923445, 0.038579201, -0.019867154, 0.13626241, 0.09574042, -0.11136463}},
      {"binary_cross_entropy_logits",
       {},
       kY,
       kSomeBits,
       -100,
       0.67372518,
       {-0.094385167, 0.057868802, 0, 0, 0.14361063, -0.16704694}},
      {"binary_focal",
       {},
       kY,
       kBits,
       {},
       0.20257628,
       {-0.0057473749, 0.0042606988, -0.00020295584, 0.12017809, 0.053688309, -0.026049745}},
      {"binary_focal",
       {{"focal-gamma", 1}, {"focal-alpha", 0.6}},
       kY,
       kBits,
       {},
       0.22264179,
       {-0.025394681, 0.0066944837, -0.0027535964, 0.061479185, 0.035922563, -0.069106544}},
      {"binary_focal",
       {},
       kY,
       kSomeBits,
       -100,
       0.090513139,
       {-0.0086210623, 0.0063910481, 0, 0, 0.080532464, -0.039074618}},
  };
  return cases;
}

TEST(Losses, ValueAndGradientAreThoseOfPyTorch) {
  for (const LossCase& c : loss_cases()) {
    LossTerm options{.loss = c.kind};
    options.ignore_label = c.ignored;
    options.numbers = c.numbers;
    const Measured got = measure(c.y, "2,3", c.labels, options);
    SCOPED_TRACE(::testing::Message() << c.kind << " of labels " << name_of(c.labels.dtype()) << " " << c.loss);
    EXPECT_NEAR(got.loss, c.loss, 1e-6);
    ASSERT_EQ(got.gradient.size(), c.gradient.size());
    for (std::size_t i = 0; i < c.gradient.size(); ++i) EXPECT_NEAR(got.gradient[i], c.gradient[i], 2e-6) << i;
  }
}

TEST(Losses, EveryRowHasACase) {
  for (const LossDef& loss : losses()) {
    if (!loss.formula) continue;
    EXPECT_TRUE(std::any_of(loss_cases().begin(), loss_cases().end(), [&](const LossCase& c) {
      return c.kind == loss.name;
    })) << loss.name;
    EXPECT_EQ(&loss_named(loss.name), &loss);
    for (const LossNumber& number : loss.numbers) {
      EXPECT_GE(number.fallback, number.lowest) << number.name;
      EXPECT_LE(number.fallback, number.highest) << number.name;
    }
  }
}

TEST(Losses, CosineIsOfVectorsAlongTheAxisOfTheOption) {
  const Values y = {0.5f, -1.2f, 2.0f, 1.5f, 0.3f, -0.7f};
  const Tensor labels = Tensor::of<float>({0.2f, 1.0f, 0.1f, 1.4f, -0.5f, 2.0f}, {1, 3, 2});
  const struct {
    std::int64_t axis;
    double loss;
    std::vector<double> gradient;
  } cases[] = {
      {1, 0.98062093, {-0.080065971, -0.079393322, -0.013529433, -0.14641193, 0.2236395, -0.17763702}},
      {2, 1.3871635, {-0.13211282, -0.055047006, 0.060417498, -0.080556664, -0.064059035, -0.027453874}},
      {-1, 1.3871635, {-0.13211282, -0.055047006, 0.060417498, -0.080556664, -0.064059035, -0.027453874}},
  };
  for (const auto& c : cases) {
    LossTerm options{.loss = "cosine_similarity"};
    options.class_axis = c.axis;
    const Measured got = measure(y, "1,3,2", labels, options);
    EXPECT_NEAR(got.loss, c.loss, 1e-6) << c.axis;
    for (std::size_t i = 0; i < c.gradient.size(); ++i) EXPECT_NEAR(got.gradient[i], c.gradient[i], 1e-6) << i;
  }
  // A vector of zeros has no direction, and moves nowhere.
  const Measured none = measure({0, 0, 0}, "1,3", Tensor::of<float>({0, 0, 0}, {1, 3}), {.loss = "cosine_similarity"});
  EXPECT_EQ(none.loss, 1);
  EXPECT_THAT(none.gradient, ::testing::Each(0));
}

TEST(Losses, ASoftmaxThatEndsTheModelIsLeftOut) {
  for (const LossDef& loss : losses()) {
    if (!loss.on_scores) continue;
    for (const char* last : {"Softmax", "LogSoftmax"}) {
      const Measured plain = measure(kY, "2,3", kShares, {.loss = std::string(loss.name)});
      const Measured ended = measure(kY, "2,3", kShares, {.loss = std::string(loss.name)}, last);
      EXPECT_EQ(ended.loss, plain.loss) << loss.name << " " << last;
      EXPECT_EQ(ended.gradient, plain.gradient) << loss.name << " " << last;
    }
  }
}

TEST(Losses, AreFiniteWhereTheModelIsSureAndZeroWhereNoLabelCounts) {
  const Values sure = {300, -300, -300, -300, 300, -300};
  const Tensor right = Tensor::of<std::int64_t>({0, 1}), wrong = Tensor::of<std::int64_t>({1, 2});
  const Tensor none = Tensor::of<std::int64_t>({-100, -100});
  const Tensor right_bits = Tensor::of<float>({1, 0, 0, 0, 1, 0}, {2, 3}),
               wrong_bits = Tensor::of<float>({0, 1, 1, 1, 0, 1}, {2, 3});
  const Tensor no_bits = Tensor::of<float>({-100, -100, -100, -100, -100, -100}, {2, 3});
  for (const LossDef& loss : losses()) {
    if (!loss.ignores || loss.name == "negative_log_likelihood") continue;
    const bool binary = loss.labels == LossLabels::binary;
    for (const double gamma : {0.0, 0.5, 2.0}) {
      SCOPED_TRACE(::testing::Message() << loss.name << " " << gamma);
      LossTerm options{.loss = std::string(loss.name)};
      options.ignore_label = -100;
      if (loss.name.ends_with("focal")) options.numbers["focal-gamma"] = gamma;
      const char* last = loss.name == "binary_cross_entropy" ? "Sigmoid" : "Identity";
      const auto finite = [&](const Tensor& labels) {
        const Measured got = measure(sure, "2,3", labels, options, last);
        EXPECT_TRUE(std::isfinite(got.loss));
        for (const double g : got.gradient) EXPECT_TRUE(std::isfinite(g));
        return got;
      };
      EXPECT_NEAR(finite(binary ? right_bits : right).loss, 0, 1e-6);
      EXPECT_GT(finite(binary ? wrong_bits : wrong).loss, 1);
      const Measured uncounted = finite(binary ? no_bits : none);
      EXPECT_EQ(uncounted.loss, 0);
      EXPECT_THAT(uncounted.gradient, ::testing::Each(0));
    }
  }
}

// Shares of a point need not have the sum 1: softmax * sum(shares) - shares.
TEST(Losses, OfSharesHaveTheGradientOfTheFormula) {
  const Values shares = {0.5f, 0.0f, 2.0f, 0.0f, 0.25f, 0.0f};
  const Tensor labels = Tensor::of<float>(shares, {2, 3});
  constexpr std::size_t kClasses = 3;
  for (const double smoothing : {0.0, 0.3}) {
    LossTerm options{.loss = "softmax_cross_entropy"};
    options.numbers["label-smoothing"] = smoothing;
    const Measured got = measure(kY, "2,3", labels, options);
    const double points = static_cast<double>(kY.size() / kClasses);
    for (std::size_t first = 0; first < kY.size(); first += kClasses) {
      double exponentials = 0, sum = 0;
      const auto share = [&](std::size_t i) { return shares[i] * (1 - smoothing) + smoothing / kClasses; };
      for (std::size_t i = first; i < first + kClasses; ++i) exponentials += std::exp(kY[i]), sum += share(i);
      for (std::size_t i = first; i < first + kClasses; ++i) {
        EXPECT_NEAR(got.gradient[i], (std::exp(kY[i]) / exponentials * sum - share(i)) / points, 1e-6) << i;
        constexpr float kStep = 1e-2f;
        Values more = kY, less = kY;
        more[i] += kStep;
        less[i] -= kStep;
        const double slope = (measure(more, "2,3", labels, options).loss - measure(less, "2,3", labels, options).loss) /
                             static_cast<double>(more[i] - less[i]);
        EXPECT_NEAR(got.gradient[i], slope, 1e-4) << i;
      }
    }
  }
}

TEST(Losses, AClassThatIsMaskedOutHasNoPartInThem) {
  constexpr float kOut = -std::numeric_limits<float>::infinity();
  const Values y = {0.5f, 0, 2.0f, 0, 0.3f, -0.7f}, others = {0.5f, 2.0f, 0.3f, -0.7f};
  const Tensor mask = Tensor::of<float>({0, kOut, 0, kOut, 0, 0}, {2, 3});
  const Tensor labels = Tensor::of<float>({0.2f, 0, 0.6f, 0, 0.25f, 0.75f}, {2, 3});
  const Tensor labels_of_others = Tensor::of<float>({0.2f, 0.6f, 0.25f, 0.75f}, {2, 2});
  for (const char* loss : {"softmax_cross_entropy", "kl_divergence", "focal", "negative_log_likelihood"}) {
    const Measured got = measure(y, "2,3", labels, {.loss = loss}, "Identity", mask);
    const Measured wanted = measure(others, "2,2", labels_of_others, {.loss = loss});
    EXPECT_NEAR(got.loss, wanted.loss, 1e-6) << loss;
    for (std::size_t i = 0, other = 0; i < y.size(); ++i) {
      const bool is_out = i == 1 || i == 3;
      EXPECT_NEAR(got.gradient[i], is_out ? 0 : wanted.gradient[other], 1e-6) << loss << " " << i;
      if (!is_out) ++other;
    }
  }
}

TEST(Losses, NumbersOutOfRangeOrOfAnotherLossAreRefused) {
  const struct {
    std::string kind;
    LossNumbers numbers;
    const char* says;
  } cases[] = {
      {"huber", {{"huber-delta", 0}}, "--huber-delta above 0"},
      {"huber", {{"huber-delta", std::nan("")}}, "got nan"},
      {"focal", {{"focal-gamma", -1}}, "--focal-gamma of at least 0"},
      {"binary_focal", {{"focal-alpha", 2}}, "up to 1, got 2"},
      {"l1", {{"huber-delta", 1}}, "a loss that has --huber-delta: huber, got l1"},
      {"huber", {{"focal-gamma", 1}}, "focal, binary_focal, got huber"},
  };
  for (const auto& c : cases) {
    LossTerm options{.loss = c.kind};
    options.numbers = c.numbers;
    const bool classes = loss_named(c.kind).labels == LossLabels::classes;
    options.label_dtype = classes ? DType::i64 : DType::f32;
    options.label_shape = classes ? Shape{2} : Shape{2, 3};
    EXPECT_THAT(error_of("(float[2,3] x) => (float[2,3] y) { y = Tanh(x) }", {attach_loss(options)}),
                HasSubstr(c.says));
  }
}

}  // namespace
}  // namespace halfstep
