#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/temporary_directory.h"
#include "tests/training/small_rows.h"
#include <halfstep/base/error.h>
#include <halfstep/formats/npy.h>
#include <halfstep/training/checkpoint.h>
#include <halfstep/training/trainer.h>

namespace halfstep {
namespace {

using testing::HasSubstr;

/// Rows whose squared error overflows f32, whatever the loss scale: every step is skipped.
Dataset overflowing_rows() {
  Tensor x(DType::f32, {4, 2}), y(DType::f32, {4, 1});
  for (float& value : x.span<float>()) value = 1e30f;
  for (float& value : y.span<float>()) value = -1e30f;
  return Dataset(DataArray::of(x, "x"), DataArray::of(y, "y"));
}

LoadedModel linear_model() {
  return parse_model(R"(<ir_version: 10, opset_import: ["": 24]> test
    (float[N, 2] x) => (float[N, 1] y) <float[2, 1] w = {1, 1}> { y = MatMul(x, w) })");
}

TEST(Trainer, ACheckpointThatCannotBeWrittenIsTriedAgainAndEndsNothing) {
  const std::unique_ptr<Executor> executor = make_reference_executor();
  for (const bool recovers : {true, false}) {
    TemporaryDirectory dir;
    const std::filesystem::path checkpoint = dir / "checkpoint";
    Trainer trainer(linear_model(), *executor, small_rows(),
                    {.losses = {{"mean_squared_error"}},
                     .precision = Precision::fp32,
                     .steps = 6,
                     .batch_size = 8,
                     .checkpoint = checkpoint,
                     .checkpoint_every = 2});
    std::vector<std::string> notices;
    std::int64_t steps = 0;
    const bool finished = trainer.fit({.on_step =
                                           [&](const StepResult& result) {
                                             steps = result.step;
                                             if (result.step == 1) std::filesystem::remove_all(checkpoint);
                                             if (result.step == 5 && recovers)
                                               std::filesystem::create_directories(checkpoint);
                                           },
                                       .on_notice = [&](const std::string& text) { notices.push_back(text); }});
    EXPECT_TRUE(finished);
    EXPECT_EQ(steps, 6);
    EXPECT_EQ(notices.size(), recovers ? 2u : 3u);
    for (const std::string& notice : notices) EXPECT_THAT(notice, HasSubstr("no checkpoint of step"));
    EXPECT_EQ(trainer.failure().has_value(), !recovers);
    EXPECT_EQ(std::filesystem::is_regular_file(checkpoint / kCheckpointFile), recovers);
    EXPECT_EQ(trainer.parameters().size(), 1u);
  }
}

TEST(Trainer, DataThatIsCutEndsTrainingWithACheckpoint) {
  TemporaryDirectory dir;
  Tensor x(DType::f32, {4096, 2}), y(DType::f32, {4096, 1});
  write_npy(dir / "x.npy", x);
  write_npy(dir / "y.npy", y);
  const std::unique_ptr<Executor> executor = make_reference_executor();
  for (const bool in_validation : {false, true}) {
    write_npy(dir / "v.npy", x);
    const Dataset data(open_npy(dir / (in_validation ? "x.npy" : "v.npy")), open_npy(dir / "y.npy"));
    const Dataset validation(open_npy(dir / (in_validation ? "v.npy" : "x.npy")), open_npy(dir / "y.npy"));
    const std::filesystem::path checkpoint = dir / (in_validation ? "b" : "a");
    Trainer trainer(linear_model(), *executor, data,
                    {.precision = Precision::fp32,
                     .epochs = 100,
                     .batch_size = 16,
                     .checkpoint = checkpoint,
                     .checkpoint_every = 1000000});
    std::int64_t steps = 0;
    const bool finished = trainer.fit({.on_step =
                                           [&](const StepResult& result) {
                                             steps = result.step;
                                             if (steps == 3) std::filesystem::resize_file(dir / "v.npy", 5000);
                                           }},
                                      &validation);
    EXPECT_FALSE(finished);
    ASSERT_TRUE(trainer.failure().has_value());
    EXPECT_EQ(trainer.failure()->kind(), Error::Kind::failure);
    EXPECT_THAT(trainer.failure()->what(), testing::AllOf(HasSubstr("v.npy"), HasSubstr("row 609 ")));
    EXPECT_EQ(load_checkpoint(checkpoint).checkpoint.state.step, steps);
  }
}

TEST(Trainer, GivesUpWhenTheLossScaleHasNothingLeftToGive) {
  struct Case {
    double loss_scale;  // 0: off
    std::int64_t accumulate, steps;
    float last_scale = 1;
    std::optional<double> min = {};
  };
  // Five updates, and one for each halving that brings the scale to its lowest: 1, or less where that was asked for.
  const Case cases[] = {{0, 1, 5},
                        {1, 1, 5},
                        {8, 1, 8},
                        {9, 1, 9},
                        {8, 2, 16},
                        {1e30, 1, 105},
                        {0.001, 1, 5, 0.001f},
                        {0.001, 2, 10, 0.001f},
                        {8, 1, 10, 0.25f, 0.25}};
  const std::unique_ptr<Executor> executor = make_reference_executor();
  for (const Case& c : cases) {
    const TrainerOptions options{.optimizer = {.accumulate = c.accumulate, .loss_scale = {.min = c.min}},
                                 .precision = Precision::fp32,
                                 .loss_scale = c.loss_scale,
                                 .epochs = 1000,
                                 .max_skipped_in_a_row = 5};
    Trainer trainer(linear_model(), *executor, overflowing_rows(), options);
    std::int64_t steps = 0;
    float scale = 0;
    const TrainerCallbacks callbacks{.on_step = [&](const StepResult& result) {
      EXPECT_FALSE(result.grads_finite);
      steps = result.step;
      scale = result.loss_scale;
    }};
    EXPECT_THAT(error_of(Error::Kind::failure, [&] { trainer.fit(callbacks); }), HasSubstr("non-finite"));
    EXPECT_EQ(steps, c.steps) << "loss scale " << c.loss_scale << ", " << c.accumulate << " batches an update";
    EXPECT_EQ(scale, c.last_scale) << "the last steps ran with the lowest scale";
  }
}

/// Rows on which the linear model learns.
Dataset learnable_rows() {
  return Dataset(DataArray::of(Tensor::of<float>({1, 0, 0, 1, 1, 1, 2, 1}, {4, 2}), "x"),
                 DataArray::of(Tensor(DType::f32, {4, 1}), "y"));
}

TEST(Trainer, KeepsALossScaleBelowOne) {
  const std::unique_ptr<Executor> executor = make_reference_executor();
  TemporaryDirectory dir;
  TrainerOptions options{.precision = Precision::fp32, .loss_scale = 0.001, .steps = 3, .checkpoint = dir.path()};
  std::vector<float> scales;
  const TrainerCallbacks callbacks{.on_step = [&](const StepResult& result) { scales.push_back(result.loss_scale); }};
  Trainer(linear_model(), *executor, learnable_rows(), options).fit(callbacks);
  options.resume = dir.path();
  options.steps = 6;
  Trainer(linear_model(), *executor, learnable_rows(), options).fit(callbacks);
  EXPECT_THAT(scales, testing::Each(0.001f));
  EXPECT_EQ(scales.size(), 6u);
}

TEST(Trainer, TheScheduleFollowsTheUpdatesThatWereApplied) {
  struct Case {
    double loss_scale;  // from 2^96 on a gradient overflows f32
    std::int64_t accumulate;
    std::vector<float> rates;
    std::vector<std::int64_t> updates;
  };
  // The rate falls by a tenth with each update.
  const Case cases[] = {
      {0, 1, {1, 0.9f, 0.8f, 0.7f, 0.6f, 0.5f}, {1, 2, 3, 4, 5, 6}},
      {0, 2, {1, 1, 0.9f, 0.9f, 0.8f, 0.8f}, {0, 1, 1, 2, 2, 3}},
      {0x1.8p98, 1, {1, 1, 1, 1, 0.9f, 0.8f}, {0, 0, 0, 1, 2, 3}},
  };
  const std::unique_ptr<Executor> executor = make_reference_executor();
  Tensor x = Tensor::of<float>({1, 0, 0, 1}, {2, 2}), y(DType::f32, {2, 1});
  for (float& value : x.span<float>()) value *= 0x1p16f;  // gradients of 2^32
  for (const Case& c : cases) {
    TemporaryDirectory dir;
    TrainerOptions options{.optimizer = {.name = "adam", .accumulate = c.accumulate},
                           .precision = Precision::fp32,
                           .loss_scale = c.loss_scale,
                           .steps = 3,
                           .batch_size = 2,
                           .checkpoint = dir.path()};
    options.schedule = parse_schedule("linear:decay_steps=10", 1);
    std::vector<float> rates;
    std::vector<std::int64_t> updates;
    const TrainerCallbacks callbacks{.on_step = [&](const StepResult& result) {
      rates.push_back(result.learning_rate);
      updates.push_back(result.update);
    }};
    const Dataset data(DataArray::of(x, "x"), DataArray::of(y, "y"));
    Trainer(linear_model(), *executor, data, options).fit(callbacks);
    options.resume = dir.path();  // from the middle of what is skipped or accumulated
    options.steps = 6;
    Trainer(linear_model(), *executor, data, options).fit(callbacks);
    ASSERT_EQ(rates.size(), c.rates.size());
    for (std::size_t i = 0; i < rates.size(); ++i) EXPECT_FLOAT_EQ(rates[i], c.rates[i]) << "step " << i + 1;
    EXPECT_EQ(updates, c.updates) << "loss scale " << c.loss_scale;
  }
}

TEST(Trainer, EpochsCountFromOne) {
  const std::unique_ptr<Executor> executor = make_reference_executor();
  std::vector<std::int64_t> begun, of_steps, ended;
  Trainer(linear_model(), *executor, learnable_rows(), {.precision = Precision::fp32, .epochs = 2, .batch_size = 2})
      .fit({.on_epoch_begin = [&](std::int64_t epoch, std::int64_t) { begun.push_back(epoch); },
            .on_step = [&](const StepResult& result) { of_steps.push_back(result.epoch); },
            .on_epoch_end = [&](const StepResult& last, const Evaluation*) { ended.push_back(last.epoch); }});
  EXPECT_THAT(begun, testing::ElementsAre(1, 2));
  EXPECT_THAT(of_steps, testing::ElementsAre(1, 1, 2, 2));
  EXPECT_THAT(ended, testing::ElementsAre(1, 2));
}

TEST(Trainer, RefusesOptionsOutOfRange) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  struct Case {
    const char* says;
    TrainerOptions options;
  };
  const Case cases[] = {
      {"--epochs of at least 1, got 0", {.epochs = 0}},
      {"--steps of at least 0, got -1", {.steps = -1}},
      {"--batch of at least 1, got 0", {.batch_size = 0}},
      {"--checkpoint-every of at least 0, got -1", {.checkpoint_every = -1}},
      {"--loss-scale as 0 (off) or a number from 1e-30 to 1e+30, got ", {.loss_scale = kNan}},
      {"learning rate of at least 0, got ", {.schedule = {.base_lr = kNan}}},
      {"step_size", {.schedule = {.decay = parse_schedule("step:step_size=1", 1).decay, .numbers = {0, 0.1}}}},
      {"decay_steps", {.schedule = {.decay = parse_schedule("cosine:decay_steps=1", 1).decay, .numbers = {0, 0}}}},
      {"a loss that has --huber-delta", {.losses = {{.loss = "l1", .numbers = {{"huber-delta", 1}}}}}},
      {"--optimizer adam: --beta1, --beta2, --epsilon, --weight-decay, got --momentum",
       {.optimizer = {.numbers = {{"momentum", 0.9}}}}},
      {"--accumulate as a whole number from 1", {.optimizer = {.accumulate = 0}}},
      {"--momentum as a number from 0 to 1, got 2", {.optimizer = {.name = "sgd", .numbers = {{"momentum", 2}}}}},
      {"--beta2 as a number from 0 to below 1, got ", {.optimizer = {.numbers = {{"beta2", kNan}}}}},
      {"--weight-decay as a number from 0 to 1e+30, got -1", {.optimizer = {.numbers = {{"weight_decay", -1}}}}},
      {"--clip-norm as a number from 0 to 1e+30, got ", {.optimizer = {.clip_norm = kNan}}},
  };
  const std::unique_ptr<Executor> executor = make_reference_executor();
  for (const Case& c : cases)
    EXPECT_THAT(
        error_of(Error::Kind::input, [&] { Trainer(linear_model(), *executor, overflowing_rows(), c.options); }),
        HasSubstr(c.says));
}

// A parameter that is NaN, and an infinite loss whose gradients are finite, teach nothing however long the run is.
TEST(Trainer, GivesUpWhenNoStepCouldTeachAnything) {
  struct Case {
    const char* model;
    bool finite_gradients;
  };
  const Case cases[] = {
      {"(float[N, 2] x) => (float[N, 2] y) <float[2, 2] w = {1, nan, 1, 1}> { a = MatMul(x, w) y = Relu(a) }", false},
      {"(float[N, 2] x) => (float[N, 2] y) <float[2] w = {1, 1}, float[2] mask = {-inf, 0}> "
       "{ a = Mul(x, w) y = Add(a, mask) }",
       true},
  };
  for (const Case& c : cases) {
    const LoadedModel model = parse_model(std::string("<ir_version: 10, opset_import: [\"\": 24]> test ") + c.model);
    const Tensor x = Tensor::of<float>({1, 2, 3, 4}, {2, 2});
    const Dataset data(DataArray::of(x, "x"), DataArray::of(Tensor::of<std::int64_t>({0, 0}), "y"));
    for (const auto& [steps, epochs, wanted] : {std::tuple(0, 1000, 5), std::tuple(3, 1, 3), std::tuple(0, 2, 2)}) {
      for (const bool onednn : {false, true}) {
        const std::unique_ptr<Executor> executor = onednn ? make_onednn_executor() : make_reference_executor();
        std::int64_t done = 0;
        const TrainerCallbacks callbacks{.on_step = [&](const StepResult& result) {
          EXPECT_FALSE(std::isfinite(result.loss));
          EXPECT_EQ(result.grads_finite, c.finite_gradients);
          done = result.step;
        }};
        const TrainerOptions options{.losses = {{"softmax_cross_entropy"}},
                                     .precision = Precision::fp32,
                                     .epochs = epochs,
                                     .steps = steps,
                                     .max_skipped_in_a_row = 5};
        EXPECT_THAT(error_of(Error::Kind::failure, [&] { Trainer(model, *executor, data, options).fit(callbacks); }),
                    HasSubstr("a finite loss"));
        EXPECT_EQ(done, wanted) << c.model;
      }
    }
  }
}

TEST(Trainer, SeveralInputsLearnAsTheirConcatenationDoes) {
  const std::unique_ptr<Executor> executor = make_reference_executor();
  Tensor x(DType::f32, {6, 5}), a(DType::f32, {6, 2}), y(DType::f32, {6, 1});
  Tensor b(DType::i64, {6, 3});
  for (std::int64_t row = 0; row < 6; ++row) {
    for (std::int64_t column = 0; column < 5; ++column) {
      const std::int64_t value = (row * 7 + column * 3) % 5 - 2;
      x.data<float>()[row * 5 + column] = static_cast<float>(value);
      if (column < 2)
        a.data<float>()[row * 2 + column] = static_cast<float>(value);
      else
        b.data<std::int64_t>()[row * 3 + column - 2] = value;
    }
    y.data<float>()[row] = static_cast<float>(row % 3);
  }
  const TrainerOptions options{.precision = Precision::fp32, .steps = 7, .batch_size = 4, .shuffle = false};
  const DataArray targets = DataArray::of(y, "y");
  const auto train = [&](const char* model, const Dataset& data, const Dataset& held_out) {
    Trainer trainer(parse_model(model), *executor, data, options);
    std::vector<double> losses;
    trainer.fit({.on_step = [&](const StepResult& result) { losses.push_back(result.loss); }});
    losses.push_back(trainer.evaluate(held_out).loss);
    return losses;
  };
  const Dataset whole(DataArray::of(x, "x"), targets);
  const std::vector<double> expected =
      train(R"(<ir_version: 10, opset_import: ["": 24]> one (float[N, 5] x) => (float[N, 1] y)
               <float[5, 1] w = {1, -1, 0.5, 0.25, -0.5}> { y = MatMul(x, w) })",
            whole, whole);
  const Dataset::Input first{"a", DataArray::of(a, "a.npy")}, second{"b", DataArray::of(b, "b.npy")};
  const std::vector<double> losses =
      train(R"(<ir_version: 10, opset_import: ["": 24]> two (float[N, 2] a, int64[N, 3] b) => (float[N, 1] y)
               <float[2, 1] v = {1, -1}, float[3, 1] w = {0.5, 0.25, -0.5}>
               { c = Cast<to = 1>(b) p = MatMul(a, v) q = MatMul(c, w) y = Add(p, q) })",
            Dataset({first, second}, targets), Dataset({second, first}, targets));
  ASSERT_EQ(losses.size(), expected.size());
  EXPECT_LT(losses[6], losses[0]) << "the same rows, six steps later";
  for (std::size_t i = 0; i < losses.size(); ++i)
    EXPECT_NEAR(losses[i], expected[i], 1e-5 * expected[i]) << "step " << i;
}

