// The optimizer operators against PyTorch's formulas, worked out by hand in double precision.
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "tests/ops/run_op.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

using Numbers = std::vector<float>;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// What every test starts from.
const Numbers kParameters = {1, -2, 0.5F}, kGradients = {0.1F, -0.2F, 0};

std::vector<Tensor> scalars(float lr, std::int64_t step, bool apply, float grad_factor) {
  return {Tensor::scalar(lr), Tensor::scalar(step), Tensor::scalar(apply), Tensor::scalar(grad_factor)};
}

std::vector<Tensor> operands(std::vector<Tensor> first, const std::vector<Numbers>& tensors) {
  for (const Numbers& values : tensors) first.push_back(Tensor::of(values));
  return first;
}

void expect_near(const Tensor& got, const std::vector<double>& want) {
  const std::vector<double> values = to_doubles(got);
  ASSERT_EQ(values.size(), want.size());
  for (std::size_t i = 0; i < want.size(); ++i)
    EXPECT_NEAR(values[i], want[i], 2e-7 * std::max(1.0, std::abs(want[i]))) << "element " << i;
}

struct StepCase {
  const char* name;
  std::int64_t step;
  float lr, grad_factor;
  Attributes attributes;
  std::vector<std::vector<double>> want;  ///< parameters, then the optimizer's own tensors
};

class AdamStep : public ::testing::TestWithParam<StepCase> {};

TEST_P(AdamStep, FollowsPyTorch) {
  const StepCase& c = GetParam();
  const Numbers m = c.step == 1 ? Numbers{0, 0, 0} : Numbers{0.01F, -0.02F, 0.03F};
  const Numbers v = c.step == 1 ? Numbers{0, 0, 0} : Numbers{0.001F, 0.002F, 0.0003F};
  const std::vector<Tensor> out =
      run_own(std::string_view(c.name) == "DecoupledDecay" ? "AdamWStep" : "AdamStep",
              operands(scalars(c.lr, c.step, true, c.grad_factor), {kParameters, kGradients, m, v}), 3, c.attributes);
  for (std::size_t i = 0; i < 3; ++i) expect_near(out[i], c.want[i]);
}

INSTANTIATE_TEST_SUITE_P(
    Formulas, AdamStep,
    ::testing::Values(
        StepCase{"FirstStep", 1, 0.001F, 1, {}, {{0.999, -1.999, 0.5}, {0.01, -0.02, 0}, {1e-05, 4e-05, 0}}},
        StepCase{"CoupledDecay",
                 10,
                 0.01F,
                 0.5F,
                 {{"weight_decay", 0.1F}},
                 {{0.998849677, -1.99839082, 0.497180121}, {0.024, -0.048, 0.032}, {0.0010215, 0.002088, 0.0003022}}},
        StepCase{"DecoupledDecay",
                 10,
                 0.01F,
                 0.5F,
                 {{"weight_decay", 0.1F}},
                 {{0.998322311, -1.9970428, 0.497110824}, {0.014, -0.028, 0.027}, {0.0010015, 0.002008, 0.0002997}}},
        StepCase{"OtherBetasAndEpsilon",
                 3,
                 0.1F,
                 1,
                 {{"beta1", 0.5F}, {"beta2", 0.9F}, {"epsilon", 0.1F}},
                 {{0.965788705, -1.94895783, 0.486969986}, {0.055, -0.11, 0.015}, {0.0019, 0.0058, 0.00027}}}),
    [](const auto& test) { return test.param.name; });

class SgdStep : public ::testing::TestWithParam<StepCase> {};

TEST_P(SgdStep, FollowsPyTorch) {
  const StepCase& c = GetParam();
  std::vector<Numbers> tensors = {kParameters, kGradients};
  if (c.want.size() == 2) tensors.push_back({0.3F, -0.1F, 0.2F});
  const std::vector<Tensor> out =
      run_own("SgdStep", operands(scalars(c.lr, c.step, true, c.grad_factor), tensors), c.want.size(), c.attributes);
  for (std::size_t i = 0; i < c.want.size(); ++i) expect_near(out[i], c.want[i]);
}

