// A training step in its parts: gradients of batches and of outputs, their sums, and the update.
#include <cmath>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/error_of.h"
#include "tests/training/step_testing.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

using namespace test;
using ::testing::HasSubstr;

class StepsInParts : public Steps {};
INSTANTIATE_TEST_SUITE_P(Executors, StepsInParts, all_executors, [](const auto& of) { return std::string(of.param); });

TEST_P(StepsInParts, AreTheWholeStep) {
  for (const char* text : {kClassifier, kNormalized}) {
    for (const Precision precision : {Precision::fp32, Precision::bf16, Precision::fp16}) {
      SCOPED_TRACE(name_of(precision));
      TrainingStepOptions options = fp32();
      options.precision = precision;
      TrainingStep whole(parse_model(text), *executor, options), parts(parse_model(text), *executor, options);
      for (int i = 0; i < 4; ++i) {
        const StepReport one = whole.run(batch(i));
        const StepReport forward = parts.forward_backward(batch(i));
        const StepReport update = parts.update();
        EXPECT_FLOAT_EQ(forward.loss, one.loss) << i;
        EXPECT_FLOAT_EQ(forward.gradient_norm, one.gradient_norm) << i;
        EXPECT_EQ(update.updated, one.updated);
      }
      const NamedTensors a = whole.parameters(), b = parts.parameters();
      for (const auto& [name, tensor] : a) {
        const std::vector<double> x = to_doubles(tensor), y = to_doubles(b.at(name));
        for (std::size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(x[i], y[i], 1e-6) << name;
      }
      expect_same(whole.statistics(), parts.statistics());
    }
  }
}

TEST_P(StepsInParts, AddUpGradientsByTheirWeights) {
  TrainingStep step(parse_model(kClassifier), *executor, fp32("sgd"));
  step.forward_backward(batch(1));
  const NamedTensors one = step.gradients();
  step.forget_gradients();
  step.forward_backward(batch(2));
  const NamedTensors other = step.gradients();
  step.forget_gradients();
  step.forward_backward(batch(1), 0.25);
  step.forward_backward(batch(2), 3);
  const NamedTensors sum = step.gradients();
  for (const auto& [name, tensor] : sum) {
    const std::vector<double> a = to_doubles(one.at(name)), b = to_doubles(other.at(name)), s = to_doubles(tensor);
    for (std::size_t i = 0; i < s.size(); ++i) EXPECT_NEAR(s[i], a[i] / 4 + 3 * b[i], 1e-6) << name;
  }
}

TEST_P(StepsInParts, AreRefusedWithoutGradients) {
  TrainingStep step(parse_model(kClassifier), *executor, fp32());
  EXPECT_THAT(error_of([&] { step.update(); }), HasSubstr("forward_backward first"));
  EXPECT_THAT(error_of([&] { step.gradients(); }), HasSubstr("none since the last update"));
  step.forward_backward(batch());
  step.update();
  EXPECT_THAT(error_of([&] { step.update(); }), HasSubstr("forward_backward first"));
}

// Gradients that somebody else computes: those of the mean squared error of y.
TEST_P(StepsInParts, GoBackFromGradientsOfOutputs) {
  const Tensor target = rows(4, 2, 9);
  TrainingStepOptions options = fp32();
  options.loss = LossOptions{.terms = {{.loss = "mean_squared_error", .labels = "t"}}};
  for (const char* text : {kClassifier, kNormalized}) {
    TrainingStep own(parse_model(text), *executor, options), given(parse_model(text), *executor, options);
    for (int i = 0; i < 3; ++i) {
      own.forward_backward({{"x", rows(4, 3, i)}, {"t", target}});
      const Tensor y = given.forward({{"x", rows(4, 3, i)}}).at("y");
      Tensor gradient(DType::f32, y.shape());
      for (std::int64_t k = 0; k < y.count(); ++k)
        gradient.data<float>()[k] = 2 * (y.data<float>()[k] - target.data<float>()[k]) / static_cast<float>(y.count());
      given.backward({{"x", rows(4, 3, i)}}, {{"y", gradient}});
      const NamedTensors a = own.gradients(), b = given.gradients();
      for (const auto& [name, tensor] : a) {
        const std::vector<double> x = to_doubles(tensor), z = to_doubles(b.at(name));
        for (std::size_t k = 0; k < x.size(); ++k) EXPECT_NEAR(x[k], z[k], 1e-6) << name << " " << i;
      }
      own.update();
      given.update();
    }
  }
}

// Gradients of several outputs may come one after the other: none of them is lost, and none of an earlier update is
// left.
TEST_P(StepsInParts, AddUpGradientsOfOutputsThatComeApart) {
  const NamedTensors x{{"x", rows(4, 3)}};
  const Tensor boxes = rows(4, 2, 3), kinds = rows(4, 3, 4);
  TrainingStepOptions options = fp32();
  options.loss_scale = 16;
  TrainingStep apart(parse_model(kTwoHeads), *executor, options), both(parse_model(kTwoHeads), *executor, options);
  for (int i = 0; i < 3; ++i) {
    if (i == 1) apart.backward(x, {{"boxes", boxes}});
    apart.backward(x, {{"classes", kinds}});
    if (i != 1) apart.backward(x, {{"boxes", boxes}});
    both.backward(x, {{"boxes", boxes}, {"classes", kinds}});
    const Tensor a = apart.flat_gradients(), b = both.flat_gradients();
    for (std::int64_t k = 0; k < a.count(); ++k) EXPECT_NEAR(a.data<float>()[k], b.data<float>()[k], 1e-5) << i;
    EXPECT_TRUE(apart.update().updated);
    EXPECT_TRUE(both.update().updated);
  }
  const Tensor a = apart.flat_parameters(), b = both.flat_parameters();
  for (std::int64_t k = 0; k < a.count(); ++k) EXPECT_NEAR(a.data<float>()[k], b.data<float>()[k], 1e-4);
  // Of one output alone the other's parameters stay.
  const Tensor before = apart.parameters().at("u");
  apart.backward(x, {{"boxes", boxes}});
  EXPECT_FALSE(apart.gradients().contains("u"));
  apart.update();
  EXPECT_TRUE(identical(apart.parameters().at("u"), before));
}

TEST_P(StepsInParts, TakeGradientsThatWereChanged) {
  TrainingStepOptions options = fp32("sgd");
  options.loss_scale = 1024;
  TrainingStep step(parse_model(kClassifier), *executor, options);
  const NamedTensors before = step.parameters();
  step.forward_backward(batch());
  Tensor ones(DType::f32, {2});
  for (float& x : ones.span<float>()) x = 1;
  step.set_flat_gradients(Tensor(DType::f32, {step.flat_parameters().count()}));
  step.set_gradients({{"b2", ones}});
  step.update();
  const NamedTensors after = step.parameters();
  EXPECT_TRUE(identical(before.at("w1"), after.at("w1")));
  EXPECT_NEAR(after.at("b2").data<float>()[0], before.at("b2").data<float>()[0] - 0.05, 1e-7);
}

TEST_P(StepsInParts, ProfileNoStepWhileGradientsWait) {
  TrainingStepOptions options = fp32("sgd");
  options.optimizer.accumulate = 2;
  TrainingStep step(parse_model(kClassifier), *executor, options);
  step.run(batch(0));
  EXPECT_THAT(error_of([&] { step.profile(batch(1)); }), HasSubstr("no accumulated gradients"));
  EXPECT_TRUE(step.run(batch(1)).updated);
}

// What the first batch has says nothing about later ones.
TEST_P(StepsInParts, UpdateWithEverySoManyBatches) {
  TrainingStepOptions options = fp32("sgd");
  options.optimizer.accumulate = 2;
  TrainingStep step(parse_model(kClassifier), *executor, options);
  EXPECT_FALSE(step.run(batch(0)).updated);
  EXPECT_TRUE(step.run(batch(1)).updated);
  EXPECT_EQ(step.updates(), 1);
  TrainingStep whole(parse_model(kClassifier), *executor, fp32("sgd"));
  Tensor x(DType::f32, {8, 3}), labels(DType::i64, {8});
  for (int half : {0, 1}) {
    const NamedTensors part = batch(half);
    std::ranges::copy(part.at("x").span<float>(), x.data<float>() + 12 * half);
    std::ranges::copy(part.at("labels").span<std::int64_t>(), labels.data<std::int64_t>() + 4 * half);
  }
  whole.run({{"x", x}, {"labels", labels}});
  for (const auto& [name, tensor] : whole.parameters()) {
    const std::vector<double> a = to_doubles(tensor), b = to_doubles(step.parameters().at(name));
    for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-6) << name;
  }
}

}  // namespace
}  // namespace halfstep