// Steps of one epoch over five rows of a model with inputs `a` and `b`, both [rows, 2], whose batch size is baked in.
std::int64_t steps_with_inputs(const std::string& a, const std::string& b) {
  const LoadedModel model = parse_model(fmt::format(R"(<ir_version: 10, opset_import: ["": 24]> test
    (float[{}, 2] a, float[{}, 2] b) => (float[N, 1] y) <float[2, 1] w = {{1, 1}}, float[2, 2] c = {{1, 2, 3, 4}}>
    {{ s = Add(a, b) t = Add(s, c) y = MatMul(t, w) }})",
                                                    a, b));
  const Tensor rows(DType::f32, {5, 2}), targets(DType::f32, {5, 1});
  const Dataset data({{"a", DataArray::of(rows, "a.npy")}, {"b", DataArray::of(rows, "b.npy")}},
                     DataArray::of(targets, "y.npy"));
  const std::unique_ptr<Executor> executor = make_reference_executor();
  std::int64_t steps = 0;
  const TrainerCallbacks callbacks{.on_step = [&](const StepResult& result) { steps = result.step; }};
  Trainer(model, *executor, data, {.precision = Precision::fp32, .epochs = 1, .batch_size = 3}).fit(callbacks);
  return steps;
}

TEST(Trainer, TakesTheBatchThatInputsAreFixedAt) {
  EXPECT_EQ(steps_with_inputs("2", "2"), 2);
  EXPECT_EQ(steps_with_inputs("2", "N"), 2);
  EXPECT_EQ(steps_with_inputs("N", "2"), 2);
  for (const auto& [a, b] : {std::pair("2", "1"), std::pair("1", "2")})
    EXPECT_THAT(error_of(Error::Kind::input, [&] { steps_with_inputs(a, b); }),
                HasSubstr(fmt::format("'a' has {}, 'b' has {}", a, b)));
}