INSTANTIATE_TEST_SUITE_P(
    Formulas, SgdStep,
    ::testing::Values(StepCase{"Plain", 5, 0.1F, 1, {}, {{0.99, -1.98, 0.5}}},
                      StepCase{"DecayAndFactor", 5, 0.1F, 2, {{"weight_decay", 0.01F}}, {{0.979, -1.958, 0.4995}}},
                      StepCase{"FirstBufferIsTheGradient",
                               1,
                               0.1F,
                               1,
                               {{"momentum", 0.9F}, {"dampening", 0.5F}},
                               {{0.99, -1.98, 0.5}, {0.1, -0.2, 0}}},
                      StepCase{
                          "Momentum", 2, 0.1F, 1, {{"momentum", 0.9F}}, {{0.963, -1.971, 0.482}, {0.37, -0.29, 0.18}}},
                      StepCase{"DampeningAndDecay",
                               2,
                               0.1F,
                               1,
                               {{"momentum", 0.9F}, {"dampening", 0.5F}, {"weight_decay", 0.01F}},
                               {{0.9675, -1.98, 0.48175}, {0.325, -0.2, 0.1825}}},
                      StepCase{"Nesterov",
                               2,
                               0.1F,
                               1,
                               {{"momentum", 0.9F}, {"nesterov", std::int64_t{1}}},
                               {{0.9567, -1.9539, 0.4838}, {0.37, -0.29, 0.18}}}),
    [](const auto& test) { return test.param.name; });

TEST(AdamStepTensors, EachParameterMeetsItsOwnGradientAndMoments) {
  std::vector<Tensor> in = scalars(1, 1, true, 1);
  const Tensor empty(DType::f32, Shape{0, 3});
  for (const Tensor& t : {Tensor::of<float>({1, 2}), empty, Tensor::scalar(5.0F),   // parameters
                          Tensor::of<float>({1, -1}), empty, Tensor::scalar(0.0F),  // gradients
                          Tensor::of<float>({0, 0}), empty, Tensor::scalar(0.0F),   // first moments
                          Tensor::of<float>({0, 0}), empty, Tensor::scalar(4.0F)})  // second moments
    in.push_back(t);
  const std::vector<Tensor> out = run_own("AdamStep", in, 9);
  expect_near(out[0], {0, 3});
  EXPECT_EQ(out[1].shape(), empty.shape());
  expect_near(out[2], {5});
  expect_near(out[3], {0.1, -0.1});
  expect_near(out[8], {4 * 0.999});
}

TEST(OptimizerSteps, AreBitForBitNothingWhenNotApplied) {
  const Numbers odd = {-0.0F, kNaN, std::numeric_limits<float>::denorm_min()};
  const std::vector<Tensor> first = scalars(0.1F, 3, false, kNaN);
  const std::vector<Numbers> adam = {odd, {kInfinity, kNaN, 1}, odd, odd};
  const std::vector<Tensor> adam_out = run_own("AdamStep", operands(first, adam), 3, {{"weight_decay", 0.1F}});
  for (const Tensor& out : adam_out) EXPECT_TRUE(identical(out, Tensor::of(odd)));

  const std::vector<Tensor> sgd_out =
      run_own("SgdStep", operands(first, {odd, {kInfinity, kNaN, 1}, odd}), 2, {{"momentum", 0.9F}});
  for (const Tensor& out : sgd_out) EXPECT_TRUE(identical(out, Tensor::of(odd)));
}

TEST(OptimizerSteps, RefuseListsThatDoNotFitTogether) {
  const std::vector<Tensor> first = scalars(0.1F, 1, true, 1);
  EXPECT_THROW(run_own("AdamStep", operands(first, {kParameters, kGradients, kGradients}), 3), Error);
  EXPECT_THROW(run_own("SgdStep", operands(first, {kParameters, kGradients, kGradients}), 2), Error);
  EXPECT_THROW(run_own("SgdStep", operands(first, {kParameters, {1, 2}}), 1), Error);
  EXPECT_THROW(run_own("SgdStep", operands(scalars(0.1F, 0, true, 1), {kParameters, kGradients}), 1), Error);
}

