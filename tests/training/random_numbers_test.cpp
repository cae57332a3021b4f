// Training a model that draws noise: from step to step, from run to run, and after a resume.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/temporary_directory.h"
#include <halfstep/training/evaluator.h>
#include <halfstep/training/trainer.h>

namespace halfstep {
namespace {

LoadedModel noisy_model() {
  return parse_model(R"(<ir_version: 10, opset_import: ["": 24]> vae (float[N, 2] x) => (float[N, 2] y)
      <float[2, 2] w = {1, -0.5, 0.25, 2}, float[2] spread = {0.5, 1}> {
        h = MatMul(x, w) noise = RandomNormalLike(h) scaled = Mul(noise, spread) z = Add(h, scaled)
        p = Sigmoid(z) gate = Bernoulli(p) y = Mul(z, gate) })");
}

Dataset rows() {
  Tensor x(DType::f32, {8, 2}), y(DType::f32, {8, 2});
  for (std::int64_t i = 0; i < 16; ++i) {
    x.data<float>()[i] = static_cast<float>(i * 5 % 7 - 3);
    y.data<float>()[i] = static_cast<float>(i % 3);
  }
  return Dataset(DataArray::of(x, "x"), DataArray::of(y, "y"));
}

TrainerOptions options(std::int64_t steps, std::uint64_t seed) {
  return {.optimizer = {.name = "sgd"},
          .schedule = parse_schedule("constant", 0.0),
          .precision = Precision::fp32,
          .steps = steps,
          .batch_size = 8,
          .shuffle = false,
          .seed = seed};
}

struct Trained {
  std::vector<float> losses;
  std::map<std::string, Tensor> parameters;
};

Trained train(Executor& executor, TrainerOptions with, bool validate = false) {
  Trainer trainer(noisy_model(), executor, rows(), std::move(with));
  Trained run;
  const Dataset held_out = rows();
  trainer.fit({.on_step = [&](const StepResult& result) { run.losses.push_back(result.loss); }},
              validate ? &held_out : nullptr);
  run.parameters = trainer.parameters();
  return run;
}

TEST(RandomNumbers, DifferFromStepToStepAndFollowTheSeed) {
  for (const auto& executor : {make_reference_executor(), make_onednn_executor()}) {
    // At a learning rate of 0 nothing but the noise changes the loss.
    const Trained first = train(*executor, options(3, 1));
    EXPECT_NE(first.losses[0], first.losses[1]);
    EXPECT_NE(first.losses[1], first.losses[2]);
    EXPECT_EQ(train(*executor, options(3, 1)).losses, first.losses);
    EXPECT_NE(train(*executor, options(3, 2)).losses, first.losses);
    EXPECT_EQ(train(*executor, options(3, 1), /*validate=*/true).losses, first.losses)
        << "validation draws from its own numbers";
  }
}

TEST(RandomNumbers, GoOnAfterAResumeWhereTheyWere) {
  for (const auto& executor : {make_reference_executor(), make_onednn_executor()}) {
    const TemporaryDirectory folder;
    auto learning = [&](std::int64_t steps) {
      TrainerOptions with = options(steps, 5);
      with.schedule = parse_schedule("constant", 0.05);
      return with;
    };
    const Trained whole = train(*executor, learning(6), true);
    TrainerOptions start = learning(2), rest = learning(6);
    start.checkpoint = rest.resume = folder.path();
    Trained resumed = train(*executor, start, true);
    const Trained second = train(*executor, rest, true);
    resumed.losses.insert(resumed.losses.end(), second.losses.begin(), second.losses.end());
    EXPECT_EQ(resumed.losses, whole.losses);
    for (const auto& [name, tensor] : whole.parameters)
      EXPECT_TRUE(identical(tensor, second.parameters.at(name))) << name;
  }
}

TEST(RandomNumbers, AreDrawnAnewForEachBatchOfAnEvaluation) {
  const auto executor = make_reference_executor();
  TrainerOptions with = options(0, 0);
  with.batch_size = 4;
  Evaluator evaluator(noisy_model(), *executor, rows(), with);
  const double once = evaluator.evaluate(rows()).loss, again = evaluator.evaluate(rows()).loss;
  EXPECT_NE(once, again);
  EXPECT_EQ(Evaluator(noisy_model(), *executor, rows(), with).evaluate(rows()).loss, once);
}

}  // namespace
}  // namespace halfstep