TEST(Trainer, CallsOnStartOnceWithTheStepsAlreadyDone) {
  TemporaryDirectory dir;
  const std::unique_ptr<Executor> executor = make_reference_executor();
  Tensor x(DType::f32, {4, 2}), y(DType::f32, {4, 1});
  const Dataset data(DataArray::of(x, "x"), DataArray::of(y, "y"));
  TrainerOptions options{.precision = Precision::fp32, .steps = 3, .batch_size = 2, .checkpoint = dir.path()};
  std::vector<std::int64_t> starts;
  const TrainerCallbacks callbacks{.on_start = [&](std::int64_t steps) { starts.push_back(steps); }};
  Trainer(linear_model(), *executor, data, options).fit(callbacks);
  options.resume = dir.path();
  options.steps = 5;
  Trainer(linear_model(), *executor, data, options).fit(callbacks);
  EXPECT_THAT(starts, testing::ElementsAre(0, 3));
}

TEST(Trainer, SaysWhatItGuessedAndWhatGetsNoGradient) {
  const LoadedModel model = parse_model(R"(<ir_version: 10, opset_import: ["": 24]> test
    (float[N, 2] x) => (float[N, 1] y) <float[2, 2] w = {1, 2, 3, 4}, float[2, 1] v = {1, 1}, float s = {2}>
    { h = MatMul(x, w) [round] r = Round(h) p = Mul(r, s) y = MatMul(p, v) })");
  const std::unique_ptr<Executor> executor = make_reference_executor();
  Tensor x(DType::f32, {4, 2}), y(DType::f32, {4, 1});
  for (float& value : x.span<float>()) value = 1;
  const Dataset data(DataArray::of(x, "x"), DataArray::of(y, "y"));
  std::vector<std::string> notices;
  Trainer trainer(model, *executor, data, {.precision = Precision::fp32, .steps = 1});
  trainer.fit({.on_notice = [&](const std::string& notice) { notices.push_back(notice); }});
  EXPECT_THAT(notices, testing::UnorderedElementsAre(
                           HasSubstr("'s' (scalar constant) is not trained, --trainable"),
                           HasSubstr("'w' gets no gradient and stays as it is: none passes through Round 'round'")));
  EXPECT_EQ(to_doubles(trainer.parameters().at("w")), (std::vector<double>{1, 2, 3, 4}));
  EXPECT_NE(to_doubles(trainer.parameters().at("v")), (std::vector<double>{1, 1}));
}

TEST(Trainer, OneRunAtATimeHasTheCheckpoints) {
  TemporaryDirectory dir;
  const std::unique_ptr<Executor> executor = make_reference_executor();
  Tensor x(DType::f32, {4, 2}), y(DType::f32, {4, 1});
  const Dataset data(DataArray::of(x, "x"), DataArray::of(y, "y"));
  const TrainerOptions options{
      .precision = Precision::fp32, .steps = 1, .batch_size = 2, .checkpoint = dir / "checkpoints"};
  std::string refusal;
  Trainer(linear_model(), *executor, data, options).fit({.on_start = [&](std::int64_t) {
    refusal = error_of(Error::Kind::failure, [&] { Trainer(linear_model(), *executor, data, options).fit({}); });
  }});
  EXPECT_THAT(refusal, testing::HasSubstr("one run at a time for the checkpoints"));
  EXPECT_NO_THROW(Trainer(linear_model(), *executor, data, options).fit({}));
}

}  // namespace
}  // namespace halfstep