TEST(GlobalNorm, IsTheRootOfAllSquares) {
  const std::vector<Tensor> out =
      run_own("GlobalNorm", {Tensor::of<float>({3, 0}), Tensor(DType::f32, Shape{0}), Tensor::of<double>({-4})}, 2);
  EXPECT_EQ(out[0].shape(), Shape{});
  expect_near(out[0], {5});
  EXPECT_TRUE(*out[1].data<bool>());
}

TEST(GlobalNorm, DoesNotOverflowWhereTheSquaresDo) {
  const std::vector<Tensor> out = run_own("GlobalNorm", {Tensor::of<float>({1e30F, 1e30F})}, 2);
  EXPECT_NEAR(*out[0].data<float>() / (std::sqrt(2.0) * 1e30), 1, 1e-6);
  EXPECT_TRUE(*out[1].data<bool>());
}

TEST(GlobalNorm, SeesOneElementThatIsNotFinite) {
  for (const float bad : {kInfinity, -kInfinity, kNaN}) {
    const std::vector<Tensor> out = run_own("GlobalNorm", {Tensor::of<float>({1, 2}), Tensor::of<float>({0, bad})}, 2);
    EXPECT_FALSE(*out[1].data<bool>()) << bad;
  }
}

struct ScaleCase {
  const char* name;
  float scale;
  std::int64_t good_steps;
  bool finite;
  float want_scale;
  std::int64_t want_good_steps;
};

class LossScaleUpdate : public ::testing::TestWithParam<ScaleCase> {};

TEST_P(LossScaleUpdate, MovesOnAsItShould) {
  const ScaleCase& c = GetParam();
  const std::vector<Tensor> out =
      run_own("LossScaleUpdate", {Tensor::scalar(c.scale), Tensor::scalar(c.good_steps), Tensor::scalar(c.finite)}, 2);
  EXPECT_EQ(*out[0].data<float>(), c.want_scale);
  EXPECT_EQ(*out[1].data<std::int64_t>(), c.want_good_steps);
}

INSTANTIATE_TEST_SUITE_P(Transitions, LossScaleUpdate,
                         ::testing::Values(ScaleCase{"GoodStepCounts", 65536, 5, true, 65536, 6},
                                           ScaleCase{"LastStepBeforeGrowth", 65536, 1998, true, 65536, 1999},
                                           ScaleCase{"Growth", 65536, 1999, true, 131072, 0},
                                           ScaleCase{"NoGrowthBeyondMax", 16777216, 1999, true, 16777216, 0},
                                           ScaleCase{"Backoff", 65536, 1999, false, 32768, 0},
                                           ScaleCase{"NoBackoffBelowMin", 1, 3, false, 1, 0}),
                         [](const auto& test) { return test.param.name; });

TEST(LossScaleUpdateAttributes, AreObeyed) {
  const Attributes attributes = {{"growth_factor", 4.0F},
                                 {"backoff_factor", 0.25F},
                                 {"growth_interval", std::int64_t{2}},
                                 {"min", 8.0F},
                                 {"max", 100.0F}};
  auto next = [&](float scale, std::int64_t good, bool finite) {
    return *run_own("LossScaleUpdate", {Tensor::scalar(scale), Tensor::scalar(good), Tensor::scalar(finite)}, 2,
                    attributes)[0]
                .data<float>();
  };
  EXPECT_EQ(next(16, 1, true), 64);
  EXPECT_EQ(next(64, 1, true), 100);
  EXPECT_EQ(next(64, 1, false), 16);
  EXPECT_EQ(next(16, 0, false), 8);
}

}  // namespace
}  // namespace halfstep
